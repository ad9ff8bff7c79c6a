"""What `agentq doctor` says of a Redis, of the workers, of this machine and of the app: every level of every check."""

from __future__ import annotations

import textwrap
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest

from agentq.cli._machine import check_app, check_installed, check_python
from agentq.insight.checks import Check, Level, check_server, check_webhooks, check_workers, megabytes
from agentq.insight.facts import WorkerInfo
from agentq.insight.server import ServerFacts
from agentq.webhooks import WebhookState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NOW = 1_700_000_000_000
SOUND = {
    "redis_version": "7.0.15",
    "maxmemory_policy": "noeviction",
    "maxmemory": "0",
    "used_memory": "12300000",
    "aof_enabled": "1",
    "role": "master",
    "connected_slaves": "0",
    "cluster_enabled": "0",
    "loading": "0",
    "rdb_last_bgsave_status": "ok",
    "aof_last_write_status": "ok",
}
EVERYSEC = {"appendfsync": "everysec"}


def by_name(checks: Iterable[Check]) -> dict[str, Check]:
    found = {}
    for check in checks:
        assert check.name not in found
        found[check.name] = check
    return found


def server(config: dict[str, str] | None = EVERYSEC, **fields: Any) -> dict[str, Check]:
    known = {name: fields.pop(name) for name in ("round_trip_ms", "ahead_ms", "cannot") if name in fields}
    info = {**SOUND, **{name: str(value) for name, value in fields.items()}}
    return by_name(check_server(ServerFacts(info, config, **known)))


def test_a_sound_redis_has_nothing_to_mend():
    checks = server()
    assert {check.level for check in checks.values()} == {Level.OK}
    assert {"redis_version", "eviction", "memory", "aof", "topology", "scripts", "distance", "clock"} == set(checks)


@pytest.mark.parametrize(
    ("fields", "name", "level", "text"),
    [
        ({"redis_version": "6.2.0"}, "redis_version", "ok", "Redis 6.2.0"),
        ({"redis_version": "6.0.16"}, "redis_version", "failed", "Redis 6.0.16 is too old"),
        ({"redis_version": "5.0.7"}, "redis_version", "failed", "Redis 5.0.7 is too old"),
        ({"redis_version": ""}, "redis_version", "unknown", "Redis does not tell its version"),
        ({"server_name": "valkey", "valkey_version": "8.0.1"}, "redis_version", "ok", "Valkey 8.0.1"),
        ({"valkey_version": "7.1.0"}, "redis_version", "failed", "Valkey 7.1.0 is too old"),
        ({"maxmemory_policy": "allkeys-lru"}, "eviction", "failed", "maxmemory-policy is allkeys-lru"),
        ({"maxmemory_policy": "volatile-ttl"}, "eviction", "failed", "maxmemory-policy is volatile-ttl"),
        ({"maxmemory": 100_000_000}, "memory", "ok", "12.3 MB of 100.0 MB used (12%)"),
        ({"maxmemory": 14_000_000}, "memory", "warning", "12.3 MB of 14.0 MB used (88%)"),
        ({"maxmemory": 12_500_000}, "memory", "failed", "about to refuse writes"),
        ({"total_system_memory": 99_000_000}, "memory", "ok", "12.3 MB used, no limit set"),
        (
            {"total_system_memory": 14_000_000},
            "memory",
            "warning",
            "12.3 MB of 14.0 MB that the machine has used (88%)",
        ),
        ({"aof_enabled": 0}, "aof", "warning", "the append-only file is off"),
        ({"config": {"appendfsync": "no"}}, "aof", "warning", "appendfsync is no"),
        ({"config": {"appendfsync": "always"}}, "aof", "ok", "appendfsync always: a crash loses nothing"),
        ({"config": None}, "aof", "ok", "CONFIG is refused"),
        ({"rdb_last_bgsave_status": "err"}, "persistence", "failed", "its last snapshot failed"),
        ({"aof_last_write_status": "err"}, "persistence", "failed", "its last write to the append-only file failed"),
        ({"loading": 1}, "persistence", "failed", "still loading"),
        ({"cluster_enabled": 1}, "topology", "failed", "Redis Cluster"),
        ({"role": "slave"}, "topology", "failed", "this is a replica"),
        ({"connected_slaves": 2}, "topology", "ok", "2 replicas; a failover may lose"),
        ({"cannot": {"scripts": "no permissions"}}, "scripts", "failed", "Lua scripts are refused: no permissions"),
        ({"cannot": {"publish": "no permissions"}}, "channels", "failed", "pub/sub is refused"),
        ({"round_trip_ms": 45.0}, "distance", "warning", "45.0 ms away"),
        ({"ahead_ms": 61_000.0}, "clock", "warning", "its clock is 1 m 01 s ahead of this machine's"),
        ({"ahead_ms": -5000.0}, "clock", "warning", "its clock is 5.0 s behind this machine's"),
        ({"ahead_ms": -40.0}, "clock", "ok", "40 ms apart"),
    ],
)
def test_what_is_said_of_a_redis(fields: dict[str, Any], name: str, level: str, text: str):
    check = server(**fields)[name]
    assert check.level == level
    assert text in check.text
    assert bool(check.fix) == (level in ("warning", "failed"))


def test_a_redis_that_does_not_tell_its_policy_is_unknown():
    info = {name: value for name, value in SOUND.items() if name != "maxmemory_policy"}
    assert by_name(check_server(ServerFacts(info, EVERYSEC)))["eviction"].level is Level.UNKNOWN


def test_a_redis_that_refuses_info_is_one_line_and_the_rest_is_looked_at():
    checks = by_name(check_server(ServerFacts({}, None)))
    assert checks["redis_info"].level is Level.UNKNOWN
    assert {"scripts", "distance", "clock"} <= set(checks)
    assert "redis_version" not in checks


OURS = WorkerInfo("w1", ("default",), version="0.1.0")
STOCK = WorkerInfo("s1", ("default",))


def workers(*found: WorkerInfo, swept_ms: int | None = NOW - 100) -> dict[str, Check]:
    return by_name(check_workers(found, swept_ms=swept_ms, now_ms=NOW, version="0.1.0", due=3))


def test_workers_that_sweep_are_well():
    assert {name: check.text for name, check in workers(OURS, STOCK).items()} == {
        "workers": "1 worker of agentq, and 1 stock rq worker",
        "sweep": "last sweep 100 ms ago",
    }


@pytest.mark.parametrize(
    ("found", "swept_ms", "name", "text"),
    [
        ((), None, "workers", "no worker is there"),
        ((STOCK,), None, "workers", "only 1 stock rq worker: delays, retries and crashed runs wait for ever"),
        ((OURS,), NOW - 60_000, "sweep", "nobody has swept for 1 m 00 s; 3 runs may wait for it"),
        ((OURS,), None, "sweep", "nobody has swept for a day"),
        ((OURS, WorkerInfo("w2", version="0.2.0")), NOW, "versions", "workers of several versions: 0.1.0, 0.2.0"),
        ((WorkerInfo("w2", version="0.2.0"),), NOW, "versions", "workers have agentq 0.2.0, this machine 0.1.0"),
        ((WorkerInfo("w2", version="0.1.0", is_silent=True),), NOW, "heartbeats", "not heard for over 40 s: w2"),
    ],
)
def test_what_is_said_of_workers(found: tuple[WorkerInfo, ...], swept_ms: int | None, name: str, text: str):
    check = workers(*found, swept_ms=swept_ms)[name]
    assert check.level is Level.WARNING
    assert text in check.text
    assert check.fix


@pytest.mark.parametrize(
    ("version", "level"), [((3, 10, 4), Level.FAILED), ((3, 11, 0), Level.OK), ((3, 14, 1), Level.OK)]
)
def test_python(version: tuple[int, ...], level: Level):
    assert check_python(version).level is level


def installed(versions: dict[str, str], *providers: str) -> dict[str, Check]:
    def find(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    return by_name(check_installed(find, lambda: {"agentq": list(providers)}))


def test_our_distribution_alone_is_well():
    checks = installed({"agentq-redis": "0.1.0", "rq": "2.12.0", "redis": "8.1.0"}, "agentq-redis", "agentq-redis")
    assert checks["agentq"].text == "agentq-redis 0.1.0, rq 2.12.0, redis-py 8.1.0"
    assert checks["shadow"].level is Level.OK


@pytest.mark.parametrize(
    ("versions", "providers", "text", "fix"),
    [
        (
            {"agentq-redis": "0.1.0", "agentq": "9.9"},
            ("agentq", "agentq-redis"),
            "agentq 9.9, another project, is installed too",
            "pip uninstall agentq agentq-redis; then: pip install agentq-redis",
        ),
        (
            {"agentq-redis": "0.1.0"},
            ("agentq-redis", "agentq-fork"),
            "agentq-fork, another project,",
            "pip uninstall agentq-fork agentq-redis; then: pip install agentq-redis",
        ),
    ],
)
def test_another_distribution_under_our_name_is_a_failure(
    versions: dict[str, str], providers: tuple[str, ...], text: str, fix: str
):
    check = installed(versions, *providers)["shadow"]
    assert check.level is Level.FAILED
    assert text in check.text
    assert check.fix == fix


def test_a_checkout_is_named():
    assert "agentq from the checkout at" in installed({})["agentq"].text


def test_what_is_installed_here_is_well():
    assert {check.level for check in check_installed()} == {Level.OK}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def app_checks(project: Path, name: str, source: str) -> dict[str, Check]:
    (project / f"{name}.py").write_text(textwrap.dedent(source))
    return by_name(check_app(f"{name}:app", is_named=True))


def test_an_app_that_loads_is_well_and_named_with_its_agents(project: Path):
    checks = app_checks(
        project,
        "doctor_app_well",
        """
        from agentq import Agent, AgentQ, tool
        @tool(effect="none")
        def look() -> str:
            "Look."
            return ""
        app = AgentQ([Agent("a", tools=[look]), Agent("b")])
        """,
    )
    assert {check.level for check in checks.values()} == {Level.OK}
    assert checks["app"].text == "doctor_app_well:app loads; agents: a, b"
    assert checks["models"].text == "models: mock"


def test_tools_that_do_not_declare_their_effect_are_named(project: Path):
    check = app_checks(
        project,
        "doctor_app_silent",
        """
        from agentq import Agent, AgentQ
        def pay() -> str:
            "Pay."
            return ""
        app = AgentQ([Agent("a", tools=[pay])])
        """,
    )["effects"]
    assert check.level is Level.WARNING
    assert "agent a: no effect is declared for pay" in check.text


@pytest.mark.parametrize(
    ("name", "source", "check", "text"),
    [
        ("doctor_app_model", "Agent('a', model='nobody:x')", "models", "no model provider is called 'nobody'"),
        ("doctor_app_empty", "", "app", "loads, but has no agents"),
        ("doctor_app_broken", "1 / 0", "app", "ZeroDivisionError: division by zero"),
    ],
)
def test_an_app_that_workers_cannot_run_is_a_failure(project: Path, name: str, source: str, check: str, text: str):
    found = app_checks(project, name, f"from agentq import Agent, AgentQ\napp = AgentQ([{source}])\n")[check]
    assert found.level is Level.FAILED
    assert text in found.text
    assert found.fix


@pytest.mark.parametrize(("is_named", "level"), [(False, Level.WARNING), (True, Level.FAILED)])
def test_an_app_that_is_not_there_is_a_failure_only_where_it_was_named(project: Path, is_named: bool, level: Level):
    (check,) = check_app("doctor_app_absent.app:app", is_named=is_named)
    assert check.level is level
    assert "doctor_app_absent" in check.text


def test_a_default_app_that_is_broken_is_a_failure_even_without_a_name(project: Path):
    (project / "doctor_app_lacks.py").write_text("import a_module_that_is_not_installed\n")
    (check,) = check_app("doctor_app_lacks:app", is_named=False)
    assert check.level is Level.FAILED
    assert "a_module_that_is_not_installed" in check.text


@pytest.mark.parametrize(("size", "text"), [(900, "1 KB"), (12_345_678, "12.3 MB"), (2.5e9, "2.5 GB")])
def test_sizes(size: float, text: str):
    assert megabytes(size) == text


@pytest.mark.parametrize(
    ("state", "text", "fix"),
    [
        ({"dead": 2, "error": "answered 410"}, "2 messages given up; the last attempt: answered 410", "retry --failed"),
        (
            {"pending": 1, "failed_ms": NOW - 1, "delivered_ms": NOW - 2, "error": "answered 500"},
            "1 message waiting; the last attempt: answered 500",
            "webhooks test orders",
        ),
        (
            {"pending": 3, "seen_ms": NOW - 600_000},
            "3 messages waiting, and no worker has it",
            "webhooks forget orders",
        ),
    ],
)
def test_a_webhook_that_is_in_trouble_is_named(state: dict[str, Any], text: str, fix: str):
    webhook = WebhookState("orders", "https://a.example", **({"seen_ms": NOW} | state))
    (check,) = check_webhooks([webhook], now_ms=NOW)
    assert (check.name, check.level) == ("webhooks", Level.WARNING)
    assert f"webhook orders: {text}" in check.text
    assert fix in check.fix


def test_webhooks_that_are_well_are_not_mentioned():
    well = WebhookState("a", pending=1, delivered=7, delivered_ms=NOW, failed_ms=NOW - 5, seen_ms=NOW)
    idle = WebhookState("b", seen_ms=NOW - 600_000)
    assert list(check_webhooks([well, idle], now_ms=NOW)) == []
