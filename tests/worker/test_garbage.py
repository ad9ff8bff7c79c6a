"""What a worker leaves for Python's collector of cycles, and how seldom it looks."""

from __future__ import annotations

import gc
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from agentq.runs import Status
from agentq.testing import ScriptedModel, call
from agentq.tools.context import ToolContext
from agentq.tools.function import tool
from agentq.worker.garbage import collect_seldom
from tests.unit._loop import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator


@tool(effect="none")
async def add_numbers(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


@tool(effect="once")
async def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


@tool(effect="none")
async def count(ctx: ToolContext) -> int:
    """Count up."""
    counted = int(ctx.state.get("count", 0)) + 1
    ctx.state["count"] = counted
    await ctx.progress("counted")
    return counted


@contextmanager
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def left_to_the_collector() -> list[str]:
    """The types of ours of which objects keep each other alive."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return [type(each).__qualname__ for each in gc.garbage if type(each).__module__.startswith("agentq.")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


@pytest.mark.parametrize(
    "calls",
    [
        [call("add_numbers", a=7, b=9)],
        [call("pay", amount=3)],
        [call("pay", amount=1), call("add_numbers", a=1, b=2)],
        [call("count"), call("add_numbers", a=1, b=2), call("count")],
    ],
)
async def test_an_iteration_and_its_transcript_go_without_a_collection(calls: list[Any]):
    stage = Stage(ScriptedModel([["Working. ", *calls], "Done."]), add_numbers, pay, count)
    for status in (Status.QUEUED, Status.COMPLETED):
        with no_collections():
            iteration = stage.loop.begin(await stage.claim())
            outcome = await iteration.run()
            gone = weakref.ref(iteration, lambda _: None)
            del iteration
            assert outcome.status is status
            assert gone() is None
            assert left_to_the_collector() == []


def test_a_worker_process_looks_seldom_and_never_among_what_was_there_at_its_start():
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        collect_seldom()
        assert gc.get_threshold()[0] > before[0]
        assert gc.get_freeze_count() > frozen
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
