"""A Redis that is there and does not take writes for a while costs no run its life."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ResponseError

from agentq._redis.connection import Connection, redis_errors
from agentq.errors import StoreUnavailable
from agentq.runs import Status
from agentq.testing._contract import batch, new_run, running, texts
from tests.stores.crash_parts import Play, RedisBackend, World
from tests.stores.redis_parts import TimedParts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests._redis_server import RedisServer

# What makes Redis refuse writes, and what makes it take them again.
TROUBLES = [(("maxmemory", "1"), ("maxmemory", "0")), (("min-replicas-to-write", "1"), ("min-replicas-to-write", "0"))]


@pytest.fixture
async def parts(server: RedisServer) -> AsyncIterator[TimedParts]:
    made = TimedParts(Connection(server.url))
    yield made
    await made.aclose()


async def configure(parts: TimedParts, setting: tuple[str, str]) -> None:
    await parts.store.pipeline.execute("CONFIG", "SET", *setting)


@pytest.mark.parametrize(("trouble", "relief"), TROUBLES)
async def test_a_refused_write_says_that_the_store_is_away_and_changes_nothing(
    parts: TimedParts, trouble: tuple[str, str], relief: tuple[str, str]
):
    claim = await running(parts.store)
    before = await parts.store.read(claim.lease.run_id)
    await configure(parts, trouble)
    for write in (
        parts.store.journal(claim.lease, [], batch(1, *texts("a"))),
        parts.store.create(new_run()),
        parts.store.cancel(claim.lease.run_id),
        parts.store.release(claim.lease, batch(1)),
    ):
        with pytest.raises(StoreUnavailable):
            await write
    assert await parts.store.read(claim.lease.run_id) == before
    await configure(parts, relief)
    await parts.store.journal(claim.lease, [], batch(1, *texts("a")))


@pytest.mark.parametrize(("trouble", "relief"), TROUBLES)
async def test_a_run_goes_on_when_redis_takes_writes_again(
    parts: TimedParts, trouble: tuple[str, str], relief: tuple[str, str]
):
    play = Play(RedisBackend(parts), World())
    await play.start()
    writes = 0

    async def trouble_at_every_third_write(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
        nonlocal writes
        writes += name != "claim"
        if name == "claim" or writes % 3:
            return await carry_out()
        await configure(parts, trouble)
        try:
            return await carry_out()
        finally:
            await configure(parts, relief)

    await play.until_final(lambda _: trouble_at_every_third_write)
    await play.check(Status.COMPLETED)
    await play.check_answer()
    assert play.workers == 1


@pytest.mark.parametrize(
    "word",
    [
        "MISCONF Redis is configured to save",
        "BUSY Redis is busy running a script.",
        "Error running script (call to f_2cbf): @user_script:48: @user_script: 48: -OOM command not allowed",  # 6.2
    ],
)
def test_what_passes_by_itself_is_no_bug(word: str):
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"), redis_errors("127.0.0.1:6379/0"):
        raise ResponseError(word)


def test_a_bug_stays_a_bug():
    with pytest.raises(ResponseError), redis_errors("127.0.0.1:6379/0"):
        raise ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


async def test_many_writes_that_are_refused_together_are_told_apart(parts: TimedParts):
    claims = await asyncio.gather(*(running(parts.store) for _ in range(5)))
    await configure(parts, ("maxmemory", "1"))
    answers = await asyncio.gather(
        *(parts.store.journal(claim.lease, [], batch(1, *texts("a"))) for claim in claims),
        parts.store.read(claims[0].lease.run_id),
        return_exceptions=True,
    )
    assert [isinstance(answer, StoreUnavailable) for answer in answers] == [True] * 5 + [False]
    await configure(parts, ("maxmemory", "0"))
