"""Schedules in Redis that this version, or this machine, cannot read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq import AsyncClient, Settings
from agentq._redis.connection import Connection
from agentq.catalogue import Catalogue
from agentq.errors import ScheduleNotFound, StoreCorrupted
from agentq.scheduling import Scheduling
from tests.stores.redis_parts import TimedParts
from tests.unit._loop import NotedWakeups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_KEY = "agentq:schedule:odd"


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[TimedParts]:
    made = TimedParts(Connection(redis_url))
    yield made
    await made.aclose()


def _client(parts: TimedParts) -> AsyncClient:
    return AsyncClient(store=parts.store, stream=parts.stream, executor=NotedWakeups())


@pytest.mark.parametrize(
    "fields",
    [
        ("definition", b'{"name":"odd","agent":"a","prompt":"x","cron":"* * * * *","jitter":5}'),
        ("definition", b'{"name":"odd","agent":"a","prompt":"x","cron":"* * * * *","timezone":"Mars/Base"}'),
        ("definition", b"{"),
        ("slot", b"soon"),
    ],
)
async def test_one_that_cannot_be_read_holds_up_no_other(
    parts: TimedParts, fields: tuple[str, bytes], caplog: pytest.LogCaptureFixture
):
    client = _client(parts)
    for name in ("odd", "good"):
        await client.schedule(name, "a", "x", cron="* * * * *")
    await parts.store.pipeline.execute("HSET", _KEY, *fields)
    worker = Scheduling(parts.store, NotedWakeups(), Settings(), Catalogue())
    fired = []
    for _ in range(2):
        await parts.pass_time(120)
        fired.append(await worker.fire())
    assert fired == [1, 1]
    assert [state.schedule.name for state in await client.schedules()] == ["good"]
    # Said once, and not every second.
    assert caplog.text.count("a schedule is left to others") == 1
    with pytest.raises(StoreCorrupted, match="a stored schedule cannot be read"):
        await client.pause_schedule("odd")
    assert (await parts.store.pipeline.execute("HGET", _KEY, fields[0])) == fields[1]


async def test_one_that_cannot_be_read_can_be_replaced_and_forgotten(parts: TimedParts):
    client = _client(parts)
    await client.schedule("odd", "a", "x", cron="* * * * *")
    await parts.store.pipeline.execute("HSET", _KEY, "definition", b"{")
    await client.schedule("odd", "a", "y", cron="* * * * *")
    assert [state.schedule.prompt for state in await client.schedules()] == ["y"]
    await parts.store.pipeline.execute("HSET", _KEY, "definition", b"{")
    await client.unschedule("odd")
    with pytest.raises(ScheduleNotFound):
        await client.unschedule("odd")
