"""kill -9 of workers at default settings, and of those that a run kills again and again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from agentq import Client, Settings
from tests.chaos.crashes import Fleet
from tests.helpers import wait_until_sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    with Client(settings=Settings(redis_url=redis_url)) as client:
        yield client


@pytest.fixture
def fleet(redis_url: str, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(redis_url, tmp_path)
    yield fleet
    fleet.end()


def test_at_default_settings_another_worker_goes_on_within_a_lease(fleet: Fleet, client: Client) -> None:
    """The worker is killed during the second tool: the first is not run again, the run ends without any help."""
    killed = fleet.start()
    run = client.enqueue(
        "shop",
        'call look_up {"name": "a", "seconds": 0.01}\ncall send {"name": "b", "seconds": 3}\nsay It is done.',
    )
    wait_until_sync(lambda: any(what == "send-start" for what, *_ in fleet.happened()), timeout=30)
    fleet.start()
    fleet.kill(killed)
    assert run.result(timeout=40).output == "It is done."
    happened = [what for what, *_ in fleet.happened()]
    assert happened == ["read", "send-start", "send-start", "send-end"]
    assert [line[3] for line in fleet.happened()] == ["1", "1", "2", "2"]
    assert len({line[2] for line in fleet.happened()}) == 2


def test_a_run_that_kills_its_workers_is_set_aside(fleet: Fleet, client: Client) -> None:
    """After `max_recoveries` crashes without a commit the run has failed, and its reason says so."""
    fleet.environ = {"AGENTQ_LEASE_MS": "900", "AGENTQ_SWEEP_MS": "50", "AGENTQ_MAX_RECOVERIES": "2"}
    run = client.enqueue("shop", 'call send {"name": "bomb", "seconds": 30}\nsay Never.')
    for crashes in range(1, 4):
        worker = fleet.start()
        wait_until_sync(partial(_has_started, fleet, crashes), timeout=30)
        fleet.kill(worker)
    fleet.start()
    wait_until_sync(lambda: run.status() == "failed", timeout=30)
    assert "worker died 3 times" in (run.read().last_error or "")


def _has_started(fleet: Fleet, times: int) -> bool:
    return sum(what == "send-start" for what, *_ in fleet.happened()) == times
