"""The part of `StoreContract` that is about runs that somebody pauses."""
# ruff: noqa: S101

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq.errors import CancelRequested, RunAlreadyFinished, RunNotFound
from agentq.runs import EVERYTHING, Pause, Status, agent_scope, queue_scope
from agentq.stores.base import Rest, StepRecord
from agentq.testing._contract import (
    GRACE_S,
    LEASE_MS,
    SHORT_LEASE_S,
    SHORT_MS,
    PassTime,
    batch,
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
from agentq.testing._steering_rules import QUESTION, answer, ended, rest, waiting

if TYPE_CHECKING:
    from agentq.events.stream import EventStream
    from agentq.stores.base import Store


@pytest.mark.asyncio
class PauseRules:
    """What every store does with a run that is paused."""

    async def test_a_queued_run_is_paused_at_once_and_says_why(self, store: Store, stream: EventStream) -> None:
        run_id = await queued(store)
        assert (await store.pause(run_id, reason="on the phone", by="ada")).status is Status.PAUSED
        run = await store.read(run_id)
        assert (run.status, run.signals) == (Status.PAUSED, 1)
        assert run.pause == Pause("on the phone", "ada", run.updated_ms)
        assert types_of(await events_of(stream, run_id))[-1] == "run.paused"

    async def test_nobody_takes_a_paused_run_and_no_sweep_wakes_it(self, store: Store, pass_time: PassTime) -> None:
        run_id = await queued(store)
        await store.pause(run_id)
        assert await try_claim(store, run_id) == ()
        await pass_time(2 * GRACE_S)
        assert run_id not in (await store.sweep(lease_ms=LEASE_MS)).to_wake

    async def test_pausing_and_resuming_again_changes_nothing(self, store: Store, stream: EventStream) -> None:
        run_id = await queued(store)
        first = await store.pause(run_id, reason="one")
        before = await stored(store, stream, run_id)
        assert await store.pause(run_id, reason="two") == first
        assert await stored(store, stream, run_id) == before
        resumed = await store.resume(run_id)
        before = await stored(store, stream, run_id)
        assert await store.resume(run_id) == resumed
        assert await stored(store, stream, run_id) == before

    async def test_a_resumed_run_goes_on(self, store: Store, stream: EventStream, pass_time: PassTime) -> None:
        run_id = await queued(store)
        await store.pause(run_id)
        assert (await store.resume(run_id, by="ada")).status is Status.QUEUED
        run = await store.read(run_id)
        assert (run.status, run.pause, run.signals) == (Status.QUEUED, None, 2)
        assert types_of(await events_of(stream, run_id))[-1] == "run.resumed"
        await pass_time(GRACE_S)
        assert run_id in (await store.sweep(lease_ms=LEASE_MS)).to_wake
        assert len(await try_claim(store, run_id)) == 1

    async def test_a_run_that_is_held_finishes_its_iteration_first(self, store: Store) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        signalled = await store.pause(run_id)
        assert (signalled.status, signalled.held) == (Status.RUNNING, True)
        await store.journal(claim.lease, [StepRecord("reply", b"1", starts_effect=True)], batch(1))
        committed = await store.commit(claim.lease, commit_of(claim, Status.QUEUED, reply_message("x"), batch=batch(2)))
        assert (committed.status, committed.next_run_id) == (Status.PAUSED, None)
        assert await try_claim(store, run_id) == ()
        await store.resume(run_id)
        assert [message.text for message in (await claimed(store, run_id)).messages][-1] == "x"

    async def test_an_answer_that_comes_after_the_pause_ends_the_run_when_it_is_resumed(self, store: Store) -> None:
        claim = await running(store)
        await store.pause(claim.lease.run_id)
        commit = commit_of(claim, Status.COMPLETED, reply_message("done"))
        committed = await store.commit(claim.lease, commit)
        assert committed.status is Status.PAUSED
        assert await store.commit(claim.lease, commit) == committed
        await store.resume(claim.lease.run_id)
        again = await claimed(store, claim.lease.run_id)
        assert again.messages[-1].text == "done"
        assert (await store.commit(again.lease, commit_of(again, Status.COMPLETED))).status is Status.COMPLETED

    async def test_a_pause_that_was_taken_back_in_time_is_not_felt(self, store: Store) -> None:
        claim = await running(store)
        await store.pause(claim.lease.run_id)
        assert (await store.resume(claim.lease.run_id)).status is Status.RUNNING
        committed = await store.commit(claim.lease, commit_of(claim, Status.QUEUED, reply_message("x")))
        assert committed.status is Status.QUEUED

    async def test_a_run_that_is_handed_back_is_paused(self, store: Store) -> None:
        claim = await running(store)
        await store.pause(claim.lease.run_id)
        assert (await store.release(claim.lease, batch(1))).status is Status.PAUSED
        resting = await running(store)
        await store.pause(resting.lease.run_id)
        released = await store.release(resting.lease, batch(1), rest=rest(resting))
        assert (released.status, (await store.read(resting.lease.run_id)).question) == (Status.PAUSED, None)
        assert await try_claim(store, claim.lease.run_id, resting.lease.run_id) == ()

    async def test_a_run_that_waits_is_paused_when_it_would_go_on(self, store: Store) -> None:
        claim = await waiting(store)
        run_id = claim.lease.run_id
        assert (await store.pause(run_id)).status is Status.WAITING
        assert (await store.answer(run_id, answer(claim))).status is Status.PAUSED
        assert await try_claim(store, run_id) == ()
        await store.resume(run_id)
        assert (await claimed(store, run_id)).journal["R.1.0"] == b'{"yes":1}'

    async def test_a_run_whose_time_has_come_is_paused_in_place_of_going_on(
        self, store: Store, pass_time: PassTime
    ) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        await store.release(claim.lease, batch(1), rest=Rest((QUESTION,), claim.run.signals, within_ms=1_000))
        assert (await store.pause(run_id)).status is Status.WAITING
        await pass_time(1.1)
        assert await try_claim(store, run_id) == ()
        assert (await store.read(run_id)).status is Status.PAUSED

    async def test_a_run_whose_worker_is_lost_is_paused_in_place_of_being_recovered(
        self, store: Store, stream: EventStream, pass_time: PassTime
    ) -> None:
        claim = await running(store, lease_ms=SHORT_MS)
        run_id = claim.lease.run_id
        await store.journal(claim.lease, [StepRecord("c", b"1")], batch(1, *texts("half")))
        await store.pause(run_id)
        await pass_time(SHORT_LEASE_S)
        assert await try_claim(store, run_id) == ()
        run = await store.read(run_id)
        assert (run.status, run.owner, run.recoveries) == (Status.PAUSED, None, 1)
        assert "text.delta" not in types_of(await events_of(stream, run_id))
        await store.resume(run_id)
        assert (await claimed(store, run_id)).journal == {"c": b"1"}

    async def test_a_cancel_takes_the_pause_away(self, store: Store) -> None:
        run_id = await queued(store)
        await store.pause(run_id)
        assert (await store.cancel(run_id)).status is Status.QUEUED
        with pytest.raises(CancelRequested):
            await store.pause(run_id)
        claim = await claimed(store, run_id)
        assert claim.run.pause is None
        committed = await store.commit(claim.lease, commit_of(claim, Status.CANCELLED))
        assert committed.status is Status.CANCELLED

    async def test_a_cancel_of_a_run_that_is_held_and_paused_ends_it(self, store: Store) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        await store.pause(run_id)
        await store.cancel(run_id)
        committed = await store.commit(claim.lease, commit_of(claim, Status.QUEUED, reply_message("x")))
        assert committed.status is Status.QUEUED
        assert (await claimed(store, run_id)).run.is_cancel_requested

    async def test_a_run_that_has_ended_or_is_not_there_is_not_paused(self, store: Store) -> None:
        done = await ended(store, Status.COMPLETED)
        with pytest.raises(RunAlreadyFinished):
            await store.pause(done.lease.run_id)
        assert (await store.resume(done.lease.run_id)).status is Status.COMPLETED
        with pytest.raises(RunNotFound):
            await store.pause("01JD3ZK8W5Q0X9V7T2M4N6P8RA")
        with pytest.raises(RunNotFound):
            await store.resume("01JD3ZK8W5Q0X9V7T2M4N6P8RA")

    async def test_a_run_that_is_put_off_starts_no_sooner_for_a_pause(self, store: Store, pass_time: PassTime) -> None:
        run_id = await queued(store, delay_ms=60_000)
        await store.pause(run_id)
        await store.resume(run_id)
        assert await try_claim(store, run_id) == ()
        await pass_time(61)
        assert len(await try_claim(store, run_id)) == 1

    async def test_in_a_session_those_behind_a_paused_run_wait_for_it(self, store: Store) -> None:
        live, behind = await queued(store, session_id="s1"), await queued(store, session_id="s1")
        last = await queued(store, session_id="s1")
        await store.pause(live)
        await store.pause(behind)
        assert await try_claim(store, live, behind, last) == ()
        assert (await store.resume(live)).status is Status.QUEUED
        claim = await claimed(store, live)
        committed = await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("done")))
        assert committed.next_run_id == behind
        assert await try_claim(store, behind, last) == ()
        await store.resume(behind)
        assert len((await claimed(store, behind)).history) == 2

    @pytest.mark.parametrize("scope", [EVERYTHING, agent_scope("shop"), queue_scope("slow")])
    async def test_what_is_paused_as_a_whole_is_not_claimed_until_it_is_resumed(
        self, store: Store, pass_time: PassTime, scope: str
    ) -> None:
        kept = await queued(store, agent="shop", queue="slow")
        other = await queued(store)
        pause = await store.pause_all(scope, reason="look", by="ada")
        assert (pause.reason, pause.by) == ("look", "ada")
        assert await store.pauses() == {scope: pause}
        claims = await try_claim(store, kept, other)
        assert [claim.lease.run_id for claim in claims] == ([] if scope == EVERYTHING else [other])
        assert (await store.read(kept)).status is Status.QUEUED
        await pass_time(2 * GRACE_S)
        assert kept not in (await store.sweep(lease_ms=LEASE_MS)).to_wake
        assert await try_claim(store, kept) == ()
        await store.resume_all(scope)
        assert await store.pauses() == {}
        await pass_time(GRACE_S)
        assert kept in (await store.sweep(lease_ms=LEASE_MS)).to_wake
        assert len(await try_claim(store, kept)) == 1

    async def test_pausing_as_a_whole_again_keeps_the_first_word(self, store: Store) -> None:
        first = await store.pause_all(EVERYTHING, reason="one")
        assert await store.pause_all(EVERYTHING, reason="two") == first
        await store.resume_all(EVERYTHING)
        await store.resume_all(EVERYTHING)
        assert (await store.pause_all(EVERYTHING, reason="two")).reason == "two"

    async def test_what_is_paused_twice_waits_for_both(self, store: Store, pass_time: PassTime) -> None:
        run_id = await queued(store, agent="shop", queue="slow")
        await store.pause_all(agent_scope("shop"))
        await store.pause_all(queue_scope("slow"))
        assert await try_claim(store, run_id) == ()
        await store.resume_all(agent_scope("shop"))
        await pass_time(GRACE_S)
        assert run_id not in (await store.sweep(lease_ms=LEASE_MS)).to_wake
        assert await try_claim(store, run_id) == ()
        await store.resume_all(queue_scope("slow"))
        await pass_time(GRACE_S)
        assert run_id in (await store.sweep(lease_ms=LEASE_MS)).to_wake

    async def test_who_holds_a_run_of_what_is_paused_goes_on_to_the_end_of_the_iteration(self, store: Store) -> None:
        claim = await running(store)
        await store.pause_all(EVERYTHING)
        committed = await store.commit(claim.lease, commit_of(claim, Status.QUEUED, reply_message("x")))
        assert committed.status is Status.QUEUED
        assert await try_claim(store, claim.lease.run_id) == ()

    async def test_a_run_of_what_is_paused_can_be_cancelled(self, store: Store) -> None:
        run_id = await queued(store)
        await store.pause_all(EVERYTHING)
        assert await try_claim(store, run_id) == ()
        await store.cancel(run_id)
        claim = await claimed(store, run_id)
        assert (await store.commit(claim.lease, commit_of(claim, Status.CANCELLED))).status is Status.CANCELLED

    async def test_nobody_recovers_a_run_of_what_is_paused(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store, lease_ms=SHORT_MS)
        await store.pause_all(EVERYTHING)
        await pass_time(SHORT_LEASE_S)
        assert await try_claim(store, claim.lease.run_id) == ()
        await store.resume_all(EVERYTHING)
        assert (await claimed(store, claim.lease.run_id)).run.recoveries == 1
