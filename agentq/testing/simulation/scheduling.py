"""An event loop without real time, threads or sockets, and the simulated processes that take turns on it by seed."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
# What a callback costs in virtual time. Above 0, or one that waits by asking again and again would wait for ever.
_STEP_S = 2e-6


class SimulationStuck(RuntimeError):
    """Nothing is left that could ever happen, or what happens never comes to an end."""


class Thread:
    """A queue of callbacks that run one after the other, as those of one event loop do: in the order they came."""

    __slots__ = ("_context", "halts", "is_listed", "number", "process", "ready")

    def __init__(self, process: Process, number: int) -> None:
        self.process = process
        self.number = number
        self.ready: deque[_Callback] = deque()
        self.halts = 0
        self.is_listed = False
        self._context = contextvars.Context()
        self._context.run(_current.set, self)

    @property
    def context(self) -> contextvars.Context:
        """A context whose callbacks and tasks, and all that come of them, run in this thread."""
        return self._context.copy()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self.process.loop.create_task(work, context=self.context)

    def call(self, callback: Callable[..., object], *arguments: object) -> None:
        self.process.loop.call_soon(callback, *arguments, context=self._context)


class Process:
    """What dies and is stopped together: the threads of one worker or client. It has one thread from the start."""

    def __init__(self, loop: SimulatedLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.is_dead = False
        self.on_death: Callable[[], None] = lambda: None
        self.main = loop.thread(self)
        self.threads = [self.main]

    def add_thread(self) -> Thread:
        thread = self.loop.thread(self)
        self.threads.append(thread)
        return thread

    def kill(self) -> None:
        """End as SIGKILL does it: not one more callback runs."""
        if not self.is_dead:
            self.is_dead = True
            for thread in self.threads:
                self.loop.halt(thread)
            self.on_death()

    def stop_for(self, seconds: float, *, thread: Thread | None = None) -> None:
        """Stand still as after SIGSTOP, all threads or one of them, then go on."""
        stopped = self.threads if thread is None else [thread]
        for each in stopped:
            self.loop.halt(each)
        self.loop.call_later(seconds, self._go_on, stopped, context=contextvars.Context())

    def _go_on(self, stopped: list[Thread]) -> None:
        for thread in stopped:
            self.loop.unhalt(thread)


_current: contextvars.ContextVar[Thread] = contextvars.ContextVar("simulated thread")


def current_thread() -> Thread:
    """The simulated thread that runs now."""
    return _current.get()


class _Callback:
    """A handle as asyncio wants it, without what only real loops need."""

    __slots__ = ("arguments", "callback", "context", "is_cancelled", "when_s")

    def __init__(
        self, callback: Callable[..., object], arguments: tuple[Any, ...], context: contextvars.Context, when_s: float
    ) -> None:
        self.callback = callback
        self.arguments = arguments
        self.context = context
        self.when_s = when_s
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True
        self.callback, self.arguments = _nothing, ()

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.when_s


def _name_of(callback: Callable[..., object]) -> str:
    """Without the address that a repr has: a trace is the same in every process."""
    return str(getattr(callback, "__qualname__", type(callback).__qualname__))


def _nothing() -> None:
    pass


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs simulated threads: `pick`, a number below 1, says which goes on. When none can, time jumps to a timer.

    Within a thread callbacks keep the order that asyncio promises. `steps` counts the callbacks that ran; `digest`
    sums up which thread ran each, so that two runs which agree in it took the same way.
    """

    def __init__(self, pick: Callable[[], float], *, max_steps: int) -> None:
        super().__init__()
        self.steps = 0
        self.digest = 0
        self.is_over = False
        self.complain: Callable[[str], None] = lambda _: None
        # Called when so many more steps have been taken, with the process that took the last; says when to call again.
        self.interfere: Callable[[Process], int] = lambda _: max_steps
        self._interferes_at = 1
        self._max_steps = max_steps
        self._pick = pick
        self._now_s = 0.0
        self._timers: list[tuple[float, int, _Callback]] = []
        self._numbers = 0
        self._threads: list[Thread] = []
        self._runnable: list[Thread] = []
        # Whatever belongs to no process: timers of the world itself, and the one who directs it.
        self.director = Process(self, "director")

    def thread(self, process: Process) -> Thread:
        made = Thread(process, len(self._threads) + 1)
        self._threads.append(made)
        return made

    def halt(self, thread: Thread) -> None:
        if self.is_over:
            return
        thread.halts += 1
        if thread.is_listed:
            self._runnable.remove(thread)
            thread.is_listed = False

    def unhalt(self, thread: Thread) -> None:
        # After the end of the world nobody is halted, and timers that wake may still come.
        thread.halts = max(thread.halts - 1, 0)
        self._list(thread)

    def bury(self) -> None:
        """Let what died or stands still run again, so that its coroutines can be closed. For the end of the world."""
        self.is_over = True
        for thread in self._threads:
            thread.halts = 0
            self._list(thread)

    def _list(self, thread: Thread) -> None:
        if thread.ready and not thread.halts and not thread.is_listed:
            self._runnable.append(thread)
            thread.is_listed = True

    # --- what asyncio asks of a loop

    def time(self) -> float:
        """Virtual seconds since the world began."""
        return self._now_s

    def call_soon(  # type: ignore[override]  # our handle does what asyncio does with one
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Callback:
        made = _Callback(callback, args, contextvars.copy_context() if context is None else context, self._now_s)
        self._enqueue(made)
        return made

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Callback:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Callback:
        made = _Callback(callback, args, contextvars.copy_context() if context is None else context, when)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, made))
        return made

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An error that nobody awaits is a fault of the simulated code, unless its process is gone."""
        if not self.is_over:
            error = context.get("exception")
            self.complain(f"{context.get('message')}: {type(error).__name__}: {error}")

    def _enqueue(self, callback: _Callback) -> None:
        thread = callback.context.get(_current)
        if thread is None:
            thread = self.director.main
        thread.ready.append(callback)
        if not thread.is_listed and not thread.halts:
            self._runnable.append(thread)
            thread.is_listed = True

    def _run_once(self) -> None:
        timers, runnable = self._timers, self._runnable
        while not self._stopping:  # type: ignore[attr-defined]  # set by `stop`
            while timers and timers[0][0] <= self._now_s:
                due = heapq.heappop(timers)[2]
                if not due.is_cancelled:
                    self._enqueue(due)
            if not runnable:
                if not timers:
                    raise SimulationStuck("nothing is left that could ever happen")
                self._now_s = timers[0][0]
                continue
            index = int(self._pick() * len(runnable))
            thread = runnable[index]
            callback = thread.ready.popleft()
            if not thread.ready:
                thread.is_listed = False
                del runnable[index]
            if callback.is_cancelled:
                continue
            self._count(thread)
            try:
                callback.context.run(callback.callback, *callback.arguments)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001  # as any event loop: the others go on
                self.call_exception_handler({"message": f"{_name_of(callback.callback)} raised", "exception": error})

    def _count(self, thread: Thread) -> None:
        self.steps += 1
        if self.steps > self._max_steps:
            raise SimulationStuck(f"there is no end after {self.steps} steps")
        if self.steps >= self._interferes_at:
            self._interferes_at = self.steps + self.interfere(thread.process)
        self.digest = (self.digest * 1_000_003 + thread.number) & 0xFFFFFFFFFFFF
        self._now_s += _STEP_S
