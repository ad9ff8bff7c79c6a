"""Server-sent events: cursors as browsers send them, frames, signs of life, and the end of a subscription."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from agentq.client import AsyncClient, Client
from agentq.errors import InvalidInput, RunNotFound
from agentq.events.model import Event, RunCancelledEvent, RunQueued, TextDelta
from agentq.runs import Status
from agentq.settings import Settings
from agentq.sse import BEAT, cursor, frame, frames
from agentq.stores.memory import MemoryStore
from tests.helpers import wait_until, wait_until_sync

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

NOWHERE = "01JD3ZK8W5Q0X9V7T2M4N6P8RA"
PATIENT_S = 3600.0
AT_ONCE_S = 0.001


class Source:
    """Events that come when the test says so, and whether the subscription has ended."""

    def __init__(self, slow_to_close: int = 1) -> None:
        self._slow_to_close = slow_to_close
        self.queue: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self.closed = False

    async def __call__(self) -> AsyncGenerator[Event, None]:
        try:
            while (item := await self.queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            # As unsubscribing takes a while.
            for _ in range(self._slow_to_close):
                await asyncio.sleep(0)
            self.closed = True


@pytest.mark.parametrize(("after", "number"), [(0, 0), (7, 7), ("0", 0), ("42", 42), ("007", 7)])
def test_a_cursor_is_a_number_or_its_text(after: int | str, number: int):
    assert cursor(after) == number


@pytest.mark.parametrize("after", ["", "abc", "-1", -1, "1.5", 1.5, " 1", "1\n", "٣", "1" * 5000, None, True])
def test_a_cursor_that_is_no_number_is_refused(after: Any):
    with pytest.raises(InvalidInput, match="after must be the number of an event, not") as caught:
        cursor(after)
    assert caught.value.field == "after"
    assert len(str(caught.value)) < 200


def test_a_frame_holds_the_cursor_the_type_and_the_event_on_one_line():
    event = TextDelta(run_id=NOWHERE, seq=7, at_ms=1, text="two\nlines\r\u2028and three")
    lines = frame(event).split("\n")
    assert lines[:2] == ["id: 7", "event: text.delta"]
    assert json.loads(lines[2].removeprefix("data: ")) == event.model_dump(mode="json")
    assert lines[3:] == ["", ""]
    assert "\r" not in frame(event)


async def test_a_sign_of_life_comes_first_then_the_events():
    source = Source()
    first, second = RunQueued(seq=1, agent="a"), RunCancelledEvent(seq=2)
    for item in (first, second, None):
        source.queue.put_nowait(item)
    assert [text async for text in frames(source(), PATIENT_S)] == [BEAT, frame(first), frame(second)]
    assert source.closed


async def test_silence_is_filled_with_signs_of_life_and_no_event_is_lost():
    source = Source()
    event = RunQueued(seq=1, agent="a")
    async with aclosing(frames(source(), AT_ONCE_S)) as texts:
        assert [await anext(texts) for _ in range(4)] == [BEAT] * 4
        source.queue.put_nowait(event)
        while (text := await anext(texts)) == BEAT:
            pass
        assert text == frame(event)
        assert await anext(texts) == BEAT
        assert not source.closed
    assert source.closed


async def test_an_error_of_the_events_comes_out():
    source = Source()
    source.queue.put_nowait(ZeroDivisionError())
    texts = frames(source(), PATIENT_S)
    assert await anext(texts) == BEAT
    with pytest.raises(ZeroDivisionError):
        await anext(texts)
    assert source.closed


async def test_a_server_that_cancels_the_answer_ends_the_subscription():
    source = Source()
    texts = frames(source(), PATIENT_S)

    async def answer() -> None:
        async for _ in texts:
            started.set()

    started = asyncio.Event()
    answering = asyncio.create_task(answer())
    await started.wait()
    await asyncio.sleep(0)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert source.closed


@pytest.mark.parametrize("beat_s", [PATIENT_S, AT_ONCE_S])
async def test_a_framework_that_cancels_again_and_again_ends_the_subscription_too(beat_s: float):
    """As anyio does, hence Starlette, until the answer has unwound; unsubscribing takes longer than that."""
    source = Source(slow_to_close=5)
    texts = frames(source(), beat_s)
    async with anyio.create_task_group() as group:
        started = asyncio.Event()

        async def answer() -> None:
            async for _ in texts:
                started.set()

        group.start_soon(answer)
        await started.wait()
        await asyncio.sleep(0)
        group.cancel_scope.cancel()
    await wait_until(lambda: source.closed)


class CountingStream:
    """A stream that counts who is attached."""

    def __init__(self, store: MemoryStore) -> None:
        self._stream = store.stream
        self.attached = 0

    async def follow(self, run_id: str, *, after: int = 0, live: bool = True) -> AsyncIterator[Event]:
        self.attached += 1
        try:
            async for event in self._stream.follow(run_id, after=after, live=live):
                yield event
        finally:
            self.attached -= 1


class Idle:
    """Wakes nobody: runs stay queued."""

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        pass


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def stream(store: MemoryStore) -> CountingStream:
    return CountingStream(store)


@pytest.fixture
def client(store: MemoryStore, stream: CountingStream) -> Iterator[Client]:
    settings = Settings(heartbeat_ms=1)
    with Client(settings=settings, store=store, stream=stream, executor=Idle()) as client:
        yield client


def types(texts: Iterator[str] | None) -> list[str]:
    """What kinds of events came, in order."""
    assert texts is not None
    return [text.split("\n")[1].removeprefix("event: ") for text in texts if text != BEAT]


def test_a_client_gives_what_comes_after_the_cursor(client: Client):
    run = client.enqueue("a", "x")
    assert run.cancel() is Status.CANCELLED
    everything = [event.type for event in run.events()]
    assert (everything[0], everything[-1]) == ("run.queued", "run.cancelled")
    assert types(client.sse(run.id)) == everything
    assert types(client.sse(run.id, after="2")) == everything[2:]


def test_a_run_that_has_ended_gives_none_to_a_browser_that_has_it_all(client: Client):
    """So that the server answers 204, and the browser stops to reconnect."""
    run = client.enqueue("a", "x")
    waiting = client.sse(run.id, after=1)
    assert waiting is not None
    run.cancel()
    last = run.read().seq
    assert client.sse(run.id, after=last) is None
    assert types(waiting)[-1] == "run.cancelled"


def test_what_is_wrong_is_said_before_there_is_a_body(client: Client, stream: CountingStream):
    run = client.enqueue("a", "x")
    for run_id in (NOWHERE, "nonsense"):
        with pytest.raises(RunNotFound):
            client.sse(run_id)
    with pytest.raises(InvalidInput, match="after must be the number of an event, not 'abc'"):
        client.sse(run.id, after="abc")
    with pytest.raises(InvalidInput, match="has no event 2; its last is 1"):
        client.sse(run.id, after=2)
    assert stream.attached == 0


def test_a_server_that_closes_the_body_ends_the_subscription_at_once(client: Client, stream: CountingStream):
    """As WSGI servers do when they cannot write any more; here while a step is under way behind a sign of life."""
    texts = client.sse(client.enqueue("a", "x").id)
    assert texts is not None
    with closing(texts):
        assert [next(texts), next(texts).split("\n")[0], next(texts)] == [BEAT, "id: 1", BEAT]
        assert stream.attached == 1
    assert stream.attached == 0


def test_a_body_that_is_dropped_unread_or_half_read_ends_its_subscription(client: Client, stream: CountingStream):
    run = client.enqueue("a", "x")
    unread = client.sse(run.id)
    read = client.sse(run.id)
    assert read is not None
    assert [next(read), next(read)[:5]] == [BEAT, "id: 1"]
    assert stream.attached == 1
    del unread, read
    wait_until_sync(lambda: not stream.attached)


def test_a_client_that_is_closed_ends_the_bodies_that_threads_write(client: Client, stream: CountingStream):
    run = client.enqueue("a", "x")
    ends: list[str] = []

    def write() -> None:
        try:
            types(client.sse(run.id))
        except RuntimeError as error:
            ends.append(str(error))

    threads = [threading.Thread(target=write) for _ in range(20)]
    for thread in threads:
        thread.start()
    wait_until_sync(lambda: stream.attached == len(threads))
    client.close()
    for thread in threads:
        thread.join(10)
    assert len(ends) == len(threads)
    assert all("closed" in end for end in ends)
    assert stream.attached == 0


async def test_the_async_client_does_the_same(store: MemoryStore, stream: CountingStream):
    client = AsyncClient(settings=Settings(heartbeat_ms=1), store=store, stream=stream, executor=Idle())
    run = await client.enqueue("a", "x")
    texts = await client.sse(run.id)
    assert texts is not None
    async with aclosing(texts):
        assert [await anext(texts), (await anext(texts))[:5], await anext(texts)] == [BEAT, "id: 1", BEAT]
    assert stream.attached == 0
    await run.cancel()
    assert await client.sse(run.id, after=(await run.read()).seq) is None
    with pytest.raises(RunNotFound):
        await client.sse(NOWHERE)
