"""The part of `StoreContract` that is about limits: what a run may use, and the times that they count from."""
# ruff: noqa: S101

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq.errors import LeaseLost, RunNotFound
from agentq.events.limits import LimitsChanged
from agentq.limits import Meter, RunLimits, Spent
from agentq.runs import LIMIT, Question, Status
from agentq.stores.base import Claim, Commit, Rest, Retry, Store
from agentq.testing._contract import (
    GRACE_S,
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
    try_claim,
    types_of,
)

if TYPE_CHECKING:
    from agentq.events.stream import EventStream

LIMITS = RunLimits(tokens=1000, cost_usd=0.25, wall_s=60, on_reached="wait")
REACHED = Question(call_id="", tool="", text="the run has reached its limit", kind=LIMIT)
CHANGED = (LimitsChanged(limits={"tokens": 2000}, by="ada"),)


async def resting(store: Store, *, within_ms: int = 0) -> Claim:
    """A run that waits until it may use more."""
    claim = await running(store, limits=LIMITS)
    await store.release(claim.lease, batch(1), rest=Rest((REACHED,), claim.run.signals, within_ms=within_ms))
    return claim


OF_USER = Meter("user", "u:1 {x}", "day")
OF_ALL = Meter("all", "", "total")
SOME = Spent(tokens=70, cost_nanousd=2_000_000_001, iterations=1)


def metered(claim: Claim, *, meters: tuple[Meter, ...] = (OF_USER, OF_ALL), spent: Spent = SOME) -> Commit:
    return commit_of(claim, Status.QUEUED, reply_message("a"), meters=meters, spent=spent)


def amounts(spent: Spent) -> tuple[int, int, int]:
    return spent.tokens, spent.cost_nanousd, spent.iterations


@pytest.mark.asyncio
class LimitRules:
    """What every store does with limits."""

    async def test_a_run_has_the_limits_that_it_was_given(self, store: Store) -> None:
        claim = await running(store, limits=LIMITS)
        assert claim.run.limits == LIMITS
        assert (await running(store)).run.limits is None

    async def test_other_limits_queue_a_run_that_waited_for_them(self, store: Store, stream: EventStream) -> None:
        claim = await resting(store)
        run_id = claim.lease.run_id
        more = RunLimits(tokens=2000)
        assert (await store.set_limits(run_id, more, CHANGED)).status is Status.QUEUED
        run = await store.read(run_id)
        assert (run.limits, run.status, run.question) == (more, Status.QUEUED, None)
        assert run.signals == claim.run.signals + 1
        assert types_of(await events_of(stream, run_id))[-1] == "limits.changed"
        assert (await claimed(store, run_id)).run.limits == more

    async def test_the_same_limits_again_change_nothing(self, store: Store, stream: EventStream) -> None:
        run_id = (await resting(store)).lease.run_id
        first = await store.set_limits(run_id, RunLimits(tokens=2000), CHANGED)
        before = await store.read(run_id), await events_of(stream, run_id)
        # Who wakes runs where no script does has not heard of it when the first answer was lost.
        assert await store.set_limits(run_id, RunLimits(tokens=2000), CHANGED) == first
        assert (await store.read(run_id), await events_of(stream, run_id)) == before

    async def test_a_worker_that_is_about_to_end_the_run_is_told(self, store: Store) -> None:
        claim = await running(store, limits=LIMITS)
        await store.set_limits(claim.lease.run_id, RunLimits(tokens=2000), CHANGED)
        committed = await store.commit(claim.lease, commit_of(claim, Status.FAILED, last_error="too much"))
        assert committed.status is Status.QUEUED

    async def test_a_run_that_is_about_to_wait_looks_at_its_new_limits_first(self, store: Store) -> None:
        claim = await running(store, limits=LIMITS)
        await store.set_limits(claim.lease.run_id, RunLimits(tokens=2000), CHANGED)
        released = await store.release(claim.lease, batch(1), rest=Rest((REACHED,), claim.run.signals))
        assert released.status is Status.QUEUED

    async def test_a_run_that_has_ended_gets_no_event_and_keeps_them_for_a_retry(
        self, store: Store, stream: EventStream
    ) -> None:
        claim = await running(store, limits=LIMITS)
        run_id = claim.lease.run_id
        await store.commit(claim.lease, commit_of(claim, Status.FAILED, last_error="too much"))
        before = await events_of(stream, run_id)
        assert (await store.set_limits(run_id, RunLimits(tokens=2000), CHANGED)).status is Status.FAILED
        assert await events_of(stream, run_id) == before
        await store.retry(run_id, Retry((await store.read(run_id)).fence))
        assert (await claimed(store, run_id)).run.limits == RunLimits(tokens=2000)

    async def test_limits_of_no_run_are_refused(self, store: Store) -> None:
        with pytest.raises(RunNotFound):
            await store.set_limits("01JD3ZK8W5Q0X9V7T2M4N6P8RA", LIMITS)

    async def test_a_limit_that_ends_lets_the_run_go_on_by_itself(self, store: Store, pass_time: PassTime) -> None:
        run_id = (await resting(store, within_ms=1_000)).lease.run_id
        assert await try_claim(store, run_id) == ()
        await pass_time(1.1)
        assert len(await try_claim(store, run_id)) == 1

    async def test_time_counts_from_the_first_claim(self, store: Store, pass_time: PassTime) -> None:
        run_id = await queued(store)
        assert (await store.read(run_id)).started_ms == 0
        await pass_time(GRACE_S)
        first = await claimed(store, run_id)
        assert first.run.started_ms == first.run.updated_ms > first.run.created_ms
        await store.commit(first.lease, commit_of(first, Status.QUEUED, reply_message("a")))
        await pass_time(GRACE_S)
        second = await claimed(store, run_id)
        assert second.run.started_ms == first.run.started_ms

    async def test_progress_is_a_commit_that_came_further(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        assert claim.run.progressed_ms == claim.run.started_ms
        await pass_time(1.0)
        await store.commit(claim.lease, commit_of(claim, iteration=0, errors=1))
        assert (await store.read(run_id)).progressed_ms == claim.run.started_ms
        claim = await claimed(store, run_id)
        await store.commit(claim.lease, commit_of(claim, Status.QUEUED, reply_message("a")))
        state = await store.read(run_id)
        assert state.progressed_ms == state.updated_ms > claim.run.started_ms

    async def test_the_time_without_progress_begins_anew_when_a_run_has_waited(
        self, store: Store, pass_time: PassTime
    ) -> None:
        first = await resting(store)
        run_id = first.lease.run_id
        await pass_time(GRACE_S)
        await store.set_limits(run_id, RunLimits(), CHANGED)
        claim = await claimed(store, run_id)
        assert claim.run.progressed_ms == claim.run.updated_ms > first.run.progressed_ms
        assert claim.run.started_ms == first.run.started_ms

    async def test_a_retry_begins_anew_with_what_was_used_and_with_the_time(
        self, store: Store, pass_time: PassTime
    ) -> None:
        first = await running(store)
        run_id = first.lease.run_id
        usage = {"input_tokens": 70, "output_tokens": 7}
        await store.commit(first.lease, commit_of(first, Status.FAILED, usage=usage, last_error="too much"))
        await pass_time(GRACE_S)
        await store.retry(run_id, Retry(first.lease.fence))
        claim = await claimed(store, run_id)
        assert claim.run.retried_usage == usage
        assert claim.run.started_ms == claim.run.progressed_ms == claim.run.updated_ms > first.run.started_ms

    async def test_commits_count_what_runs_use_together(self, store: Store) -> None:
        assert [amounts(spent) for spent in await store.spent([OF_USER, OF_ALL])] == [(0, 0, 0), (0, 0, 0)]
        first, second = await running(store), await running(store)
        await store.commit(first.lease, metered(first))
        await store.commit(second.lease, metered(second, meters=(OF_USER,)))
        assert [amounts(spent) for spent in await store.spent([OF_USER, OF_ALL])] == [
            (140, 4_000_000_002, 2),
            (70, 2_000_000_001, 1),
        ]
        assert amounts((await store.spent([Meter("user", "u:1", "day")]))[0]) == (0, 0, 0)
        assert await store.spent([]) == ()

    async def test_a_commit_that_is_sent_again_counts_once(self, store: Store) -> None:
        claim = await running(store)
        for _ in range(3):
            await store.commit(claim.lease, metered(claim))
        assert amounts((await store.spent([OF_USER]))[0]) == amounts(SOME)

    async def test_a_commit_of_a_lost_lease_counts_nothing(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store, lease_ms=SHORT_MS)
        await pass_time(SHORT_LEASE_S)
        await claimed(store, claim.lease.run_id, owner="worker-2")
        with pytest.raises(LeaseLost):
            await store.commit(claim.lease, metered(claim))
        assert amounts((await store.spent([OF_USER]))[0]) == (0, 0, 0)

    async def test_a_window_ends_and_can_still_be_asked_for(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store)
        hour = Meter("agent", "calculator", "hour")
        (before,) = await store.spent([hour])
        assert 0 < before.left_ms <= 3_600_000
        await store.commit(claim.lease, metered(claim, meters=(hour, OF_ALL)))
        number = (await store.read(claim.lease.run_id)).updated_ms // 3_600_000
        (of_then,) = await store.spent([Meter("agent", "calculator", "hour", at=number)])
        assert amounts(of_then) == amounts(SOME)
        (of_later,) = await store.spent([Meter("agent", "calculator", "hour", at=number + 1)])
        assert amounts(of_later) == (0, 0, 0)
        (of_once,) = await store.spent([Meter("agent", "calculator", "hour", at=number - 5)])
        assert of_once.left_ms == 0
        (total,) = await store.spent([OF_ALL])
        assert (amounts(total), total.left_ms) == (amounts(SOME), 0)

    async def test_so_many_runs_of_a_key_go_on_and_no_more(self, store: Store) -> None:
        runs = [await queued(store, concurrency_key="k}:line", concurrency=2) for _ in range(4)]
        other = await queued(store, concurrency_key="k", concurrency=1)
        first, second, third = await try_claim(store, *runs, other)
        assert [claim.lease.run_id for claim in (first, second, third)] == [*runs[:2], other]
        states = [await store.read(run_id) for run_id in runs]
        assert [state.waits_for_place for state in states] == [False, False, True, True]
        assert states[0].concurrency_key == "k}:line"
        assert states[0].concurrency == 2
        # Between iterations it keeps its place.
        await store.commit(first.lease, commit_of(first, Status.QUEUED, reply_message("a")))
        assert await try_claim(store, *runs[2:]) == ()
        first = await claimed(store, runs[0])
        await store.commit(first.lease, commit_of(first, Status.COMPLETED, reply_message("b")))
        assert [claim.lease.run_id for claim in await try_claim(store, runs[3], runs[2])] == [runs[2]]

    async def test_a_run_that_rests_makes_room_and_comes_before_those_that_have_not_begun(
        self, store: Store, pass_time: PassTime
    ) -> None:
        runs = [await queued(store, concurrency_key="k", concurrency=1) for _ in range(3)]
        (first,) = await try_claim(store, *runs)
        await store.release(first.lease, batch(1), rest=Rest((REACHED,), first.run.signals))
        second = await claimed(store, runs[1])
        await store.set_limits(runs[0], RunLimits(tokens=5))
        assert await try_claim(store, *runs) == ()
        await store.commit(second.lease, commit_of(second, Status.FAILED, last_error="no"))
        await pass_time(GRACE_S)
        assert set((await store.sweep(lease_ms=SHORT_MS)).to_wake) == {runs[0]}
        assert [claim.lease.run_id for claim in await try_claim(store, *runs)] == [runs[0]]

    async def test_a_run_whose_time_has_come_needs_a_place_to_go_on(self, store: Store, pass_time: PassTime) -> None:
        runs = [await queued(store, concurrency_key="k", concurrency=1) for _ in range(2)]
        first = await claimed(store, runs[0])
        rest = Rest((REACHED,), first.run.signals, within_ms=1_000)
        await store.release(first.lease, batch(1), rest=rest)
        second = await claimed(store, runs[1])
        await pass_time(1.1)
        assert await try_claim(store, runs[0]) == ()
        await store.commit(second.lease, commit_of(second, Status.COMPLETED, reply_message("b")))
        await claimed(store, runs[0])

    async def test_a_run_under_way_is_held_up_by_none_that_needs_more_places_to_be_free(self, store: Store) -> None:
        runs = [await queued(store, concurrency_key="k", concurrency=places) for places in (2, 2, 1)]
        first = await claimed(store, runs[0])
        await claimed(store, runs[1])
        await store.release(first.lease, batch(1), rest=Rest((REACHED,), first.run.signals))
        assert await try_claim(store, runs[2]) == ()
        await store.set_limits(runs[0], RunLimits(tokens=5))
        await claimed(store, runs[0])

    async def test_a_run_in_line_is_woken_when_it_has_a_place_and_not_before(
        self, store: Store, pass_time: PassTime
    ) -> None:
        runs = [await queued(store, concurrency_key="k", concurrency=1) for _ in range(2)]
        (first,) = await try_claim(store, *runs)
        await pass_time(GRACE_S)
        assert (await store.sweep(lease_ms=SHORT_MS)).to_wake == ()
        await store.commit(first.lease, commit_of(first, Status.COMPLETED, reply_message("b")))
        await pass_time(GRACE_S)
        assert (await store.sweep(lease_ms=SHORT_MS)).to_wake == (runs[1],)

    async def test_a_cancelled_run_needs_no_place_to_end(self, store: Store) -> None:
        runs = [await queued(store, concurrency_key="k", concurrency=1) for _ in range(3)]
        (first,) = await try_claim(store, *runs)
        await store.cancel(runs[1], reason="enough")
        cancelled = await claimed(store, runs[1])
        await store.commit(cancelled.lease, commit_of(cancelled, Status.CANCELLED, signals_seen=9))
        assert await try_claim(store, runs[2]) == ()
        await store.commit(first.lease, commit_of(first, Status.COMPLETED, reply_message("b")))
        assert len(await try_claim(store, runs[2])) == 1

    async def test_a_run_whose_worker_died_still_has_its_place(self, store: Store, pass_time: PassTime) -> None:
        runs = [await queued(store, concurrency_key="k", concurrency=1) for _ in range(2)]
        await try_claim(store, runs[0], lease_ms=SHORT_MS)
        assert await try_claim(store, runs[1]) == ()
        await pass_time(SHORT_LEASE_S)
        assert [claim.lease.run_id for claim in await try_claim(store, runs[1], runs[0])] == [runs[0]]
