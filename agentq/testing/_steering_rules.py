"""The part of `StoreContract` that is about runs that wait for a person, and runs that are taken up again."""
# ruff: noqa: S101

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agentq.errors import IllegalTransition, LeaseLost, NotFinished, NotWaiting, RunNotFound, SessionMovedOn
from agentq.events.model import RunAnswered, RunRetried, RunWaiting
from agentq.messages import NoteKind, note_message
from agentq.runs import Question, Status
from agentq.stores.base import Answer, Claim, Rest, Retry, StepRecord, Store
from agentq.stores.filters import RunFilter
from agentq.testing._contract import (
    GRACE_S,
    LEASE_MS,
    PassTime,
    batch,
    claimed,
    commit_of,
    events_of,
    queued,
    reply_message,
    running,
    stored,
    try_claim,
    types_of,
)

if TYPE_CHECKING:
    from agentq.events.stream import EventStream

# Past the time to live of what `ended` ends.
TTL_PASSED_S = 1.5
QUESTION = Question(call_id="R.1.0", tool="charge", text="Did it happen?", arguments={"amount": 5}, attempt=2)
RETRY = (RunRetried(retries=1),)


def rest(claim: Claim, *, signals_seen: int | None = None) -> Rest:
    waiting = RunWaiting(call_id=QUESTION.call_id, name=QUESTION.tool, text=QUESTION.text)
    return Rest((QUESTION,), claim.run.signals if signals_seen is None else signals_seen, (waiting,))


def answer(claim: Claim, value: bytes = b'{"yes":1}') -> Answer:
    told = RunAnswered(call_id=QUESTION.call_id, name=QUESTION.tool, answer="result", by="ada")
    return Answer(claim.lease.fence, StepRecord(QUESTION.call_id, value), (told,))


async def waiting(store: Store) -> Claim:
    """A run that waits, with a journal."""
    claim = await running(store)
    await store.journal(claim.lease, [StepRecord("reply", b"1"), StepRecord(QUESTION.call_id, b"2")], batch(1))
    released = await store.release(claim.lease, batch(2), rest=rest(claim))
    assert released.status is Status.WAITING
    return claim


async def ended(store: Store, status: Status, *, session_id: str | None = None) -> Claim:
    """A run that has ended so, with a message and an open step in its journal where it failed."""
    claim = await running(store, session_id=session_id)
    await store.commit(claim.lease, commit_of(claim, Status.QUEUED, reply_message("first")))
    claim = await claimed(store, claim.lease.run_id)
    if status is Status.CANCELLED:
        await store.cancel(claim.lease.run_id, reason="enough")
        claim = await _again(store, claim)
    await store.journal(claim.lease, [StepRecord("reply", b"1")], batch(1))
    messages = () if status is Status.FAILED else (reply_message("last"),)
    await store.commit(
        claim.lease,
        commit_of(claim, status, *messages, batch=batch(2), errors=3, last_error="no", signals_seen=9, ttl_ms=1_000),
    )
    return claim


async def _again(store: Store, claim: Claim) -> Claim:
    """The same claim with the state that the run has now."""
    return Claim(claim.lease, await store.read(claim.lease.run_id), claim.messages, claim.journal, claim.history)


@pytest.mark.asyncio
class SteeringRules:
    """What every store does with questions, answers and retries."""

    async def test_a_run_that_waits_rests_with_its_question_and_its_journal(
        self, store: Store, stream: EventStream, pass_time: PassTime
    ) -> None:
        claim = await waiting(store)
        run_id = claim.lease.run_id
        run = await store.read(run_id)
        assert (run.status, run.owner, run.lease_until_ms, run.phase) == (Status.WAITING, None, 0, None)
        assert (run.question, run.iteration, run.recoveries) == (QUESTION, 0, 0)
        assert types_of(await events_of(stream, run_id))[-1] == "run.waiting"
        await pass_time(max(GRACE_S, 2 * LEASE_MS / 1000))
        assert run_id not in (await store.sweep(lease_ms=LEASE_MS)).to_wake
        assert await try_claim(store, run_id) == ()
        with pytest.raises(LeaseLost):
            await store.journal(claim.lease, [], batch(3))

    async def test_runs_that_wait_for_people_are_listed_until_they_do_not(self, store: Store) -> None:
        asks, goes_on, is_cancelled, is_paused = [await waiting(store) for _ in range(4)]
        sleeps = await running(store)
        nap = Question(call_id="R.1.0", tool="nap", text="nap sleeps", kind="timer")
        await store.release(sleeps.lease, batch(1), rest=Rest((nap,), sleeps.run.signals, within_ms=1))
        which = RunFilter(asks_people=True)
        waited = [each.lease.run_id for each in (is_paused, is_cancelled, goes_on, asks)]
        assert [run.run_id for run in await store.list(which)] == sorted(waited, reverse=True)
        await store.answer(goes_on.lease.run_id, answer(goes_on))
        await store.cancel(is_cancelled.lease.run_id)
        await store.pause(is_paused.lease.run_id)
        await store.answer(is_paused.lease.run_id, answer(is_paused))
        assert [run.run_id for run in await store.list(which)] == [asks.lease.run_id]
        assert await store.list(replace(which, agent="nobody")) == ()
        assert await store.list(replace(which, before=min(waited))) == ()

    async def test_resting_again_answers_as_before(self, store: Store, stream: EventStream) -> None:
        claim = await waiting(store)
        before = await stored(store, stream, claim.lease.run_id)
        again = await store.release(claim.lease, batch(2), rest=rest(claim))
        assert (again.status, await stored(store, stream, claim.lease.run_id)) == (Status.WAITING, before)

    async def test_a_signal_that_was_not_seen_keeps_a_run_from_resting(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        await store.cancel(claim.lease.run_id, reason="enough")
        released = await store.release(claim.lease, batch(1), rest=rest(claim))
        assert released.status is Status.QUEUED
        run = await store.read(claim.lease.run_id)
        assert (run.status, run.question) == (Status.QUEUED, None)
        assert "run.waiting" not in types_of(await events_of(stream, claim.lease.run_id))
        assert len(await try_claim(store, claim.lease.run_id)) == 1

    async def test_an_answer_is_journaled_and_the_run_goes_on(self, store: Store, stream: EventStream) -> None:
        claim = await waiting(store)
        run_id = claim.lease.run_id
        assert (await store.answer(run_id, answer(claim))).status is Status.QUEUED
        run = await store.read(run_id)
        assert (run.status, run.question, run.signals) == (Status.QUEUED, None, 1)
        assert types_of(await events_of(stream, run_id))[-1] == "run.answered"
        later = await claimed(store, run_id)
        assert later.journal == {"reply": b"1", QUESTION.call_id: b'{"yes":1}'}
        assert later.run.recoveries == 0

    async def test_the_same_answer_again_changes_nothing(self, store: Store, stream: EventStream) -> None:
        claim = await waiting(store)
        run_id = claim.lease.run_id
        first = await store.answer(run_id, answer(claim))
        before = await stored(store, stream, run_id)
        assert await store.answer(run_id, answer(claim)) == first
        assert await stored(store, stream, run_id) == before
        await claimed(store, run_id)
        assert await store.answer(run_id, answer(claim)) == first

    async def test_another_answer_comes_too_late(self, store: Store) -> None:
        claim = await waiting(store)
        await store.answer(claim.lease.run_id, answer(claim))
        with pytest.raises(NotWaiting):
            await store.answer(claim.lease.run_id, answer(claim, b'{"no":1}'))

    async def test_only_who_has_seen_the_question_answers_it(self, store: Store) -> None:
        claim = await waiting(store)
        run_id = claim.lease.run_id
        await store.answer(run_id, answer(claim))
        second = await claimed(store, run_id)
        await store.release(second.lease, batch(1), rest=rest(second))
        with pytest.raises(NotWaiting):
            await store.answer(run_id, answer(claim, b'{"no":1}'))
        assert (await store.answer(run_id, answer(second, b'{"no":1}'))).status is Status.QUEUED

    async def test_an_answer_that_comes_before_the_time_is_not_waited_with(self, store: Store) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        await store.release(claim.lease, batch(1), rest=Rest((QUESTION,), claim.run.signals, within_ms=60_000))
        await store.answer(run_id, answer(claim))
        await claimed(store, run_id)

    async def test_a_run_that_does_not_wait_takes_no_answer(self, store: Store) -> None:
        claim = await running(store)
        with pytest.raises(NotWaiting):
            await store.answer(claim.lease.run_id, answer(claim))
        with pytest.raises(RunNotFound):
            await store.answer("01JD3ZK8W5Q0X9V7T2M4N6P8RA", answer(claim))

    async def test_a_waiting_run_can_be_cancelled(self, store: Store) -> None:
        claim = await waiting(store)
        run_id = claim.lease.run_id
        assert (await store.cancel(run_id)).status is Status.QUEUED
        with pytest.raises(NotWaiting):
            await store.answer(run_id, answer(claim))
        later = await claimed(store, run_id)
        assert later.run.is_cancel_requested
        assert later.run.question is None
        assert later.journal[QUESTION.call_id] == b"2"

    @pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
    async def test_a_retry_goes_on_from_the_last_commit(
        self, store: Store, stream: EventStream, pass_time: PassTime, status: Status
    ) -> None:
        claim = await ended(store, status)
        run_id = claim.lease.run_id
        before = await store.read(run_id)
        note = note_message("Go on.", NoteKind.RETRIED)
        assert (await store.retry(run_id, Retry(before.fence, (note,), RETRY))).status is Status.QUEUED
        run = await store.read(run_id)
        assert (run.status, run.cancel_reason, run.last_error, run.finished_ms) == (Status.QUEUED, None, None, 0)
        assert (run.errors, run.recoveries, run.retries, run.retried_at) == (0, 0, 1, before.iteration)
        assert run.iteration == before.iteration
        assert types_of(await events_of(stream, run_id))[-1] == "run.retried"
        await pass_time(TTL_PASSED_S)
        await store.sweep(lease_ms=LEASE_MS)
        later = await claimed(store, run_id)
        assert later.messages[-1] == note
        assert len(later.messages) == run.message_count
        assert later.journal == ({"reply": b"1"} if status is Status.FAILED else {})
        assert [each.run_id for each in await store.list(RunFilter())] == [run_id]

    async def test_a_retry_again_answers_as_before(self, store: Store, stream: EventStream) -> None:
        claim = await ended(store, Status.FAILED)
        run_id = claim.lease.run_id
        retry = Retry((await store.read(run_id)).fence, (), RETRY)
        first = await store.retry(run_id, retry)
        before = await stored(store, stream, run_id)
        assert await store.retry(run_id, retry) == first
        assert await stored(store, stream, run_id) == before

    async def test_what_has_not_failed_is_not_retried(self, store: Store) -> None:
        run_id = await queued(store)
        with pytest.raises(NotFinished):
            await store.retry(run_id, Retry(0))
        done = await ended(store, Status.COMPLETED)
        with pytest.raises(IllegalTransition):
            await store.retry(done.lease.run_id, Retry(done.lease.fence))
        failed = await ended(store, Status.FAILED)
        with pytest.raises(NotFinished):
            await store.retry(failed.lease.run_id, Retry(failed.lease.fence - 1))
        with pytest.raises(RunNotFound):
            await store.retry("01JD3ZK8W5Q0X9V7T2M4N6P8RA", Retry(1))

    async def test_in_a_session_a_retried_run_is_the_live_one_again(self, store: Store) -> None:
        first = await ended(store, Status.COMPLETED, session_id="s1")
        said = await store.session_messages("s1")
        claim = await ended(store, Status.FAILED, session_id="s1")
        assert len(await store.session_messages("s1")) > len(said)
        await store.retry(claim.lease.run_id, Retry(claim.lease.fence))
        session = await store.session("s1")
        assert await store.session_messages("s1") == said
        assert (session.live_run_id, session.open_runs, session.run_count) == (claim.lease.run_id, 1, 2)
        behind = await queued(store, session_id="s1")
        assert await try_claim(store, behind) == ()
        again = await claimed(store, claim.lease.run_id)
        assert again.history == said
        committed = await store.commit(again.lease, commit_of(again, Status.COMPLETED, reply_message("done")))
        assert committed.next_run_id == behind
        assert (await store.session("s1")).open_runs == 1
        assert first.lease.run_id != claim.lease.run_id

    async def test_a_run_that_a_later_one_of_its_session_has_passed_is_not_retried(self, store: Store) -> None:
        claim = await ended(store, Status.FAILED, session_id="s1")
        later = await running(store, session_id="s1")
        with pytest.raises(SessionMovedOn):
            await store.retry(claim.lease.run_id, Retry(claim.lease.fence))
        await store.commit(later.lease, commit_of(later, Status.COMPLETED, reply_message("done")))
        with pytest.raises(SessionMovedOn):
            await store.retry(claim.lease.run_id, Retry(claim.lease.fence))
        assert (await store.session("s1")).open_runs == 0
        assert (await store.read(claim.lease.run_id)).status is Status.FAILED

    async def test_a_run_that_was_cancelled_in_line_takes_its_place_at_the_end(self, store: Store) -> None:
        live = await running(store, session_id="s1")
        cancelled, other = await queued(store, session_id="s1"), await queued(store, session_id="s1")
        await store.cancel(cancelled)
        claim = await claimed(store, cancelled)
        await store.commit(claim.lease, commit_of(claim, Status.CANCELLED, signals_seen=9))
        await store.retry(cancelled, Retry(claim.lease.fence))
        assert (await store.session("s1")).open_runs == 3
        committed = await store.commit(live.lease, commit_of(live, Status.COMPLETED, reply_message("done")))
        assert committed.next_run_id == other
        claim = await claimed(store, other)
        committed = await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("done")))
        assert committed.next_run_id == cancelled
        assert len((await claimed(store, cancelled)).history) == len(await store.session_messages("s1"))
