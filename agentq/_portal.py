"""A blocking portal: one event loop in a daemon thread, for code that is not async. Knows nothing of runs."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import logging
import os
import selectors
import sys
import threading
import weakref
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator

_log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

# How long closing may take before the daemon thread is left to die with the process.
_CLOSE_S = 5.0
_portals: weakref.WeakSet[Portal] = weakref.WeakSet()


class _End(Enum):
    """What stands behind the last item."""

    END = auto()


class Portal:
    """Calls coroutine functions on a loop of its own and waits for them. The loop starts with the first call.

    Any number of threads may share it. A forked child gets a new thread and loop at its first call, and lets go of the
    parent's sockets. `cleanup` runs on the loop when the portal is closed: by `close`, or when the interpreter exits.
    """

    def __init__(self, cleanup: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._cleanup = cleanup
        self._closed = False
        self._begin_anew()
        _portals.add(self)

    def _begin_anew(self) -> None:
        # Reentrant: the garbage collector may close a generator of ours while this thread is in here.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._selector: selectors.DefaultSelector | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._open: set[Callable[[], Coroutine[Any, Any, None]]] = set()

    def call(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the coroutine returns, raise what it raises. An interrupted caller cancels it."""
        if _inside_a_loop():
            raise RuntimeError("Client blocks, and here an event loop is running: use AsyncClient inside async code")
        future = self._submit(function, *args, **kwargs)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise RuntimeError("the client was closed while this call waited") from None
        except BaseException:
            # KeyboardInterrupt, mostly: nothing may go on behind the caller's back.
            future.cancel()
            raise

    def iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """Yield the items, one at a time as they are asked for. Leaving early closes `items`."""
        # An interrupted step may still be unwinding when the generator is closed.
        turn = asyncio.Lock()

        async def step() -> T | _End:
            async with turn:
                return await anext(items, _End.END)

        async def close() -> None:
            async with turn:
                await items.aclose()

        loop: asyncio.AbstractEventLoop | None = None
        try:
            while (item := self.call(step)) is not _End.END:
                if loop is None:
                    loop = self._loop
                    self._open.add(close)
                yield item
        finally:
            self._open.discard(close)
            # With another loop, or none, the portal was closed or this is a forked child: nothing to close any more.
            if loop is not None and loop is self._loop:
                closing = self._submit(close)
                if not _inside_a_loop():
                    with contextlib.suppress(concurrent.futures.CancelledError):
                        closing.result()

    def close(self, *, wait: bool = True) -> None:
        """Cancel what waits, run `cleanup`, end the thread. Again: no effect. `wait=False` does not wait for it."""
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
            if loop is not None:
                loop.call_soon_threadsafe(loop.stop)
        if wait and self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)
            if self._thread.is_alive():
                _log.warning("the client's connections did not close within %g s", _CLOSE_S)

    def detach(self) -> None:
        """In a forked child: point the descriptors that are shared with the parent's loop to nowhere, and begin anew.

        Their objects stay, and some write to their socket or change the (shared) epoll set when they are collected.
        """
        if sys.platform != "win32" and self._loop is not None and self._selector is not None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for fd in (self._selector.fileno(), *(key.fd for key in self._selector.get_map().values())):
                os.dup2(nowhere, fd, inheritable=False)
            os.close(nowhere)
        self._begin_anew()

    def _submit(
        self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        # Under the lock, so that whatever is submitted reaches the loop before the stop of `close`.
        with self._lock:
            if self._closed:
                raise RuntimeError("this client is closed; make a new one")
            loop = self._loop or self._start()
            return asyncio.run_coroutine_threadsafe(self._run(function, *args, **kwargs), loop)

    async def _run(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._tasks.add(task)
        try:
            return await function(*args, **kwargs)
        finally:
            self._tasks.discard(task)

    def _start(self) -> asyncio.AbstractEventLoop:
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._thread = threading.Thread(target=self._main, args=(self._loop,), name="agentq-client", daemon=True)
        self._thread.start()
        return self._loop

    def _main(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while not self._closed:
                # An exit that a coroutine raises stops the loop; the loop goes on and hands it to the caller.
                with contextlib.suppress(KeyboardInterrupt, SystemExit):
                    loop.run_forever()
            loop.run_until_complete(self._end())
        finally:
            # Not asyncio.Runner: at interpreter exit it would start a thread, which Python 3.12 refuses.
            loop.close()

    async def _end(self) -> None:
        await _cancel(set(self._tasks))
        try:
            # From the outside in; `shutdown_asyncgens` closes a generator and those that it reads from all at once.
            async with asyncio.timeout(_CLOSE_S):
                for close in tuple(self._open):
                    await close()
                await self._cleanup()
        finally:
            await _cancel({task for task in asyncio.all_tasks() if task is not asyncio.current_task()})
            await asyncio.get_running_loop().shutdown_asyncgens()


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CLOSE_S)


def _inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _close_all() -> None:
    for portal in tuple(_portals):
        portal.close()


def _detach_all() -> None:
    for portal in tuple(_portals):
        portal.detach()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_detach_all)
