"""The in-memory store passes the contract; and what only it does."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from agentq.errors import InvalidInput, RunNotFound
from agentq.events.memory import LoggedRun, MemoryEventStream, MemoryLog
from agentq.events.model import Event, Gap, RunCompleted, TextDelta
from agentq.messages import user_message
from agentq.runs import Status
from agentq.stores import _memory_run
from agentq.stores._memory_sessions import MemorySessions
from agentq.stores.filters import RunFilter, SessionFilter
from agentq.stores.memory import MemoryStore
from agentq.testing import FakeClock, StoreContract, StreamContract
from agentq.testing._contract import (
    TTL_MS,
    batch,
    claimed,
    commit_of,
    completed,
    events_of,
    fold_batch,
    new_run,
    queued,
    reply_message,
    running,
    texts,
    try_claim,
    types_of,
)
from tests.helpers import wait_until

if TYPE_CHECKING:
    from agentq._clock import Clock
    from agentq.events.stream import EventStream
    from agentq.stores.base import Store
    from agentq.testing._contract import PassTime


class TestMemoryStore(StoreContract, StreamContract):
    """The contract, on a clock that the tests move."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def store(self, clock: FakeClock) -> MemoryStore:
        return MemoryStore(clock)

    @pytest.fixture
    def stream(self, store: MemoryStore) -> MemoryEventStream:
        return store.stream

    @pytest.fixture
    def pass_time(self, clock: FakeClock) -> PassTime:
        async def advance(seconds: float) -> None:
            clock.advance(seconds)

        return advance


def test_it_has_the_forms_that_the_protocols_ask_for():
    clock: Clock = FakeClock()
    store = MemoryStore(clock)
    as_store: Store = store
    as_stream: EventStream = store.stream
    assert as_store is store
    assert as_stream is store.stream


async def test_a_sweep_repeats_itself_after_the_grace_only():
    clock = FakeClock()
    store = MemoryStore(clock)
    run_id = await queued(store)
    seen: list[tuple[str, ...]] = []
    for _ in range(9):
        seen.append((await store.sweep(lease_ms=1_000)).to_wake)
        clock.advance(0.5)
    assert [index for index, found in enumerate(seen) if found == (run_id,)] == [4, 8]


async def test_a_delayed_run_is_swept_when_it_is_due():
    clock = FakeClock()
    store = MemoryStore(clock)
    run_id = await queued(store, delay_ms=5_000)
    clock.advance(4.999)
    assert (await store.sweep(lease_ms=1_000)).to_wake == ()
    clock.advance(0.001)
    assert (await store.sweep(lease_ms=1_000)).to_wake == (run_id,)


async def test_a_newer_schema_is_left_to_newer_workers(monkeypatch: pytest.MonkeyPatch):
    store = MemoryStore()
    run_id = await queued(store)
    with monkeypatch.context() as patch:
        patch.setattr(_memory_run, "SCHEMA_VERSION", 0)
        assert await try_claim(store, run_id) == ()
    await claimed(store, run_id)


async def test_the_lease_ends_at_its_last_millisecond():
    clock = FakeClock()
    store = MemoryStore(clock)
    claim = await running(store, lease_ms=1_000)
    clock.advance(0.999)
    assert await try_claim(store, claim.lease.run_id) == ()
    clock.advance(0.001)
    assert (await claimed(store, claim.lease.run_id)).run.recoveries == 1


async def test_a_claim_is_remembered_for_one_lease():
    clock = FakeClock()
    store = MemoryStore(clock)
    run_id = await queued(store)
    for fence in (1, 1, 2):
        (claim,) = await store.claim([run_id], owner="worker-1", claim_id="c1", lease_ms=1_000)
        assert claim.lease.fence == fence
        clock.advance(0.5)


async def test_what_was_given_and_what_was_read_is_not_shared_with_the_store():
    store = MemoryStore()
    metadata = {"a": [1]}
    new = new_run(metadata=metadata)
    await store.create(new)
    metadata["a"].append(2)
    run = await store.read(new.run_id)
    assert run.metadata == {"a": [1]}
    run.metadata["a"].append(3)
    assert (await store.read(new.run_id)).metadata == {"a": [1]}

    claim = await claimed(store, new.run_id)
    usage = {"input_tokens": 1}
    await store.commit(claim.lease, commit_of(claim, usage=usage))
    usage["input_tokens"] = 2
    assert (await store.read(new.run_id)).usage == {"input_tokens": 1}


async def test_metadata_without_a_json_form_is_refused_and_nothing_stored():
    store = MemoryStore()
    with pytest.raises(InvalidInput) as caught:
        await store.create(new_run(metadata={"a": object()}))
    assert caught.value.field == "metadata"
    assert await store.list(RunFilter()) == ()


async def test_a_final_commit_needs_a_time_to_live():
    store = MemoryStore()
    claim = await running(store)
    with pytest.raises(InvalidInput):
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("16"), ttl_ms=0))
    assert (await store.read(claim.lease.run_id)).status is Status.RUNNING


async def test_a_run_whose_time_has_passed_is_gone_before_any_sweep():
    clock = FakeClock()
    store = MemoryStore(clock)
    new = new_run(idempotency_key="k", request_hash="h")
    await store.create(new)
    claim = await claimed(store, new.run_id)
    await store.commit(claim.lease, commit_of(claim, Status.COMPLETED))
    clock.advance(TTL_MS / 1000)
    assert await store.list(RunFilter()) == ()
    again = new_run(idempotency_key="k", request_hash="other")
    assert not (await store.create(again)).existed
    # Forgetting the old run leaves the key to the new one.
    assert (await store.create(new_run(idempotency_key="k", request_hash="other"))).run_id == again.run_id


async def test_where_nobody_sweeps_new_runs_make_the_store_forget_old_ones():
    clock = FakeClock()
    store = MemoryStore(clock)

    async def carry_out(session_id: str, idempotency_key: str) -> str:
        new = new_run(session_id=session_id, idempotency_key=idempotency_key)
        await store.create(new)
        claim = await claimed(store, new.run_id)
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, session_ttl_ms=2 * TTL_MS))
        return new.run_id

    for number in range(10):
        await carry_out("s1", f"k{number}")
        await carry_out(f"other-{number}", f"o{number}")
        clock.advance(TTL_MS / 10 / 1000)
    # The first ones are as old as runs may get; all but the last session will be in the end.
    last = await carry_out("s1", "last")
    assert len(store._runs) == len(store._keys) == 2 * 9 + 1  # noqa: SLF001 - what is left in memory
    clock.advance(2 * TTL_MS / 1000 - 1)
    await store.create(new := new_run())
    assert store._runs.keys() == {new.run_id}  # noqa: SLF001
    assert [session.session_id for session in await store.list_sessions(SessionFilter())] == ["s1"]
    assert store._sessions._sessions.keys() == {"s1"}  # noqa: SLF001
    with pytest.raises(RunNotFound):
        await store.read(last)
    clock.advance(1)
    await store.create(new_run())
    assert not store._sessions._sessions  # noqa: SLF001


async def test_deltas_that_a_commit_leaves_open_stay_as_they_are():
    store = MemoryStore()
    claim = await running(store)
    await store.journal(claim.lease, [], batch(1, *texts("a", "b")))
    await store.commit(claim.lease, commit_of(claim))
    claim = await claimed(store, claim.lease.run_id)
    await store.release(claim.lease, batch(1))
    events = await events_of(store.stream, claim.lease.run_id)
    assert types_of(events) == ["run.queued", "run.started", "text.delta", "text.delta"]


class TestWatchingCancels:
    async def test_the_owner_hears_of_cancels_of_runs_that_it_holds(self):
        store = MemoryStore()
        heard: dict[str, list[str]] = {"worker-1": [], "worker-2": []}

        async def listen(owner: str) -> None:
            async for run_id in store.watch_cancels(owner):
                heard[owner].append(run_id)

        listeners = [asyncio.create_task(listen(owner)) for owner in heard]
        await asyncio.sleep(0)
        first, second = await running(store, owner="worker-1"), await running(store, owner="worker-2")
        for run_id in (first.lease.run_id, second.lease.run_id, await queued(store), first.lease.run_id):
            await store.cancel(run_id)
        await wait_until(lambda: all(heard.values()))
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)
        assert heard == {"worker-1": [first.lease.run_id], "worker-2": [second.lease.run_id]}


class TestGaps:
    """The store never trims, but its stream says what is gone if the log is."""

    def make(self) -> tuple[MemoryLog, MemoryEventStream]:
        log = MemoryLog("R")
        run = LoggedRun(log, Status.COMPLETED, lambda: (user_message("Take 7 + 9."),))
        return log, MemoryEventStream(lambda _: run)

    async def test_a_trimmed_log_begins_with_a_gap(self):
        log, stream = self.make()
        log.write(texts("a", "b", "c"), at_ms=5)
        log.write((RunCompleted(output="abc"),), at_ms=6)
        log.trim(3)
        gap = Gap(run_id="R", seq=2, at_ms=5, first=1, last=2, messages=(user_message("Take 7 + 9."),))
        assert await events_of(stream, "R") == [
            gap,
            TextDelta(run_id="R", seq=3, at_ms=5, text="c"),
            RunCompleted(run_id="R", seq=4, at_ms=6, output="abc"),
        ]
        assert (await events_of(stream, "R", after=1))[0] == gap.model_copy(update={"first": 2})
        assert types_of(await events_of(stream, "R", after=2)) == ["text.delta", "run.completed"]

    async def test_folded_deltas_outlive_the_trimming(self):
        log, stream = self.make()
        log.write(texts("a", "b"), at_ms=5)
        log.write((RunCompleted(output=""),), at_ms=6)
        deltas = [event for event in log.read(0) if isinstance(event, TextDelta)]
        log.write((completed([*deltas]),), at_ms=7)
        log.trim(4)
        events: list[Event] = await events_of(stream, "R")
        assert types_of(events) == ["text.delta", "text.delta", "gap", "reply.completed"]
        assert [event.seq for event in events] == [1, 2, 3, 4]


async def test_a_viewer_who_stops_early_leaves_nothing_behind():
    store = MemoryStore()
    claim = await running(store)
    await store.journal(claim.lease, [], batch(1, *texts("a")))
    viewer = store.stream.follow(claim.lease.run_id)
    assert (await anext(viewer)).seq == 1
    waiting = asyncio.create_task(_drain(viewer))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await store.journal(claim.lease, [], await fold_batch(store.stream, claim.lease.run_id, 2))
    assert [event.seq for event in await events_of(store.stream, claim.lease.run_id)] == [1, 2, 3, 4]


async def _drain(viewer) -> None:
    async for _ in viewer:
        pass


def test_threads_that_share_sessions_lose_none():
    sessions, failures = MemorySessions(FakeClock().now_ms), []

    def work(number: int) -> None:
        try:
            for _ in range(200):
                for each in range(20):
                    session = sessions.join(f"{number}-{each}", None)
                    session.leave("x", [], 0, 0)
                sessions.prune()
        except Exception as error:  # noqa: BLE001 - looked at below
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []
