"""The window at whose end events go out, shared by all iterations of a process."""

from __future__ import annotations

import asyncio

import pytest

from agentq.loop.coalescing import Coalescing
from tests.helpers import wait_until


async def test_everybody_who_asked_is_called_once_at_the_end_of_one_window():
    coalescing = Coalescing(0.01)
    called: list[str] = []
    calls = {name: (lambda name=name: called.append(name)) for name in "abc"}
    for name in "abacab":
        coalescing.soon(calls[name])
    coalescing.forget(calls["c"])
    coalescing.forget(calls["c"])
    assert called == []
    await wait_until(lambda: len(called) == 2, timeout=5)
    # Windows end one after the other, so the order is not theirs who asked.
    assert sorted(called) == ["a", "b"]
    assert not await wait_for_more(called)


async def wait_for_more(called: list[str]) -> bool:
    """Whether anything is called within some windows more."""
    before = len(called)
    await asyncio.sleep(0.05)
    return len(called) > before


async def test_who_asks_again_while_called_waits_for_the_next_window():
    coalescing = Coalescing(0)
    called: list[int] = []

    def call() -> None:
        called.append(len(called))
        if len(called) < 3:
            coalescing.soon(call)

    coalescing.soon(call)
    await wait_until(lambda: len(called) == 3, timeout=5)


async def test_a_call_that_raises_takes_nobody_with_it():
    coalescing = Coalescing(0)
    heard: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["exception"]))
    called: list[str] = []

    def fail() -> None:
        raise ValueError("a bug")

    coalescing.soon(fail)
    coalescing.soon(lambda: called.append("second"))
    await wait_until(lambda: called == ["second"], timeout=5)
    assert [str(error) for error in heard] == ["a bug"]


def test_a_window_of_an_event_loop_that_was_closed_holds_up_nobody():
    coalescing = Coalescing(0.01)
    called: list[str] = []

    async def ask(name: str, *, waits: bool) -> None:
        coalescing.soon(lambda: called.append(name))
        if waits:
            await wait_until(lambda: called, timeout=5)

    asyncio.run(ask("left", waits=False))
    asyncio.run(ask("next", waits=True))
    assert called == ["next"]


@pytest.mark.parametrize("window_s", [0, 0.01])
async def test_a_window_begins_with_the_first_who_asks(window_s: float):
    coalescing = Coalescing(window_s)
    called: list[str] = []
    coalescing.soon(lambda: called.append("first"))
    await wait_until(lambda: called, timeout=5)
    coalescing.soon(lambda: called.append("second"))
    await wait_until(lambda: called == ["first", "second"], timeout=5)
