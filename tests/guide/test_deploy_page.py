"""The files of docs/guide/deploy.md are complete, and their numbers are those of the settings."""

from __future__ import annotations

import json
import re
import shlex
from configparser import ConfigParser
from typing import Any

import pytest
import yaml

from agentq import Settings
from tests.guide._pages import GUIDE, block, prose
from tests.helpers import ROOT

(DEPLOY,) = (page for page in GUIDE if page.stem == "deploy")
TEXT = " ".join(prose(DEPLOY).split())
SETTINGS = Settings()
# What a worker may take to release what it still holds: `agentq.worker.drain`.
RELEASE_MS = 2_000


@pytest.fixture
def unit() -> ConfigParser:
    parsed = ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    parsed.read_string(block(DEPLOY, "agentq-worker@.service").text)
    return parsed


def file(name: str) -> Any:
    return yaml.safe_load(block(DEPLOY, name).text)


def instructions() -> list[tuple[str, str]]:
    lines = block(DEPLOY, "Dockerfile").text.splitlines()[1:]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def commands() -> list[list[str]]:
    """How each of the files starts a worker."""
    procfile = dict(line.split(": ", 1) for line in block(DEPLOY, "Procfile").text.splitlines()[1:])
    parsed = ConfigParser(interpolation=None)
    parsed.read_string(block(DEPLOY, "agentq-worker@.service").text)
    return [
        shlex.split(procfile["worker"]),
        shlex.split(parsed["Service"]["execstart"]),
        json.loads(instructions()[-1][1]),
    ]


def test_every_worker_gets_the_time_that_it_needs_to_stop(unit: ConfigParser):
    needed_ms = SETTINGS.handover_ms + SETTINGS.drain_ms + RELEASE_MS
    graces_s = {
        int(unit["Service"]["TimeoutStopSec"]),
        int(file("compose.yaml")["services"]["worker"]["stop_grace_period"].removesuffix("s")),
        file("worker.yaml")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
        *(int(seconds) for seconds in re.findall(r"\*\*(\d+) s\*\*", TEXT)),
    }
    assert len(graces_s) == 1
    assert graces_s.pop() * 1000 >= needed_ms


def test_a_platform_that_kills_earlier_gets_a_shorter_drain():
    (limit_s, drain_ms) = re.search(r"kills after (\d+) s: set `AGENTQ_DRAIN_MS=(\d+)`", TEXT).groups()  # type: ignore[union-attr]
    assert SETTINGS.handover_ms + int(drain_ms) + RELEASE_MS < int(limit_s) * 1000


def test_the_prose_says_the_defaults():
    assert f"within {SETTINGS.handover_ms / 1000:g} s" in TEXT
    assert f"up to {SETTINGS.drain_ms / 1000:g} s" in TEXT
    assert f"at most {(SETTINGS.lease_ms + SETTINGS.sweep_ms) / 1000:g} s" in TEXT
    assert f"up to {SETTINGS.concurrency} iterations in flight" in TEXT
    assert "after five minutes" in TEXT
    assert SETTINGS.stall_limit_ms == 5 * 60_000


def test_the_other_pages_say_the_defaults():
    text = {page.stem: " ".join(page.read_text().split()) for page in GUIDE}
    assert f"within {SETTINGS.coalesce_ms} ms travels together" in text["callbacks"]
    assert f"({(SETTINGS.lease_ms + SETTINGS.sweep_ms) / 1000:g} s)" in text["promises"]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_file_starts_a_worker(command: list[str]):
    from click import Context

    from agentq.cli import cli

    program, name, *args = command
    assert program.rpartition("/")[2] == "agentq"
    worker = cli.get_command(Context(cli), name)
    assert worker is not None
    worker.make_context(name, args, resilient_parsing=False)


def test_the_procfile_starts_the_worker_of_the_repository():
    assert "worker: agentq worker" in block(DEPLOY, "Procfile").text.splitlines()
    assert "worker: agentq worker" in (ROOT / "Procfile").read_text().splitlines()


def test_the_unit_stops_the_worker_and_not_its_children_first(unit: ConfigParser):
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    assert (unit["Service"]["KillMode"], unit["Service"]["Restart"]) == ("mixed", "always")


def test_containers_do_not_run_as_root():
    users = [value for name, value in instructions() if name == "USER"]
    assert users == [str(file("worker.yaml")["spec"]["template"]["spec"]["securityContext"]["runAsUser"])]
    assert users != ["0"]
    assert instructions()[0][0] == "FROM"
    assert {name for name, _ in instructions()} <= {"FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "CMD"}


def test_compose_has_a_redis_that_keeps_everything_and_workers_that_use_it():
    services = file("compose.yaml")["services"]
    command = services["redis"]["command"]
    assert dict(zip(command[1::2], command[2::2], strict=True)) == {
        "--appendonly": "yes",
        "--maxmemory-policy": "noeviction",
    }
    assert services["worker"]["environment"]["REDIS_URL"].startswith("redis://redis:")
    assert services["redis"]["volumes"][0].partition(":")[0] in file("compose.yaml")["volumes"]


def test_the_kubernetes_deployment_selects_its_own_pods_and_has_no_liveness_probe():
    deployment = file("worker.yaml")["spec"]
    assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"]
    (container,) = deployment["template"]["spec"]["containers"]
    assert {"livenessProbe", "readinessProbe"}.isdisjoint(container)


def test_the_wheel_has_the_name_that_the_page_says():
    import agentq

    assert f"agentq_redis-{agentq.__version__}-py3-none-any.whl" in TEXT
