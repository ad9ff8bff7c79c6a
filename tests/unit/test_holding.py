"""Iterations that no worker looks after: their lease is kept, cancels are heard, and who stops hands the run back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, AsyncClient, Callbacks, RunCancelled, Settings, tool
from agentq._ids import new_token
from agentq.errors import StoreUnavailable
from agentq.runs import Status
from agentq.stores.filters import RunFilter
from agentq.stores.memory import MemoryStore
from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.stores.base import Renewal

LEASE_MS = 300


class Gate:
    """Tools that tell when they have begun, and end when the test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.open = asyncio.Event()

        @tool(effect="none")
        async def look() -> str:
            """Read something at once."""
            self.begun.append("look")
            return "seen"

        @tool(effect="idempotent")
        async def wait() -> str:
            """Wait for the gate."""
            self.begun.append("wait")
            await self.open.wait()
            return "through"

        self.tools = [look, wait]


class NobodyWakes:
    """An executor that leaves it to the test to advance runs."""

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        return


def app_on(store: MemoryStore, gate: Gate, **options: Any) -> AgentQ:
    return AgentQ([Agent("a", tools=gate.tools)], store=store, settings=Settings(lease_ms=LEASE_MS), **options)


async def claims_of_others(store: MemoryStore, run_id: str) -> int:
    return len(await store.claim([run_id], owner="other", claim_id=new_token(), lease_ms=LEASE_MS))


async def the_run(store: MemoryStore) -> str:
    async def first() -> str:
        runs = await store.list(RunFilter())
        return runs[0].run_id if runs else ""

    return await wait_until(first)


async def test_a_tool_that_outlasts_the_lease_is_not_taken_over():
    store, gate = MemoryStore(), Gate()
    running = asyncio.create_task(app_on(store, gate).run("a", "call wait {}"))
    run_id = await the_run(store)
    await wait_until(lambda: gate.begun)
    first = (await store.read(run_id)).lease_until_ms

    async def renewed_twice() -> bool:
        assert await claims_of_others(store, run_id) == 0
        return (await store.read(run_id)).lease_until_ms > first + LEASE_MS

    await wait_until(renewed_twice)
    gate.open.set()
    assert (await running).output == "through"
    assert gate.begun == ["wait"]


async def test_a_cancel_reaches_a_run_in_process():
    store, gate = MemoryStore(), Gate()
    heard = asyncio.Event()
    app = app_on(store, gate)
    speaking = Callbacks(on_partial_reply=lambda _: heard.set())
    running = asyncio.create_task(app.run("a", 'stream 1000 "word " 0.01', callbacks=speaking))
    run_id = await the_run(store)
    await heard.wait()
    async with AsyncClient(store=store) as client:
        assert await client.cancel(run_id, reason="enough", wait=5) is Status.CANCELLED
    with pytest.raises(RunCancelled, match="enough"):
        await running
    assert (await store.messages(run_id))[-1].text.startswith("word ")


async def test_who_stops_hands_the_run_back_with_what_is_done():
    store, gate = MemoryStore(), Gate()
    app = app_on(store, gate, executor=NobodyWakes())
    async with AsyncClient(store=store, executor=NobodyWakes()) as client:
        run = await client.enqueue("a", "call look {} & call wait {}\nsay $1 and $2")
        advancing = asyncio.create_task(app.advance(run.id))
        await wait_until(lambda: gate.begun == ["look", "wait"])
        advancing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await advancing
        state = await run.read()
        assert (state.status, state.recoveries, state.owner) == (Status.QUEUED, 0, None)
        gate.open.set()
        while await app.advance(run.id):
            pass
        assert (await run.result(timeout=0)).output == "seen and through"
        assert gate.begun == ["look", "wait", "wait"]


async def test_who_is_cancelled_again_leaves_and_the_lease_is_kept_until_the_last_tool_has_stopped():
    begun, stopping, cleaned_up = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @tool(effect="idempotent")
    async def tidy() -> None:
        """Take long to stop."""
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopping.set()
            await cleaned_up.wait()

    store = MemoryStore()
    app = AgentQ([Agent("a", tools=[tidy])], store=store, executor=NobodyWakes(), settings=Settings(lease_ms=LEASE_MS))
    async with AsyncClient(store=store, executor=NobodyWakes()) as client:
        run = await client.enqueue("a", "call tidy {}")
        advancing = asyncio.create_task(app.advance(run.id))
        await asyncio.wait_for(begun.wait(), 5)
        advancing.cancel()
        await asyncio.wait_for(stopping.wait(), 5)
        advancing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(advancing, 5)
        first = (await run.read()).lease_until_ms

        async def renewed_twice() -> bool:
            assert await claims_of_others(store, run.id) == 0
            return (await run.read()).lease_until_ms > first + LEASE_MS

        await wait_until(renewed_twice)
        cleaned_up.set()

        async def is_free() -> bool:
            state = await run.read()
            return (state.status, state.recoveries, state.owner) == (Status.QUEUED, 0, None)

        await wait_until(is_free)


class Blinking(MemoryStore):
    """A store that is away, or has a bug, for the first renewals."""

    def __init__(self, times: int, error: type[Exception]) -> None:
        super().__init__()
        self.left = times
        self.error = error
        self.renewals = 0

    async def renew(self, leases: Any, *, lease_ms: int) -> tuple[Renewal, ...]:
        self.renewals += 1
        if self.left:
            self.left -= 1
            raise self.error
        return await super().renew(leases, lease_ms=lease_ms)


@pytest.mark.parametrize("error", [StoreUnavailable, ZeroDivisionError])
async def test_renewals_that_fail_for_a_moment_cost_nothing(error: type[Exception], caplog: pytest.LogCaptureFixture):
    store, gate = Blinking(2, error), Gate()
    running = asyncio.create_task(app_on(store, gate).run("a", "call wait {}"))
    await wait_until(lambda: store.renewals > 2)
    gate.open.set()
    assert (await running).output == "through"
    assert len([record for record in caplog.records if "not renewed" in record.message]) == 2


class Deaf(MemoryStore):
    """A store that breaks while somebody listens for cancels."""

    async def watch_cancels(self, owner: str) -> AsyncIterator[str]:
        yield f"{owner}{1 / 0}"


async def test_where_cancels_cannot_be_heard_the_next_renewal_brings_them(caplog: pytest.LogCaptureFixture):
    store, gate = Deaf(), Gate()
    running = asyncio.create_task(app_on(store, gate).run("a", 'call look {}\nstream 1000 "word " 0.01'))
    run_id = await the_run(store)
    await wait_until(lambda: gate.begun)
    await store.cancel(run_id)
    with pytest.raises(RunCancelled):
        await asyncio.wait_for(running, 5)
    assert "cancels are heard late" in caplog.text


class Taken(MemoryStore):
    """A store that says at the first renewal that somebody else has the lease."""

    async def renew(self, leases: Any, *, lease_ms: int) -> tuple[Renewal, ...]:
        return tuple(replace(each, held=False) for each in await super().renew(leases, lease_ms=lease_ms))


async def test_a_run_that_was_taken_over_is_let_go():
    store, gate = Taken(), Gate()
    app = app_on(store, gate, executor=NobodyWakes())
    async with AsyncClient(store=store, executor=NobodyWakes()) as client:
        run = await client.enqueue("a", "call wait {}")
        # The gate stays shut: the tool is stopped, and nothing of it is written.
        assert await asyncio.wait_for(app.advance(run.id), 10)
        assert [event.type async for event in run.events(live=False)][-1] == "tool.called"
