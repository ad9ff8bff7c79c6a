"""The contract of `Store` as a suite. Subclass it in your tests and give the fixtures `store` and `stream`."""
# ruff: noqa: S101

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agentq._ids import new_run_id
from agentq.errors import (
    IdempotencyConflict,
    RunAlreadyFinished,
    RunNotFound,
)
from agentq.events.model import CancelRequestedEvent, RunQueued
from agentq.messages import user_message
from agentq.runs import RunState, Status
from agentq.stores.filters import RunFilter
from agentq.testing._busy_rules import BusyRules
from agentq.testing._child_rules import ChildRules
from agentq.testing._commit_rules import CommitRules
from agentq.testing._contract import (
    GRACE_S,
    SHORT_LEASE_S,
    SHORT_MS,
    PassTime,
    claimed,
    commit_of,
    events_of,
    new_run,
    queued,
    reply_message,
    running,
    stored,
    try_claim,
)
from agentq.testing._decision_rules import DecisionRules
from agentq.testing._file_rules import FileRules
from agentq.testing._inbox_rules import InboxRules
from agentq.testing._lease_rules import LeaseRules
from agentq.testing._limit_rules import LimitRules
from agentq.testing._pause_rules import PauseRules
from agentq.testing._race_rules import RaceRules
from agentq.testing._schedule_rules import ScheduleRules
from agentq.testing._session_rules import SessionRules
from agentq.testing._steering_rules import SteeringRules
from agentq.testing._tenant_rules import TenantRules
from agentq.testing._value_rules import ValueRules
from agentq.testing._webhook_rules import WebhookRules

if TYPE_CHECKING:
    from agentq.events.stream import EventStream
    from agentq.stores.base import Store


@pytest.mark.asyncio
class StoreContract(
    LeaseRules,
    CommitRules,
    SessionRules,
    SteeringRules,
    DecisionRules,
    RaceRules,
    PauseRules,
    InboxRules,
    BusyRules,
    ValueRules,
    FileRules,
    ChildRules,
    LimitRules,
    TenantRules,
    ScheduleRules,
    WebhookRules,
):
    """What every store does.

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self): return MyStore()
        @pytest.fixture
        def stream(self, store): return MyEventStream(store)
        # `pass_time` may be overridden too, where the store's clock is not the real one.
    """

    @pytest.fixture
    def store(self) -> Store:
        """An empty store."""
        raise NotImplementedError("give a fixture `store`")

    @pytest.fixture
    def stream(self, store: Store) -> EventStream:
        """The event stream of `store`."""
        raise NotImplementedError("give a fixture `stream`")

    @pytest.fixture
    def pass_time(self) -> PassTime:
        """Let so many seconds pass on the store's clock. Unless overridden, waits."""
        return asyncio.sleep

    # create

    async def test_a_new_run_is_queued_with_its_first_event(self, store: Store, stream: EventStream) -> None:
        new = new_run(
            queue="fast", model="mock", session_id="s1", user_id="u1", metadata={"a": [1, {"ü": None}]}, messages=(
                user_message("first"), reply_message("well"), user_message("Take 7 + 9.")
            ),
        )  # fmt: skip
        created = await store.create(new)
        assert (created.run_id, created.existed) == (new.run_id, False)
        run = await store.read(new.run_id)
        assert run.created_ms == run.updated_ms > 0
        assert run == RunState(
            run_id=new.run_id,
            agent="calculator",
            prompt="Take 7 + 9.",
            status=Status.QUEUED,
            queue="fast",
            model="mock",
            session_id="s1",
            user_id="u1",
            metadata={"a": [1, {"ü": None}]},
            seq=1,
            wake=run.wake,
            message_count=3,
            created_ms=run.created_ms,
            updated_ms=run.created_ms,
        )
        assert await store.messages(new.run_id) == new.messages
        assert await events_of(stream, new.run_id) == [
            RunQueued(
                run_id=new.run_id,
                seq=1,
                at_ms=run.created_ms,
                agent="calculator",
                queue="fast",
                session_id="s1",
                prompt="Take 7 + 9.",
            )
        ]

    async def test_the_same_run_again_exists_already(self, store: Store, stream: EventStream) -> None:
        new = new_run(idempotency_key="k", request_hash="h")
        await store.create(new)
        await claimed(store, new.run_id)
        before = await stored(store, stream, new.run_id)
        again = await store.create(new)
        assert (again.run_id, again.existed) == (new.run_id, True)
        assert await stored(store, stream, new.run_id) == before

    async def test_an_idempotency_key_finds_the_earlier_run(self, store: Store) -> None:
        first = new_run(idempotency_key="key ü", request_hash="h")
        second = new_run(idempotency_key="key ü", request_hash="h")
        other = new_run(idempotency_key="another", request_hash="h")
        await store.create(first)
        again = await store.create(second)
        assert (again.run_id, again.existed) == (first.run_id, True)
        with pytest.raises(RunNotFound):
            await store.read(second.run_id)
        assert not (await store.create(other)).existed
        assert (await store.read(first.run_id)).idempotency_key == "key ü"

    async def test_an_idempotency_key_with_other_input_is_a_conflict(self, store: Store, stream: EventStream) -> None:
        first = new_run(idempotency_key="k", request_hash="h")
        second = new_run(idempotency_key="k", request_hash="other")
        await store.create(first)
        before = await stored(store, stream, first.run_id)
        with pytest.raises(IdempotencyConflict):
            await store.create(second)
        with pytest.raises(RunNotFound):
            await store.read(second.run_id)
        assert await stored(store, stream, first.run_id) == before

    # read, messages, list

    async def test_an_unknown_run_is_not_found(self, store: Store) -> None:
        with pytest.raises(RunNotFound):
            await store.read(new_run_id())
        with pytest.raises(RunNotFound):
            await store.messages(new_run_id())
        with pytest.raises(RunNotFound):
            await store.cancel(new_run_id())

    async def test_a_transcript_is_kept_to_the_letter(self, store: Store) -> None:
        prompt = "naïve \U0001f469\u200d\U0001f680 \x00\x1b\u2028\r\n {} \\u0041 " + "é" * 100_000
        claim = await running(store, prompt=prompt)
        answer = reply_message("\U0001f680" * 50_000)
        await store.commit(claim.lease, commit_of(claim, Status.QUEUED, answer))
        assert await store.messages(claim.lease.run_id) == (user_message(prompt), answer)
        assert (await claimed(store, claim.lease.run_id)).messages == (user_message(prompt), answer)

    async def test_messages_are_read_from_an_index_on(self, store: Store) -> None:
        given = tuple(user_message(str(number)) for number in range(4))
        run_id = await queued(store, messages=given)
        assert [await store.messages(run_id, start=start) for start in (0, 1, 3, 4, 9)] == [
            given, given[1:], given[3:], (), ()
        ]  # fmt: skip

    async def test_runs_are_listed_newest_first_page_by_page(self, store: Store) -> None:
        run_ids = sorted((new_run_id() for _ in range(5)), reverse=True)
        for run_id in run_ids:
            await queued(store, run_id=run_id)
        pages: list[list[str]] = []
        before = None
        for _ in range(3):
            page = await store.list(RunFilter(before=before, limit=2))
            pages.append([run.run_id for run in page])
            before = page[-1].run_id
        assert pages == [run_ids[:2], run_ids[2:4], run_ids[4:]]
        assert await store.list(RunFilter(before=run_ids[-1])) == ()
        assert (await store.list(RunFilter(limit=1)))[0] == await store.read(run_ids[0])

    async def test_filters_combine(self, store: Store) -> None:
        names: dict[str, str] = {}
        for session_id, user_id in (("s1", "u1"), ("s2", "u1"), ("s3", None)):
            for agent in ("poet", "calculator"):
                run_id = await queued(store, agent=agent, session_id=session_id, user_id=user_id)
                names[run_id] = f"{agent} {session_id} {user_id}"
        for run_id in [run_id for run_id, name in names.items() if name in ("poet s1 u1", "poet s3 None")]:
            await claimed(store, run_id)

        async def found(which: RunFilter) -> set[str]:
            return {names[run.run_id] for run in await store.list(which)}

        everything = set(names.values())
        assert await found(RunFilter()) == everything
        assert await found(RunFilter(agent="poet")) == {name for name in everything if "poet" in name}
        assert await found(RunFilter(session_id="s2")) == {name for name in everything if "s2" in name}
        assert await found(RunFilter(user_id="u1")) == {name for name in everything if "u1" in name}
        assert await found(RunFilter(status=Status.RUNNING)) == {"poet s1 u1", "poet s3 None"}
        assert await found(RunFilter(status=Status.RUNNING, user_id="u1")) == {"poet s1 u1"}
        assert await found(RunFilter(agent="calculator", session_id="s1", user_id="u1")) == {"calculator s1 u1"}
        assert await found(RunFilter(agent="calculator", status=Status.RUNNING)) == set()
        assert await found(RunFilter(agent="nobody")) == set()

    # cancel

    async def test_cancelling_a_queued_run_asks_for_it(self, store: Store, stream: EventStream) -> None:
        run_id = await queued(store)
        answer = await store.cancel(run_id, reason="enough \U0001f600")
        assert (answer.status, answer.held) == (Status.QUEUED, False)
        run = await store.read(run_id)
        assert (run.cancel_reason, run.signals) == ("enough \U0001f600", 1)
        event = (await events_of(stream, run_id))[-1]
        assert isinstance(event, CancelRequestedEvent)
        assert event.reason == "enough \U0001f600"

    async def test_cancelling_a_held_run_leaves_it_to_its_worker(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store)
        answer = await store.cancel(claim.lease.run_id)
        assert (answer.status, answer.held) == (Status.RUNNING, True)
        assert (await store.read(claim.lease.run_id)).cancel_reason == ""
        lost = await running(store, lease_ms=SHORT_MS)
        await pass_time(SHORT_LEASE_S)
        answer = await store.cancel(lost.lease.run_id)
        assert (answer.status, answer.held) == (Status.RUNNING, False)

    async def test_the_same_cancel_again_has_no_effect(self, store: Store, stream: EventStream) -> None:
        run_id = await queued(store)
        answer = await store.cancel(run_id)
        before = await stored(store, stream, run_id)
        assert await store.cancel(run_id, reason="impatient") == answer
        assert await stored(store, stream, run_id) == before
        claim = await claimed(store, run_id)
        await store.commit(claim.lease, commit_of(claim, Status.CANCELLED))
        before = await stored(store, stream, run_id)
        answer = await store.cancel(run_id)
        assert (answer.status, answer.held) == (Status.CANCELLED, False)
        assert await stored(store, stream, run_id) == before

    @pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED])
    async def test_a_finished_run_is_not_cancelled(self, store: Store, stream: EventStream, status: Status) -> None:
        claim = await running(store)
        await store.commit(claim.lease, commit_of(claim, status))
        before = await stored(store, stream, claim.lease.run_id)
        with pytest.raises(RunAlreadyFinished):
            await store.cancel(claim.lease.run_id)
        assert await stored(store, stream, claim.lease.run_id) == before

    @pytest.mark.parametrize("status", [Status.WAITING, Status.PAUSED])
    async def test_a_resting_run_is_queued_to_be_cancelled(self, store: Store, status: Status) -> None:
        claim = await running(store)
        await store.commit(claim.lease, commit_of(claim, status))
        answer = await store.cancel(claim.lease.run_id)
        assert (answer.status, answer.held) == (Status.QUEUED, False)
        assert (await claimed(store, claim.lease.run_id)).run.is_cancel_requested

    # sweep

    async def test_a_sweep_finds_runs_whose_wake_up_was_lost(self, store: Store, pass_time: PassTime) -> None:
        lost, delayed, held = await queued(store), await queued(store, delay_ms=60_000), await running(store)
        assert (await store.sweep(lease_ms=1_000)).to_wake == ()
        await pass_time(GRACE_S)
        assert (await store.sweep(lease_ms=1_000)).to_wake == (lost,)
        assert (await store.sweep(lease_ms=1_000)).to_wake == ()
        assert (await store.read(lost)).status is Status.QUEUED
        assert await try_claim(store, lost, delayed, held.lease.run_id) != ()

    async def test_a_sweep_finds_due_timers(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store)
        await store.commit(claim.lease, commit_of(claim, delay_ms=1_000))
        assert await _swept_within(store, pass_time, seconds=1 + GRACE_S) == [claim.lease.run_id]

    async def test_a_sweep_finds_expired_leases(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store, lease_ms=SHORT_MS)
        assert await _swept_within(store, pass_time, seconds=3) == [claim.lease.run_id]
        # It only wakes: the claim takes over.
        assert (await store.read(claim.lease.run_id)).fence == 1
        assert (await claimed(store, claim.lease.run_id)).run.recoveries == 1

    async def test_a_sweep_wakes_at_most_so_many(self, store: Store, pass_time: PassTime) -> None:
        run_ids = {await queued(store) for _ in range(5)}
        await pass_time(GRACE_S)
        found: set[str] = set()
        for count in (2, 2, 1, 0):
            # Stores may answer passes that come too close together with nothing.
            await pass_time(0.25)
            swept = await store.sweep(lease_ms=1_000, limit=2)
            assert len(swept.to_wake) == count
            found |= set(swept.to_wake)
        assert found == run_ids

    async def test_a_sweep_leaves_resting_and_final_runs_alone(self, store: Store, pass_time: PassTime) -> None:
        for status in (Status.WAITING, Status.PAUSED, Status.COMPLETED, Status.FAILED, Status.CANCELLED):
            claim = await running(store, lease_ms=SHORT_MS)
            await store.commit(claim.lease, commit_of(claim, status))
        await pass_time(GRACE_S)
        assert (await store.sweep(lease_ms=1_000)).to_wake == ()

    # time to live

    async def test_a_final_run_is_forgotten_when_its_time_has_passed(
        self, store: Store, stream: EventStream, pass_time: PassTime
    ) -> None:
        new = new_run(idempotency_key="k", request_hash="h")
        await store.create(new)
        claim = await claimed(store, new.run_id)
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("16"), ttl_ms=800))
        alive = await queued(store)
        assert (await store.read(new.run_id)).status is Status.COMPLETED
        await pass_time(1)
        with pytest.raises(RunNotFound):
            await store.read(new.run_id)
        with pytest.raises(RunNotFound):
            await store.messages(new.run_id)
        with pytest.raises(RunNotFound):
            await events_of(stream, new.run_id)
        assert (await store.sweep(lease_ms=1_000)).pruned == 1
        assert [run.run_id for run in await store.list(RunFilter())] == [alive]
        # The key lives as long as its run.
        again = new_run(idempotency_key="k", request_hash="other")
        assert not (await store.create(again)).existed


async def _swept_within(store: Store, pass_time: PassTime, *, seconds: float) -> list[str]:
    """What the first sweep that finds something finds. Sweeps as often as a worker: a store may take a long silence for
    an absence of all workers and grant their leases more time.
    """
    for _ in range(int(seconds / 0.25) + 1):
        if found := (await store.sweep(lease_ms=1_000)).to_wake:
            return list(found)
        await pass_time(0.25)
    return []
