"""What an iteration writes: in order, one batch in flight, nothing lost, nothing told twice, nobody left waiting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.errors import CancelRequested, LeaseLost, StoreUnavailable
from agentq.events.model import (
    AttemptReset,
    Event,
    ReasoningDelta,
    ReplyCompleted,
    TextDelta,
    ToolCalled,
    ToolFinished,
    ToolProgress,
)
from agentq.loop.coalescing import Coalescing
from agentq.loop.writer import PATIENCE_S, StepWriter
from agentq.runs import Status
from agentq.stores.base import Appended, EventBatch, Lease, StepRecord
from agentq.stores.memory import MemoryStore
from agentq.testing import FakeClock
from agentq.testing._contract import commit_of, deltas_of, events_of, running, types_of
from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agentq.stores.base import Claim

_NEVER_S = 3_600.0


class WatchedStore(MemoryStore):
    """Remembers the batches that it was sent; `gate` holds answers back, `faults` make calls fail, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[list[str], EventBatch, bool]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.faults: list[Exception | None] = []
        self.replies_are_lost = False
        self.in_flight = 0

    async def journal(
        self, lease: Lease, records: Sequence[StepRecord], batch: EventBatch, *, using_tools: bool = False
    ) -> Appended:
        assert self.in_flight == 0, "two batches in flight"
        self.in_flight += 1
        try:
            self.sent.append(([record.name for record in records], batch, using_tools))
            await self.gate.wait()
            fault = self.faults.pop(0) if self.faults else None
            if fault is not None and not self.replies_are_lost:
                raise fault
            answer = await super().journal(lease, records, batch, using_tools=using_tools)
            if fault is not None:
                raise fault
            return answer
        finally:
            self.in_flight -= 1

    @property
    def batches(self) -> list[tuple[list[str], list[str]]]:
        """Names of the records and types of the events of each batch."""
        return [(names, types_of(batch.events)) for names, batch, _ in self.sent]


class Bench:
    """A writer on a claimed run, and what became of it."""

    def __init__(self, store: WatchedStore, claim: Claim, coalesce_s: float, clock: Any = None) -> None:
        self.store = store
        self.claim = claim
        self.run_id = claim.lease.run_id
        self.lost: list[Exception] = []
        self.clock = clock or FakeClock()
        self.writer = StepWriter(
            store, claim.lease, clock=self.clock, coalescing=Coalescing(coalesce_s), on_lost=self.lost.append
        )

    async def events(self, after: int = 2) -> list[Event]:
        """What a viewer sees after run.queued and run.started."""
        return await events_of(self.store.stream, self.run_id, after=after)

    def start(self, *records: StepRecord, events: Sequence[Event] = ()) -> asyncio.Task[None]:
        return asyncio.create_task(self.writer.write(records, events))


async def bench(coalesce_s: float = _NEVER_S) -> Bench:
    store = WatchedStore()
    return Bench(store, await running(store), coalesce_s)


@pytest.fixture
async def patient() -> AsyncIterator[Bench]:
    """Events wait for a step: nothing goes out by itself."""
    made = await bench()
    yield made
    made.writer.close()


@pytest.fixture
async def eager() -> AsyncIterator[Bench]:
    """Events go out as soon as the event loop is free."""
    made = await bench(coalesce_s=0)
    yield made
    made.writer.close()


def record(name: str = "call", *, effect: bool = False) -> StepRecord:
    return StepRecord(name, b'"started"' if effect else b'"finished"', starts_effect=effect)


def text(piece: str) -> TextDelta:
    return TextDelta(text=piece)


def progress(message: str = "") -> ToolProgress:
    return ToolProgress(call_id="c", name="roll_dice", message=message)


def finished(name: str) -> ToolFinished:
    return ToolFinished(call_id=name, name="roll_dice", content="4")


def called(name: str) -> ToolCalled:
    return ToolCalled(call_id=name, name="roll_dice")


async def turns(count: int = 5) -> None:
    """Let other tasks go as far as they can without time passing."""
    for _ in range(count):
        await asyncio.sleep(0)


class TestEvents:
    async def test_events_go_out_by_themselves_and_pieces_of_text_become_one(self):
        made = await bench(coalesce_s=0.01)
        for piece in ("It ", "is ", "16"):
            made.writer.emit(text(piece))
        assert made.store.sent == []
        await wait_until(lambda: made.store.sent)
        await made.writer.settle()
        assert [event.text for event in deltas_of(await made.events())] == ["It is 16"]
        made.writer.emit(text("."))
        await wait_until(lambda: len(made.store.sent) == 2)
        assert [batch.number for _, batch, _ in made.store.sent] == [1, 2]

    async def test_order_is_kept_whatever_stands_between(self, eager: Bench):
        for event in (
            text("a"), text("b"), progress(), text("c"), ReasoningDelta(text="d"), ReasoningDelta(text="e"), text("f"),
            progress("x"), progress("y"), progress("y"),
        ):  # fmt: skip
            eager.writer.emit(event)
        await wait_until(lambda: eager.store.sent)
        await eager.writer.settle()
        told = [getattr(event, "text", None) or event.type for event in await eager.events()]
        # Of progress that nobody could have read, the last is told.
        assert told == ["ab", "tool.progress", "c", "de", "f", "tool.progress"]

    async def test_what_comes_while_a_batch_is_on_its_way_waits_and_becomes_one_batch(self, eager: Bench):
        eager.store.gate.clear()
        eager.writer.emit(text("a"))
        await wait_until(lambda: eager.store.sent)
        for piece in ("b", "c", "d"):
            eager.writer.emit(text(piece))
            await turns()
        assert len(eager.store.sent) == 1
        eager.store.gate.set()
        await wait_until(lambda: len(eager.store.sent) == 2)
        await eager.writer.settle()
        assert [event.text for event in deltas_of(await eager.events())] == ["a", "bcd"]

    async def test_no_empty_batch_is_ever_sent(self, eager: Bench):
        eager.writer.emit(text("a"))
        await wait_until(lambda: eager.store.sent)
        eager.writer.emit(text("b"))
        await eager.writer.journal_reply(record("reply"), ReplyCompleted(turn=1, text="ab"))
        await asyncio.sleep(0.01)
        await eager.writer.void_reply("nothing to void")
        assert all(names or batch.events for names, batch, _ in eager.store.sent)
        assert [batch.number for _, batch, _ in eager.store.sent] == [1, 2]


class TestSteps:
    async def test_a_step_goes_out_at_once_and_takes_along_what_waits(self, patient: Bench):
        patient.writer.emit(text("a"))
        await patient.writer.write([record("c1")], [finished("c1")])
        assert patient.store.batches == [(["c1"], ["text.delta", "tool.finished"])]
        assert types_of(await patient.events()) == ["text.delta", "tool.finished"]

    async def test_steps_that_meet_share_a_batch_and_return_when_they_are_stored(self, patient: Bench):
        patient.store.gate.clear()
        first = patient.start(record("c1"), events=[finished("c1")])
        await turns()
        others = [patient.start(record(name), events=[finished(name)]) for name in ("c2", "c3")]
        await turns()
        patient.writer.emit(progress())
        assert not any(task.done() for task in (first, *others))
        patient.store.gate.set()
        await asyncio.gather(first, *others)
        assert patient.store.batches == [
            (["c1"], ["tool.finished"]),
            (["c2", "c3"], ["tool.finished", "tool.finished", "tool.progress"]),
        ]
        assert [batch.number for _, batch, _ in patient.store.sent] == [1, 2]

    async def test_who_writes_nothing_hears_of_it_too_while_another_batch_is_on_its_way(self, patient: Bench):
        """A write of nothing asks whether the lease still holds."""
        patient.store.gate.clear()
        first = patient.start(record("c1"))
        await turns()
        second = patient.start()
        await turns()
        patient.store.gate.set()
        await asyncio.wait_for(asyncio.gather(first, second), 10)
        assert patient.store.batches == [(["c1"], []), ([], [])]

    async def test_a_reply_moves_the_phase_on_and_a_result_does_not(self, patient: Bench):
        await patient.writer.write([record("c1")])
        await patient.writer.journal_reply(record("reply"), ReplyCompleted(turn=1))
        assert [using_tools for *_, using_tools in patient.store.sent] == [False, True]

    async def test_a_caller_that_is_cancelled_leaves_the_others_their_write(self, patient: Bench):
        patient.store.gate.clear()
        first, second = patient.start(record("c1")), patient.start(record("c2"))
        await turns()
        first.cancel()
        patient.store.gate.set()
        await second
        assert first.cancelled()
        assert patient.store.batches == [(["c1", "c2"], [])]


class TestCancelRequested:
    async def test_a_refusal_concerns_the_announcement_alone(self, patient: Bench):
        """Steps before and after are stored; events that waited are told; the one of the refused call is not."""
        await patient.store.cancel(patient.run_id)
        patient.store.gate.clear()
        before = patient.start(record("c1"), events=[finished("c1")])
        await turns()
        patient.writer.emit(progress("before"))
        announcement = patient.start(record("c2", effect=True), events=[called("c2")])
        after = patient.start(record("c3"), events=[finished("c3")])
        patient.store.gate.set()
        with pytest.raises(CancelRequested):
            await announcement
        await asyncio.gather(before, after)
        await patient.writer.write([record("c4")], [finished("c4")])
        told = (await patient.events())[1:]
        assert sorted(types_of(told)) == ["tool.finished", "tool.finished", "tool.finished", "tool.progress"]
        assert patient.lost == []
        assert "tool.called" not in types_of(told)

    async def test_events_of_a_refused_batch_are_told_in_their_place(self, eager: Bench):
        await eager.store.cancel(eager.run_id)
        eager.store.gate.clear()
        eager.writer.emit(text("a"))
        await wait_until(lambda: eager.store.sent)
        announcement = eager.start(record("c1", effect=True), events=[called("c1")])
        await turns()
        eager.writer.emit(text("b"))
        eager.store.gate.set()
        await wait_until(announcement.done)
        eager.writer.emit(text("c"))
        assert isinstance(announcement.exception(), CancelRequested)
        await wait_until(lambda: any(event.text.endswith("c") for event in _texts(eager)))
        assert "".join(event.text for event in deltas_of((await eager.events())[1:])) == "abc"

    async def test_announcements_alone_are_marked_so(self, patient: Bench):
        patient.store.gate.clear()
        first = patient.start(record("c1"))
        announcement = patient.start(record("c2", effect=True))
        other = patient.start(record("c3"))
        await turns()
        patient.store.gate.set()
        await asyncio.gather(first, announcement, other)
        assert ["c2"] in [names for names, _ in patient.store.batches]


def _texts(made: Bench) -> list[TextDelta]:
    return [event for _, batch, _ in made.store.sent for event in batch.events if isinstance(event, TextDelta)]


class TestLosing:
    async def take_over(self, made: Bench) -> None:
        """Another worker has the lease now."""
        await made.store.release(made.claim.lease, EventBatch(99))

    async def test_everybody_who_waits_hears_of_it_and_the_owner_once(self, patient: Bench):
        await self.take_over(patient)
        patient.store.gate.clear()
        first = patient.start(record("c1"))
        await turns()
        others = [patient.start(record(name)) for name in ("c2", "c3")]
        announcement = patient.start(record("c4", effect=True))
        await turns()
        patient.store.gate.set()
        answers = await asyncio.gather(first, *others, announcement, return_exceptions=True)
        assert [type(answer) for answer in answers] == [LeaseLost] * 4
        assert [type(error) for error in patient.lost] == [LeaseLost]
        assert len(patient.store.sent) == 1

    async def test_deltas_that_are_refused_tell_the_owner_too(self, eager: Bench):
        await self.take_over(eager)
        eager.writer.emit(text("a"))
        await wait_until(lambda: eager.lost)
        eager.writer.emit(text("b"))
        await turns()
        assert eager.writer.closed
        assert len(eager.store.sent) == 1

    async def test_a_writer_that_is_closed_keeps_nobody_waiting(self, patient: Bench):
        """As when the renewal finds the lease lost while results of two tools are on their way."""
        patient.store.gate.clear()
        tasks = [patient.start(record("c1"))]
        await turns()
        tasks += [patient.start(record("c2")), patient.start(record("c3", effect=True))]
        await turns()
        patient.writer.close()
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert [type(answer) for answer in answers] == [LeaseLost] * 3
        assert patient.lost == []

    async def test_a_writer_that_is_closed_writes_nothing_more(self, patient: Bench):
        patient.writer.emit(text("a"))
        patient.writer.close()
        patient.writer.emit(text("b"))
        for write in (
            patient.writer.write([record("c1")]),
            patient.writer.write([record("c2", effect=True)]),
            patient.writer.journal_reply(record("reply"), ReplyCompleted(turn=1)),
            patient.writer.give_up_reply("lost"),
            patient.writer.leave(),
        ):
            with pytest.raises(LeaseLost):
                await write
        await turns()
        assert patient.store.sent == []

    async def test_closing_while_somebody_waits_for_the_end_of_a_batch(self, eager: Bench):
        eager.store.gate.clear()
        eager.writer.emit(text("a"))
        await wait_until(lambda: eager.store.sent)
        ending = asyncio.create_task(eager.writer.give_up_reply("cancelled"))
        await turns()
        eager.writer.close()
        with pytest.raises(LeaseLost):
            await asyncio.wait_for(ending, 5)

    async def test_what_nobody_foresaw_reaches_everybody_too(self, patient: Bench):
        patient.store.faults = [ZeroDivisionError("a bug")]
        patient.store.gate.clear()
        first = patient.start(record("c1"))
        await turns()
        second = patient.start(record("c2"))
        await turns()
        patient.store.gate.set()
        answers = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(answer) for answer in answers] == [ZeroDivisionError] * 2
        assert len(patient.lost) == 1


class TestRedisAway:
    @pytest.mark.parametrize("replies_are_lost", [False, True])
    async def test_a_write_is_repeated_with_its_number(self, patient: Bench, replies_are_lost: bool):
        patient.store.replies_are_lost = replies_are_lost
        patient.store.faults = [StoreUnavailable(), StoreUnavailable(), None]
        writing = patient.start(record("c1"), events=[finished("c1")])
        while not writing.done():
            await turns()
            patient.clock.advance(1.3)
        await writing
        assert [batch.number for _, batch, _ in patient.store.sent] == [1, 1, 1]
        assert types_of(await patient.events()) == ["tool.finished"]
        await patient.writer.write([record("c2")], [finished("c2")])
        assert patient.store.sent[-1][1].number == 2

    async def test_deltas_written_by_a_repeated_batch_are_folded_all_the_same(self, patient: Bench):
        patient.store.replies_are_lost = True
        patient.store.faults = [StoreUnavailable()]
        patient.writer.emit(text("It is "))
        writing = patient.start(record("c1"))
        while not writing.done():
            await turns()
            patient.clock.advance(1.3)
        before = await patient.events()
        patient.writer.emit(text("16"))
        await patient.writer.journal_reply(record("reply"), ReplyCompleted(turn=1, text="It is 16"))
        assert (await patient.events())[:-2] == before
        assert [event.text for event in deltas_of(await patient.events())] == ["It is ", "16"]

    async def test_patience_has_an_end(self, patient: Bench):
        patient.store.faults = [StoreUnavailable()] * 10_000
        writing, other = patient.start(record("c1")), patient.start(record("c2"))
        passed = 0.0
        while not writing.done():
            await turns()
            patient.clock.advance(10)
            passed += 10
        assert PATIENCE_S <= passed < 2 * PATIENCE_S
        answers = await asyncio.gather(writing, other, return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailable] * 2
        assert [type(error) for error in patient.lost] == [StoreUnavailable]

    async def test_giving_up_ends_the_patience(self, patient: Bench):
        patient.store.faults = [StoreUnavailable()] * 10_000
        writing = patient.start(record("c1"))
        await turns()
        patient.writer.close()
        with pytest.raises(LeaseLost):
            await asyncio.wait_for(writing, 5)


class TestGivingUp:
    async def test_what_was_sent_is_voided_and_what_was_not_is_never_told(self, eager: Bench):
        eager.writer.emit(text("a"))
        await wait_until(lambda: eager.store.sent)
        eager.writer.emit(ReasoningDelta(text="b"))
        await wait_until(lambda: len(eager.store.sent) == 2)
        await eager.writer.settle()
        eager.writer.emit(text("never"))
        eager.writer.emit(progress())
        events, replaced = await eager.writer.give_up_reply("provider_error")
        reset = AttemptReset(first=3, last=4, reason="provider_error", reasoning=((4, 4),))
        assert (events, replaced) == ((progress(), reset), ((3, 4),))
        batch = eager.writer.last_batch(events, replaced)
        assert batch.number == 3
        await eager.store.commit(eager.claim.lease, commit_of(eager.claim, Status.QUEUED, batch=batch))
        assert types_of(await eager.events()) == ["tool.progress", "attempt.reset"]

    async def test_a_reply_that_nobody_saw_leaves_no_trace(self, patient: Bench):
        patient.writer.emit(text("a"))
        patient.writer.emit(progress())
        assert await patient.writer.give_up_reply("refused") == ((progress(),), ())

    async def test_a_voided_reply_makes_room_for_another(self, eager: Bench):
        eager.writer.emit(text("a"))
        await wait_until(lambda: eager.store.sent)
        await eager.writer.void_reply("restarted")
        eager.writer.emit(text("It is 16"))
        await wait_until(lambda: len(eager.store.sent) == 3)
        await eager.writer.journal_reply(record("reply"), ReplyCompleted(turn=1, text="It is 16"))
        events = await eager.events()
        assert types_of(events) == ["attempt.reset", "text.delta", "reply.completed"]
        assert [event.text for event in deltas_of(events)] == ["It is 16"]

    async def test_who_leaves_keeps_all_but_deltas(self, patient: Bench):
        for event in (text("a"), progress(), ReasoningDelta(text="b")):
            patient.writer.emit(event)
        assert await patient.writer.leave() == (progress(),)


# Chunks of every kind, with the moments at which the writer had time to send.
_chunks = st.text(alphabet="ab \N{GRINNING FACE}é\n", min_size=1, max_size=4)
_script = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(("text", "reasoning")), _chunks),
        st.tuples(st.sampled_from(("progress", "flush", "step", "fault")), st.just("")),
    ),
    max_size=30,
)


@given(_script, st.booleans())
@settings(max_examples=150)
def test_whenever_chunks_come_viewers_see_them_as_they_were(script: list[tuple[str, str]], by_commit: bool):
    """The live viewer and who reads after the fold see the same events, and joined they are the reply."""
    asyncio.run(_play(script, by_commit=by_commit))


async def _play(script: list[tuple[str, str]], *, by_commit: bool) -> None:
    made = await bench(coalesce_s=0)
    live: list[Event] = []

    async def watch() -> None:
        live.extend([event async for event in made.store.stream.follow(made.run_id)])

    watching = asyncio.create_task(watch())
    said = {"text": "", "reasoning": ""}
    made.store.replies_are_lost = True
    for kind, piece in script:
        match kind:
            case "text":
                made.writer.emit(text(piece))
                said["text"] += piece
            case "reasoning":
                made.writer.emit(ReasoningDelta(text=piece))
                said["reasoning"] += piece
            case "progress":
                made.writer.emit(progress())
            case "fault":
                made.store.faults.append(StoreUnavailable())
            case "step":
                await _through(made, made.start(record("c")))
            case _:
                await turns(3)
                made.clock.advance(2)
    reply = ReplyCompleted(turn=1, text=said["text"], reasoning=said["reasoning"])
    if by_commit:
        folding = asyncio.create_task(made.writer.complete_reply(reply))
        await _through(made, folding)
        final = made.writer.last_batch(*folding.result())
    else:
        await _through(made, asyncio.create_task(made.writer.journal_reply(record("reply"), reply)))
        final = made.writer.last_batch((), ())
    await made.store.commit(made.claim.lease, commit_of(made.claim, Status.COMPLETED, batch=final, ttl_ms=60_000))
    await watching

    assert [event.seq for event in live] == list(range(1, len(live) + 1))
    for after in range(len(live) + 1):
        assert await made.events(after) == live[after:]
    deltas = deltas_of(live)
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == said["text"]
    assert "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta)) == said["reasoning"]
    assert made.lost == []


async def _through(made: Bench, task: asyncio.Task[Any]) -> None:
    while not task.done():
        await turns(1)
        made.clock.advance(2)
    task.result()
