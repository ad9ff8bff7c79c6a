"""At which moments somebody does something to the runs of a simulated world: cancels, answers, decides, pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq.runs import Status

if TYPE_CHECKING:
    import asyncio
    import random
    from collections.abc import Callable, Coroutine, Sequence

    from agentq.testing.simulation.known import Known
    from agentq.testing.simulation.ledger import Ledger
    from agentq.testing.simulation.people import SimulatedClient
    from agentq.testing.simulation.scheduling import Process

_CANCELS = 0.06
_ANSWERS = 0.5
# How often somebody does something to a run when it is made, or announces an effect.
_SIGNALS, _STEERS, _HOLDS, _HOLDS_ALL = 0.3, 0.05, 0.04, 0.01


class Crowd:
    """The clients of a world, one of which acts now and then. `watch` hears of every task that is begun."""

    def __init__(
        self,
        clients: Sequence[SimulatedClient],
        ledger: Ledger,
        numbers: random.Random,
        watch: Callable[[asyncio.Task[None], Process], None],
    ) -> None:
        self._clients = clients
        self._ledger = ledger
        self._numbers = numbers
        self._watch = watch
        ledger.on_announced = self._hears_of_effect
        ledger.on_waiting = self._maybe_answer
        ledger.outside.on_resting = self._send_operators

    def sees_new(self, run_id: str) -> None:
        """A run was made."""
        numbers = self._numbers
        client = numbers.choice(self._clients)
        if numbers.random() < _SIGNALS:
            self._begin(client, client.operator.signal_early(run_id))
        if numbers.random() < _HOLDS_ALL:
            self._begin(client, client.operator.hold_all())
        self._maybe_disturb(run_id)

    def do_what_is_left(self, operator: SimulatedClient) -> None:
        """What nobody else has done, and what would never happen by itself."""
        if self._ledger.outside.pauses:
            self._begin(operator, operator.operator.release_all())
        for known in self._ledger.open_runs:
            self._attend(known, operator)

    def _attend(self, known: Known, client: SimulatedClient) -> None:
        if known.is_paused:
            self._begin(client, client.operator.release(known.run_id))
        if known.status is not Status.WAITING:
            return
        if not known.waits_for_child:
            self._begin(client, client.answer(known.run_id))
        for call_id, wait in known.waits.items():
            if call_id not in known.finished and not wait.until_ms:
                self._begin(client, client.operator.attend(known.run_id, call_id, at_once=True))

    def _hears_of_effect(self, run_id: str) -> None:
        self._maybe_cancel(run_id)
        self._maybe_disturb(run_id)

    def _maybe_disturb(self, run_id: str) -> None:
        client = self._numbers.choice(self._clients)
        if self._numbers.random() < _STEERS:
            self._begin(client, client.operator.steer(run_id))
        if self._numbers.random() < _HOLDS:
            self._begin(client, client.operator.hold(run_id))

    def _send_operators(self, run_id: str, call_id: str) -> None:
        """Up to three say what a call waits for, and perhaps somebody cancels the run."""
        for _ in range(self._numbers.choice((0, 1, 1, 2, 3))):
            client = self._numbers.choice(self._clients)
            self._begin(client, client.operator.attend(run_id, call_id))
        self._maybe_cancel(run_id)

    def _maybe_cancel(self, run_id: str) -> None:
        """Now and then somebody cancels a run, or one above it, at the very moment in which an effect is announced."""
        above = self._ledger.with_all_above(run_id)
        if self._numbers.random() < _CANCELS * len(above):
            client = self._numbers.choice(self._clients)
            self._begin(client, client.cancel(self._numbers.choice(above)))

    def _maybe_answer(self, run_id: str) -> None:
        if self._numbers.random() < _ANSWERS:
            client = self._numbers.choice(self._clients)
            self._begin(client, client.answer(run_id))

    def _begin(self, client: SimulatedClient, work: Coroutine[Any, Any, None]) -> None:
        self._watch(client.process.main.start(work), client.process)
