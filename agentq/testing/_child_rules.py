"""The part of `StoreContract` that is about runs which another run has started."""
# ruff: noqa: S101

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentq._ids import child_run_id
from agentq.errors import CancelRequested
from agentq.runs import CHILD, Question, Status
from agentq.stores.base import Rest
from agentq.testing._contract import batch, claimed, commit_of, new_run, queued, reply_message, running, stored

if TYPE_CHECKING:
    from agentq.events.stream import EventStream
    from agentq.stores.base import Claim, NewRun, Store


def _child_of(parent_run_id: str, index: int = 0, **fields: Any) -> NewRun:
    run_id = child_run_id(f"{parent_run_id}.1.{index}")
    return new_run(run_id=run_id, parent_run_id=parent_run_id, depth=1, **fields)


def _rest(claim: Claim, child_id: str) -> Rest:
    question = Question(call_id="c", tool="ask", text="it waits", kind=CHILD, run_id=child_id)
    return Rest((question,), claim.run.signals)


@pytest.mark.asyncio
class ChildRules:
    """What every store does with runs that another run starts."""

    async def test_a_child_is_linked_and_created_once(self, store: Store, stream: EventStream) -> None:
        parent = await running(store)
        new = _child_of(parent.lease.run_id)
        first = await store.create(new)
        again = await store.create(new)
        assert (first.existed, again.existed, again.run_id) == (False, True, new.run_id)
        child = await store.read(new.run_id)
        assert (child.parent_run_id, child.depth, child.status) == (parent.lease.run_id, 1, Status.QUEUED)

    async def test_the_end_of_a_child_wakes_a_parent_that_waits(self, store: Store, stream: EventStream) -> None:
        parent = await running(store)
        run_id = parent.lease.run_id
        await store.create(new := _child_of(run_id))
        assert (await store.release(parent.lease, batch(1), rest=_rest(parent, new.run_id))).status is Status.WAITING
        child = await claimed(store, new.run_id)
        commit = commit_of(child, Status.COMPLETED, reply_message("16"))
        committed = await store.commit(child.lease, commit)
        assert committed.parent_run_id == run_id
        before = await stored(store, stream, run_id)
        assert (before.run.status, before.run.question) == (Status.QUEUED, None)
        assert before.run.signals == parent.run.signals + 1
        assert await store.commit(child.lease, commit) == committed
        assert await stored(store, stream, run_id) == before

    async def test_a_child_that_ends_first_keeps_its_parent_from_resting(self, store: Store) -> None:
        parent = await running(store)
        await store.create(new := _child_of(parent.lease.run_id))
        child = await claimed(store, new.run_id)
        committed = await store.commit(child.lease, commit_of(child, Status.FAILED, last_error="no"))
        assert committed.parent_run_id is None
        assert (await store.release(parent.lease, batch(1), rest=_rest(parent, new.run_id))).status is Status.QUEUED

    async def test_a_parent_that_waits_for_a_person_is_left_alone(self, store: Store) -> None:
        parent = await running(store)
        await store.create(new := _child_of(parent.lease.run_id))
        asked = Rest((Question(call_id="c", tool="pay", text="Did it happen?"),), parent.run.signals)
        await store.release(parent.lease, batch(1), rest=asked)
        child = await claimed(store, new.run_id)
        await store.commit(child.lease, commit_of(child, Status.COMPLETED, reply_message("16")))
        assert (await store.read(parent.lease.run_id)).status is Status.WAITING

    @pytest.mark.parametrize("how", ["cancelled", "ended", "gone"])
    async def test_nothing_starts_for_a_parent_that_goes_on_no_more(self, store: Store, how: str) -> None:
        parent = await running(store)
        run_id = parent.lease.run_id
        if how == "cancelled":
            await store.cancel(run_id)
        elif how == "ended":
            await store.commit(parent.lease, commit_of(parent, Status.COMPLETED, reply_message("16")))
        else:
            run_id = new_run().run_id
        with pytest.raises(CancelRequested):
            await store.create(_child_of(run_id))

    async def test_a_cancel_reaches_all_that_is_below(self, store: Store) -> None:
        parent = await queued(store)
        await store.create(child := _child_of(parent))
        await store.create(below := _child_of(child.run_id))
        await store.create(other := _child_of(parent, 1))
        ended = await claimed(store, other.run_id)
        await store.commit(ended.lease, commit_of(ended, Status.COMPLETED, reply_message("16")))
        await store.cancel(parent, reason="enough")
        states = [await store.read(run_id) for run_id in (parent, child.run_id, below.run_id, other.run_id)]
        assert [state.is_cancel_requested for state in states] == [True, True, True, False]
        assert states[0].cancel_reason == "enough"
        signals = [state.signals for state in states]
        await store.cancel(parent, reason="enough")
        again = [await store.read(state.run_id) for state in states]
        assert [state.signals for state in again] == signals

    async def test_a_parent_that_ends_takes_along_what_still_runs(self, store: Store) -> None:
        parent = await running(store)
        await store.create(child := _child_of(parent.lease.run_id))
        await store.commit(parent.lease, commit_of(parent, Status.FAILED, last_error="no"))
        assert (await store.read(child.run_id)).is_cancel_requested
