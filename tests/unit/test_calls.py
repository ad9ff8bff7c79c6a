"""Tool calls at the edges: threads that are all busy, results that are too large, progress in a flood."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agentq import AsyncClient, InvalidInput, ToolContext, tool
from agentq.stores.memory import MemoryStore
from agentq.testing import ScriptedModel, call
from agentq.tools import threads
from tests.helpers import wait_until
from tests.unit._loop import Gate, NotedWakeups, Stage, outcome_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def busy_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The only thread that tools may use is taken until the event is set."""
    pool = threads.ThreadPool(limit=1)
    monkeypatch.setattr(threads, "pool", pool)
    monkeypatch.setattr("agentq.tools.execution.pool", pool, raising=False)
    free = threading.Event()
    started = threading.Event()

    def hold() -> None:
        started.set()
        free.wait(20)

    pool._submit(hold)  # noqa: SLF001 - a job of nobody
    assert started.wait(10)
    yield free
    free.set()


async def test_a_call_that_waited_for_a_thread_does_not_start_after_a_cancel(busy_threads: threading.Event) -> None:
    """P10: after `cancel` has returned, nothing with an effect starts any more."""
    charged: list[str] = []

    @tool(effect="once")
    def charge(ctx: ToolContext) -> str:
        """Charge."""
        charged.append(ctx.call_id)
        return "charged"

    stage = Stage(ScriptedModel([call("charge"), "Done."]), charge)
    iteration, task = await stage.begin()
    await wait_until(lambda: iteration.must_not_repeat)
    await stage.store.cancel(stage.run_id)
    iteration.cancel()
    busy_threads.set()
    outcome = await outcome_of(task)
    assert outcome.status == "cancelled"
    assert charged == []
    (result,) = await stage.results()
    # Not "unknown": it certainly did not happen.
    assert result.outcome == "cancelled"


async def test_a_result_that_is_too_large_is_cut_and_says_so() -> None:
    @tool(effect="none")
    async def write() -> str:
        """Write a lot."""
        return "x" * 5000

    stage = Stage(ScriptedModel([call("write"), "Done."]), write)
    stage.loop.settings = replace(stage.loop.settings, max_value_bytes=1000)
    await stage.play()
    (result,) = await stage.results()
    assert result.content == "x" * 1000 + "\n[Truncated: 5000 chars total, showing first 1000]"
    assert result.outcome == "ok"


async def test_a_flood_of_progress_is_told_now_and_then() -> None:
    @tool(effect="none")
    async def count(ctx: ToolContext) -> str:
        """Count fast."""
        for number in range(10_000):
            ctx.progress(str(number))
        await asyncio.sleep(0.05)
        return "counted"

    stage = Stage(ScriptedModel([call("count"), "Done."]), count, coalesce_ms=5)
    started = time.monotonic()
    await stage.play()
    told = [event for event in await stage.events() if event.type == "tool.progress"]
    assert told[-1].message == "9999"
    assert len(told) < 10 + (time.monotonic() - started) / 0.005


async def test_an_attempt_of_a_lost_worker_stays_unknown_when_the_next_one_is_refused() -> None:
    """The second attempt certainly was not made; the first may have been."""
    gate = Gate()

    @tool(effect="idempotent")
    async def send() -> str:
        """Send."""
        return str(await gate.wait())

    stage = Stage(ScriptedModel([call("send"), "Done."]), send)
    _, lost = await stage.begin()
    await wait_until(lambda: gate.entered == 1)
    claim = await stage.lose_lease()
    # The worker learns of the cancel only when its announcement is refused.
    await stage.store.cancel(stage.run_id)
    outcome = await stage.loop.begin(claim).run()
    gate.open()
    await outcome_of(lost)
    assert (outcome.status, gate.entered) == ("cancelled", 1)
    (result,) = await stage.results()
    assert result.outcome == "unknown"


async def test_a_reason_to_cancel_that_is_a_novel_is_refused() -> None:
    store = MemoryStore()
    client = AsyncClient(store=store, stream=store.stream, executor=NotedWakeups())
    run = await client.enqueue("calculator", "hello")
    with pytest.raises(InvalidInput, match="reason must be text of at most 1000"):
        await run.cancel(reason="x" * 1001)
    assert await run.status() == "queued"
    assert await run.cancel(reason="half \ud83d") == "cancelled"
    assert (await run.read()).cancel_reason == "half ?"


@tool(effect="none")
async def look(at: str) -> str:
    """Look."""
    return f"saw {at}"


@tool(effect="idempotent")
async def book(what: str) -> str:
    """Book."""
    return f"booked {what}"


@pytest.mark.parametrize(
    ("calls", "writes"),
    [
        # The reply, and each result that is not the last of those that only read.
        ([call("look", at="a")], ["journal", "commit"]),
        ([call("look", at="a"), call("look", at="b"), call("look", at="c")], ["journal", "journal", "commit"]),
        # The announcement of a call with an effect, and its result at once, even the last one.
        ([call("book", what="a")], ["journal", "journal", "journal", "commit"]),
        ([call("book", what="a"), call("look", at="b")], ["journal", "journal", "journal", "commit"]),
    ],
)
async def test_the_last_result_goes_with_the_commit_if_the_call_only_read(calls: list[Any], writes: list[str]) -> None:
    stage = Stage(ScriptedModel([["Well. ", *calls], "Done."]), look, book, coalesce_ms=60_000)
    await stage.advance()
    assert stage.store.writes == writes
    assert [result.outcome for result in await stage.results()] == ["ok"] * len(calls)
    assert await stage.ends_of_calls() == [(result.name, "ok") for result in await stage.results()]


async def test_a_result_that_goes_with_the_commit_survives_a_cancel_in_between() -> None:
    stage = Stage(ScriptedModel([call("look", at="a")]), look, coalesce_ms=60_000)

    async def cancel(write: str, _: object) -> None:
        if write == "commit" and "cancel" not in stage.store.writes:
            stage.store.writes.append("cancel")
            await stage.store.cancel(stage.run_id)

    stage.store.before = cancel
    assert (await stage.play()).status == "cancelled"
    assert [result.content for result in await stage.results()] == ["saw a"]
