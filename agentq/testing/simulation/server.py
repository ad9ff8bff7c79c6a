"""What stands at the other end of the simulated network: the store, and the queue of wake-ups."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentq.errors import AgentQError
from agentq.stores._claims import ClaimedWakeups

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from agentq.stores.memory import MemoryStore
    from agentq.testing.simulation.faults import Fates, Figures
    from agentq.testing.simulation.ledger import Ledger
    from agentq.testing.simulation.scheduling import SimulatedLoop, Thread


class Server:
    """Carries commands out one by one, each as a whole, and shows each to the ledger."""

    def __init__(self, store: MemoryStore, ledger: Ledger, wakeups: Wakeups) -> None:
        self.store = store
        self.ledger = ledger
        self.wakeups = wakeups

    def offers(self, name: str) -> bool:
        return not name.startswith("_") and inspect.iscoroutinefunction(getattr(self.store, name, None))

    def call(self, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Carry out a method of the store. Raises what it raises."""
        ledger = self.ledger
        if name == "claim":
            ledger.before_claim(arguments[0])
        running = getattr(self.store, name)(*arguments, **named)
        try:
            running.send(None)
        except StopIteration as done:
            ledger.saw(name, arguments, named, done.value)
            return done.value
        except AgentQError as error:
            ledger.saw_refused(name, arguments, error)
            raise
        running.close()
        raise RuntimeError(f"{name} of the store awaits something, so it is not carried out as a whole")

    def take(
        self, owner: str, claim_id: str, count: int, lease_ms: int, agents: tuple[str, ...], *, is_idle: bool
    ) -> ClaimedWakeups:
        """Take wake-ups off the queue and claim their runs, in one go, as the script does it in Redis."""
        taken = self.wakeups.take(owner, claim_id, count, is_idle=is_idle)
        claims = ()
        if taken.run_ids:
            named = {"owner": owner, "claim_id": claim_id, "lease_ms": lease_ms, "agents": agents}
            claims = self.call("claim", (taken.run_ids,), named)
        return ClaimedWakeups(claims, len(taken.run_ids) + (taken.suspect is not None), (), taken.suspect)


@dataclass(frozen=True, slots=True)
class Taken:
    """The runs of wake-ups that one claim took, and the one that it is to claim alone."""

    claim_id: str
    run_ids: tuple[str, ...]
    suspect: str | None


class Wakeups:
    """A queue that loses, doubles and reorders what is put in."""

    def __init__(self, loop: SimulatedLoop, fates: Fates, figures: Figures, ledger: Ledger) -> None:
        self._loop = loop
        self._ledger = ledger
        self._fates = fates
        self._figures = figures
        self._queue: list[str] = []
        self._taken: dict[str, Taken] = {}
        self._bells: dict[Thread, Bell] = {}

    def put(self, run_id: str) -> None:
        chances = self._fates.chances
        copies = 1
        if self._fates.happens(chances.lost_wakeup):
            self._figures.lost_wakeups += 1
            copies = 0
        elif self._fates.happens(chances.doubled_wakeup):
            self._figures.doubled_wakeups += 1
            copies = 2
        put = [run_id] * copies
        if self._fates.happens(chances.stale_wakeup):
            self._figures.stale_wakeups += 1
            put.append(self._fates.one_of(*self._ledger.runs))
        for each in put:
            self._queue.insert(int(self._fates.between(0, len(self._queue) + 1)), each)
        if self._queue:
            for bell in tuple(self._bells.values()):
                bell.ring()

    def take(self, owner: str, claim_id: str, count: int, *, is_idle: bool) -> Taken:
        """Up to `count` wake-ups, or those that the same claim took before. Like claim.lua it leaves suspects alone."""
        known = self._taken.get(owner)
        if known is not None and known.claim_id == claim_id:
            return known
        run_ids: list[str] = []
        suspect: str | None = None
        while self._queue and len(run_ids) < count:
            run_id = self._queue.pop(0)
            if self._ledger.is_suspect(run_id):
                if is_idle and not run_ids:
                    run_ids.append(run_id)
                else:
                    suspect = run_id
                break
            run_ids.append(run_id)
        taken = self._taken[owner] = Taken(claim_id, tuple(run_ids), suspect)
        return taken

    def bell(self, thread: Thread, nudge: Callable[[], None]) -> Bell:
        """A doorbell for the worker in that thread."""
        made = self._bells[thread] = Bell(self, thread, nudge)
        return made

    def forget(self, thread: Thread) -> None:
        self._bells.pop(thread, None)

    @property
    def is_empty(self) -> bool:
        return not self._queue

    def rings_after(self) -> float:
        return self._loop.time() + self._fates.latency_s()


class Bell:
    """Rings once for each time it was armed, as `agentq.worker.doorbell.Doorbell` does."""

    def __init__(self, wakeups: Wakeups, thread: Thread, nudge: Callable[[], None]) -> None:
        self._wakeups = wakeups
        self._thread = thread
        self._nudge = nudge
        self._is_armed = False
        self._has_rung = False

    def arm(self, *, without: Collection[str] = ()) -> None:
        self._is_armed = True
        if not self._wakeups.is_empty:
            self.ring()

    def has_rung(self) -> bool:
        rung, self._has_rung = self._has_rung, False
        return rung

    def ring(self) -> None:
        if self._is_armed:
            self._is_armed = False
            loop = self._thread.process.loop
            loop.call_at(self._wakeups.rings_after(), self._heard, context=self._thread.context)

    def _heard(self) -> None:
        self._has_rung = True
        self._nudge()
