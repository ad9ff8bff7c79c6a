"""`RedisEventStream`: a run's events from its Redis stream, then live over the process's one pub/sub connection."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from agentq.errors import InvalidInput, RunNotFound, StoreUnavailable
from agentq.events.encoding import decode_event
from agentq.events.fold import Replayer
from agentq.events.model import Event, Gap
from agentq.runs import FINAL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from agentq._redis.hub import Hub
    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq.messages import Message

_PAGE = 1_000
# A reader that heard nothing for this long asks whether it missed something.
_IDLE_S = 1.0
# How often a reader tries again while Redis is away.
_AWAY_S = 1.0


class RedisEventStream:
    """Reads what the scripts write. `messages` gives a transcript, for who was left with a gap."""

    def __init__(
        self, pipeline: Pipeline, hub: Hub, keys: Keys, messages: Callable[[str], Awaitable[tuple[Message, ...]]]
    ) -> None:
        self._pipeline = pipeline
        self._hub = hub
        self._keys = keys
        self._messages = messages

    async def follow(self, run_id: str, *, after: int = 0, live: bool = True) -> AsyncIterator[Event]:
        """Yield every event past `after`; see `EventStream.follow`."""
        last, is_final = await self._look(run_id)
        if not 0 <= after <= last:
            raise InvalidInput(f"run {run_id} has no event {after}; its last is {last}", field="after")
        reader = _Reader(run_id, after)
        reader.known = last if is_final else 0
        if not live or is_final:
            async for event in self._patient_replay(reader) if live else self._replay(reader):
                yield event
            if not live or await self._has_ended(run_id, reader):
                return
        async with self._hub.listen(self._keys.live(run_id)) as inbox:
            while True:
                item = await inbox.get(timeout_s=_IDLE_S)
                if isinstance(item, bytes) and reader.takes(item):
                    for event in reader.pushed(item):
                        yield event
                elif not (item is None and await self._is_up_to_date(run_id, reader)):
                    async for event in self._patient_replay(reader):
                        yield event
                if reader.at_end and await self._has_ended(run_id, reader):
                    return

    async def _look(self, run_id: str) -> tuple[int, bool]:
        """The number of the run's last event, and whether the run is final."""
        seq, status = await self._pipeline.execute("HMGET", self._keys.run(run_id), "seq", "status")
        if status is None:
            raise RunNotFound.of(run_id)
        return int(seq or 0), status.decode() in FINAL

    async def _has_ended(self, run_id: str, reader: _Reader) -> bool:
        """Whether the final event that was read is still the end: the run may have been retried."""
        try:
            last, is_final = await self._look(run_id)
        except StoreUnavailable:
            return False
        return is_final and last == reader.cursor and not reader.undelivered

    async def _is_up_to_date(self, run_id: str, reader: _Reader) -> bool:
        try:
            last, is_final = await self._look(run_id)
        except StoreUnavailable:
            return True
        if last < reader.cursor:
            reader.rewind(last)
        if is_final:
            reader.at_end = True
            reader.known = last
        return last == reader.cursor and not reader.undelivered

    async def _patient_replay(self, reader: _Reader) -> AsyncIterator[Event]:
        """Replay as far as Redis lets us; whoever is idle or hears of a new connection tries again."""
        try:
            async for event in self._replay(reader):
                yield event
        except StoreUnavailable:
            return

    async def _replay(self, reader: _Reader) -> AsyncIterator[Event]:
        complete = False
        while True:
            while reader.undelivered:
                event = await self._filled(reader.undelivered[0])
                reader.undelivered.popleft()
                yield event
            if complete:
                return
            page = await self._pipeline.execute(
                "XRANGE", self._keys.events(reader.run_id), f"{reader.fed + 1}-0", "+", "COUNT", _PAGE
            )
            complete = len(page) < _PAGE
            reader.undelivered.extend(reader.stored(page, complete=complete))

    async def _filled(self, event: Event) -> Event:
        if isinstance(event, Gap):
            return event.model_copy(update={"messages": await self._messages(event.run_id)})
        return event


class _Reader:
    """One viewer's place in a run's events.

    `undelivered` are events that the cursor has passed and the viewer has not got yet. `known` is the number of an
    event that there is, by the run's own word.
    """

    def __init__(self, run_id: str, after: int) -> None:
        self.run_id = run_id
        self.at_end = False
        self.known = 0
        self.undelivered: deque[Event] = deque()
        self._replayer = Replayer(after)

    @property
    def cursor(self) -> int:
        return self._replayer.cursor

    @property
    def fed(self) -> int:
        return self._replayer.fed

    def rewind(self, last: int) -> None:
        """Redis came back with an older state (a failover, a lost second of its log): go on from its last event."""
        self.undelivered.append(Gap(run_id=self.run_id, seq=last, first=last + 1, last=self.cursor))
        self._replayer = Replayer(last)

    def stored(self, page: list[tuple[bytes, list[bytes]]], *, complete: bool) -> list[Event]:
        """What to deliver after a page of the stream."""
        events = [
            decode_event(fields[1], run_id=self.run_id, seq=int(entry_id.partition(b"-")[0]), at_ms=int(fields[3]))
            for entry_id, fields in map(_entry, page)
        ]
        delivered = self._deliver(events, complete=complete)
        if complete and self.cursor < self.known:
            # The end of the stream is gone, so no event follows that would show it.
            delivered.append(Gap(run_id=self.run_id, seq=self.known, first=self.cursor + 1, last=self.known))
            self._replayer = Replayer(self.known)
        return delivered

    def takes(self, message: bytes) -> bool:
        """Whether a published message follows on what was read; otherwise the stream must be read."""
        first, _, _ = message.partition(b" ")
        return not (self.undelivered or self._replayer.is_holding) and int(first) <= self.cursor + 1

    def pushed(self, message: bytes) -> list[Event]:
        """What to deliver after a published message that `takes` accepted."""
        head, *items = message.split(b"\n")
        first, at_ms = head.split(b" ")
        events = [
            decode_event(item[1:], run_id=self.run_id, seq=seq, at_ms=int(at_ms))
            for seq, item in enumerate(items, start=int(first))
        ]
        return self._deliver(events, complete=True)

    def _deliver(self, events: list[Event], *, complete: bool) -> list[Event]:
        delivered = self._replayer.feed(events, complete)
        if delivered:
            self.at_end = delivered[-1].type in _LAST
        return delivered


_LAST = frozenset({"run.completed", "run.failed", "run.cancelled"})


def _entry(entry: tuple[bytes, list[bytes] | dict[bytes, bytes]]) -> tuple[bytes, list[bytes]]:
    """An entry's id and its fields in turn, from either form in which redis-py gives them."""
    entry_id, fields = entry
    return entry_id, fields if isinstance(fields, list) else [item for pair in fields.items() for item in pair]
