"""`Client`: the same as `AsyncClient`, blocking; from threads, after a fork, at exit, and not inside async code."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from inspect import Signature, iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any

import pytest

from agentq.callbacks import Callbacks
from agentq.client import AsyncClient, AsyncRun, Client, Run
from agentq.errors import InvalidInput, ResultTimeout, RunFailed, RunNotFound
from agentq.events.model import Event, RunCompleted, RunFailedEvent, TextDelta, ToolCalled, ToolFinished
from agentq.messages import Message, Role, TextPart
from agentq.runs import Status
from agentq.stores.base import Commit, EventBatch
from agentq.stores.memory import MemoryStore
from tests.helpers import ROOT, wait_until_sync

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

NOWHERE = "01JD3ZK8W5Q0X9V7T2M4N6P8RA"
STREAMED = (
    TextDelta(text="It "),
    TextDelta(text="is 16."),
    ToolCalled(call_id="c", name="add"),
    ToolFinished(call_id="c", name="add", content="16"),
)


class Answering:
    """An executor that lets a run end at once: "fail" fails, "wait" stays queued, anything else is answered."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._running: set[asyncio.Task[None]] = set()

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        task = asyncio.create_task(self._answer(run_id))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(self, run_id: str) -> None:
        (claim,) = await self._store.claim([run_id], owner="w", claim_id=run_id, lease_ms=60_000)
        prompt = claim.messages[-1].text
        if prompt == "wait":
            await self._store.release(claim.lease, EventBatch(1))
            return
        failed = prompt == "fail"
        commit = Commit(
            status=Status.FAILED if failed else Status.COMPLETED,
            messages=(Message(role=Role.ASSISTANT, parts=(TextPart(text="It is 16."),)),),
            batch=EventBatch(1, STREAMED),
            iteration=1,
            turn=1,
            errors=0,
            usage={"input_tokens": 3},
            signals_seen=0,
            closing=(RunFailedEvent(reason="no luck") if failed else RunCompleted(output="It is 16."),),
            last_error="no luck" if failed else None,
            ttl_ms=60_000,
        )
        await self._store.commit(claim.lease, commit)


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


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def stream(store: MemoryStore) -> CountingStream:
    return CountingStream(store)


@pytest.fixture
def client(store: MemoryStore, stream: CountingStream) -> Iterator[Client]:
    with Client(store=store, stream=stream, executor=Answering(store)) as client:
        yield client


def test_a_run_from_prompt_to_answer(client: Client):
    run = client.enqueue("a", "x", session_id="s", metadata={"k": 1}, idempotency_key="key")
    result = run.result(timeout=10)
    assert (result.run_id, result.output, result.status) == (run.id, "It is 16.", Status.COMPLETED)
    assert run.status() is Status.COMPLETED
    assert run.read().metadata == {"k": 1}
    assert run.messages() == result.messages
    assert client.outcome(run.id) == result
    assert client.enqueue("a", "x", session_id="s", metadata={"k": 1}, idempotency_key="key").id == run.id
    assert [state.run_id for state in client.list(session_id="s")] == [run.id]
    assert repr(client.get(run.id)) == f"Run(id={run.id!r}, agent='a')"
    assert client.workers("default") is None


def test_errors_come_through_as_they_are(client: Client):
    with pytest.raises(RunNotFound):
        client.get(NOWHERE)
    with pytest.raises(InvalidInput, match="prompt"):
        client.enqueue("a", "")
    with pytest.raises(RunFailed, match="no luck"):
        client.enqueue("a", "fail").result(10)
    with pytest.raises(ResultTimeout):
        client.enqueue("a", "wait").result(0.01)


def test_cancel_ends_a_run_that_nobody_holds(client: Client):
    run = client.enqueue("a", "wait")
    wait_until_sync(lambda: run.read().fence == 1 and run.status() is Status.QUEUED)
    assert run.cancel(reason="enough", wait=10) is Status.CANCELLED
    assert run.read().cancel_reason == "enough"


def test_events_are_replayed_and_end_with_the_run(client: Client, stream: CountingStream):
    run = client.enqueue("a", "x")
    seen = list(run.events())
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].type == "run.completed"
    assert list(run.events(after=3)) == seen[3:]
    assert stream.attached == 0


def test_leaving_the_events_early_ends_the_subscription(client: Client, stream: CountingStream):
    for _ in client.enqueue("a", "wait").events():
        assert stream.attached == 1
        break
    assert stream.attached == 0


def test_follow_calls_back_in_this_thread_where_the_client_can_be_used(client: Client):
    """So that a callback may cancel its own run, say."""
    run = client.enqueue("a", "x")
    seen: list[tuple[str, Status]] = []
    threads: set[int] = set()

    def note(value: Any) -> None:
        threads.add(threading.get_ident())
        seen.append((value if isinstance(value, str) else value.type, run.status()))

    result = run.follow(Callbacks(on_partial_reply=note, on_tool_start=note, on_tool_result=note, on_done=note))
    assert result == run.result()
    assert [what for what, _ in seen] == ["It ", "is 16.", "tool.called", "tool.finished", "run.completed"]
    assert threads == {threading.get_ident()}


def test_follow_awaits_coroutine_functions(client: Client):
    pieces: list[str] = []

    async def note(text: str) -> None:
        await asyncio.sleep(0)
        pieces.append(text)

    client.enqueue("a", "x").follow(Callbacks(on_partial_reply=note))
    assert pieces == ["It ", "is 16."]


def test_follow_of_a_failed_run_returns_none(client: Client):
    assert client.enqueue("a", "fail").follow(Callbacks()) is None


def test_what_a_callback_raises_comes_out_and_ends_the_subscription(client: Client, stream: CountingStream):
    def raise_it(_: Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        client.enqueue("a", "wait").follow(Callbacks(on_event=raise_it))
    assert stream.attached == 0


def test_many_threads_share_a_client(client: Client):
    def answer(number: int) -> str:
        run = client.enqueue("a", f"prompt {number}")
        assert list(run.events())[-1].type == "run.completed"
        return run.result(30).messages[0].text

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(answer, range(64))) == [f"prompt {number}" for number in range(64)]


def test_waiting_in_one_thread_does_not_stop_another(client: Client, stream: CountingStream):
    with ThreadPoolExecutor(1) as pool:
        run = client.enqueue("a", "wait")
        waiting = pool.submit(run.result, 30)
        wait_until_sync(lambda: stream.attached)
        assert client.enqueue("a", "x").result(10).output == "It is 16."
        run.cancel()
        assert "was cancelled" in str(waiting.exception(10))


async def test_inside_async_code_it_refuses_to_block(client: Client):
    with pytest.raises(RuntimeError, match="use AsyncClient inside async code"):
        client.enqueue("a", "x")


def test_a_closed_client_refuses(client: Client):
    run = client.enqueue("a", "x")
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="this client is closed"):
        run.status()


def test_a_client_that_is_dropped_ends_its_thread(store: MemoryStore):
    client = Client(store=store, executor=Answering(store))
    before = set(threading.enumerate())
    client.enqueue("a", "x").result(10)
    (thread,) = set(threading.enumerate()) - before
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    thread.join(10)
    assert not thread.is_alive()


def test_events_keep_their_client_alive(store: MemoryStore):
    events = Client(store=store, executor=Answering(store)).enqueue("a", "x").events()
    gc.collect()
    assert list(events)[-1].type == "run.completed"


@pytest.mark.parametrize(("blocking", "coroutine"), [(Client, AsyncClient), (Run, AsyncRun)])
def test_both_clients_have_the_same_methods_with_the_same_parameters(blocking: type, coroutine: type):
    def surface(kind: type) -> dict[str, list[tuple[str, Any]]]:
        methods = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
        return {
            "close" if name == "aclose" else name: [
                (parameter.name, parameter.default) for parameter in signature(method).parameters.values()
            ]
            for name, method in methods.items()
            if callable(method) and isinstance(signature(method), Signature)
        }

    assert surface(blocking) == surface(coroutine)
    assert not any(iscoroutinefunction(method) for method in vars(blocking).values())


# A client over connections that are made for each process, as those to Redis are.
_SCRIPT = """
import os, signal, sys, threading
from agentq import client_async
from agentq.client import Client
from tests.unit.test_client_sync import Answering, MemoryStore

class Parts:
    def __init__(self, settings, executor):
        self.pid = os.getpid()
        self.store = MemoryStore()
        self.stream = self.store.stream
        self.executor = Answering(self.store)
        made.append(self)

    async def aclose(self):
        assert os.getpid() == self.pid, "closed by a process that did not make it"
        print("closed by", "parent" if self.pid == parent else "child", flush=True)

made = []
parent = os.getpid()
client_async._redis_parts = Parts
client = Client()
"""


def _script(text: str) -> str:
    """Run a program of its own, which must end by itself, well and silently; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _SCRIPT + text],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_at_exit_it_closes_its_connections():
    assert _script("client.enqueue('a', 'x').result(10)") == "closed by parent\n"


def test_an_interrupt_while_waiting_for_a_result_comes_through_at_once():
    printed = _script("""
run = client.enqueue("a", "wait")
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    run.result()
except KeyboardInterrupt:
    print("interrupted;", "the run is", run.status())
""")
    assert printed == "interrupted; the run is queued\nclosed by parent\n"


def test_a_forked_child_makes_connections_of_its_own_and_closes_those_only():
    printed = _script("""
mine = client.enqueue("a", "x")
mine.result(10)
child = os.fork()
if child == 0:
    assert client.enqueue("a", "y").result(10).output == "It is 16."
    assert [parts.pid for parts in made] == [parent, os.getpid()]
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert client.enqueue("a", "z").result(10).output == "It is 16."
assert len(made) == 1
""")
    assert printed == "closed by child\nclosed by parent\n"
