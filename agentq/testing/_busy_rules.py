"""The part of `StoreContract` that is about messages for a session that is busy."""
# ruff: noqa: S101

from __future__ import annotations

import pytest

from agentq.errors import RunNotFound, SessionBusy, SessionNotFound
from agentq.runs import Status
from agentq.stores.base import Retry, Store
from agentq.stores.filters import RunFilter, SessionFilter
from agentq.testing._contract import (
    claimed,
    commit_of,
    new_run,
    queued,
    reply_message,
    running,
    try_claim,
)


async def _said(store: Store, session_id: str = "s1") -> list[str]:
    return [message.text for message in await store.session_messages(session_id)]


@pytest.mark.asyncio
class BusyRules:
    """What every store does where a run comes into a session while another one is there."""

    async def test_a_run_that_is_not_to_wait_is_refused_while_another_is_there(self, store: Store) -> None:
        live = await running(store, session_id="s1")
        behind = await queued(store, session_id="s1")
        refused = new_run("x", session_id="s1", when_busy="reject", idempotency_key="k1")
        with pytest.raises(SessionBusy):
            await store.create(refused)
        assert (await store.session("s1")).open_runs == 2
        await store.commit(live.lease, commit_of(live, Status.COMPLETED, reply_message("a")))
        with pytest.raises(SessionBusy):
            await store.create(refused)
        claim = await claimed(store, behind)
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("b")))
        created = await store.create(refused)
        # Its reply was lost: it is there, so it is not refused.
        assert (await store.create(refused)).run_id == created.run_id == refused.run_id
        assert len(await try_claim(store, refused.run_id)) == 1

    async def test_what_is_refused_leaves_nothing(self, store: Store) -> None:
        first = await queued(store, session_id="s1", when_busy="reject")
        with pytest.raises(SessionNotFound):
            await store.session("s2")
        assert (await store.session("s1")).live_run_id == first

    @pytest.mark.parametrize(
        ("when_busy", "kept"),
        [("interrupt", ["old", "half", "new", "answer"]), ("replace", ["new", "answer"])],
    )
    async def test_a_newer_message_stops_the_live_run_and_those_in_line(
        self, store: Store, when_busy: str, kept: list[str]
    ) -> None:
        live = await running(store, prompt="old", session_id="s1")
        behind = await queued(store, prompt="between", session_id="s1")
        created = await store.create(new := new_run("new", session_id="s1", when_busy=when_busy))
        assert created.stopped == (behind,)
        again = await store.create(new)
        assert (again.run_id, again.existed, again.stopped) == (new.run_id, True, ())
        for run_id in (live.lease.run_id, behind):
            assert (await store.read(run_id)).is_cancel_requested
        assert await try_claim(store, new.run_id) == ()
        # In line no more, so it is not promoted, and what it was asked is not kept.
        stopped = await claimed(store, behind)
        await store.commit(stopped.lease, commit_of(stopped, Status.CANCELLED))
        commit = commit_of(live, Status.CANCELLED, reply_message("half"), signals_seen=9)
        committed = await store.commit(live.lease, commit)
        assert committed.next_run_id == new.run_id
        claim = await claimed(store, new.run_id)
        assert [message.text for message in claim.history] == kept[:-2]
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("answer")))
        assert await _said(store) == kept
        session = await store.session("s1")
        assert (session.open_runs, session.live_run_id, session.run_count) == (0, None, 3)

    async def test_a_live_run_that_nobody_holds_is_named_so_that_somebody_ends_it(self, store: Store) -> None:
        live = await queued(store, prompt="old", session_id="s1")
        created = await store.create(new_run("new", session_id="s1", when_busy="interrupt"))
        assert created.stopped == (live,)
        claim = await claimed(store, live)
        committed = await store.commit(claim.lease, commit_of(claim, Status.CANCELLED))
        assert committed.next_run_id == created.run_id

    async def test_of_two_newer_messages_the_last_one_wins(self, store: Store) -> None:
        live = await running(store, prompt="old", session_id="s1")
        first = await store.create(new_run("first", session_id="s1", when_busy="interrupt"))
        last = await store.create(new_run("last", session_id="s1", when_busy="replace"))
        assert last.stopped == (first.run_id,)
        committed = await store.commit(live.lease, commit_of(live, Status.CANCELLED, signals_seen=9))
        assert committed.next_run_id == last.run_id
        assert await _said(store) == []

    async def test_what_nobody_stands_in_the_way_of_goes_on_at_once(self, store: Store) -> None:
        for when_busy in ("reject", "interrupt", "replace"):
            created = await store.create(new_run("x", session_id=when_busy, when_busy=when_busy))
            assert created.stopped == ()
            assert len(await try_claim(store, created.run_id)) == 1

    async def test_a_replaced_run_that_is_taken_up_again_is_remembered(self, store: Store) -> None:
        live = await running(store, prompt="old", session_id="s1")
        created = await store.create(new_run("new", session_id="s1", when_busy="replace"))
        newer = created.run_id
        await store.cancel(newer)
        claim = await claimed(store, newer)
        await store.commit(claim.lease, commit_of(claim, Status.CANCELLED))
        await store.commit(live.lease, commit_of(live, Status.CANCELLED, signals_seen=9))
        await store.retry(live.lease.run_id, Retry(live.lease.fence))
        again = await claimed(store, live.lease.run_id)
        await store.commit(again.lease, commit_of(again, Status.COMPLETED, reply_message("done")))
        assert await _said(store) == ["old", "done"]

    async def test_a_session_is_deleted_with_its_runs_once_all_have_ended(self, store: Store) -> None:
        live = await running(store, prompt="old", session_id="s1", user_id="ada", idempotency_key="k1")
        other = await queued(store, session_id="s2", user_id="ada")
        with pytest.raises(SessionBusy):
            await store.delete_session("s1")
        await store.commit(live.lease, commit_of(live, Status.COMPLETED, reply_message("done")))
        for _ in range(2):
            await store.delete_session("s1")
        with pytest.raises(SessionNotFound):
            await store.session("s1")
        with pytest.raises(RunNotFound):
            await store.read(live.lease.run_id)
        assert [run.run_id for run in await store.list(RunFilter(user_id="ada"))] == [other]
        assert [each.session_id for each in await store.list_sessions(SessionFilter(user_id="ada"))] == ["s2"]
        # The name and the key are free again.
        again = await store.create(new_run("new", session_id="s1", user_id="bob", idempotency_key="k1"))
        assert (again.existed, (await claimed(store, again.run_id)).history) == (False, ())
