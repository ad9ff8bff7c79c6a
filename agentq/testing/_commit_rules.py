"""The part of `StoreContract` that is about commits."""
# ruff: noqa: S101

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq.errors import (
    IllegalTransition,
    InvalidInput,
    LeaseLost,
)
from agentq.events.model import IterationFinished, RunCancelledEvent, RunCompleted
from agentq.messages import NoteKind, note_message
from agentq.runs import Status
from agentq.stores.base import StepRecord, Store
from agentq.testing._contract import (
    SHORT_LEASE_S,
    SHORT_MS,
    PassTime,
    answers_message,
    batch,
    calls_message,
    claimed,
    commit_of,
    events_of,
    queued,
    reply_message,
    running,
    stored,
    texts,
    try_claim,
    types_of,
)

if TYPE_CHECKING:
    from agentq.events.stream import EventStream


@pytest.mark.asyncio
class CommitRules:
    """What every store does with commits."""

    async def test_a_commit_keeps_the_turn_and_gives_the_lease_back(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        reply = calls_message(run_id, "add_numbers", "roll_dice")
        await store.journal(claim.lease, [StepRecord("reply", b"1")], batch(1), using_tools=True)
        finished = IterationFinished(iteration=1)
        usage = {"input_tokens": 7, "output_tokens": 9}
        committed = await store.commit(
            claim.lease,
            commit_of(claim, Status.QUEUED, reply, answers_message(reply), usage=usage, batch=batch(2, finished)),
        )
        assert (committed.status, committed.last_seq) == (Status.QUEUED, 3)
        run = await store.read(run_id)
        assert (run.status, run.phase, run.owner, run.lease_until_ms) == (Status.QUEUED, None, None, 0)
        assert (run.iteration, run.turn, run.errors, run.usage) == (1, 1, 0, usage)
        assert (run.committed, run.fence, run.message_count, run.seq) == (1, 1, 3, 3)
        assert (run.not_before_ms, run.finished_ms) == (0, 0)
        assert await store.messages(run_id, start=1) == (reply, answers_message(reply))
        assert types_of(await events_of(stream, run_id)) == ["run.queued", "run.started", "iteration.finished"]
        assert (await claimed(store, run_id)).journal == {}

    async def test_the_same_commit_again_answers_as_before(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        commit = commit_of(claim, Status.QUEUED, reply_message("16"), batch=batch(1, IterationFinished(iteration=1)))
        answer = await store.commit(claim.lease, commit)
        before = await stored(store, stream, run_id)
        assert await store.commit(claim.lease, commit) == answer
        assert await stored(store, stream, run_id) == before
        newer = await claimed(store, run_id, owner="worker-2")
        await store.journal(newer.lease, [StepRecord("reply", b"1")], batch(1, *texts("a")))
        before = await stored(store, stream, run_id)
        assert await store.commit(claim.lease, commit) == answer
        assert await stored(store, stream, run_id) == before
        await store.release(newer.lease, batch(2))
        assert (await claimed(store, run_id)).journal == {"reply": b"1"}

    async def test_a_lease_that_was_committed_is_over(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        await store.commit(claim.lease, commit_of(claim))
        before = await stored(store, stream, claim.lease.run_id)
        with pytest.raises(LeaseLost):
            await store.journal(claim.lease, [StepRecord("reply", b"1")], batch(1, *texts("a")))
        with pytest.raises(LeaseLost):
            await store.release(claim.lease, batch(1))
        assert await stored(store, stream, claim.lease.run_id) == before

    @pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
    async def test_a_final_commit_ends_the_run(self, store: Store, stream: EventStream, status: Status) -> None:
        claim = await running(store)
        commit = commit_of(claim, status, reply_message("16"), closing=(RunCompleted(output="16"),))
        answer = await store.commit(claim.lease, commit)
        assert (answer.status, answer.last_seq, answer.woken) == (status, 3, False)
        run = await store.read(claim.lease.run_id)
        assert (run.status, run.finished_ms) == (status, run.updated_ms)
        before = await stored(store, stream, claim.lease.run_id)
        assert types_of(before.events) == ["run.queued", "run.started", "run.completed"]
        assert await store.commit(claim.lease, commit) == answer
        assert await try_claim(store, claim.lease.run_id) == ()
        assert await stored(store, stream, claim.lease.run_id) == before

    async def test_a_signal_does_not_forgive_a_run_that_is_set_aside(self, store: Store, pass_time: PassTime) -> None:
        """It was to end and is told of something: how often it lost its workers still counts."""
        held = await running(store, lease_ms=SHORT_MS)
        await pass_time(SHORT_LEASE_S)
        again = await claimed(store, held.lease.run_id)
        assert again.run.recoveries == 1
        await store.cancel(held.lease.run_id)
        ended = await store.commit(again.lease, commit_of(again, Status.FAILED, last_error="set aside"))
        assert ended.status is Status.QUEUED
        third = await claimed(store, held.lease.run_id)
        assert third.run.recoveries == 1
        await store.commit(third.lease, commit_of(third, Status.QUEUED, reply_message("16")))
        assert (await store.read(held.lease.run_id)).recoveries == 0

    async def test_a_signal_in_between_keeps_the_run_queued(self, store: Store, stream: EventStream) -> None:
        for status in (Status.COMPLETED, Status.WAITING, Status.PAUSED, Status.QUEUED):
            claim = await running(store)
            run_id = claim.lease.run_id
            await store.cancel(run_id, reason="enough")
            finished = IterationFinished(iteration=1)
            commit = commit_of(
                claim,
                status,
                reply_message("16"),
                batch=batch(1, finished),
                closing=(RunCompleted(output="16"),),
                delay_ms=60_000 if status is Status.QUEUED else 0,
            )
            answer = await store.commit(claim.lease, commit)
            assert answer.status is Status.QUEUED
            assert await store.commit(claim.lease, commit) == answer
            run = await store.read(run_id)
            assert (run.status, run.message_count, run.finished_ms, run.not_before_ms) == (Status.QUEUED, 2, 0, 0)
            events = await events_of(stream, run_id)
            assert types_of(events) == ["run.queued", "run.started", "cancel.requested", "iteration.finished"]
            # The next iteration has seen the signal and may end the run.
            claim = await claimed(store, run_id)
            assert (claim.run.signals, claim.run.cancel_reason) == (1, "enough")
            closing = (RunCancelledEvent(reason="enough"),)
            answer = await store.commit(claim.lease, commit_of(claim, Status.CANCELLED, closing=closing))
            assert answer.status is Status.CANCELLED

    async def test_a_commit_without_messages_leaves_the_journal(self, store: Store) -> None:
        for status in (Status.QUEUED, Status.WAITING, Status.PAUSED):
            claim = await running(store)
            await store.journal(claim.lease, [StepRecord("reply", b"1")], batch(1))
            await store.commit(claim.lease, commit_of(claim, status))
            await store.cancel(claim.lease.run_id)
            assert (await claimed(store, claim.lease.run_id)).journal == {"reply": b"1"}

    async def test_a_call_without_a_result_is_refused(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        reply = calls_message(claim.lease.run_id, "add_numbers", "roll_dice")
        half = calls_message(claim.lease.run_id, "add_numbers")
        await store.journal(claim.lease, [StepRecord("reply", b"1")], batch(1, *texts("a")))
        before = await stored(store, stream, claim.lease.run_id)
        for messages in ((reply,), (reply, answers_message(half)), (answers_message(reply), reply)):
            with pytest.raises(InvalidInput):
                await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, *messages))
        assert await stored(store, stream, claim.lease.run_id) == before
        await store.release(claim.lease, batch(2))
        assert (await claimed(store, claim.lease.run_id)).journal == {"reply": b"1"}

    async def test_a_commit_to_running_is_no_transition(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        before = await stored(store, stream, claim.lease.run_id)
        with pytest.raises(IllegalTransition):
            await store.commit(claim.lease, commit_of(claim, Status.RUNNING, reply_message("16")))
        assert await stored(store, stream, claim.lease.run_id) == before

    async def test_a_commit_can_put_the_next_iteration_off(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store)
        await store.commit(claim.lease, commit_of(claim, delay_ms=800))
        run = await store.read(claim.lease.run_id)
        assert run.not_before_ms == run.updated_ms + 800
        assert await try_claim(store, run.run_id) == ()
        await pass_time(1)
        await claimed(store, run.run_id)

    async def test_the_last_error_stands_until_a_good_turn(self, store: Store) -> None:
        run_id = await queued(store)
        failures: list[tuple[int, str | None]] = []
        for errors, last_error in ((1, "busy"), (2, None), (0, None), (0, "odd"), (0, None)):
            claim = await claimed(store, run_id)
            note = note_message("The model call failed.", NoteKind.PROVIDER_ERROR)
            await store.commit(claim.lease, commit_of(claim, Status.QUEUED, note, errors=errors, last_error=last_error))
            run = await store.read(run_id)
            failures.append((run.errors, run.last_error))
        assert failures == [(1, "busy"), (2, "busy"), (0, None), (0, "odd"), (0, None)]
        claim = await claimed(store, run_id)
        await store.commit(claim.lease, commit_of(claim, Status.FAILED, last_error="quarantined"))
        assert (await store.read(run_id)).last_error == "quarantined"
