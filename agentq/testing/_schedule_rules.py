"""The part of `StoreContract` that is about schedules. A store without `schedules` keeps none, and is excused."""
# ruff: noqa: S101

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq.errors import ScheduleNotFound
from agentq.runs import Status
from agentq.schedules import Schedule
from agentq.stores.base import Firing
from agentq.stores.filters import RunFilter
from agentq.testing._contract import commit_of, new_run, reply_message, try_claim

if TYPE_CHECKING:
    from agentq.stores.base import Created, Store
    from agentq.stores.schedules import Schedules

REPORT = Schedule("report", "calculator", "Take 7 + 9.", "0 9 * * *")


def book_of(store: Store) -> Schedules:
    """What the store keeps of schedules."""
    book: Schedules | None = getattr(store, "schedules", None)
    if book is None:
        pytest.skip("this store keeps no schedules")
    return book


async def _fire(store: Store, seen_ms: int, next_ms: int, *, skips_open: bool = False) -> Created:
    return await store.create(new_run(firing=Firing("report", seen_ms, seen_ms, next_ms, skips_open=skips_open)))


@pytest.mark.asyncio
class ScheduleRules:
    """What every store does with schedules."""

    async def test_a_schedule_is_due_when_its_time_has_come(self, store: Store) -> None:
        book = book_of(store)
        now, _ = await book.due(10)
        await book.put(REPORT, now + 3_600_000)
        assert (await book.due(10))[1] == ()
        later = Schedule("later", "calculator", "x", "0 9 * * *")
        await book.put(later, now)
        assert [state.schedule for state in (await book.due(10))[1]] == [later]
        assert [state.schedule.name for state in (await book.list(10))[1]] == ["later", "report"]

    async def test_the_same_schedule_again_changes_nothing_and_another_takes_its_place(self, store: Store) -> None:
        book = book_of(store)
        await book.put(REPORT, 1_000)
        await _fire(store, 1_000, 2_000)
        await book.put(REPORT, 7_000)
        _, state = await book.find("report")
        assert state is not None
        assert (state.next_ms, state.fired) == (2_000, 1)
        other = Schedule("report", "calculator", "Take 8 + 9.", "0 9 * * *")
        await book.put(other, 7_000)
        _, state = await book.find("report")
        assert state is not None
        assert (state.schedule, state.next_ms, state.fired) == (other, 7_000, 1)

    async def test_one_firing_makes_one_run_whoever_carries_it_out(self, store: Store) -> None:
        book = book_of(store)
        await book.put(REPORT, 1_000)
        first, second = await _fire(store, 1_000, 2_000), await _fire(store, 1_000, 2_000)
        assert (first.existed, second.existed) == (False, True)
        assert [run.run_id for run in await store.list(RunFilter())] == [first.run_id]
        _, state = await book.find("report")
        assert state is not None
        assert (state.next_ms, state.last_ms, state.last_run_id, state.fired) == (2_000, 1_000, first.run_id, 1)

    async def test_sent_again_it_is_the_same_run(self, store: Store) -> None:
        book = book_of(store)
        await book.put(REPORT, 1_000)
        new = new_run(firing=Firing("report", 1_000, 1_000, 2_000))
        assert [(await store.create(new)).run_id for _ in range(2)] == [new.run_id] * 2
        _, state = await book.find("report")
        assert state is not None
        assert state.fired == 1

    async def test_a_schedule_that_is_paused_or_gone_makes_no_run(self, store: Store) -> None:
        book = book_of(store)
        await book.put(REPORT, 1_000)
        await book.pause("report")
        assert (await _fire(store, 1_000, 2_000)).existed
        assert (await book.due(10))[1] == ()
        await book.put(Schedule("report", "calculator", "Take 8 + 9.", "0 9 * * *"), 1_000)
        _, state = await book.find("report")
        assert state is not None
        assert state.is_paused
        await book.resume("report", 3_000)
        assert [each.next_ms for each in (await book.due(10))[1]] == [3_000]
        await book.remove("report")
        await book.remove("report")
        assert (await _fire(store, 3_000, 4_000)).existed
        assert await store.list(RunFilter()) == ()
        assert (await book.find("report"))[1] is None

    async def test_a_firing_is_left_out_while_the_last_run_is_open(self, store: Store) -> None:
        book = book_of(store)
        await book.put(REPORT, 1_000)
        first = await _fire(store, 1_000, 2_000, skips_open=True)
        assert (await _fire(store, 2_000, 3_000, skips_open=True)).existed
        (claim,) = await try_claim(store, first.run_id)
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("16")))
        assert not (await _fire(store, 3_000, 4_000, skips_open=True)).existed
        _, state = await book.find("report")
        assert state is not None
        assert (state.fired, state.skipped, state.next_ms) == (2, 1, 4_000)

    async def test_it_can_be_moved_on_without_a_run_by_who_has_seen_where_it_stands(self, store: Store) -> None:
        book = book_of(store)
        await book.put(REPORT, 1_000)
        assert await book.skip("report", seen_ms=1_000, next_ms=2_000, skipped=1)
        assert await book.skip("report", seen_ms=1_000, next_ms=2_000, skipped=1)
        assert not await book.skip("report", seen_ms=1_500, next_ms=9_000, skipped=1)
        _, state = await book.find("report")
        assert state is not None
        assert (state.next_ms, state.skipped, state.fired) == (2_000, 1, 0)

    async def test_what_is_not_there_says_so(self, store: Store) -> None:
        book = book_of(store)
        with pytest.raises(ScheduleNotFound, match="schedule 'nowhere'"):
            await book.pause("nowhere")
        with pytest.raises(ScheduleNotFound, match="schedule 'nowhere'"):
            await book.resume("nowhere", 1)
        with pytest.raises(ScheduleNotFound, match="schedule 'nowhere'"):
            await book.skip("nowhere", seen_ms=1, next_ms=2, skipped=1)

    async def test_a_run_may_start_at_a_time_and_not_before(self, store: Store) -> None:
        now, _ = await book_of(store).due(1)
        past, future = new_run(at_ms=now - 60_000), new_run(at_ms=now + 60_000)
        for new in (past, future):
            await store.create(new)
        assert [claim.lease.run_id for claim in await try_claim(store, past.run_id)] == [past.run_id]
        assert await try_claim(store, future.run_id) == ()
        assert abs((await store.read(future.run_id)).not_before_ms - future.at_ms) <= 0
