"""Commands about many runs: chosen by conditions, asked for before they are touched; and the end of a session."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from agentq import Settings
from agentq.cli import cli
from agentq.runs import Status
from agentq.testing._contract import claimed, commit_of, queued, reply_message
from agentq.wiring import redis_parts
from tests.unit.test_cli_steering import At

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq.stores.redis import RedisStore


@pytest.fixture
def invoke(redis_url: str) -> Callable[..., Result]:
    def run(*args: str) -> Result:
        return CliRunner().invoke(cli, args, obj=At(url=redis_url))

    return run


def prepared(redis_url: str, prepare: Any) -> Any:
    async def main() -> Any:
        parts = redis_parts(Settings(redis_url=redis_url))
        try:
            return await prepare(parts.store)
        finally:
            await parts.aclose()

    return asyncio.run(main())


async def failed(store: RedisStore, agent: str = "calculator") -> str:
    claim = await claimed(store, await queued(store, agent=agent))
    await store.commit(claim.lease, commit_of(claim, Status.FAILED, reply_message("no"), last_error="it broke"))
    return claim.lease.run_id


async def some(store: RedisStore) -> dict[str, list[str]]:
    return {
        "failed": [await failed(store), await failed(store)],
        "other": [await failed(store, "shop")],
        "queued": [await queued(store), await queued(store, agent="shop")],
    }


def test_failed_runs_of_an_agent_are_taken_up_again(redis_url: str, invoke: Callable[..., Result]):
    runs = prepared(redis_url, some)
    asked = invoke("retry", "--agent", "calculator")
    assert asked.exit_code == 2
    assert "that would retry 2 runs; --yes says so" in asked.stderr
    done = json.loads(invoke("--json", "retry", "--agent", "calculator", "--since", "1h", "--yes").stdout)
    assert {each["run_id"] for each in done["runs"]} == set(runs["failed"])
    assert {each["status"] for each in done["runs"]} == {"queued"}
    assert json.loads(invoke("--json", "retry", "--status", "failed", "--agent", "calculator").stdout) == {"runs": []}


def test_open_runs_are_cancelled_and_others_are_left_alone(redis_url: str, invoke: Callable[..., Result]):
    runs = prepared(redis_url, some)
    done = invoke("cancel", "--agent", "shop", "--status", "queued", "--reason", "enough", "--yes")
    assert (done.exit_code, done.stdout) == (0, f"{runs['queued'][1]} cancelled\n")
    assert prepared(redis_url, lambda store: store.read(runs["queued"][0])).status is Status.QUEUED
    assert prepared(redis_url, lambda store: store.read(runs["other"][0])).status is Status.FAILED


def test_a_session_is_deleted_when_its_runs_have_ended(redis_url: str, invoke: Callable[..., Result]):
    run_id = prepared(redis_url, lambda store: queued(store, session_id="s1"))
    busy = invoke("sessions", "s1", "--delete", "--yes")
    assert busy.exit_code == 6
    assert "a run of the session has not ended" in busy.stderr
    deleted = invoke("sessions", "s1", "--delete", "--cancel", "--yes")
    assert (deleted.exit_code, deleted.stdout) == (0, "s1 deleted\n")
    assert invoke("sessions", "s1").exit_code == 3
    assert invoke("show", run_id).exit_code == 3


def test_nothing_of_a_session_with_many_runs_is_left(redis_url: str, invoke: Callable[..., Result]):
    async def ended(store: RedisStore) -> None:
        for number in range(120):
            claim = await claimed(store, await queued(store, session_id="s1", user_id="ada", prompt=f"p {number}"))
            await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("a")))

    prepared(redis_url, ended)
    assert invoke("sessions", "s1", "--delete", "--yes").exit_code == 0
    left: list[bytes] = prepared(redis_url, lambda store: store.pipeline.execute("KEYS", "agentq*"))
    assert [key for key in left if b":worker:" not in key and not key.endswith((b":due", b":counts"))] == []
