"""Between a simulated process and the store: calls that take time, and with which everything can go wrong."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from agentq.errors import StoreUnavailable
from agentq.stores._claims import ClaimedWakeups
from agentq.stores.base import Renewal, Sweep
from agentq.testing.simulation.faults import Fate, Fates, Figures

if TYPE_CHECKING:
    import contextvars
    from collections.abc import AsyncGenerator, Callable

    from agentq.testing.simulation.scheduling import Process, SimulatedLoop, Thread
    from agentq.testing.simulation.server import Server

T = TypeVar("T")
_AWAY = "the simulated network lost the connection"
# A call that hangs is given up after this long; a stray one arrives up to this much later.
_TIMEOUT_S = 0.5
_STRAY_S = 8.0
# Of an answer in the trace, so that each event has a line.
_WORDS = 160


class Network:
    """Carries calls to the server and answers back, as the fates will have it."""

    def __init__(
        self, loop: SimulatedLoop, server: Server, fates: Fates, figures: Figures, note: Callable[[str, str], None], *,
        longest_pause_s: float
    ) -> None:  # fmt: skip
        self.loop = loop
        self.server = server
        self.fates = fates
        self.figures = figures
        self.note = note
        self._longest_pause_s = longest_pause_s
        # Commands are carried out in a thread of their own: one that was sent does not die with its sender.
        self._context: contextvars.Context = loop.director.add_thread().context

    def connect(self, thread: Thread) -> Remote:
        """The store, as code in that thread reaches it."""
        return Remote(self, thread)

    async def ask(self, remote: Remote, name: str, carry_out: Callable[[], T]) -> T:
        """Have the server carry something out. Raises `StoreUnavailable`, and whatever it raises there."""
        if self.loop.is_over:
            raise asyncio.CancelledError
        process = remote.thread.process
        fate = self.fates.draw()
        if fate is not Fate.PASS:
            await self._befall(fate, remote, name)
        answer: asyncio.Future[T] = self.loop.create_future()
        self.figures.calls += 1
        self._send(fate, remote, name, carry_out, answer)
        if fate is Fate.CRASH_AFTER:
            process.kill()
        elif fate is Fate.PAUSE_AFTER:
            process.stop_for(self._pause_s())
        return await answer

    async def _befall(self, fate: Fate, remote: Remote, name: str) -> None:
        """Note the fate and, where it comes before the call leaves the process, suffer it."""
        process, figures = remote.thread.process, self.figures
        self.note(process.name, f"{name}: {fate.name.lower().replace('_', ' ')}")
        match fate:
            case Fate.CRASH_BEFORE | Fate.CRASH_AFTER:
                figures.crashes += 1
            case Fate.PAUSE_BEFORE | Fate.PAUSE_AFTER:
                figures.pauses += 1
            case Fate.STALL:
                figures.stalls += 1
            case Fate.LOST_REPLY:
                figures.lost_replies += 1
            case Fate.REFUSED:
                figures.refused += 1
            case Fate.STRAY:
                figures.strays += 1
        if fate is Fate.CRASH_BEFORE:
            process.kill()
            await self.loop.create_future()
        elif fate is Fate.PAUSE_BEFORE:
            process.stop_for(self._pause_s())
            await asyncio.sleep(0)
        elif fate is Fate.STALL:
            process.stop_for(self._pause_s(), thread=remote.thread)
            await asyncio.sleep(0)

    def befall(self, process: Process) -> None:
        """Crash, pause or stall a process that is at no call to the store."""
        fate = self.fates.one_of(Fate.CRASH_AFTER, Fate.PAUSE_AFTER, Fate.STALL)
        self.note(process.name, f"somewhere: {fate.name.lower().removesuffix('_after')}")
        if fate is Fate.CRASH_AFTER:
            self.figures.crashes += 1
            process.kill()
        elif fate is Fate.PAUSE_AFTER:
            self.figures.pauses += 1
            process.stop_for(self._pause_s())
        else:
            self.figures.stalls += 1
            process.stop_for(self._pause_s(), thread=process.main)

    def _pause_s(self) -> float:
        return self.fates.between(0.01, self._longest_pause_s)

    def _send(
        self, fate: Fate, remote: Remote, name: str, carry_out: Callable[[], T], answer: asyncio.Future[T]
    ) -> None:
        now_s = self.loop.time()
        if fate is Fate.REFUSED or fate is Fate.STRAY:
            late_s = self.fates.between(0.001, _TIMEOUT_S)
            self._later(now_s + late_s, _fail, answer, StoreUnavailable(_AWAY))
        if fate is Fate.REFUSED:
            return
        arrival_s = now_s + self.fates.latency_s()
        if fate is Fate.STRAY:
            arrival_s += self.fates.between(0.0, _STRAY_S)
        else:
            # One connection keeps the order.
            arrival_s = remote.arrives_after(arrival_s)
        self._later(arrival_s, self._arrive, fate, remote.thread.process.name, name, carry_out, answer)

    def _arrive(
        self, fate: Fate, sender: str, name: str, carry_out: Callable[[], T], answer: asyncio.Future[T]
    ) -> None:
        if self.loop.is_over:
            return
        error: Exception | None = None
        value: T | None = None
        try:
            value = carry_out()
        except Exception as raised:  # noqa: BLE001  # it is raised where the call came from
            error = raised
        if error is not None or not _is_dull(value):
            words = _words(value) if error is None else f"{type(error).__name__}: {error}"
            self.note(sender, f"{name} → {words if len(words) <= _WORDS else f'{words[:_WORDS]}…'}")
        if fate is Fate.STRAY:
            return
        if fate is Fate.LOST_REPLY:
            error = StoreUnavailable(_AWAY)
        back_s = self.loop.time() + self.fates.latency_s()
        if error is not None:
            self._later(back_s, _fail, answer, error)
        else:
            self._later(back_s, _succeed, answer, value)

    def _later(self, when_s: float, call: Callable[..., object], *arguments: object) -> None:
        self.loop.call_at(when_s, call, *arguments, context=self._context)


def _is_dull(answer: Any) -> bool:
    """Whether an answer only says that nothing is new."""
    match answer:
        case Sweep(woken=(), to_wake=(), pruned=0) | ClaimedWakeups(claims=(), foreign=(), suspect=None) | ():
            return True
        case (Renewal(), *renewals):
            return all(each.held and not each.cancel_requested for each in (answer[0], *renewals))
        case _:
            return False


def _words(answer: Any) -> str:
    """An answer for the trace, without what would make it long."""
    if isinstance(answer, tuple):
        return f"({', '.join(map(_words, answer))})"
    claims = getattr(answer, "claims", None)
    if claims is not None:
        return _words(claims)
    lease = getattr(answer, "lease", None)
    if lease is not None:
        return f"{lease.run_id} fence {lease.fence}"
    return repr(answer)


def _succeed(answer: asyncio.Future[Any], value: object) -> None:
    if not answer.done():
        answer.set_result(value)


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


class Remote:
    """A `Store` for one simulated thread: each of its calls is an await at which everything can go wrong."""

    def __init__(self, network: Network, thread: Thread) -> None:
        self.thread = thread
        self._network = network
        self._last_arrival_s = 0.0

    def arrives_after(self, arrival_s: float) -> float:
        self._last_arrival_s = max(self._last_arrival_s, arrival_s)
        return self._last_arrival_s

    def __getattr__(self, name: str) -> Any:
        if not self._network.server.offers(name):
            raise AttributeError(f"a simulated store has no {name}")
        method = partial(self._call, name)
        # Found at once the next time.
        self.__dict__[name] = method
        return method

    async def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        server = self._network.server
        return await self.ask(name, lambda: server.call(name, arguments, named))

    async def ask(self, name: str, carry_out: Callable[[], T]) -> T:
        """Have something carried out at the server; see `Network.ask`."""
        return await self._network.ask(self, name, carry_out)

    async def watch_cancels(self, owner: str) -> AsyncGenerator[str, None]:
        """What the store tells of cancels; some of it gets lost, as with pub/sub."""
        fates = self._network.fates
        server = self._network.server
        async for run_id in server.store.watch_cancels(owner):
            if fates.happens(fates.chances.rumour) and (other := server.ledger.held_by(owner, besides=run_id)):
                yield other
            if not fates.happens(fates.chances.lost_notice):
                yield run_id
