"""Writes of one iteration: steps and events, in order, one batch in flight, several steps in a batch when they meet.

Deltas and other events wait for the end of a window; a step goes out at once and takes along what waits.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, TypeVar

from agentq.errors import CancelRequested, InvalidInput, LeaseLost, StoreUnavailable
from agentq.events.encoding import numbered
from agentq.events.fold import fold, ranges
from agentq.events.model import AttemptReset, Delta, Event, FoldedRange, ReasoningDelta, ReplyCompleted, TextDelta
from agentq.loop.waiting import Waiting
from agentq.stores.base import Appended, EventBatch, Lease, StepRecord, Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agentq._clock import Clock
    from agentq.loop.coalescing import Coalescing

# How long a write is repeated while the store is away. Longer, and another worker has long taken over.
PATIENCE_S = 300.0
_RETRY_S = (0.05, 1.0)


T = TypeVar("T")
Ranges = tuple[tuple[int, int], ...]


async def patiently(write: Callable[[], Awaitable[T]], clock: Clock, given_up: Callable[[], bool]) -> T:
    """Repeat an idempotent write while the store is away, up to `PATIENCE_S`."""
    until = clock.monotonic() + PATIENCE_S
    delay = _RETRY_S[0]
    while True:
        try:
            return await write()
        except StoreUnavailable:
            if given_up() or clock.monotonic() > until:
                raise
        await clock.sleep(delay * random.uniform(0.75, 1.25))  # noqa: S311 - spreads retries, guards nothing
        delay = min(delay * 2, _RETRY_S[1])


class StepWriter:
    """The only one that writes for an iteration. `on_lost` is called once when the store refuses a write."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        *,
        clock: Clock,
        coalescing: Coalescing,
        on_lost: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._lease = lease
        self._clock = clock
        self._coalescing = coalescing
        self._on_lost = on_lost
        self._waiting = Waiting()
        self._sending: asyncio.Task[None] | None = None
        self._is_due = False
        self._number = 0
        self._one_in_flight = asyncio.Lock()
        self._deltas: list[Delta] = []
        self.closed = False
        # When the last write that the store accepted was sent, at first the claim: so long ago, the lease was ours.
        self.confirmed_at = clock.monotonic()

    def emit(self, event: Event) -> None:
        """Send an event soon."""
        if not self.closed:
            self._waiting.add(event)
            self._send_soon()

    def emit_text(self, kind: type[TextDelta | ReasoningDelta], text: str) -> None:
        """Send a piece of text soon, joined with those around it into one event."""
        if not self.closed:
            self._waiting.add_text(kind, text)
            self._send_soon()

    async def write(
        self, records: Sequence[StepRecord], events: Sequence[Event] = (), *, using_tools: bool = False
    ) -> None:
        """Journal steps, with the events that tell of them. Returns when they are stored.

        Raises `LeaseLost`, and `CancelRequested` when a record announces an effect and the run was cancelled: then
        `events` are dropped, for they tell of what did not happen.
        """
        # Files are large: those of several calls together would hold Redis up, which takes a write at one go.
        if any(record.starts_effect or record.files for record in records):
            await self._write_alone(records, events)
            return
        self._check_open()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.records.extend(records)
        for event in events:
            self._waiting.add(event)
        self._waiting.waiters.append(waiter)
        self._waiting.using_tools |= using_tools
        self._send()
        await waiter

    async def _write_alone(self, records: Sequence[StepRecord], events: Sequence[Event]) -> None:
        """Write records without company: the refusal of an effect concerns no other record and no other event."""
        await self.settle()
        waiting = self._waiting.take_events()
        try:
            await self._write_batch(records, (*waiting, *events), (), using_tools=False)
        except CancelRequested:
            self._waiting.put_first(waiting)
            if self._waiting.has_events:
                self._send_soon()
            raise

    async def commit_effect(self, name: str, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """Have the store do a tool's own write, and record it as `name`. Raises `InvalidInput` when it cannot."""
        commit_effect: Callable[..., Awaitable[Any]] | None = getattr(self._store, "commit_effect", None)
        if commit_effect is None:
            raise InvalidInput("ctx.commit_with needs a run that lives in Redis", field="script")
        self._check_open()
        try:
            return await patiently(
                lambda: commit_effect(self._lease, name, script, keys, args), self._clock, lambda: self.closed
            )
        except LeaseLost as error:
            self.close()
            self._on_lost(error)
            raise

    async def journal_reply(self, record: StepRecord, event: ReplyCompleted) -> None:
        """Journal the model's reply; its deltas are folded in the same write."""
        events, replaced = await self.complete_reply(event)
        await self._write_batch([record], events, replaced, using_tools=True)

    async def void_reply(self, reason: str) -> None:
        """Tell viewers to forget what was streamed: the same iteration asks the model again."""
        events, replaced = await self.give_up_reply(reason)
        if events:
            await self._write_batch((), events, replaced, using_tools=False)

    async def complete_reply(self, event: ReplyCompleted) -> tuple[tuple[Event, ...], Ranges]:
        """The events that end a reply: what waits, then `event`, which stands for all its deltas; and their numbers.

        Both belong into the very next batch.
        """
        await self.settle()
        waiting = self._waiting.take_events()
        folded = event.model_copy(update={"deltas": (*fold(self._deltas), *_relative(waiting))})
        return (*waiting, folded), self._take_deltas()

    async def give_up_reply(self, reason: str) -> tuple[tuple[Event, ...], Ranges]:
        """What waits, and the event that voids the deltas that were sent, if any. Others are never told."""
        kept = await self.leave()
        if not self._deltas:
            return kept, ()
        numbers = {delta.seq for delta in self._deltas}
        first, last = min(numbers), max(numbers)
        others = tuple(number for number in range(first, last) if number not in numbers)
        thoughts = ranges(delta for delta in self._deltas if isinstance(delta, ReasoningDelta))
        reset = AttemptReset(first=first, last=last, reason=reason, kept=others, reasoning=thoughts)
        return (*kept, reset), self._take_deltas()

    async def leave(self) -> tuple[Event, ...]:
        """What waits, without the deltas of a reply that somebody else will start again."""
        await self.settle()
        waiting = self._waiting.take_events()
        return tuple(event for event in waiting if not isinstance(event, TextDelta | ReasoningDelta))

    def _take_deltas(self) -> Ranges:
        deltas, self._deltas = self._deltas, []
        return ranges(deltas)

    def last_batch(self, events: Sequence[Event], replaced: Ranges) -> EventBatch:
        """The batch of the commit or release. Nothing is sent after it."""
        self.close()
        return EventBatch(self._number + 1, tuple(events), replaced)

    async def settle(self) -> None:
        """Return when nothing is being sent. What waits for company stays. Raises `LeaseLost` once closed."""
        while self._sending is not None:
            await asyncio.wait([self._sending])
        self._stop_timer()
        self._check_open()

    def close(self) -> None:
        """Send nothing more, and stop what is being sent. Who waits for a write hears that it will not come."""
        self.closed = True
        self._stop_timer()
        waiting, self._waiting = self._waiting, Waiting()
        _tell(waiting.waiters, _closed())
        sending, self._sending = self._sending, None
        if sending is not None and sending is not asyncio.current_task():
            sending.cancel()

    def _check_open(self) -> None:
        if self.closed:
            raise _closed()

    def _stop_timer(self) -> None:
        if self._is_due:
            self._is_due = False
            self._coalescing.forget(self._send)

    def _send_soon(self) -> None:
        if not self._is_due and self._sending is None:
            self._is_due = True
            self._coalescing.soon(self._send)

    def _send(self) -> None:
        self._stop_timer()
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send_all(), name="agentq-writer")

    async def _send_all(self) -> None:
        try:
            await self._send_waiting()
            # Who writes nothing but wants to hear that the lease still holds waits, too.
            while self._waiting.records or self._waiting.waiters:
                await self._send_waiting()
        finally:
            self._sending = None
        if self._waiting.has_events:
            self._send_soon()

    async def _send_waiting(self) -> None:
        batch, self._waiting = self._waiting, Waiting()
        try:
            await self._write_batch(batch.records, batch.take_events(), (), using_tools=batch.using_tools)
        except asyncio.CancelledError:
            _tell(batch.waiters, _closed())
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            _tell(batch.waiters + self._waiting.waiters, error)
            self.close()
            self._on_lost(error)
        else:
            for waiter in batch.waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def _write_batch(
        self,
        records: Sequence[StepRecord],
        events: Sequence[Event],
        replaced: Ranges,
        *,
        using_tools: bool,
    ) -> None:
        async with self._one_in_flight:
            batch = EventBatch(self._number + 1, tuple(events), replaced)
            sent_at = self._clock.monotonic()
            appended = await patiently(
                lambda: self._store.journal(self._lease, records, batch, using_tools=using_tools),
                self._clock,
                lambda: self.closed,
            )
            # A batch that was refused is not there, so its number is free.
            self._number = batch.number
            self.confirmed_at = sent_at
        if not any(isinstance(event, ReplyCompleted) for event in events):
            self._deltas.extend(self._numbered_deltas(events, appended))

    def _numbered_deltas(self, events: Sequence[Event], appended: Appended) -> list[Delta]:
        first = appended.last_seq - len(events) + 1
        return [
            numbered(event, run_id=self._lease.run_id, seq=first + index, at_ms=appended.at_ms)  # type: ignore[misc]
            for index, event in enumerate(events)
            if isinstance(event, TextDelta | ReasoningDelta)
        ]


def _relative(events: Sequence[Event]) -> list[FoldedRange]:
    """Ranges for deltas that stand in the same batch as the event that replaces them, right before it."""
    return [
        FoldedRange(
            first=index - len(events),
            kind="text" if isinstance(event, TextDelta) else "reasoning",
            lengths=(len(event.text),),
            at_ms=(),
        )
        for index, event in enumerate(events)
        if isinstance(event, TextDelta | ReasoningDelta)
    ]


def _closed() -> LeaseLost:
    return LeaseLost("this worker has given the run up and writes nothing more")


def _tell(waiters: Sequence[asyncio.Future[None]], error: Exception) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(error)
            # Who waited may have been stopped since; the error has been told to `on_lost` as well.
            waiter.exception()
