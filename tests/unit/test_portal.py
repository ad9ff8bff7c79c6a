"""The portal: blocking calls onto one loop, from any thread, through forks, interrupts and the end of the process."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TYPE_CHECKING, NoReturn

import pytest

from agentq._portal import Portal
from tests.helpers import ROOT, wait_until_sync

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator


class Cleanup:
    """Counts how often the portal let go of its resources, and in which state it found the loop."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> None:
        asyncio.get_running_loop()
        self.count += 1


@pytest.fixture
def cleanup() -> Cleanup:
    return Cleanup()


@pytest.fixture
def portal(cleanup: Cleanup) -> Iterator[Portal]:
    portal = Portal(cleanup)
    yield portal
    portal.close()


class Counting:
    """An endless async generator that says whether it was closed."""

    def __init__(self, wait_at: int | None = None) -> None:
        self.closed = threading.Event()
        self.waiting = threading.Event()
        self._wait_at = wait_at

    async def __call__(self) -> AsyncGenerator[int, None]:
        number = 0
        try:
            while True:
                number += 1
                if number == self._wait_at:
                    self.waiting.set()
                    await asyncio.Event().wait()
                yield number
        finally:
            # A clean-up that takes a while, as unsubscribing does.
            await asyncio.sleep(0)
            self.closed.set()


async def add(a: int, b: int = 0) -> int:
    await asyncio.sleep(0)
    return a + b


async def fail() -> NoReturn:
    raise ZeroDivisionError("on the loop")


def _script(text: str) -> str:
    """Run a program of its own, which must end by itself, well and silently; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_a_call_returns_what_the_coroutine_returns(portal: Portal):
    assert portal.call(add, 7, b=9) == 16


def test_a_call_raises_what_the_coroutine_raises(portal: Portal):
    with pytest.raises(ZeroDivisionError, match="on the loop"):
        portal.call(fail)
    assert portal.call(add, 1) == 1


def test_no_thread_runs_before_the_first_call(cleanup: Cleanup):
    before = threading.active_count()
    portal = Portal(cleanup)
    assert threading.active_count() == before
    portal.close()
    assert cleanup.count == 0


def test_many_threads_share_one_loop(portal: Portal):
    async def loop_id(_: int) -> int:
        await asyncio.sleep(0)
        return id(asyncio.get_running_loop())

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda number: portal.call(loop_id, number), range(400)))) == 1


def test_the_callers_context_variables_are_seen(portal: Portal):
    variable: ContextVar[str] = ContextVar("variable", default="")
    variable.set("here")

    async def read() -> str:
        return variable.get()

    assert portal.call(read) == "here"


async def test_inside_a_running_loop_a_call_is_refused(portal: Portal):
    with pytest.raises(RuntimeError, match="use AsyncClient inside async code"):
        portal.call(add, 1)


async def test_inside_a_running_loop_iterating_is_refused(portal: Portal):
    counting = Counting()
    with pytest.raises(RuntimeError, match="use AsyncClient inside async code"):
        next(iter(portal.iterate(counting())))


def test_a_coroutine_that_exits_exits_in_the_caller_and_the_loop_goes_on(portal: Portal):
    async def leave() -> NoReturn:
        sys.exit(7)

    with pytest.raises(SystemExit, match="7"):
        portal.call(leave)
    assert portal.call(add, 1) == 1


def test_iterating_yields_items_as_they_are_asked_for(portal: Portal):
    counting = Counting()
    numbers = portal.iterate(counting())
    assert [next(iter(numbers)) for _ in range(3)] == [1, 2, 3]
    del numbers
    assert counting.closed.is_set()


def test_iterating_ends_with_the_items(portal: Portal):
    async def three() -> AsyncGenerator[int, None]:
        for number in range(3):
            yield number

    assert list(portal.iterate(three())) == [0, 1, 2]


def test_none_is_an_item_like_any_other(portal: Portal):
    async def nothings() -> AsyncGenerator[None, None]:
        yield None
        yield None

    assert list(portal.iterate(nothings())) == [None, None]


def test_iterating_raises_what_the_items_raise(portal: Portal):
    async def broken() -> AsyncGenerator[int, None]:
        yield 1
        raise ZeroDivisionError

    numbers = portal.iterate(broken())
    assert next(iter(numbers)) == 1
    with pytest.raises(ZeroDivisionError):
        next(iter(numbers))


def test_leaving_a_loop_early_closes_the_items(portal: Portal):
    counting = Counting()
    for number in portal.iterate(counting()):
        if number == 2:
            break
    wait_until_sync(counting.closed.is_set)


def test_closing_from_another_thread_ends_waiting_calls(portal: Portal, cleanup: Cleanup):
    waiting, cancelled = threading.Event(), threading.Event()

    async def wait() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(portal.call, wait)
        assert waiting.wait(10)
        portal.close()
        with pytest.raises(RuntimeError, match="closed while this call waited"):
            call.result(10)
    assert cancelled.is_set()
    assert cleanup.count == 1


def test_closing_while_another_thread_iterates_closes_the_items(portal: Portal):
    counting = Counting(wait_at=3)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(list, portal.iterate(counting()))
        assert counting.waiting.wait(10)
        portal.close()
        with pytest.raises(RuntimeError, match="closed while this call waited"):
            reading.result(10)
    assert counting.closed.is_set()


def test_closing_again_does_nothing(portal: Portal, cleanup: Cleanup):
    portal.call(add, 1)
    portal.close()
    portal.close()
    assert cleanup.count == 1


def test_a_closed_portal_refuses_calls(portal: Portal):
    portal.close()
    with pytest.raises(RuntimeError, match="this client is closed"):
        portal.call(add, 1)


def test_calls_during_closing_end_one_way_or_the_other(cleanup: Cleanup):
    for _ in range(20):
        portal = Portal(cleanup)
        portal.call(add, 1)

        def hammer(portal: Portal = portal) -> None:
            while True:
                portal.call(add, 1)

        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(hammer) for _ in range(4)]
            portal.close()
            for call in calls:
                assert "closed" in str(call.exception(10))


def test_closing_does_not_leave_the_loop_open(portal: Portal):
    async def current() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    loop = portal.call(current)
    portal.close()
    assert loop.is_closed()


def test_tasks_left_on_the_loop_are_cancelled_after_the_cleanup(cleanup: Cleanup):
    seen: list[str] = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("task cancelled")

    async def start() -> asyncio.Task[None]:
        return asyncio.create_task(background())

    async def clean() -> None:
        seen.append("cleaned up")

    portal = Portal(clean)
    portal.call(start)
    portal.close()
    assert seen == ["cleaned up", "task cancelled"]


def test_a_generator_that_the_garbage_collector_finds_on_the_loop_does_not_block_it(portal: Portal):
    counting = Counting()
    cycle: list[object] = []
    numbers = portal.iterate(counting())
    next(iter(numbers))
    cycle += [cycle, numbers]
    del cycle, numbers

    async def collect() -> None:
        gc.collect()

    portal.call(collect)
    wait_until_sync(counting.closed.is_set)


def test_a_generator_that_outlives_the_portal_ends_quietly(portal: Portal):
    counting = Counting()
    numbers = portal.iterate(counting())
    next(iter(numbers))
    portal.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del numbers
    assert counting.closed.is_set()


def test_an_interrupt_comes_through_at_once_and_cancels_the_coroutine():
    printed = _script("""
import asyncio, os, signal, threading
from agentq._portal import Portal

cancelled = threading.Event()

async def wait():
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        await asyncio.Event().wait()
    finally:
        cancelled.set()

async def nothing():
    pass

portal = Portal(nothing)
try:
    portal.call(wait)
except KeyboardInterrupt:
    print("interrupted", cancelled.wait(10))
portal.call(nothing)
print("goes on")
""")
    assert printed == "interrupted True\ngoes on\n"


def test_an_interrupt_while_iterating_closes_the_items():
    printed = _script("""
import asyncio, os, signal, threading
from agentq._portal import Portal

closed = threading.Event()

async def numbers():
    try:
        yield 1
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.01)
        closed.set()

async def nothing():
    pass

portal = Portal(nothing)
try:
    for number in portal.iterate(numbers()):
        print(number)
except KeyboardInterrupt:
    print("interrupted", closed.is_set())
""")
    assert printed == "1\ninterrupted True\n"


def test_at_exit_nothing_hangs_and_everything_is_let_go_of():
    """With a call and a generator still open, and a default executor that holds threads."""
    printed = _script("""
import asyncio, contextlib, threading
from agentq._portal import Portal

async def cleanup():
    print("cleaned up", flush=True)

async def look_up():
    await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)

waiting = threading.Event()

async def wait():
    waiting.set()
    await asyncio.Event().wait()

@contextlib.asynccontextmanager
async def subscribed():
    try:
        yield
    finally:
        await asyncio.sleep(0)
        print("unsubscribed", flush=True)

async def numbers():
    async with subscribed():
        while True:
            yield 1

def call():
    try:
        portal.call(wait)
    except RuntimeError:
        pass

portal = Portal(cleanup)
portal.call(look_up)
threading.Thread(target=call, daemon=True).start()
assert waiting.wait(10)
suspended = portal.iterate(numbers())
next(suspended)
""")
    assert printed == "unsubscribed\ncleaned up\n"


# The parent holds a connection; the child uses the portal too and exits in the ordinary way, so that every object is
# collected there. A writer that is collected closes its transport: it must reach neither the socket nor the epoll set.
_FORK = """
import asyncio, gc, os, socket, sys, threading
from agentq._portal import Portal

server = socket.create_server(("127.0.0.1", 0))

def serve():
    while True:
        connection, _ = server.accept()
        threading.Thread(target=echo, args=(connection,), daemon=True).start()

def echo(connection):
    with connection:
        while data := connection.recv(100):
            connection.sendall(data)

threading.Thread(target=serve, daemon=True).start()

class Held:
    streams = None

    async def say(self, text):
        if self.streams is None:
            self.streams = await asyncio.open_connection(*server.getsockname())
        reader, writer = self.streams
        writer.write(text)
        return await asyncio.wait_for(reader.readexactly(len(text)), 10)

    async def aclose(self):
        if self.streams:
            self.streams[1].close()
            await self.streams[1].wait_closed()

async def none():
    pass

held = Held()
portal = Portal(none)
assert portal.call(held.say, b"parent") == b"parent"
mine = held.streams[1].get_extra_info("socket").fileno()
child = os.fork()
if child == 0:
    os.close(2)  # what was inherited is unclosed, and -W error says so
    assert os.fstat(mine).st_rdev == os.stat(os.devnull).st_rdev, "the child still holds the parent's socket"
    HOW
_, status = os.waitpid(child, 0)
assert status == 0, status
for number in range(3):
    text = b"still there %d" % number
    assert portal.call(held.say, text) == text
portal.call(held.aclose)
portal.close()
print("parent goes on")
"""


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("sys.exit(0)", id="exits"),
        pytest.param("held.streams = None; gc.collect(); portal.call(none); sys.exit(0)", id="collects"),
        pytest.param("held = Held(); assert portal.call(held.say, b'child') == b'child'; sys.exit(0)", id="connects"),
        pytest.param("portal.close(); os._exit(0)", id="closes"),
    ],
)
def test_a_forked_child_begins_anew_and_leaves_the_parents_connection_alone(how: str):
    assert _script(_FORK.replace("HOW", how)) == "parent goes on\n"


def test_a_fork_while_another_thread_is_inside_the_portal_does_not_lock_the_child():
    printed = _script("""
import os, threading, time
from agentq._portal import Portal

async def nothing():
    pass

portal = Portal(nothing)
stop = threading.Event()

def hammer():
    while not stop.is_set():
        portal.call(nothing)

threads = [threading.Thread(target=hammer) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        portal.call(nothing)
        os._exit(0)
    deadline = time.monotonic() + 10
    while (status := os.waitpid(child, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < deadline, "the child hangs"
        time.sleep(0.001)
    assert status[1] == 0
stop.set()
for thread in threads:
    thread.join()
print("done")
""")
    assert printed == "done\n"
