"""The event log and stream of the in-memory store. Followers are woken by the write itself; nothing polls."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentq.errors import InvalidInput
from agentq.events.encoding import decode_event, encode_event, is_delta
from agentq.events.fold import Replayer, ranges
from agentq.events.model import AttemptReset, Event, Gap, ReasoningDelta, ReplyCompleted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from agentq.messages import Message
    from agentq.runs import Status


@dataclass(frozen=True, slots=True)
class _Entry:
    seq: int
    at_ms: int
    data: bytes


class MemoryLog:
    """The events of one run in their stored form, numbered 1, 2, 3, ….

    A delta is *open* until a write folds, drops or settles it.
    """

    def __init__(self, run_id: str) -> None:
        self.seq = 0
        self._run_id = run_id
        self._entries: list[_Entry] = []
        self._open: set[int] = set()
        self._changed = asyncio.Event()

    @property
    def changed(self) -> asyncio.Event:
        """Is set by the next write. Take it before reading, so that no write slips in between."""
        return self._changed

    def write(
        self,
        events: Sequence[Event],
        *,
        at_ms: int,
        fold: Sequence[tuple[int, int]] = (),
        drop: str | None = None,
        settle: bool = False,
    ) -> None:
        """Append `events`, all or none. Delete the open deltas within the ranges of `fold`.

        Deltas beside a `ReplyCompleted` are numbered and not stored: it stands for them. `drop` deletes all other open
        deltas and, if there were any, writes the reset with this reason before `events`. `settle` leaves them stored
        for good instead.
        """
        gone = {seq for seq in self._open if any(first <= seq <= last for first, last in fold)}
        abandoned = self._open - gone if drop is not None else set()
        if drop is not None and abandoned:
            first = min(abandoned)
            kept = tuple(number for number in range(first, self.seq + 1) if number not in abandoned)
            given_up = [event for event in self.read(first - 1) if event.seq in abandoned]
            thoughts = ranges(event for event in given_up if isinstance(event, ReasoningDelta))
            reset = AttemptReset(first=first, last=self.seq, reason=drop, kept=kept, reasoning=thoughts)
            events = (reset, *events)
        is_folded = any(isinstance(event, ReplyCompleted) for event in events)
        added = [
            (event, _Entry(seq, at_ms, encode_event(event)))
            for seq, event in enumerate(events, start=self.seq + 1)
            if not (is_folded and is_delta(event))
        ]

        gone |= abandoned
        if gone:
            self._entries = [entry for entry in self._entries if entry.seq not in gone]
        if settle:
            self._open.clear()
        else:
            self._open -= gone
            self._open.update(entry.seq for event, entry in added if is_delta(event))
        self._entries += (entry for _, entry in added)
        self.seq += len(events)
        self._changed.set()
        self._changed = asyncio.Event()

    def read(self, after: int) -> list[Event]:
        """The stored events past `after`, in order."""
        start = bisect_right(self._entries, after, key=_seq)
        return [
            decode_event(entry.data, run_id=self._run_id, seq=entry.seq, at_ms=entry.at_ms)
            for entry in self._entries[start:]
        ]

    def trim(self, first: int) -> None:
        """Forget the events before number `first`, as a byte limit does."""
        del self._entries[: bisect_left(self._entries, first, key=_seq)]


def _seq(entry: _Entry) -> int:
    return entry.seq


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """What the stream has to know of a run. `messages` gives its transcript, for who was left with a gap."""

    log: MemoryLog
    status: Status
    messages: Callable[[], tuple[Message, ...]]


class MemoryEventStream:
    """The `EventStream` of the in-memory store. `find` raises `RunNotFound`."""

    def __init__(self, find: Callable[[str], LoggedRun]) -> None:
        self._find = find

    async def follow(self, run_id: str, *, after: int = 0, live: bool = True) -> AsyncIterator[Event]:
        """Yield every event past `after`; see `EventStream.follow`."""
        last = self._find(run_id).log.seq
        if not 0 <= after <= last:
            raise InvalidInput(f"run {run_id} has no event {after}; its last is {last}", field="after")
        replayer = Replayer(after)
        while True:
            run = self._find(run_id)
            changed = run.log.changed
            for event in replayer.feed(run.log.read(replayer.fed), complete=True):
                yield event.model_copy(update={"messages": run.messages()}) if isinstance(event, Gap) else event
            if changed.is_set():
                continue
            if not live or run.status.is_final:
                return
            await changed.wait()
