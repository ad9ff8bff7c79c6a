"""A tool's own Redis write happens exactly once, wherever its worker dies, and only under the fence."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ResponseError

from agentq import ToolContext, tool
from agentq._ids import new_token
from agentq._redis.connection import Connection
from agentq.errors import InvalidInput, LeaseLost, RunNotFound, StepDiverged
from agentq.executors.local import LocalExecutor
from agentq.loop import Agent, Loop
from agentq.runs import Status
from agentq.settings import Settings
from agentq.stores.base import Lease
from agentq.stores.redis import RedisStore
from agentq.testing import ScriptedModel, call
from agentq.testing._contract import claimed, commit_of, queued, running
from tests.unit._loop import Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])"
LEASE_MS = 400


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisStore]:
    connection = Connection(redis_url)
    store = RedisStore(connection)
    yield store
    await store.aclose()
    await connection.aclose()


async def total(store: RedisStore, key: str = "till") -> int:
    return int(await store.pipeline.execute("GET", key) or 0)


async def test_the_same_record_again_answers_as_before_and_writes_nothing(store: RedisStore):
    claim = await running(store)
    answers = [await store.commit_effect(claim.lease, "R.1.0#1", ADD, ["till"], [amount]) for amount in (5, 7)]
    assert answers == [5, 5]
    assert await total(store) == 5
    assert await store.commit_effect(claim.lease, "R.1.0#2", ADD, ["till"], [2]) == 7


async def test_a_stale_worker_writes_nothing(store: RedisStore):
    claim = await running(store, lease_ms=LEASE_MS)
    await asyncio.sleep(LEASE_MS / 1000 + 0.05)
    newer = await claimed(store, claim.lease.run_id)
    with pytest.raises(LeaseLost):
        await store.commit_effect(claim.lease, "R.1.0#1", ADD, ["till"], [5])
    assert await total(store) == 0
    await store.commit_effect(newer.lease, "R.1.0#1", ADD, ["till"], [5])
    with pytest.raises(LeaseLost):
        await store.commit_effect(claim.lease, "R.1.0#1", ADD, ["till"], [5])
    assert await total(store) == 5
    await store.commit(newer.lease, commit_of(newer, Status.QUEUED))
    with pytest.raises(LeaseLost):
        await store.commit_effect(newer.lease, "R.1.0#1", ADD, ["till"], [5])
    with pytest.raises(RunNotFound):
        await store.commit_effect(Lease("01JD3ZK8W5Q0X9V7T2M4N6P8RA", 1, "w"), "n", ADD, ["till"], [5])
    assert await total(store) == 5


async def test_another_script_under_the_same_name_is_refused(store: RedisStore):
    claim = await running(store)
    await store.commit_effect(claim.lease, "R.1.0#1", ADD, ["till"], [5])
    with pytest.raises(StepDiverged):
        await store.commit_effect(claim.lease, "R.1.0#1", "return redis.call('SET', KEYS[1], 1)", ["till"], [5])
    assert await total(store) == 5


@pytest.mark.parametrize(
    ("source", "args", "expected"),
    [
        ("return ARGV[1]", ["naïve"], "naïve"),
        ("return ARGV[1]", [b"\xff\x00x"], "\udcff\x00x"),
        ("return {1, 'two', {3}}", [], [1, "two", [3]]),
        ("return nil", [], None),
        ("local x = 1", [], None),
        ("return 1 -- a comment in the last line", [], 1),
        ("return redis.call('SET', KEYS[1], 'x')", [], "OK"),
        ("return 9007199254740991", [], 9007199254740991),
        ("return #ARGV", ["a"] * 500, 500),
    ],
)
async def test_the_answer_is_what_the_script_returned_at_first_and_again(
    store: RedisStore, source: str, args: list[Any], expected: Any
):
    claim = await running(store)
    for _ in range(2):
        assert await store.commit_effect(claim.lease, "R.1.0#1", source, ["till"], args) == expected


@pytest.mark.parametrize(
    "source", ["return redis.error_reply('no money')", "error('no money')", "return (", "return redis.call('NONSENSE')"]
)
async def test_a_script_that_fails_is_not_recorded(store: RedisStore, source: str):
    claim = await running(store)
    with pytest.raises(ResponseError):
        await store.commit_effect(claim.lease, "R.1.0#1", source, ["till"], [5])
    assert await store.commit_effect(claim.lease, "R.1.0#1", ADD, ["till"], [5]) == 5


async def test_a_call_that_is_made_again_at_once_writes_nothing_twice(store: RedisStore):
    """The tool fails after its write, and `retries` enters it again in the same worker."""
    sums: list[list[int]] = []

    @tool(effect="idempotent", retries=2, retry_backoff_s=0)
    async def move(ctx: ToolContext, amount: int) -> str:
        """Move money from one till to another."""
        sums.append([await ctx.commit_with(ADD, [key], [amount]) for key in ("till", "safe")])
        if len(sums) < 3:
            raise ConnectionError("gone")
        return "moved"

    stage = Stage(ScriptedModel([call("move", amount=5), "Done."]), move)
    loop = Loop({"calculator": stage.agent}, store, LocalExecutor(), Settings(), resolve_model=stage.loop.provider)
    run_id = await queued(store)
    for _ in range(2):
        await loop.advance(run_id, owner="worker-1")
    assert sums == [[5, 5]] * 3
    assert [await total(store, key) for key in ("till", "safe")] == [5, 5]
    assert (await store.read(run_id)).status is Status.COMPLETED


async def test_it_happens_once_wherever_the_worker_dies(store: RedisStore):
    """The worker is killed before, between and after two writes of one call; each has happened once in the end."""
    deaths = 0

    @tool(effect="idempotent")
    async def move(ctx: ToolContext, amount: int) -> list[int]:
        """Move money from one till to another."""
        sums = []
        for step, (key, signed) in enumerate((("from", -amount), ("to", amount))):
            await die(2 * step)
            sums.append(await ctx.commit_with(ADD, [key], [signed]))
            await die(2 * step + 1)
        return sums

    async def die(point: int) -> None:
        nonlocal deaths
        if deaths == point:
            deaths += 1
            dying.set()
            await asyncio.Event().wait()

    model = ScriptedModel([call("move", amount=5), "Done."])
    loop = Loop(
        {"calculator": Agent("calculator", tools=[move])},
        store,
        LocalExecutor(),
        Settings(lease_ms=LEASE_MS),
        resolve_model=lambda name: (model, name),
    )
    run_id = await queued(store)
    while not (await store.read(run_id)).status.is_final:
        for claim in await store.claim([run_id], owner="w", claim_id=new_token(), lease_ms=LEASE_MS):
            dying = asyncio.Event()
            working = asyncio.create_task(loop.begin(claim).run())
            dead = asyncio.create_task(dying.wait())
            await asyncio.wait({working, dead}, return_when=asyncio.FIRST_COMPLETED)
            for task in (working, dead):
                task.cancel()
            await asyncio.gather(working, dead, return_exceptions=True)
        await asyncio.sleep(0.02)
    assert deaths == 4
    assert (await total(store, "from"), await total(store, "to")) == (-5, 5)
    (result,) = [result for message in await store.messages(run_id) for result in message.tool_results]
    assert result.content == "[-5,5]"


async def test_without_redis_it_says_so():
    @tool(effect="idempotent")
    async def pay(ctx: ToolContext) -> None:
        """Pay."""
        await ctx.commit_with(ADD, ["till"], [5])

    stage = Stage(ScriptedModel([call("pay"), "Done."]), pay)
    await stage.play()
    (result,) = await stage.results()
    assert (result.outcome, result.content) == (
        "error",
        "InvalidInput: ctx.commit_with needs a run that lives in Redis",
    )


async def test_what_is_handed_in_is_checked():
    ctx = ToolContext(run_id="R", call_id="R.1.0")
    for field, given in {
        "script": ("", [], []),
        "keys": (ADD, "till", []),
        "args": (ADD, ["till"], [None]),
    }.items():
        with pytest.raises(InvalidInput) as caught:
            ctx.commit_with(*given)  # type: ignore[arg-type]
        assert caught.value.field == field
    with pytest.raises(InvalidInput, match="make the tool async"):
        await asyncio.to_thread(ctx.commit_with, ADD, ["till"], [5])
