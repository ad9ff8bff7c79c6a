"""The part of `StoreContract` that is about leases: claim, renew, journal, release."""
# ruff: noqa: S101

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq._ids import new_run_id, new_token
from agentq.errors import CancelRequested, LeaseLost, RunNotFound
from agentq.events.model import AttemptReset, IterationStarted, RunRecovered, RunReleased, RunStarted, ToolCalled
from agentq.messages import user_message
from agentq.runs import Phase, Status
from agentq.stores.base import Lease, StepRecord, Store
from agentq.testing._contract import (
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

if TYPE_CHECKING:
    from agentq.events.stream import EventStream


@pytest.mark.asyncio
class LeaseRules:
    """What every store does with leases."""

    # claim

    async def test_a_claim_gives_the_lease_the_state_and_the_transcript(self, store: Store) -> None:
        run_id = await queued(store, prompt="Take 7 + 9.")
        claim = await claimed(store, run_id, owner="worker-1")
        assert claim.lease == Lease(run_id, 1, "worker-1")
        assert claim.messages == (user_message("Take 7 + 9."),)
        assert claim.journal == {}
        assert (claim.run.status, claim.run.phase, claim.run.owner) == (Status.RUNNING, Phase.THINKING, "worker-1")
        assert (claim.run.fence, claim.run.recoveries) == (1, 0)
        assert claim.run.lease_until_ms >= claim.run.created_ms + LEASE_MS
        assert await store.read(run_id) == claim.run

    async def test_a_claim_takes_what_can_be_advanced_and_leaves_the_rest_out(self, store: Store) -> None:
        first, second, third = [await queued(store) for _ in range(3)]
        held = (await running(store)).lease.run_id
        rests: list[str] = []
        for status in (Status.WAITING, Status.PAUSED, Status.COMPLETED, Status.FAILED, Status.CANCELLED):
            claim = await running(store)
            await store.commit(claim.lease, commit_of(claim, status))
            rests.append(claim.lease.run_id)
        wanted = [first, held, new_run_id(), *rests, second, first]
        claims = await try_claim(store, *wanted, owner="worker-2")
        assert [claim.lease.run_id for claim in claims] == [first, second]
        assert {claim.run.owner for claim in claims} == {"worker-2"}
        assert (await store.read(third)).status is Status.QUEUED
        assert (await store.read(held)).owner == "worker-1"

    async def test_a_claim_of_nothing_is_empty(self, store: Store) -> None:
        assert await try_claim(store) == ()
        assert await try_claim(store, new_run_id()) == ()

    async def test_a_claim_leaves_other_agents_to_other_workers(self, store: Store) -> None:
        ours, theirs = await queued(store, agent="calculator"), await queued(store, agent="poet")
        claims = await store.claim(
            [ours, theirs], owner="worker-1", claim_id=new_token(), lease_ms=LEASE_MS, agents=["calculator", "cook"]
        )
        assert [claim.lease.run_id for claim in claims] == [ours]
        assert (await store.read(theirs)).fence == 0

    async def test_the_first_claim_starts_the_run(self, store: Store, stream: EventStream) -> None:
        run_id = await queued(store, agent="calculator \U0001f600")
        first = await claimed(store, run_id, owner="worker-1")
        await store.commit(first.lease, commit_of(first))
        await claimed(store, run_id, owner="worker-2")
        _, started = await events_of(stream, run_id)
        assert isinstance(started, RunStarted)
        assert (started.seq, started.agent, started.worker) == (2, "calculator \U0001f600", "worker-1")
        assert first.run.seq == 2

    async def test_the_fence_grows_with_each_claim(self, store: Store, pass_time: PassTime) -> None:
        run_id = await queued(store)
        fences: list[int] = []
        for number in range(3):
            claim = await claimed(store, run_id, lease_ms=SHORT_MS)
            fences.append(claim.lease.fence)
            if number == 0:
                await store.commit(claim.lease, commit_of(claim))
            elif number == 1:
                await pass_time(SHORT_LEASE_S)
        assert fences == [1, 2, 3]

    async def test_a_delayed_run_is_not_claimed_before_it_is_due(self, store: Store, pass_time: PassTime) -> None:
        run_id = await queued(store, delay_ms=800)
        run = await store.read(run_id)
        assert run.not_before_ms == run.created_ms + 800
        assert await try_claim(store, run_id) == ()
        assert await store.read(run_id) == run
        await pass_time(1)
        await claimed(store, run_id)

    async def test_a_delayed_run_is_claimed_at_once_when_it_was_cancelled(self, store: Store) -> None:
        run_id = await queued(store, delay_ms=60_000)
        await store.cancel(run_id)
        assert (await claimed(store, run_id)).run.is_cancel_requested

    async def test_the_same_claim_again_answers_with_the_same_leases(self, store: Store, stream: EventStream) -> None:
        run_ids = [await queued(store) for _ in range(3)]
        claims = await store.claim(run_ids, owner="worker-1", claim_id="c1", lease_ms=LEASE_MS)
        before = [await stored(store, stream, run_id) for run_id in run_ids]
        assert await store.claim(run_ids, owner="worker-1", claim_id="c1", lease_ms=LEASE_MS) == claims
        assert [await stored(store, stream, run_id) for run_id in run_ids] == before
        assert await store.claim(run_ids, owner="worker-2", claim_id="c1", lease_ms=LEASE_MS) == ()
        assert await store.claim(run_ids, owner="worker-1", claim_id="c2", lease_ms=LEASE_MS) == ()

    async def test_the_same_claim_again_shows_the_runs_as_they_are_now(self, store: Store) -> None:
        run_ids = [await queued(store), await queued(store)]
        first, second = await store.claim(run_ids, owner="worker-1", claim_id="c1", lease_ms=LEASE_MS)
        await store.commit(first.lease, commit_of(first, Status.QUEUED, reply_message("one")))
        await store.journal(second.lease, [StepRecord("reply", b"{}")], batch(1))
        (again,) = await store.claim(run_ids, owner="worker-1", claim_id="c1", lease_ms=LEASE_MS)
        assert again.lease == second.lease
        assert again.journal == {"reply": b"{}"}

    # take-over

    async def test_an_expired_lease_is_taken_over_with_the_journal(
        self, store: Store, stream: EventStream, pass_time: PassTime
    ) -> None:
        old = await running(store, owner="worker-1", lease_ms=SHORT_MS)
        run_id = old.lease.run_id
        await store.journal(old.lease, [StepRecord("reply", b'{"text":"16"}')], batch(1), using_tools=True)
        await pass_time(SHORT_LEASE_S)
        new = await claimed(store, run_id, owner="worker-2")
        assert new.lease == Lease(run_id, 2, "worker-2")
        assert new.journal == {"reply": b'{"text":"16"}'}
        assert (new.run.recoveries, new.run.phase) == (1, Phase.THINKING)
        last = (await events_of(stream, run_id))[-1]
        assert isinstance(last, RunRecovered)
        assert (last.recoveries, last.previous_owner) == (1, "worker-1")
        assert "attempt.reset" not in types_of(await events_of(stream, run_id))

    async def test_a_take_over_drops_the_open_deltas_and_says_so(
        self, store: Store, stream: EventStream, pass_time: PassTime
    ) -> None:
        old = await running(store, lease_ms=SHORT_MS)
        run_id = old.lease.run_id
        await store.journal(old.lease, [], batch(1, *texts("a", "b")))
        await store.journal(old.lease, [], batch(2, ToolCalled(call_id="c", name="roll_dice"), *texts("c")))
        await store.journal(old.lease, [], batch(3, ToolCalled(call_id="d", name="roll_dice")))
        await pass_time(SHORT_LEASE_S)
        await claimed(store, run_id)
        events = await events_of(stream, run_id)
        assert [(event.seq, event.type) for event in events] == [
            (1, "run.queued"), (2, "run.started"), (5, "tool.called"), (7, "tool.called"), (8, "attempt.reset"),
            (9, "run.recovered"),
        ]  # fmt: skip
        reset = events[4]
        assert isinstance(reset, AttemptReset)
        assert (reset.first, reset.last, reset.kept, reset.reason) == (3, 7, (5, 7), "recovered")

    async def test_recoveries_grow_until_a_commit(self, store: Store, pass_time: PassTime) -> None:
        run_id = await queued(store)
        seen: list[int] = []
        for _ in range(3):
            claim = await claimed(store, run_id, lease_ms=SHORT_MS)
            seen.append(claim.run.recoveries)
            await pass_time(SHORT_LEASE_S)
        claim = await claimed(store, run_id)
        await store.commit(claim.lease, commit_of(claim))
        assert seen == [0, 1, 2]
        assert (await store.read(run_id)).recoveries == 0

    async def test_a_lease_that_was_taken_over_writes_nothing_more(
        self, store: Store, stream: EventStream, pass_time: PassTime
    ) -> None:
        old = await running(store, lease_ms=SHORT_MS)
        await pass_time(SHORT_LEASE_S)
        new = await claimed(store, old.lease.run_id, owner="worker-2")
        before = await stored(store, stream, old.lease.run_id)
        with pytest.raises(LeaseLost):
            await store.journal(old.lease, [StepRecord("reply", b"{}")], batch(1, *texts("a")), using_tools=True)
        with pytest.raises(LeaseLost):
            await store.commit(old.lease, commit_of(old, Status.COMPLETED, reply_message("16")))
        with pytest.raises(LeaseLost):
            await store.release(old.lease, batch(1, RunReleased(worker="worker-1")))
        (renewal,) = await store.renew([old.lease], lease_ms=LEASE_MS)
        assert not renewal.held
        assert await stored(store, stream, old.lease.run_id) == before
        await store.release(new.lease, batch(1))
        assert (await claimed(store, old.lease.run_id)).journal == {}

    async def test_an_expired_lease_that_nobody_took_still_writes(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store, lease_ms=SHORT_MS)
        await pass_time(SHORT_LEASE_S)
        await store.journal(claim.lease, [StepRecord("reply", b"{}")], batch(1, *texts("a")))
        done = await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("16")))
        assert done.status is Status.COMPLETED

    # renew

    async def test_a_renewed_lease_is_not_taken_over(self, store: Store, pass_time: PassTime) -> None:
        kept, late = await running(store, lease_ms=SHORT_MS), await running(store, lease_ms=SHORT_MS)
        await store.renew([kept.lease], lease_ms=LEASE_MS)
        await pass_time(SHORT_LEASE_S)
        # Nobody took this one, so it can still be extended.
        (renewal,) = await store.renew([late.lease], lease_ms=LEASE_MS)
        assert renewal.held
        assert await try_claim(store, kept.lease.run_id, late.lease.run_id, owner="worker-2") == ()
        assert (await store.read(kept.lease.run_id)).recoveries == 0

    async def test_renewals_answer_in_order_and_tell_of_signals(self, store: Store) -> None:
        held, cancelled, ended = [await running(store) for _ in range(3)]
        await store.cancel(cancelled.lease.run_id)
        await store.commit(ended.lease, commit_of(ended, Status.WAITING))
        gone = Lease(new_run_id(), 1, "worker-1")
        renewals = await store.renew([cancelled.lease, gone, ended.lease, held.lease], lease_ms=LEASE_MS)
        assert [renewal.run_id for renewal in renewals] == [
            cancelled.lease.run_id,
            gone.run_id,
            ended.lease.run_id,
            held.lease.run_id,
        ]
        assert [renewal.held for renewal in renewals] == [True, False, False, True]
        assert [renewal.signals for renewal in renewals] == [1, 0, 0, 0]
        assert [renewal.cancel_requested for renewal in renewals] == [True, False, False, False]
        assert await store.renew([], lease_ms=LEASE_MS) == ()

    # journal

    async def test_journaled_steps_outlive_a_take_over(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store, lease_ms=SHORT_MS)
        await store.journal(claim.lease, [StepRecord("reply", b"1"), StepRecord("call", b'"started"')], batch(1))
        await store.journal(claim.lease, [StepRecord("call", '"ünïcödé \U0001f680"'.encode())], batch(2))
        await store.journal(claim.lease, [], batch(3))
        await pass_time(SHORT_LEASE_S)
        taken = await claimed(store, claim.lease.run_id)
        assert taken.journal == {"reply": b"1", "call": '"ünïcödé \U0001f680"'.encode()}

    async def test_events_are_numbered_without_holes_and_stamped(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        started = IterationStarted(iteration=1, worker="worker-1", fence=1)
        first = await store.journal(claim.lease, [], batch(1, started, *texts("a", "b")))
        second = await store.journal(claim.lease, [], batch(2, *texts("c")))
        nothing = await store.journal(claim.lease, [StepRecord("reply", b"1")], batch(3))
        assert (first.last_seq, second.last_seq, nothing.last_seq) == (5, 6, 6)
        events = await events_of(stream, claim.lease.run_id)
        assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6]
        assert [event.at_ms for event in events[2:]] == [first.at_ms] * 3 + [second.at_ms]
        assert {event.run_id for event in events} == {claim.lease.run_id}
        assert (await store.read(claim.lease.run_id)).seq == 6

    async def test_using_tools_moves_the_phase_on(self, store: Store) -> None:
        claim = await running(store)
        await store.journal(claim.lease, [StepRecord("reply", b"1")], batch(1), using_tools=True)
        assert (await store.read(claim.lease.run_id)).phase is Phase.USING_TOOLS
        await store.journal(claim.lease, [StepRecord("call", b"1")], batch(2))
        assert (await store.read(claim.lease.run_id)).phase is Phase.USING_TOOLS

    async def test_the_same_batch_again_is_written_once(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        older = await store.journal(claim.lease, [StepRecord("reply", b"1")], batch(1, *texts("a")))
        newer = await store.journal(claim.lease, [StepRecord("reply", b"2")], batch(2, *texts("b")))
        before = await stored(store, stream, claim.lease.run_id)
        again = await store.journal(claim.lease, [StepRecord("reply", b"2")], batch(2, *texts("b")))
        assert again == newer
        # A copy of an older command that was stuck on its way.
        await store.journal(claim.lease, [StepRecord("reply", b"1")], batch(1, *texts("a")))
        assert older.last_seq < newer.last_seq
        assert await stored(store, stream, claim.lease.run_id) == before
        await store.release(claim.lease, batch(3))
        assert (await claimed(store, claim.lease.run_id)).journal == {"reply": b"2"}

    async def test_each_claim_counts_its_batches_anew(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        await store.journal(claim.lease, [], batch(1, IterationStarted(iteration=1, worker="worker-1", fence=1)))
        await store.commit(claim.lease, commit_of(claim, batch=batch(2)))
        claim = await claimed(store, claim.lease.run_id)
        appended = await store.journal(claim.lease, [], batch(1, *texts("a")))
        assert appended.last_seq == 4
        assert types_of(await events_of(stream, claim.lease.run_id))[-1] == "text.delta"

    async def test_no_effect_starts_after_a_cancel(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        started = StepRecord("call", b'"started"', starts_effect=True)
        await store.journal(claim.lease, [started], batch(1))
        await store.cancel(claim.lease.run_id)
        before = await stored(store, stream, claim.lease.run_id)
        for refused in (
            StepRecord("call-2", b'"started"', starts_effect=True),
            StepRecord("call", b'"started again"', starts_effect=True),
        ):
            with pytest.raises(CancelRequested):
                await store.journal(
                    claim.lease, [StepRecord("note", b"1"), refused], batch(2, *texts("a")), using_tools=True
                )
        assert await stored(store, stream, claim.lease.run_id) == before
        # What already stands may be said again, and results may be recorded.
        await store.journal(claim.lease, [started], batch(2))
        await store.journal(claim.lease, [StepRecord("call-3", b'"finished"')], batch(3))
        await store.release(claim.lease, batch(4))
        journal = (await claimed(store, claim.lease.run_id)).journal
        assert journal == {"call": b'"started"', "call-3": b'"finished"'}

    # release

    async def test_a_released_run_is_queued_with_its_journal(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        await store.journal(claim.lease, [StepRecord("reply", b"1")], batch(1))
        await store.release(claim.lease, batch(2, RunReleased(worker="worker-1")))
        run = await store.read(run_id)
        assert (run.status, run.phase, run.owner, run.lease_until_ms) == (Status.QUEUED, None, None, 0)
        assert types_of(await events_of(stream, run_id)) == ["run.queued", "run.started", "run.released"]
        claim = await claimed(store, run_id, owner="worker-2")
        assert claim.journal == {"reply": b"1"}
        assert claim.run.recoveries == 0

    async def test_a_release_drops_the_open_deltas_and_says_so(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        await store.journal(claim.lease, [], batch(1, *texts("a", "b")))
        await store.release(claim.lease, batch(2, RunReleased(worker="worker-1")))
        *_, reset, released = await events_of(stream, claim.lease.run_id)
        assert isinstance(reset, AttemptReset)
        assert (reset.seq, reset.first, reset.last, reset.reason) == (5, 3, 4, "released")
        assert released.seq == 6

    async def test_the_same_release_again_has_no_effect(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        await store.journal(claim.lease, [], batch(1, *texts("a")))
        released = batch(2, RunReleased(worker="worker-1"))
        answer = await store.release(claim.lease, released)
        before = await stored(store, stream, claim.lease.run_id)
        assert await store.release(claim.lease, released) == answer
        assert await stored(store, stream, claim.lease.run_id) == before
        await claimed(store, claim.lease.run_id, owner="worker-2")
        before = await stored(store, stream, claim.lease.run_id)
        assert await store.release(claim.lease, released) == answer
        assert await stored(store, stream, claim.lease.run_id) == before

    async def test_a_lease_that_was_released_is_over(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        await store.release(claim.lease, batch(1))
        before = await stored(store, stream, claim.lease.run_id)
        with pytest.raises(LeaseLost):
            await store.journal(claim.lease, [], batch(2, *texts("a")))
        with pytest.raises(LeaseLost):
            await store.commit(claim.lease, commit_of(claim))
        assert await stored(store, stream, claim.lease.run_id) == before

    async def test_writes_to_a_run_that_is_gone_say_so(self, store: Store) -> None:
        claim = await running(store)
        gone = Lease(new_run_id(), 1, "worker-1")
        with pytest.raises(RunNotFound):
            await store.journal(gone, [], batch(1))
        with pytest.raises(RunNotFound):
            await store.release(gone, batch(1))
        with pytest.raises(RunNotFound):
            await store.commit(gone, commit_of(claim))
