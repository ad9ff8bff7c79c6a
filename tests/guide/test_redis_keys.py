"""docs/redis-keys.md and the code name the same keys and fields."""

from __future__ import annotations

import inspect
import json
import re
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pytest
import redis

from agentq import Client, Settings
from agentq._redis.keys import Keys
from agentq.executors.queue import QueueWakeup
from agentq.limits import RunLimits
from agentq.messages import user_message
from agentq.runs import Status
from agentq.stores import _records
from agentq.stores._records import fields_of_commit, fields_of_new_run
from agentq.stores.base import Commit, EventBatch, NewRun
from agentq.stores.values import SCOPES
from tests.helpers import LUA, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAGE = (ROOT / "docs" / "redis-keys.md").read_text()
# Words of the Lua that are values of fields, or Redis's, not names of fields.
VALUES = {"thinking", "using_tools", "queued", "running", "waiting", "paused", "completed", "failed", "cancelled"}


def section(title: str) -> str:
    """What stands under a heading, up to the next one."""
    return PAGE.partition(f"# {title}\n")[2].partition("\n#")[0]


def first_column(text: str) -> list[str]:
    """The code spans in the first column of the tables."""
    return [name for row in re.findall(r"^\| (`.+?) \|", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)]


FIELDS = first_column(section("Fields of the run hash"))
KEYS = [key for key in first_column(PAGE) if ":" in key]


def written_by_lua() -> Iterator[str]:
    for path in LUA.glob("*.lua"):
        code = re.sub(r"--[^\n]*", "", path.read_text())
        calls = re.findall(r"redis\.call\('H(?:SET|SETNX|INCRBY|DEL|GET|MGET)', run, ([^\n]*(?:,\n[^\n]*)*)", code)
        for call in (*calls, *re.findall(r"\bread\([^,]+, ([^)]*)\)", code)):
            yield from (name for name in re.findall(r"'([a-z_]+)'", call) if name not in VALUES)


def written_by_records() -> set[str]:
    optional: dict[str, Any] = {"session_id": "s", "user_id": "u", "metadata": {"a": 1}, "idempotency_key": "k"}
    optional |= {"parent_run_id": "P", "forked_from": "F", "depth": 1, "limits": RunLimits(tokens=1)}
    optional |= {"concurrency_key": "k", "concurrency": 1, "tenant": "t", "priority": "low"}
    new = NewRun(
        "R", "a", (user_message("x"),), model="mock", ttl_ms={"failed": 1}, tools=(), without=("retrieval",), **optional
    )
    commit = Commit(Status.FAILED, (), EventBatch(1), 1, 1, 1, {}, 0, last_error="broken", counted=1)
    names = [*fields_of_new_run(new)[::2], *fields_of_commit(commit)[::2]]
    return {name.decode() if isinstance(name, bytes) else name for name in names}


def test_the_page_has_a_table_of_fields():
    assert len(FIELDS) > 20
    assert len(FIELDS) == len(set(FIELDS))


def test_every_field_that_is_written_is_on_the_page():
    assert (set(written_by_lua()) | written_by_records()) - set(FIELDS) == set()


def test_every_field_that_is_read_is_on_the_page():
    read = set(re.findall(r'\(?b"([a-z_]+)"', inspect.getsource(_records)))
    assert read - set(FIELDS) == set()


def test_no_field_on_the_page_is_made_up():
    assert set(FIELDS) - set(written_by_lua()) - written_by_records() == set()


def test_who_writes_a_field_is_a_script():
    scripts = {path.stem for path in LUA.glob("[!_]*.lua")}
    rows = re.findall(r"^\| `\w+` \|.*\| ([^|]+) \|$", section("Fields of the run hash"), re.MULTILINE)
    assert len(rows) == len(FIELDS)
    for row in rows:
        assert set(row.partition(";")[0].split(", ")) <= scripts or row.startswith("every script"), row


def test_every_key_that_is_built_is_on_the_page():
    keys = Keys()
    for name, member in vars(Keys).items():
        if (
            name.startswith("_")
            or name in ("listing", "staged", "values", "shared", "webhook", "tenant")
            or not isinstance(member, FunctionType | property)
        ):
            continue
        argument = {
            "idempotency": "KEY",
            "batch": "W",
            "cancels": "W",
            "quiet": "W",
            "sessions": "USER",
            "unserved": "<agent>",
            "parked": "SCOPE",
            "user": "U",
            "breaker": "KEY",
            "schedule": "NAME",
            "places": "KEY",
        }.get(name, "R")
        argument = "S" if name.startswith("session") and name != "sessions" else argument
        built = getattr(keys, name) if isinstance(member, property) else getattr(keys, name)(argument)
        assert built in KEYS or name == "user", name
    staged = keys.staged(keys.run("R"), "TOKEN", "KIND")
    assert {keys.tenant("Q", "T"), f"{keys.tenant('Q', 'T')}:line"} <= set(KEYS)
    assert {keys.listing(), keys.sessions(), keys.files("R", "S"), staged, keys.shared("KEY")} <= set(KEYS)
    assert {keys.values(scope, scope[0].upper()) for scope in SCOPES} <= set(KEYS)
    assert {keys.webhook(kind, "NAME") for kind in ("due", "dead", "counts")} <= set(KEYS)
    assert {keys.webhook("message", "NAME", "ID"), keys.webhook("taken", "NAME", "W")} <= set(KEYS)
    for kind in ("status", "agent", "session", "user"):
        assert keys.listing(kind, kind.upper()) in KEYS
    assert keys.listing("asks", "people") in KEYS


def test_every_key_that_lua_builds_is_on_the_page():
    for path in LUA.glob("*.lua"):
        for tail in re.findall(r"prefix \.\. '(:[a-z:]+)'", path.read_text()):
            assert any(key.startswith(f"agentq{tail}") for key in KEYS), f"{path.name}: {tail}"


def test_the_keys_of_rq_are_those_of_the_installed_rq():
    shape = json.loads(QueueWakeup().template)
    assert shape["list"].replace("{queue}", "QUEUE") in KEYS
    assert shape["job"].replace("{job_id}", "R-N") in KEYS
    assert shape["queues"] in KEYS


def patterns() -> dict[str, re.Pattern[str]]:
    """The keys on the page as patterns: words in capitals stand for anything."""
    return {key: re.compile(re.sub(r"\b(?:R|S|W|N|[A-Z]{3,})\b", "[^{}]+", re.escape(key))) for key in KEYS}


TYPES = dict(re.findall(r"^\| `([^`]+)` \| (hash|list|stream|string|set|sorted set) \|", PAGE, re.MULTILINE))


@pytest.fixture
def seen(redis_url: str, agentq: Callable[..., str], project: Path) -> Iterator[Any]:
    """A Redis in which one run has completed, one is queued, and a worker has been."""
    app = (
        'from agentq import Agent, AgentQ, tool\n\n@tool(effect="idempotent")\ndef add(a: int, b: int) -> int:\n'
        '    return a + b\n\napp = AgentQ([Agent("adder", tools=[add]), Agent("idle", queue="later")])\n'
    )
    (project / "workers" / "app.py").write_text(app)
    with Client(redis_url) as client:
        optional: dict[str, Any] = {"session_id": "s", "user_id": "u", "metadata": {"a": 1}, "idempotency_key": "k"}
        client.enqueue("adder", 'call add {"a": 1, "b": 2}\nfail 503\nsay $1', model="mock", **optional)
        client.cancel(client.enqueue("adder", "say no").id, reason="test")
        agentq("worker", "--burst")
        client.enqueue("idle", "say later", delay=60)
        client.enqueue("idle", "say soon")
    with redis.Redis.from_url(redis_url, decode_responses=True) as connection:
        yield connection


def test_what_is_in_redis_is_on_the_page(seen: Any):
    for key in seen.scan_iter():
        named = [name for name, pattern in patterns().items() if pattern.fullmatch(key)]
        assert named, f"{key} is not on the page"
        kind = {"zset": "sorted set"}.get(seen.type(key), seen.type(key))
        assert kind in {TYPES.get(name) for name in named} or "rq:workers" in key, key
        if named == ["agentq:{R}"]:
            assert set(seen.hgetall(key)) <= set(FIELDS)


def test_what_has_ended_has_a_time_to_live(seen: Any):
    keys = Keys()
    day_ms = Settings().ttl_completed_ms
    ended = [run for run in seen.zrange(keys.listing(), 0, -1) if seen.hget(keys.run(run), "finished")]
    assert len(ended) == 2
    for run in ended:
        for key in (keys.run(run), keys.messages(run), keys.events(run)):
            assert day_ms - 60_000 < seen.pttl(key) <= day_ms
        assert not seen.exists(keys.journal(run))
    for key in (keys.idempotency("k"), keys.sweep, keys.agents):
        assert seen.pttl(key) > 0, key
