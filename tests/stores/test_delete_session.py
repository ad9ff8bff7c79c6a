"""Deleting a session of many runs, which takes several scripts, while somebody goes on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentq._redis.connection import Connection
from agentq.errors import RunNotFound
from agentq.runs import Status
from agentq.stores import _sessions
from agentq.testing._contract import commit_of, queued, reply_message, running
from tests.stores.redis_parts import TimedParts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[TimedParts]:
    made = TimedParts(Connection(redis_url))
    yield made
    await made.aclose()


async def _ended(parts: TimedParts) -> str:
    claim = await running(parts.store, session_id="s")
    await parts.store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("done")))
    return claim.lease.run_id


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_session_that_is_begun_meanwhile_is_left_alone(
    parts: TimedParts, monkeypatch: pytest.MonkeyPatch, *, is_open: bool
):
    monkeypatch.setattr(_sessions, "_DELETED", 1)
    old = [await _ended(parts) for _ in range(3)]
    newer: list[str] = []
    run: Callable[..., Awaitable[Any]] = parts.store.pipeline.run

    async def and_then(script: Any, **arguments: Any) -> Any:
        answer = await run(script, **arguments)
        if "upto" in arguments and not newer:
            newer.append("")
            newer[0] = await (queued(parts.store, session_id="s") if is_open else _ended(parts))
        return answer

    monkeypatch.setattr(parts.store.pipeline, "run", and_then)
    await parts.store.delete_session("s")
    for run_id in old:
        with pytest.raises(RunNotFound):
            await parts.store.read(run_id)
    session = await parts.store.session("s")
    assert (session.open_runs, session.message_count > 0) == (int(is_open), not is_open)
    assert (await parts.store.read(newer[0])).session_id == "s"
