"""The part of `StoreContract` that is about decisions on calls and about signals."""
# ruff: noqa: S101

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agentq.errors import AlreadyDecided, InboxFull, NotWaiting, RunAlreadyFinished
from agentq.events.model import RunAnswered
from agentq.runs import Status
from agentq.stores.base import Decision, Signal, StepRecord, Store
from agentq.testing._contract import batch, claimed, commit_of, events_of, reply_message, running
from agentq.testing._steering_rules import QUESTION, waiting

if TYPE_CHECKING:
    from agentq.events.stream import EventStream

_LINE = b"2"
_ROOM = 1000
_NAME = f"{QUESTION.call_id}#approval"
_ALLOWED = RunAnswered(call_id=QUESTION.call_id, name=QUESTION.tool, answer="approved", by="ada")


def decision(value: bytes = b'{"yes":1}', *, seen: bytes = _LINE) -> Decision:
    return Decision(QUESTION.call_id, seen, StepRecord(_NAME, value), (_ALLOWED,))


def signal(signal_id: str = "a", data: bytes = b"1") -> Signal:
    return Signal(signal_id, "packed", data, (RunAnswered(call_id="", name="packed", answer="signal"),))


@pytest.mark.asyncio
class DecisionRules:
    """What every store does with what people decide, and with what happens outside."""

    async def test_a_decision_is_journaled_and_the_run_goes_on(self, store: Store, stream: EventStream) -> None:
        run_id = (await waiting(store)).lease.run_id
        assert (await store.decide(run_id, decision())).status is Status.QUEUED
        claim = await claimed(store, run_id)
        assert claim.journal[_NAME] == b'{"yes":1}'
        assert claim.run.question is None
        assert [each for each in await events_of(stream, run_id) if isinstance(each, RunAnswered)]

    async def test_a_decision_that_is_sent_again_answers_as_before(self, store: Store, stream: EventStream) -> None:
        run_id = (await waiting(store)).lease.run_id
        first = await store.decide(run_id, decision())
        before = await store.read(run_id), await events_of(stream, run_id)
        # Who wakes runs where no script does has not heard of it when the first answer was lost.
        assert await store.decide(run_id, decision()) == first
        assert (await store.read(run_id), await events_of(stream, run_id)) == before

    async def test_it_does_so_when_the_run_has_gone_on_meanwhile(self, store: Store, stream: EventStream) -> None:
        run_id = (await waiting(store)).lease.run_id
        await store.decide(run_id, decision())
        claim = await claimed(store, run_id)
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("done")))
        before = await store.read(run_id), await events_of(stream, run_id)
        assert (await store.decide(run_id, decision())).status is Status.COMPLETED
        assert (await store.read(run_id), await events_of(stream, run_id)) == before

    async def test_another_decision_comes_too_late(self, store: Store) -> None:
        run_id = (await waiting(store)).lease.run_id
        await store.decide(run_id, decision())
        with pytest.raises(AlreadyDecided):
            await store.decide(run_id, decision(b'{"no":1}'))

    async def test_what_does_not_wait_so_any_more_is_not_decided(self, store: Store, stream: EventStream) -> None:
        run_id = (await waiting(store)).lease.run_id
        before = await store.read(run_id), await events_of(stream, run_id)
        with pytest.raises(NotWaiting):
            await store.decide(run_id, decision(seen=b"3"))
        assert (await store.read(run_id), await events_of(stream, run_id)) == before
        await store.cancel(run_id)
        with pytest.raises(NotWaiting):
            await store.decide(run_id, decision())

    async def test_a_worker_that_holds_the_run_hears_of_it_before_it_ends_the_run(self, store: Store) -> None:
        claim = await running(store)
        await store.journal(claim.lease, [StepRecord(QUESTION.call_id, _LINE)], batch(1))
        released = await store.decide(claim.lease.run_id, decision())
        assert (released.status, released.woken) == (Status.RUNNING, True)
        committed = await store.commit(claim.lease, commit_of(claim, Status.FAILED, batch=batch(2), last_error="no"))
        assert committed.status is Status.QUEUED

    async def test_signals_are_kept_in_order_and_each_once(self, store: Store, stream: EventStream) -> None:
        run_id = (await running(store)).lease.run_id
        for each in (signal("b", b"1"), signal("a", b"2"), signal("b", b"3")):
            assert (await store.signal(run_id, each)).status is Status.RUNNING
        kept = await store.signals(run_id)
        assert [(signal_id, each.name, each.data) for signal_id, each in kept.items()] == [
            ("b", "packed", b"1"),
            ("a", "packed", b"2"),
        ]
        assert len([each for each in await events_of(stream, run_id) if isinstance(each, RunAnswered)]) == 2

    async def test_a_signal_that_was_taken_does_not_come_again(self, store: Store) -> None:
        claim = await running(store)
        await store.signal(claim.lease.run_id, signal())
        await store.journal(claim.lease, [StepRecord("R.1.0#1", b"1", takes=("a",))], batch(1))
        await store.signal(claim.lease.run_id, signal())
        assert await store.signals(claim.lease.run_id) == {}

    async def test_a_signal_queues_a_run_that_waits_and_answers_the_same_again(self, store: Store) -> None:
        run_id = (await waiting(store)).lease.run_id
        first = await store.signal(run_id, signal())
        assert first.status is Status.QUEUED
        before = await store.read(run_id)
        assert await store.signal(run_id, signal()) == first
        assert await store.read(run_id) == before

    async def test_a_run_that_has_ended_takes_no_signal_but_knows_those_it_had(self, store: Store) -> None:
        claim = await running(store)
        await store.signal(claim.lease.run_id, signal())
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("done"), signals_seen=1))
        with pytest.raises(RunAlreadyFinished):
            await store.signal(claim.lease.run_id, signal("c"))
        assert (await store.signal(claim.lease.run_id, signal())).status is Status.COMPLETED

    async def test_so_many_signals_are_kept_and_no_more(self, store: Store) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        for first in range(0, _ROOM, 100):
            await asyncio.gather(*(store.signal(run_id, signal(str(number))) for number in range(first, first + 100)))
        with pytest.raises(InboxFull):
            await store.signal(run_id, signal("more"))
        await store.signal(run_id, signal("7"))
        for number in (1, 2):  # taken once, whoever says it again
            await store.journal(claim.lease, [StepRecord("R.1.0#1", b"1", takes=("7",))], batch(number))
        await store.signal(run_id, signal("more"))
        with pytest.raises(InboxFull):
            await store.signal(run_id, signal("still more"))
        assert len(await store.signals(run_id)) == _ROOM
