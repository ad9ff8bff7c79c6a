"""What hooks take out of replies and results stands nowhere in Redis, whichever write a worker is lost at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq import Agent, Hooks, tool
from agentq._redis.connection import Connection
from agentq.executors.local import LocalExecutor
from agentq.loop import Loop
from agentq.runs import Status
from agentq.settings import Settings
from agentq.testing import ScriptedModel, call
from agentq.testing._contract import events_of, new_run
from tests.stores.redis_parts import TimedParts
from tests.stores.test_told_over_redis import LEASE_MS, GivingUp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq import HookContext

SECRET = "4711-0815"
_DUMP = """
local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  local read = {string = {'GET'}, hash = {'HGETALL'}, list = {'LRANGE', 0, -1}, set = {'SMEMBERS'},
    zset = {'ZRANGE', 0, -1}, stream = {'XRANGE', '-', '+'}}
  all[#all + 1] = cjson.encode(redis.call(read[kind][1], key, unpack(read[kind], 2)))
end
return table.concat(all, '\\n')
"""


@tool(effect="idempotent")
async def look_up() -> str:
    """Find the number."""
    return f"It is {SECRET}."


def redact(ctx: HookContext, *said: object) -> str:
    text = said[-1]
    return (text if isinstance(text, str) else str(getattr(text, "content", ""))).replace(SECRET, "[number]")


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[TimedParts]:
    parts = TimedParts(Connection(redis_url))
    yield parts
    await parts.aclose()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 10))
async def test_no_key_has_the_secret(parts: TimedParts, at: int, after: bool):
    model = ScriptedModel([call("look_up"), f"It is {SECRET}, I think."])
    hooks = Hooks(after_tool=redact, on_final_text=redact, critical=True)
    made = Agent("calculator", model="x:y", tools=[look_up], hooks=hooks)
    store = GivingUp(parts.store, at, after=after)
    settings = Settings(lease_ms=LEASE_MS, coalesce_ms=0)
    loop = Loop({"calculator": made}, store, LocalExecutor(), settings, resolve_model=lambda name: (model, name))
    run_id = (await parts.store.create(new_run("Which?"))).run_id
    for _ in range(10):
        if (await parts.store.read(run_id)).status.is_final:
            break
        outcome = await loop.advance(run_id, owner="worker")
        if outcome is not None and outcome.kind == "lost":
            await parts.pass_time(LEASE_MS / 1000)
    assert (await parts.store.read(run_id)).status is Status.COMPLETED

    dump = (await parts.store.pipeline.execute("EVAL", _DUMP, 0)).decode()
    assert "[number]" in dump
    assert SECRET not in dump
    seen = [event.type for event in await events_of(parts.stream, run_id)]
    assert "gap" not in seen
    assert "text.redacted" in seen
