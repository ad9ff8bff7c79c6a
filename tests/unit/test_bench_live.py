"""What the bench finds out of live runs is checked before it is a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from agentq.events.model import RunCompleted, RunQueued, TextDelta
from bench.children import Child
from bench.latency import latency
from bench.peers.agentq_viewers import Seen, view
from bench.peers.agentq_wake_up import wake_ups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.client import AsyncClient
    from agentq.events.model import Event


class Told:
    """A client whose run has these events."""

    def __init__(self, *events: Event) -> None:
        self._events = events

    async def events(self, run_id: str) -> AsyncIterator[Event]:
        for event in self._events:
            yield event


async def viewed(*events: Event, tokens: int) -> Seen:
    seen = Seen(expected=1)
    await view(cast("AsyncClient", Told(*events)), "r1", seen, tokens)
    return seen


QUEUED = RunQueued(seq=1, agent="a")


def test_the_median_and_the_slow_end_of_latencies():
    assert latency(number * 1_000_000 for number in range(1, 101)) == {"p50 ms": 50.0, "p99 ms": 99.0}
    assert latency([3_000_000]) == {"p50 ms": 3.0, "p99 ms": 3.0}


def test_a_wake_up_counts_from_before_its_enqueue_and_again_from_its_return():
    sent, called = {"1000000": 4_000_000}, {"1000000": 3_000_000, "7": 8_000_000}
    assert wake_ups(sent, called) == {"p50 ms": 2.0, "p99 ms": 2.0, "p50 ms after enqueue returned": -1.0}


async def test_tokens_that_say_when_they_were_sent_give_latencies():
    seen = await viewed(QUEUED, TextDelta(seq=2, text="10 20 "), RunCompleted(seq=3, output="10 20 "), tokens=2)
    assert (seen.events, seen.tokens, len(seen.latencies_ns), seen.all_begun.is_set()) == (3, 2, 2, True)


async def test_a_token_that_is_missing_is_no_figure():
    with pytest.raises(RuntimeError, match="of 2 tokens of run r1, 1 came"):
        await viewed(QUEUED, TextDelta(seq=2, text="10 "), RunCompleted(seq=3, output="10 20 "), tokens=2)


async def test_an_event_that_is_missing_is_no_figure():
    with pytest.raises(RuntimeError, match="after event 1 of run r1 came 3"):
        await viewed(QUEUED, TextDelta(seq=3, text="10 "), tokens=1)


def test_a_child_that_fails_is_no_figure_and_its_last_words_are_shown():
    with pytest.raises(RuntimeError, match="No module named"), Child("bench.no_such_module") as child:
        child.hear()
