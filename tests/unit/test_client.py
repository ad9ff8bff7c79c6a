"""`AsyncClient`: what goes into the store, what comes out, and how it waits. Over the in-memory store."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agentq.callbacks import Callbacks
from agentq.client import AsyncClient, AsyncRun
from agentq.errors import (
    IdempotencyConflict,
    InvalidInput,
    ResultTimeout,
    RunAlreadyFinished,
    RunCancelled,
    RunFailed,
    RunNotFound,
    UnknownAgent,
)
from agentq.events.model import (
    Event,
    FinalEvent,
    RunCancelledEvent,
    RunCompleted,
    RunFailedEvent,
    RunStarted,
    TextDelta,
)
from agentq.messages import Message, Role, TextPart
from agentq.runs import Status
from agentq.stores.base import Claim, Commit, Created, EventBatch
from agentq.stores.filters import RunFilter
from agentq.stores.memory import MemoryStore
from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agentq.stores.base import NewRun, Wakeup

NOWHERE = "01JD3ZK8W5Q0X9V7T2M4N6P8RA"


class Waker:
    """An executor that writes down whom it was told to wake."""

    def __init__(self, wakeup: Any = None) -> None:
        self.woken: list[tuple[str, float]] = []
        self.wakeup = wakeup

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        self.woken.append((run_id, delay))


class CountingStream:
    """A stream that counts who is attached, and who ever was."""

    def __init__(self, store: MemoryStore) -> None:
        self._stream = store.stream
        self.attached = 0
        self.ever = 0

    async def follow(self, run_id: str, *, after: int = 0, live: bool = True) -> AsyncIterator[Event]:
        self.attached += 1
        self.ever += 1
        try:
            async for event in self._stream.follow(run_id, after=after, live=live):
                yield event
        finally:
            self.attached -= 1


class CataloguedStore(MemoryStore):
    """A store in which workers publish their agents."""

    def __init__(self, catalogue: Mapping[str, Any] | None) -> None:
        super().__init__()
        self.catalogue = catalogue
        self.asked = 0

    async def known_agents(self) -> Mapping[str, Any] | None:
        self.asked += 1
        return self.catalogue


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def stream(store: MemoryStore) -> CountingStream:
    return CountingStream(store)


@pytest.fixture
def waker() -> Waker:
    return Waker()


@pytest.fixture
def client(store: MemoryStore, stream: CountingStream, waker: Waker) -> AsyncClient:
    return AsyncClient(store=store, stream=stream, executor=waker)


async def take(store: MemoryStore, run_id: str) -> Claim:
    """Claim a run, as a worker does."""
    (claim,) = await store.claim([run_id], owner="w", claim_id=run_id, lease_ms=60_000)
    return claim


async def finish(store: MemoryStore, claim: Claim, end: FinalEvent) -> None:
    """End a claimed run in one iteration: "It ", "is 16." and its end."""
    state = await store.read(claim.run.run_id)
    status = {RunCompleted: Status.COMPLETED, RunFailedEvent: Status.FAILED, RunCancelledEvent: Status.CANCELLED}
    reply = Message(role=Role.ASSISTANT, parts=(TextPart(text="It is 16."),))
    commit = Commit(
        status=status[type(end)],
        messages=(reply,),
        batch=EventBatch(1, (RunStarted(agent="a"), TextDelta(text="It "), TextDelta(text="is 16."))),
        iteration=1,
        turn=1,
        errors=0,
        usage={"input_tokens": 3, "output_tokens": 4},
        signals_seen=state.signals,
        closing=(end,),
        last_error=end.reason if isinstance(end, RunFailedEvent) else None,
        ttl_ms=60_000,
    )
    await store.commit(claim.lease, commit)


async def complete(store: MemoryStore, run_id: str) -> None:
    await finish(store, await take(store, run_id), RunCompleted(output="It is 16."))


class TestEnqueue:
    async def test_stores_a_queued_run_and_wakes_a_worker(self, client: AsyncClient, store: MemoryStore, waker: Waker):
        run = await client.enqueue(
            "calculator", "7 + 9", session_id="s", user_id="u", metadata={"a": 1}, model="mock", queue="q", delay=2
        )
        assert isinstance(run, AsyncRun)
        assert waker.woken == [(run.id, 2)]
        state = await store.read(run.id)
        assert (state.agent, state.status, state.session_id, state.user_id) == ("calculator", Status.QUEUED, "s", "u")
        assert (state.metadata, state.model, state.queue) == ({"a": 1}, "mock", "q")
        assert state.not_before_ms - state.created_ms == 2000
        assert [message.text for message in await run.messages()] == ["7 + 9"]

    async def test_bad_input_stores_nothing(self, client: AsyncClient, store: MemoryStore, waker: Waker):
        with pytest.raises(InvalidInput, match="metadata"):
            await client.enqueue("calculator", "7 + 9", metadata={"x": object()})
        assert (await client.list(), waker.woken) == ((), [])

    async def test_a_run_that_the_store_woke_is_not_woken_again(self, waker: Waker):
        class Waking(MemoryStore):
            seen: Wakeup | None = None

            async def create(self, new: NewRun, *, wake: Wakeup | None = None) -> Created:
                self.seen = wake
                return replace(await super().create(new), woken=True)

        store = Waking()
        waker.wakeup = object()
        await AsyncClient(store=store, executor=waker).enqueue("a", "x")
        assert store.seen is waker.wakeup
        assert waker.woken == []

    async def test_a_create_that_was_sent_twice_still_wakes_the_run(self, waker: Waker):
        class Resent(MemoryStore):
            async def create(self, new: NewRun, *, wake: Wakeup | None = None) -> Created:
                await super().create(new)
                return await super().create(new)

        run = await AsyncClient(store=Resent(), executor=waker).enqueue("a", "x")
        assert waker.woken == [(run.id, 0)]

    async def test_the_same_key_and_input_give_the_same_run_woken_once(self, client: AsyncClient, waker: Waker):
        first = await client.enqueue("a", "x", idempotency_key="k")
        second = await client.enqueue("a", "x", idempotency_key="k")
        assert second.id == first.id
        assert waker.woken == [(first.id, 0)]

    async def test_the_same_key_with_other_input_is_a_conflict(self, client: AsyncClient):
        await client.enqueue("a", "x", idempotency_key="k")
        with pytest.raises(IdempotencyConflict):
            await client.enqueue("a", "y", idempotency_key="k")
        assert len(await client.list()) == 1

    async def test_without_an_executor_it_says_what_is_missing(self, store: MemoryStore):
        with pytest.raises(InvalidInput, match="pass executor= too"):
            await AsyncClient(store=store).enqueue("a", "x")
        assert await store.list(RunFilter()) == ()


class TestCatalogue:
    async def test_an_agent_that_is_missing_is_refused_with_those_there_are(self, waker: Waker):
        client = AsyncClient(store=CataloguedStore({"writer": {}, "calculator": {}}), executor=waker)
        with pytest.raises(UnknownAgent, match="named 'calculater'; there are: calculator, writer") as caught:
            await client.enqueue("calculater", "x")
        assert caught.value.field == "agent"
        assert await client.list() == ()

    async def test_the_manifest_names_the_default_queue(self, waker: Waker):
        client = AsyncClient(store=CataloguedStore({"a": {"queue": "slow"}}), executor=waker)
        assert (await (await client.enqueue("a", "x")).read()).queue == "slow"
        assert (await (await client.enqueue("a", "x", queue="fast")).read()).queue == "fast"

    async def test_a_known_agent_is_not_asked_for_at_every_enqueue(self, waker: Waker):
        store = CataloguedStore({"a": {}})
        client = AsyncClient(store=store, executor=waker)
        for _ in range(5):
            await client.enqueue("a", "x")
        assert store.asked == 1

    async def test_an_agent_that_was_published_since_is_found_at_once(self, waker: Waker):
        store = CataloguedStore({"a": {}})
        client = AsyncClient(store=store, executor=waker)
        await client.enqueue("a", "x")
        store.catalogue = {"a": {}, "b": {}}
        await client.enqueue("b", "x")

    async def test_an_empty_catalogue_accepts_with_one_warning(self, waker: Waker, caplog: pytest.LogCaptureFixture):
        client = AsyncClient(store=CataloguedStore({}), executor=waker)
        with caplog.at_level(logging.WARNING, "agentq"):
            await client.enqueue("a", "x")
            await client.enqueue("a", "x")
        assert [record.getMessage() for record in caplog.records] == [
            "no worker has published its agents yet; 'a' is accepted unseen and waits for one"
        ]

    async def test_a_store_without_a_catalogue_accepts_silently(self, waker: Waker, caplog: pytest.LogCaptureFixture):
        await AsyncClient(store=CataloguedStore(None), executor=waker).enqueue("a", "x")
        assert caplog.records == []


class TestReading:
    @pytest.mark.parametrize("run_id", [NOWHERE, "nonsense", ""])
    async def test_a_run_that_does_not_exist_is_not_found(self, client: AsyncClient, run_id: str):
        for call in (client.get, client.read, client.status, client.result, client.messages, client.cancel):
            with pytest.raises(RunNotFound):
                await call(run_id)
        with pytest.raises(RunNotFound):
            await anext(client.events(run_id))

    async def test_get_gives_a_handle_that_knows_its_agent(self, client: AsyncClient):
        run = await client.enqueue("calculator", "x")
        assert repr(await client.get(run.id)) == f"AsyncRun(id={run.id!r}, agent='calculator')"

    async def test_list_is_narrowed_and_paged(self, client: AsyncClient):
        runs = []
        for number in range(4):
            runs.append(await client.enqueue("ab"[number % 2], "x", session_id=f"s{number}", user_id="u"))
            await asyncio.sleep(0.002)  # ids of one millisecond are in no order
        newest_first = [run.id for run in reversed(runs)]
        assert [run.run_id for run in await client.list()] == newest_first
        assert [run.run_id for run in await client.list(limit=1, before=newest_first[0])] == newest_first[1:2]
        assert [run.run_id for run in await client.list(agent="a")] == [runs[2].id, runs[0].id]
        assert [run.run_id for run in await client.list(session_id="s1", user_id="u")] == [runs[1].id]
        assert await client.list(status="failed") == ()
        assert len(await client.list(status=Status.QUEUED)) == 4

    async def test_list_refuses_what_does_not_exist(self, client: AsyncClient):
        with pytest.raises(InvalidInput, match="status 'done' does not exist; there are: queued, running"):
            await client.list(status="done")
        for limit in (0, 1001):
            with pytest.raises(InvalidInput, match="limit must be between 1 and 1000"):
                await client.list(limit=limit)

    async def test_workers_are_asked_of_the_executor(self, client: AsyncClient, store: MemoryStore):
        class Served(Waker):
            async def workers(self, queue: str) -> tuple[str, ...]:
                return (f"worker-of-{queue}",)

        assert await AsyncClient(store=store, executor=Served()).workers("default") == ("worker-of-default",)
        assert await client.workers("default") is None


class TestResult:
    async def test_waits_for_the_answer(self, client: AsyncClient, store: MemoryStore, stream: CountingStream):
        run = await client.enqueue("a", "x")
        waiting = asyncio.create_task(run.result(timeout=10))
        await wait_until(lambda: stream.attached)
        await complete(store, run.id)
        result = await waiting
        assert (result.run_id, result.output, result.status) == (run.id, "It is 16.", Status.COMPLETED)
        assert (result.usage.input_tokens, result.usage.output_tokens) == (3, 4)
        assert [message.role for message in result.messages] == [Role.USER, Role.ASSISTANT]
        assert stream.attached == 0

    async def test_of_a_run_that_has_ended_nothing_is_subscribed_to(
        self, client: AsyncClient, store: MemoryStore, stream: CountingStream
    ):
        run = await client.enqueue("a", "x")
        await complete(store, run.id)
        assert (await run.result(timeout=0)).output == "It is 16."
        assert stream.ever == 0

    async def test_of_a_failed_run_raises_with_the_reason(self, client: AsyncClient, store: MemoryStore):
        run = await client.enqueue("a", "x")
        await finish(store, await take(store, run.id), RunFailedEvent(reason="the model is away"))
        with pytest.raises(RunFailed, match=f"run {run.id} failed: the model is away") as caught:
            await run.result()
        assert caught.value.run_id == run.id

    async def test_of_a_cancelled_run_raises_with_the_reason(self, client: AsyncClient, store: MemoryStore):
        run = await client.enqueue("a", "x")
        claim = await take(store, run.id)
        await run.cancel(reason="too late")
        await finish(store, claim, RunCancelledEvent(reason="too late"))
        with pytest.raises(RunCancelled, match=f"run {run.id} was cancelled: too late") as caught:
            await run.result()
        assert caught.value.run_id == run.id

    @pytest.mark.parametrize("timeout", [0, 0.01])
    async def test_gives_up_waiting_in_time_and_the_run_goes_on(
        self, client: AsyncClient, stream: CountingStream, timeout: float
    ):
        run = await client.enqueue("a", "x")
        with pytest.raises(ResultTimeout, match=f"did not end within {timeout:g} s; it goes on"):
            await run.result(timeout)
        assert await run.status() is Status.QUEUED
        assert stream.attached == 0

    @pytest.mark.parametrize("timeout", [-1, float("nan")])
    async def test_refuses_a_timeout_that_is_none(self, client: AsyncClient, timeout: float):
        run = await client.enqueue("a", "x")
        with pytest.raises(InvalidInput, match="timeout must be 0 or more seconds"):
            await run.result(timeout)

    async def test_a_timeout_inside_the_store_is_not_mistaken_for_its_own(self, waker: Waker):
        class Slow:
            async def follow(self, run_id: str, *, after: int = 0, live: bool = True) -> AsyncIterator[Event]:
                if live:
                    raise TimeoutError("in the store")
                yield RunStarted(agent="a")

        client = AsyncClient(store=MemoryStore(), stream=Slow(), executor=waker)
        run = await client.enqueue("a", "x")
        with pytest.raises(TimeoutError, match="in the store"):
            await run.result(60)

    async def test_an_end_that_a_retry_has_undone_is_waited_past(self, store: MemoryStore, waker: Waker):
        """The stream ended with the run, which is queued again by the time that its state is read."""

        class Retried:
            def __init__(self) -> None:
                self.cursors: list[int] = []

            async def follow(self, run_id: str, *, after: int = 0, live: bool = True) -> AsyncIterator[Event]:
                self.cursors.append(after)
                if len(self.cursors) == 2:
                    await complete(store, run_id)
                for _ in ():
                    yield _

        stream = Retried()
        run = await AsyncClient(store=store, stream=stream, executor=waker).enqueue("a", "x")
        assert (await run.result(10)).output == "It is 16."
        assert stream.cursors == [1, 1]

    async def test_outcome_does_not_wait_and_does_not_raise(self, client: AsyncClient, store: MemoryStore):
        run = await client.enqueue("a", "x")
        assert await client.outcome(run.id) is None
        await complete(store, run.id)
        assert (await client.outcome(run.id)) == await run.result()
        failed = await client.enqueue("a", "x")
        await finish(store, await take(store, failed.id), RunFailedEvent(reason="no"))
        assert await client.outcome(failed.id) is None


class TestEvents:
    async def test_are_replayed_past_the_cursor_then_live(
        self, client: AsyncClient, store: MemoryStore, stream: CountingStream
    ):
        run = await client.enqueue("a", "x")
        seen: list[Event] = []

        async def watch() -> None:
            async for event in run.events():
                seen.append(event)  # noqa: PERF401 - looked at while it grows

        watching = asyncio.create_task(watch())
        await wait_until(lambda: len(seen) == 1)
        await complete(store, run.id)
        await watching
        assert [event.seq for event in seen] == list(range(1, seen[-1].seq + 1))
        assert seen[-1].type == "run.completed"
        assert [event async for event in run.events(after=3)] == seen[3:]
        assert stream.attached == 0

    async def test_without_live_they_stop_at_the_last_there_is(self, client: AsyncClient):
        run = await client.enqueue("a", "x")
        assert [event.type async for event in run.events(live=False)] == ["run.queued"]

    async def test_leaving_early_ends_the_subscription(self, client: AsyncClient, stream: CountingStream):
        run = await client.enqueue("a", "x")
        async with aclosing(run.events()) as events:
            await anext(events)
            assert stream.attached == 1
        assert stream.attached == 0


class TestFollow:
    async def test_calls_back_and_returns_the_result(self, client: AsyncClient, store: MemoryStore):
        run = await client.enqueue("a", "x")
        pieces: list[str] = []
        ends: list[FinalEvent] = []

        async def done(event: FinalEvent) -> None:
            await asyncio.sleep(0)
            ends.append(event)

        following = asyncio.create_task(run.follow(Callbacks(on_partial_reply=pieces.append, on_done=done)))
        await complete(store, run.id)
        result = await following
        assert result is not None
        assert result.output == "It is 16."
        assert pieces == ["It ", "is 16."]
        assert [event.type for event in ends] == ["run.completed"]

    async def test_of_a_failed_run_returns_none_after_on_done_said_why(self, client: AsyncClient, store: MemoryStore):
        run = await client.enqueue("a", "x")
        await finish(store, await take(store, run.id), RunFailedEvent(reason="no"))
        ends: list[Any] = []
        assert await run.follow(Callbacks(on_done=ends.append)) is None
        assert [event.reason for event in ends] == ["no"]

    async def test_what_a_callback_raises_comes_out_and_ends_the_subscription(
        self, client: AsyncClient, stream: CountingStream
    ):
        def raise_it(_: Event) -> None:
            raise ZeroDivisionError

        run = await client.enqueue("a", "x")
        with pytest.raises(ZeroDivisionError):
            await run.follow(Callbacks(on_event=raise_it))
        assert stream.attached == 0

    async def test_past_the_end_it_calls_nothing(self, client: AsyncClient, store: MemoryStore):
        run = await client.enqueue("a", "x")
        await complete(store, run.id)
        seen: list[Event] = []
        result = await run.follow(Callbacks(on_event=seen.append), after=(await run.read()).seq)
        assert result is not None
        assert seen == []


class TestCancel:
    async def test_a_run_that_nobody_holds_is_cancelled_at_once(self, client: AsyncClient):
        run = await client.enqueue("a", "x")
        assert await run.cancel(reason="a mistake") is Status.CANCELLED
        with pytest.raises(RunCancelled, match="a mistake"):
            await run.result()
        assert [event.type async for event in run.events()][-1] == "run.cancelled"

    async def test_a_run_that_is_put_off_is_cancelled_at_once(self, client: AsyncClient):
        run = await client.enqueue("a", "x", delay=3600)
        assert await run.cancel() is Status.CANCELLED

    async def test_a_run_that_a_worker_holds_is_left_to_it(self, client: AsyncClient, store: MemoryStore):
        run = await client.enqueue("a", "x")
        claim = await take(store, run.id)
        assert await run.cancel() is Status.RUNNING
        assert (await store.read(run.id)).fence == claim.lease.fence

    async def test_waiting_returns_as_soon_as_it_has_ended(
        self, client: AsyncClient, store: MemoryStore, stream: CountingStream
    ):
        run = await client.enqueue("a", "x")
        claim = await take(store, run.id)
        cancelling = asyncio.create_task(run.cancel(wait=30))
        await wait_until(lambda: stream.attached)
        await finish(store, claim, RunCancelledEvent())
        assert await cancelling is Status.CANCELLED

    async def test_waiting_ends_in_time(self, client: AsyncClient, store: MemoryStore, stream: CountingStream):
        run = await client.enqueue("a", "x")
        await take(store, run.id)
        assert await run.cancel(wait=0.01) is Status.RUNNING
        assert stream.attached == 0

    async def test_a_worker_that_was_faster_is_no_error(self, store: MemoryStore, waker: Waker):
        class Taken(MemoryStore):
            async def claim(self, run_ids: Any, **arguments: Any) -> tuple[Claim, ...]:
                if arguments["owner"].startswith("client-"):
                    await super().claim(run_ids, owner="w", claim_id="c", lease_ms=60_000)
                return await super().claim(run_ids, **arguments)

        client = AsyncClient(store=Taken(), executor=waker)
        run = await client.enqueue("a", "x")
        assert await run.cancel() is Status.RUNNING

    async def test_a_worker_that_takes_the_run_from_the_client_is_no_error(self, waker: Waker):
        class Overtaken(MemoryStore):
            async def commit(self, lease: Any, commit: Any, *, wake: Any = None) -> Any:
                self._runs[lease.run_id].state = replace(self._runs[lease.run_id].state, fence=99)
                return await super().commit(lease, commit)

        client = AsyncClient(store=Overtaken(), executor=waker)
        run = await client.enqueue("a", "x")
        assert await run.cancel() is Status.RUNNING

    async def test_again_has_no_effect(self, client: AsyncClient):
        run = await client.enqueue("a", "x")
        assert await run.cancel() is Status.CANCELLED
        before = await run.read()
        assert await run.cancel() is Status.CANCELLED
        assert await run.read() == before

    async def test_a_run_that_has_ended_cannot_be_cancelled(self, client: AsyncClient, store: MemoryStore):
        run = await client.enqueue("a", "x")
        await complete(store, run.id)
        with pytest.raises(RunAlreadyFinished):
            await run.cancel()

    async def test_a_negative_wait_is_refused(self, client: AsyncClient):
        with pytest.raises(InvalidInput, match="wait must be 0 or more"):
            await client.cancel(NOWHERE, wait=-1)
