"""Threads for synchronous tools, so that a blocking tool blocks neither the event loop nor the end of the process."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from agentq.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

# A synchronous tool mostly waits (HTTP, SQL): a hundred such waits cost little, and more would strain what they call.
_LIMIT = 100

# An idle thread is worth keeping through a burst of calls, not for the life of the process.
_IDLE_S = 10.0


class ThreadPool:
    """At most `limit` daemon threads, started on demand; they end when idle for `idle_s`.

    Not ThreadPoolExecutor: the interpreter joins its threads at exit, so one tool that hangs would keep a worker from
    ever stopping.
    """

    def __init__(self, limit: int = _LIMIT, idle_s: float = _IDLE_S) -> None:
        self.limit = limit
        self.idle_s = idle_s
        self.forget()

    def forget(self) -> None:
        """Start from nothing, as a forked child must: its parent's threads are gone, and one may have held the lock."""
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        # Every job has a thread (an idle one that it claimed, or a new one) or counts as backlog.
        self._threads = 0
        self._idle = 0
        self._backlog = 0

    async def run(self, function: Callable[[], Any], *, abandoned: Callable[[], None]) -> Any:
        """Return what `function` returns, or raise what it raises, from a thread with a copy of this context.

        Cancelled before a thread took the call up, it never starts. Cancelled later, the thread goes on, its outcome is
        dropped, and `abandoned` is called. A StopIteration, which a coroutine cannot raise, becomes a RuntimeError.
        """
        # The exception travels as a value: a future refuses StopIteration, and the caller would wait for ever.
        future: Future[tuple[Any, BaseException | None]] = Future()
        context = contextvars.copy_context()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                value = context.run(function)
            except BaseException as error:  # noqa: BLE001 - raised again by the one who waits
                future.set_result((None, error))
            else:
                future.set_result((value, None))

        self._submit(job)
        try:
            value, error = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancel() and not future.done():
                abandoned()
            raise
        if error is None:
            return value
        try:
            if isinstance(error, StopIteration):
                raise RuntimeError("the function raised StopIteration") from error  # noqa: TRY004
            raise error
        finally:
            del error  # its traceback holds this frame: a cycle

    def _submit(self, job: Callable[[], None]) -> None:
        """Have a thread run `job`, which must not raise; it waits while `limit` threads are busy."""
        new = False
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif self._threads < self.limit:
                self._threads += 1
                new = True
            else:
                self._backlog += 1
        if new:
            self._start()
        self._jobs.put(job)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name="agentq-tool", daemon=True).start()
        except RuntimeError:  # the system gives no more threads
            with self._lock:
                self._threads -= 1
            raise

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self.idle_s)
            except Empty:
                with self._lock:
                    if not self._idle:
                        continue  # every idle thread is claimed: a job is on its way to this one
                    self._idle -= 1
                    self._threads -= 1
                    return
            job()
            del job  # or an idle thread would keep the last call's arguments alive
            with self._lock:
                if self._backlog:
                    self._backlog -= 1
                else:
                    self._idle += 1


pool = ThreadPool()
"""The threads of all synchronous tools of this process."""
hook_pool = ThreadPool()
"""Those of synchronous hooks, which must not have to wait until a tool has ended."""

if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=pool.forget)
    os.register_at_fork(after_in_child=hook_pool.forget)


def set_thread_limit(limit: int) -> None:
    """How many synchronous tools may run at once in this process; further calls wait. Busy threads are left alone."""
    if limit < 1:
        raise InvalidInput(f"the limit of tool threads is at least 1, not {limit}", field="thread_limit")
    pool.limit = limit
