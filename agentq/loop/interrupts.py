"""How work in flight is stopped early: the reasons, and which running work each of them stops."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import threading
    from collections.abc import Coroutine

    from agentq.steps import Effect
    from agentq.tools.behaviour import OnInterrupt

T = TypeVar("T")


class Interrupt(IntEnum):
    """Why an iteration stops early. A higher one replaces a lower one."""

    TIME = 1
    CANCEL = 2
    HAND_BACK = 3
    HAND_BACK_NOW = 4
    LOSE = 5

    @property
    def hands_back(self) -> bool:
        return self in (Interrupt.HAND_BACK, Interrupt.HAND_BACK_NOW)


# Which running tools each interrupt stops, by effect; a cancel stops those that say so. What goes on is waited for and
# journaled.
_STOPS: dict[Interrupt, frozenset[Effect]] = {
    Interrupt.TIME: frozenset({"none"}),
    Interrupt.HAND_BACK: frozenset({"none", "idempotent"}),
    Interrupt.HAND_BACK_NOW: frozenset({"none", "idempotent", "once"}),
    Interrupt.LOSE: frozenset({"none", "idempotent", "once"}),
}


@dataclass(frozen=True, slots=True)
class _Work:
    effect: Effect
    on_cancel: OnInterrupt


class Siblings:
    """Calls that run beside each other: when one fails, those that were registered are stopped."""

    def __init__(self) -> None:
        self.failed: str | None = None
        self._running: dict[asyncio.Task[Any], threading.Event | None] = {}

    def fail(self, name: str) -> None:
        """The call of this tool has failed."""
        if self.failed is None:
            self.failed = name
            for task, flag in self._running.items():
                if flag is not None:
                    flag.set()
                task.cancel()

    def add(self, task: asyncio.Task[Any], flag: threading.Event | None) -> None:
        """Stop this work, too, when another call fails."""
        self._running[task] = flag

    def remove(self, task: asyncio.Task[Any]) -> None:
        """The work has ended."""
        del self._running[task]


class Interrupts:
    """The interrupt of one iteration, and its work that can be interrupted. A model call counts as effect "none"."""

    def __init__(self) -> None:
        self.current: Interrupt | None = None
        self._running: dict[asyncio.Task[Any], _Work] = {}
        self._flags: set[threading.Event] = set()

    @property
    def must_not_repeat(self) -> bool:
        """Whether work is running whose effect must not happen twice."""
        return any(work.effect == "once" for work in self._running.values())

    def stop(self, interrupt: Interrupt) -> bool:
        """Interrupt; says whether this was news."""
        if self.current is not None and self.current >= interrupt:
            return False
        self.current = interrupt
        if interrupt is not Interrupt.HAND_BACK:
            for flag in self._flags:
                flag.set()
        for task, work in self._running.items():
            if self._stops(work):
                task.cancel()
        return True

    def _stops(self, work: _Work) -> bool:
        if self.current is None:
            return False
        return work.on_cancel == "cancel" if self.current is Interrupt.CANCEL else work.effect in _STOPS[self.current]

    def forget_cancel(self) -> None:
        """The cancel was a rumour."""
        if self.current is Interrupt.CANCEL:
            self.current = None

    async def run(
        self,
        work: Coroutine[Any, Any, T],
        effect: Effect,
        flag: threading.Event | None = None,
        *,
        on_cancel: OnInterrupt = "cancel",
        siblings: Siblings | None = None,
    ) -> T | None:
        """Run `work` as a task that an interrupt can stop; None when it was stopped. `flag` tells threads of it.

        `on_cancel` says whether a cancel of the run stops it. The failure of one of the `siblings` stops it, too.
        Raises RuntimeError when the work cancelled itself, which no interrupt asked for.
        """
        if self.current is not None:
            work.close()
            return None
        task = asyncio.get_running_loop().create_task(work)
        running = self._running[task] = _Work(effect, on_cancel)
        if flag is not None:
            self._flags.add(flag)
        if siblings is not None:
            siblings.add(task, flag)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if not task.cancelled() or (caller is not None and caller.cancelling()):
                # Somebody cancelled us, not the work: the process is going down without ceremony.
                task.cancel()
                raise
            if not self._stops(running) and (siblings is None or siblings.failed is None):
                raise RuntimeError("it was cancelled, and not by us") from None
            return None
        finally:
            del self._running[task]
            if flag is not None:
                self._flags.discard(flag)
            if siblings is not None:
                siblings.remove(task)
