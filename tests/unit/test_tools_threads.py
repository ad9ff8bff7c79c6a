"""Synchronous tools run in threads that bound nothing but themselves; the context works from there too."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import os
import subprocess
import sys
import threading
import warnings

import pytest

from agentq.errors import InvalidInput
from agentq.tools import threads
from agentq.tools.context import ToolContext
from agentq.tools.threads import ThreadPool
from tests.helpers import ROOT, wait_until

SPOKEN: contextvars.ContextVar[str] = contextvars.ContextVar("SPOKEN", default="")


@pytest.fixture
def pool() -> ThreadPool:
    """Two threads that end at once when idle."""
    return ThreadPool(2, idle_s=0.01)


def ignore() -> None: ...


def tool_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "agentq-tool"]


async def test_a_thread_sees_the_context_variables_and_changes_none(pool: ThreadPool):
    def speak() -> str:
        heard = SPOKEN.get()
        SPOKEN.set("from the thread")
        return heard

    SPOKEN.set("hello")
    assert await pool.run(speak, abandoned=ignore) == "hello"
    assert SPOKEN.get() == "hello"


async def test_at_most_the_limit_runs_at_once_and_every_call_gets_its_turn(pool: ThreadPool):
    lock, busy, peak = threading.Lock(), 0, 0
    full, release = threading.Event(), threading.Event()

    def work() -> int:
        nonlocal busy, peak
        with lock:
            busy += 1
            peak = max(peak, busy)
            if busy == 2:
                full.set()
        release.wait(30)
        with lock:
            busy -= 1
        return threading.get_ident()

    calls = [asyncio.create_task(pool.run(work, abandoned=ignore)) for _ in range(20)]
    await wait_until(full.is_set)
    release.set()
    assert len(set(await asyncio.gather(*calls))) <= 2
    assert peak == 2


async def test_a_call_that_is_cancelled_while_it_waits_never_starts(pool: ThreadPool):
    release, started, abandoned = threading.Event(), [], []
    busy = [asyncio.create_task(pool.run(lambda: release.wait(30), abandoned=ignore)) for _ in range(2)]
    await asyncio.sleep(0)
    waiting = asyncio.create_task(pool.run(lambda: started.append(1), abandoned=lambda: abandoned.append(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    await asyncio.gather(*busy)
    assert await pool.run(lambda: "next", abandoned=ignore) == "next"
    assert (started, abandoned) == ([], [])


async def test_idle_threads_end(pool: ThreadPool):
    before = set(tool_threads())
    await asyncio.gather(*(pool.run(ignore, abandoned=ignore) for _ in range(10)))
    await wait_until(lambda: not set(tool_threads()) - before)
    assert await pool.run(lambda: "again", abandoned=ignore) == "again"


async def test_a_system_without_threads_fails_the_call_and_no_later_one(
    pool: ThreadPool, monkeypatch: pytest.MonkeyPatch
):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await pool.run(ignore, abandoned=ignore)
    assert await pool.run(lambda: "works", abandoned=ignore) == "works"


def test_the_limit_of_the_process_can_be_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threads.pool, "limit", threads.pool.limit)
    threads.set_thread_limit(7)
    assert threads.pool.limit == 7
    with pytest.raises(InvalidInput, match="at least 1, not 0"):
        threads.set_thread_limit(0)


def test_a_forked_child_has_threads_of_its_own():
    """Its parent's idle threads did not come along: counting on them would hang the first call."""

    async def call() -> object:
        return await threads.pool.run(lambda: "done", abandoned=ignore)

    asyncio.run(call())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking while there are threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if asyncio.run(asyncio.wait_for(call(), 20)) == "done" else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


HANGS = """
import asyncio, threading
from agentq.messages import ToolCallPart
from agentq.tools import threads
from agentq.tools.context import ToolContext
from agentq.tools.threads import ThreadPool
from agentq.tools.execution import execute_call
from agentq.tools.function import tool

@tool(timeout=0.05)
def hang() -> None:
    threading.Event().wait()

call = ToolCallPart(call_id="c", name="hang")
print(asyncio.run(execute_call(hang, call, ToolContext(run_id="r", call_id="c"))).result.content)
"""


def test_a_tool_that_hangs_does_not_keep_the_process():
    ended = subprocess.run(
        [sys.executable, "-c", HANGS], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert ended.stdout == "hang did not finish within 0.05 s\n"


# The context.


def test_a_context_needs_little_and_cannot_be_changed():
    ctx = ToolContext(run_id="R", call_id="R.1.0")
    assert (ctx.attempt, ctx.session_id, ctx.user_id, ctx.metadata, ctx.cancelled) == (1, None, None, {}, False)
    assert repr(ctx).startswith("ToolContext(run_id='R', call_id='R.1.0'")
    with pytest.raises(dataclasses.FrozenInstanceError):
        ctx.attempt = 2  # type: ignore[misc]


async def test_progress_leaves_at_once_awaited_or_not(pool: ThreadPool):
    reports: list[tuple[str, float | None]] = []
    ctx = ToolContext(run_id="R", call_id="c", report=lambda message, fraction: reports.append((message, fraction)))
    ctx.progress("dropped", 0)
    assert reports == [("dropped", 0)]
    await ctx.progress(fraction=1)
    await ctx.progress("awaited")
    await pool.run(lambda: ctx.progress("from a thread", 0.5), abandoned=ignore)
    assert reports == [("dropped", 0), ("", 1), ("awaited", None), ("from a thread", 0.5)]


async def test_awaiting_progress_gives_other_tasks_a_turn():
    turns: list[str] = []

    async def other() -> None:
        turns.append("other")

    task = asyncio.create_task(other())
    await ToolContext(run_id="R", call_id="c").progress("working")
    assert turns == ["other"]
    await task


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_fraction_is_from_0_to_1(fraction: float):
    with pytest.raises(InvalidInput, match="fraction is from 0 to 1") as caught:
        ToolContext(run_id="R", call_id="c").progress("too far", fraction)
    assert caught.value.field == "fraction"


def test_a_cancelled_call_reports_nothing_more():
    reports: list[str] = []
    ctx = ToolContext(run_id="R", call_id="c", report=lambda message, fraction: reports.append(message))
    ctx.cancel_event.set()
    ctx.progress("too late")
    assert ctx.cancelled
    assert reports == []
