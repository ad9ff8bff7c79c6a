"""Stateful Hypothesis machines over a store: one event loop a machine, and the stores that they are played on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from agentq._redis.connection import Connection
from agentq.testing.fake_redis import FakeConnection
from tests.stores.crash_parts import MemoryBackend, RedisBackend
from tests.stores.redis_parts import TimedParts

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.stores.crash_parts import Backend

    Make = Callable[[], Coroutine[Any, Any, tuple[Backend, Any]]]


class StoreMachine(RuleBasedStateMachine):
    """A machine whose rules call a store. `close` ends what the backend has open, if anything."""

    def __init__(self, make: Make) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.backend, self.close = self.runner.run(make())
        self.store = self.backend.store
        self.now = 0

    def do(self, work: Any) -> Any:
        async def wait() -> Any:
            return await work

        return self.runner.run(wait())

    def teardown(self) -> None:
        if self.close is not None:
            self.do(self.close())
        self.runner.close()


def play(machine: Callable[[Make], StoreMachine], make: Make, *, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        lambda: machine(make),  # type: ignore[arg-type]  # any factory will do
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


async def in_memory() -> tuple[Backend, Any]:
    return MemoryBackend(), None


async def on_fakeredis() -> tuple[Backend, Any]:
    parts = TimedParts(FakeConnection())
    return RedisBackend(parts), parts.aclose


def on_redis(url: str) -> Make:
    async def make() -> tuple[Backend, Any]:
        parts = TimedParts(Connection(url))
        await parts.connection.client.flushdb()
        return RedisBackend(parts), parts.aclose

    return make
