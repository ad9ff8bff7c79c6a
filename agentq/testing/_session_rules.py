"""The contract of `Store`: sessions, their transcripts and files."""
# ruff: noqa: S101

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq._ids import new_token
from agentq.errors import FileNotStored, SessionConflict, SessionNotFound
from agentq.runs import Status
from agentq.stores.base import EventBatch
from agentq.stores.filters import SessionFilter
from agentq.testing._contract import (
    GRACE_S,
    LEASE_MS,
    SHORT_LEASE_S,
    SHORT_MS,
    PassTime,
    claimed,
    commit_of,
    new_run,
    queued,
    reply_message,
    try_claim,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq.messages import Message
    from agentq.stores.base import Claim, Committed, Store


def said(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages]


async def ended(
    store: Store, claim: Claim, answer: str = "well", status: Status = Status.COMPLETED, **fields: object
) -> Committed:
    """The run with one reply, committed as final."""
    return await store.commit(claim.lease, commit_of(claim, status, messages=(reply_message(answer),), **fields))


async def talked(store: Store, session_id: str, prompt: str, answer: str) -> str:
    """A run of the session from its beginning to its end."""
    run_id = await queued(store, prompt=prompt, session_id=session_id)
    await ended(store, await claimed(store, run_id), answer)
    return run_id


@pytest.mark.asyncio
class SessionRules:
    """Runs of one session go on one after the other and see what was said before."""

    async def test_a_run_sees_what_earlier_runs_of_its_session_said(self, store: Store) -> None:
        await talked(store, "s1", "I am Ada.", "Hello Ada.")
        await talked(store, "s1", "I like tea.", "Noted.")
        await talked(store, "s2", "I am Bob.", "Hello Bob.")
        claim = await claimed(store, await queued(store, prompt="Who am I?", session_id="s1"))
        assert said(claim.history) == ["I am Ada.", "Hello Ada.", "I like tea.", "Noted."]
        assert said(claim.messages) == ["Who am I?"]
        assert claim.run.history_length == 4
        assert said(await store.session_messages("s1")) == said(claim.history)
        assert said(await store.session_messages("s1", start=3)) == ["Noted."]

    async def test_a_run_without_a_session_is_alone(self, store: Store) -> None:
        await talked(store, "s1", "I am Ada.", "Hello Ada.")
        claim = await claimed(store, await queued(store))
        assert claim.history == ()

    async def test_a_worker_that_goes_on_with_a_run_sees_the_history_too(self, store: Store) -> None:
        await talked(store, "s1", "I am Ada.", "Hello Ada.")
        first = await claimed(store, await queued(store, prompt="Go on.", session_id="s1"))
        await store.commit(first.lease, commit_of(first, messages=(reply_message("One."),)))
        for owner in ("worker-1", "worker-2"):
            claim = await claimed(store, first.lease.run_id, owner=owner)
            assert said(claim.history) == ["I am Ada.", "Hello Ada."]
            assert said(claim.messages)[:2] == ["Go on.", "One."]
            await store.commit(claim.lease, commit_of(claim, messages=(reply_message("More."),)))

    async def test_runs_of_a_session_go_on_in_the_order_they_came(self, store: Store, pass_time: PassTime) -> None:
        runs = [await queued(store, prompt=f"prompt {number}", session_id="s1") for number in range(4)]
        await pass_time(GRACE_S)
        for number, run_id in enumerate(runs):
            states = [await store.read(each) for each in runs[number:]]
            assert [state.waits_for_session for state in states] == [False] + [True] * (len(states) - 1)
            assert (await store.session("s1")).live_run_id == run_id
            claims = await try_claim(store, *reversed(runs))
            assert [claim.lease.run_id for claim in claims] == [run_id]
            assert len(claims[0].history) == 2 * number
            committed = await ended(store, claims[0], f"answer {number}")
            assert committed.next_run_id == (runs[number + 1] if number < 3 else None)
        everything = [text for number in range(4) for text in (f"prompt {number}", f"answer {number}")]
        assert said(await store.session_messages("s1")) == everything

    async def test_a_sweep_leaves_runs_in_line_alone(self, store: Store, pass_time: PassTime) -> None:
        live, behind = [await queued(store, session_id="s1") for _ in range(2)]
        await pass_time(GRACE_S)
        found = await store.sweep(lease_ms=LEASE_MS)
        assert (*found.woken, *found.to_wake) == (live,)
        await ended(store, await claimed(store, live))
        await pass_time(GRACE_S)
        found = await store.sweep(lease_ms=LEASE_MS)
        assert (*found.woken, *found.to_wake) == (behind,)

    async def test_the_same_last_commit_again_names_the_same_next_run(self, store: Store) -> None:
        runs = [await queued(store, session_id="s1") for _ in range(3)]
        claim = await claimed(store, runs[0])
        committed = await ended(store, claim)
        assert await ended(store, claim) == committed
        assert (await store.session("s1")).message_count == 2
        await ended(store, await claimed(store, runs[1]))
        assert await ended(store, claim) == committed
        assert (await store.session("s1")).live_run_id == runs[2]

    async def test_a_commit_that_goes_on_names_its_own_run(self, store: Store) -> None:
        first, _ = [await queued(store, session_id="s1") for _ in range(2)]
        claim = await claimed(store, first)
        committed = await store.commit(claim.lease, commit_of(claim, messages=(reply_message("One."),)))
        assert committed.next_run_id == first

    @pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
    async def test_a_run_that_fails_or_is_cancelled_makes_room_too(self, store: Store, status: Status) -> None:
        first, second = [await queued(store, prompt=name, session_id="s1") for name in ("first", "second")]
        await ended(store, await claimed(store, first), "half an ans", status)
        claim = await claimed(store, second)
        assert said(claim.history) == ["first", "half an ans"]

    async def test_a_run_that_is_cancelled_in_line_leaves_no_trace(self, store: Store) -> None:
        first, second, third = [await queued(store, prompt=f"prompt {number}", session_id="s1") for number in range(3)]
        await store.cancel(second)
        claim = await claimed(store, second)
        assert claim.history == ()
        committed = await store.commit(claim.lease, commit_of(claim, Status.CANCELLED, signals_seen=1))
        assert committed.next_run_id is None
        assert (await store.read(second)).waits_for_session is False
        committed = await ended(store, await claimed(store, first))
        assert committed.next_run_id == third
        claim = await claimed(store, third)
        assert said(claim.history) == ["prompt 0", "well"]

    async def test_a_run_that_must_not_be_remembered_leaves_no_messages(self, store: Store) -> None:
        first, second = [await queued(store, session_id="s1") for _ in range(2)]
        await ended(store, await claimed(store, first), status=Status.FAILED, remembers=False)
        claim = await claimed(store, second)
        assert claim.history == ()

    async def test_a_run_that_is_taken_over_keeps_its_place_and_its_history(
        self, store: Store, pass_time: PassTime
    ) -> None:
        await talked(store, "s1", "I am Ada.", "Hello Ada.")
        first, second = [await queued(store, session_id="s1") for _ in range(2)]
        await claimed(store, first, lease_ms=SHORT_MS)
        await pass_time(SHORT_LEASE_S)
        claims = await try_claim(store, second, first, owner="worker-2")
        assert [claim.lease.run_id for claim in claims] == [first]
        assert said(claims[0].history) == ["I am Ada.", "Hello Ada."]

    async def test_a_released_run_keeps_its_place(self, store: Store) -> None:
        first, second = [await queued(store, session_id="s1") for _ in range(2)]
        claim = await claimed(store, first)
        await store.release(claim.lease, EventBatch(1))
        assert await try_claim(store, second) == ()
        await claimed(store, first)

    async def test_a_delayed_run_takes_its_place_when_its_time_has_come(
        self, store: Store, pass_time: PassTime
    ) -> None:
        late = await queued(store, prompt="late", session_id="s1", delay_ms=10_000)
        early = await queued(store, prompt="early", session_id="s1")
        claim = await claimed(store, early)
        await pass_time(11)
        assert await try_claim(store, late) == ()
        assert (await store.read(late)).waits_for_session
        assert (await ended(store, claim)).next_run_id == late
        assert said((await claimed(store, late)).history) == ["early", "well"]

    async def test_a_delayed_run_of_an_idle_session_goes_live_with_its_claim(
        self, store: Store, pass_time: PassTime
    ) -> None:
        late = await queued(store, session_id="s1", delay_ms=1_000)
        assert (await store.session("s1")).live_run_id is None
        await pass_time(1.1)
        await claimed(store, late)
        assert (await store.session("s1")).live_run_id == late

    async def test_a_session_belongs_to_its_user(self, store: Store) -> None:
        await queued(store, session_id="s1", user_id="ada")
        with pytest.raises(SessionConflict, match="s1"):
            await queued(store, session_id="s1", user_id="bob")
        unnamed = await queued(store, session_id="s1")
        assert (await store.read(unnamed)).user_id == "ada"
        assert (await store.session("s1")).run_count == 2

    async def test_a_session_gets_the_first_user_that_is_named(self, store: Store) -> None:
        await queued(store, session_id="s1")
        await queued(store, session_id="s1", user_id="ada")
        assert (await store.session("s1")).user_id == "ada"
        with pytest.raises(SessionConflict):
            await queued(store, session_id="s1", user_id="bob")

    async def test_sessions_are_listed_by_last_use_and_by_user(self, store: Store, pass_time: PassTime) -> None:
        for session_id, user_id in (("s1", "ada"), ("s2", "bob"), ("s3", "ada"), ("s1", None)):
            await queued(store, session_id=session_id, user_id=user_id)
            await pass_time(0.01)

        async def found(which: SessionFilter) -> list[str]:
            return [session.session_id for session in await store.list_sessions(which)]

        assert await found(SessionFilter()) == ["s1", "s3", "s2"]
        assert await found(SessionFilter(user_id="ada")) == ["s1", "s3"]
        assert await found(SessionFilter(offset=1, limit=1)) == ["s3"]
        assert await found(SessionFilter(user_id="nobody")) == []

    async def test_a_session_tells_what_is_going_on_in_it(self, store: Store) -> None:
        await talked(store, "s1", "I am Ada.", "Hello Ada.")
        runs = [await queued(store, session_id="s1", user_id="ada") for _ in range(2)]
        session = await store.session("s1")
        assert (session.session_id, session.user_id, session.live_run_id) == ("s1", "ada", runs[0])
        assert (session.run_count, session.open_runs, session.message_count) == (3, 2, 2)
        assert 0 < session.created_ms <= session.used_ms

    async def test_a_session_is_forgotten_when_its_time_has_passed(self, store: Store, pass_time: PassTime) -> None:
        claim = await claimed(store, await queued(store, session_id="s1", user_id="ada"))
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, session_ttl_ms=1_000))
        await pass_time(1.1)
        await store.sweep(lease_ms=LEASE_MS)
        with pytest.raises(SessionNotFound, match="s1"):
            await store.session("s1")
        with pytest.raises(SessionNotFound):
            await store.session_messages("s1")
        assert await store.list_sessions(SessionFilter()) == ()
        assert await store.list_sessions(SessionFilter(user_id="ada")) == ()

    async def test_a_session_lives_as_long_as_a_run_of_it(self, store: Store, pass_time: PassTime) -> None:
        claim = await claimed(store, await queued(store, session_id="s1"))
        last = await queued(store, session_id="s1")
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, session_ttl_ms=1_000))
        await pass_time(1.1)
        await store.sweep(lease_ms=LEASE_MS)
        assert len((await claimed(store, last)).history) == 1

    async def test_a_new_run_keeps_a_session_from_being_forgotten(self, store: Store, pass_time: PassTime) -> None:
        claim = await claimed(store, await queued(store, session_id="s1"))
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, session_ttl_ms=1_000))
        await queued(store, session_id="s1")
        await pass_time(1.1)
        await store.sweep(lease_ms=LEASE_MS)
        assert [session.session_id for session in await store.list_sessions(SessionFilter())] == ["s1"]

    async def test_files_belong_to_the_run(self, store: Store, pass_time: PassTime) -> None:
        claim = await claimed(store, await queued(store, files={"d1": b"\x00\xff one"}))
        run_id = claim.lease.run_id
        assert await store.file(run_id, "d1") == b"\x00\xff one"
        for wanted in ("d2", "d1 "):
            with pytest.raises(FileNotStored, match=run_id):
                await store.file(run_id, wanted)
        other = await queued(store)
        with pytest.raises(FileNotStored):
            await store.file(other, "d1")

    async def test_files_of_a_session_outlive_the_run_that_brought_them(
        self, store: Store, pass_time: PassTime
    ) -> None:
        claim = await claimed(store, await queued(store, session_id="s1", files={"d1": b"one"}))
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, ttl_ms=1_000))
        await pass_time(1.1)
        later = await queued(store, session_id="s1", files={"d2": b"two"})
        assert [await store.file(later, digest) for digest in ("d1", "d2")] == [b"one", b"two"]

    async def test_times_to_live_of_a_run_are_kept_with_it(self, store: Store) -> None:
        run_id = await queued(store, ttl_ms={"completed": 5_000, "failed": 6_000})
        assert (await store.read(run_id)).ttl_ms == {"completed": 5_000, "failed": 6_000}

    async def test_the_tools_of_a_run_are_kept_with_it(self, store: Store) -> None:
        for tools in (None, (), ("add_numbers", "shop")):
            run_id = await queued(store, tools=tools)
            assert (await store.read(run_id)).tools == tools

    async def test_what_a_run_does_without_is_kept_with_it(self, store: Store) -> None:
        for without in ((), ("retrieval",)):
            run_id = await queued(store, without=without)
            assert (await store.read(run_id)).without == without

    async def test_many_producers_and_workers_keep_the_order(self, store: Store) -> None:
        """Whatever is claimed when, each session's transcript has the prompts in the order they were stored."""
        sessions = ("s1", "s2", "s3")
        order: dict[str, list[str]] = {name: [] for name in sessions}
        running: list[Claim] = []
        run_ids: list[str] = []
        for number in range(60):
            name = sessions[number % 7 % 3]
            new = new_run(f"{name} {number}", session_id=name)
            await store.create(new)
            order[name].append(f"{name} {number}")
            run_ids.append(new.run_id)
            if number % 4 == 3:
                running += await store.claim(run_ids, owner="w", claim_id=new_token(), lease_ms=LEASE_MS)
                assert len(running) <= len(sessions)
                await ended(store, running.pop(0))
        while running:
            await ended(store, running.pop(0))
            running += await store.claim(run_ids, owner="w", claim_id=new_token(), lease_ms=LEASE_MS)
        for name in sessions:
            assert said(await store.session_messages(name))[::2] == order[name]
