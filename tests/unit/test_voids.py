"""Dropped deltas come back empty, at their numbers and of their kinds, and nothing else changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from agentq.events.encoding import UnknownEvent
from agentq.events.fold import Replayer, ranges
from agentq.events.model import AttemptReset, Delta, Event, Gap, ReasoningDelta, RunStarted, TextDelta, ToolProgress
from agentq.events.voids import Voids

if TYPE_CHECKING:
    from collections.abc import Iterable


def fed(events: Iterable[Event], after: int = 0) -> list[Event]:
    voids = Voids(after)
    return [*(each for event in events for each in voids.feed(event)), *voids.rest()]


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """What a viewer saw who was there all the time, and what is stored in the end."""
    seen: list[Event] = []
    stored: list[Event] = []
    for kinds in draw(st.lists(st.lists(st.sampled_from("trpu"), max_size=6), max_size=5)):
        attempt: list[Event] = []
        for kind in kinds:
            seq = len(seen) + len(attempt) + 1
            made: dict[str, Any] = {
                "t": TextDelta(seq=seq, text="x"),
                "r": ReasoningDelta(seq=seq, text="y"),
                "p": ToolProgress(seq=seq, call_id="c", name="n"),
                "u": UnknownEvent(seq=seq, type="newer.kind"),
            }
            attempt.append(made[kind])
        seen += attempt
        deltas: list[Delta] = [event for event in attempt if isinstance(event, TextDelta | ReasoningDelta)]
        if not deltas:
            stored += attempt
            continue
        last = seen[-1].seq
        reset = AttemptReset(
            seq=last + 1,
            first=deltas[0].seq,
            last=last,
            reason="recovered",
            kept=tuple(event.seq for event in attempt if event.seq > deltas[0].seq and event not in deltas),
            reasoning=ranges(delta for delta in deltas if isinstance(delta, ReasoningDelta)),
        )
        seen.append(reset)
        stored += [*(event for event in attempt if event not in deltas), reset]
    return seen, stored


@given(logs(), st.data())
def test_a_late_viewer_gets_the_same_kinds_at_the_same_numbers(
    log: tuple[list[Event], list[Event]], data: st.DataObject
):
    seen, stored = log
    after = data.draw(st.integers(0, len(seen)))
    replayed = Replayer(after).feed([event for event in stored if event.seq > after], complete=True)
    late = fed(replayed, after)
    assert [(event.seq, event.type) for event in late] == [(event.seq, event.type) for event in seen[after:]]
    deltas = [event for event in late if isinstance(event, TextDelta | ReasoningDelta)]
    assert not any(delta.text for delta in deltas)


@given(logs())
def test_who_was_there_gets_what_there_was(log: tuple[list[Event], list[Event]]):
    seen, _ = log
    assert fed(seen) == seen


def test_after_a_gap_it_goes_on_behind_it():
    gap = Gap(seq=9, first=2, last=9)
    events: list[Event] = [RunStarted(seq=1, agent="a"), gap, RunStarted(seq=10, agent="a")]
    assert fed(events) == events


def test_redis_that_went_back_in_time_numbers_anew():
    gap = Gap(seq=1, first=2, last=9)
    events: list[Event] = [RunStarted(seq=1, agent="a"), gap, RunStarted(seq=2, agent="a")]
    assert fed(events) == events
