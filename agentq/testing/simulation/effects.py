"""What tools and models of a simulated world saw, and what of it must not have happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.testing.simulation.plans import CHANGED_BY
from agentq.testing.simulation.scheduling import current_thread
from agentq.tools.behaviour import Reconciled

if TYPE_CHECKING:
    from agentq.steps import Effect
    from agentq.testing.simulation.known import Known
    from agentq.testing.simulation.ledger import Ledger
    from agentq.tools.context import ToolContext


class Effects:
    """Hears of every tool that is entered and every model that is asked, and holds it against the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def asked(self, run_id: str) -> None:
        """A model was asked for a reply."""
        known = self._ledger.runs[run_id]
        if self._is_holder(known) and known.reply_is_journaled:
            self._ledger.wrong(known, "the model was asked again although its reply was journaled")

    def entered(self, ctx: ToolContext, name: str, effect: Effect) -> None:
        """A tool was entered."""
        known, call_id = self._ledger.runs[ctx.run_id], ctx.call_id
        self._ledger.figures.tools += 1
        if ctx.idempotency_key != call_id:
            self._ledger.wrong(known, f"{name} got the key {ctx.idempotency_key} for call {call_id}")
        # A worker that does not know yet that it has lost the run may begin to read once more, which harms nobody.
        if call_id in known.finished and (effect != "none" or self._is_holder(known)):
            self._ledger.wrong(known, f"{name} had finished and was entered again ({call_id})")
        if effect == "once" and known.entered[call_id] > known.did_not_happen[call_id] + known.rests[call_id]:
            self._ledger.wrong(known, f"{name} must happen once and was entered again ({call_id})")
        known.entered[call_id] += 1
        known.inside.setdefault(call_id, []).append(current_thread().process)
        known.entered_at[call_id] = known.fence if self._is_holder(known) else 0
        self._check_written(known, call_id, name, effect)
        if effect != "none":
            self._check_announced(known, ctx, name)

    def allowed(self, ctx: ToolContext, name: str, number: int, *, asks: bool) -> None:
        """A tool was entered with this number; `asks`: somebody has to allow that, and may change it."""
        known = self._ledger.runs[ctx.run_id]
        approval = known.decided.get(ctx.call_id)
        if asks and (approval is None or approval.decision != "approved"):
            said = "decided on it" if approval is None else f"allowed it: it was {approval.decision}"
            self._ledger.wrong(known, f"{name} was entered, and nobody had {said} ({ctx.call_id})")
        changed = None if approval is None else approval.arguments
        if (number >= CHANGED_BY) != (changed is not None):
            self._ledger.wrong(known, f"{name} was entered with {number}, and allowed with {changed} ({ctx.call_id})")

    def stepped(self, ctx: ToolContext, number: int, word: str) -> str:
        """A durable step of a tool is carried out."""
        known = self._ledger.runs[ctx.run_id]
        if len(known.parts_of(ctx.call_id)) > number and self._is_holder(known):
            self._ledger.wrong(known, f"step {number} of {ctx.call_id} was journaled and carried out again")
        return word

    def _check_announced(self, known: Known, ctx: ToolContext, name: str) -> None:
        announced = known.announced.get(ctx.call_id)
        if announced is None or announced.attempt < ctx.attempt or announced.withdrawn:
            self._ledger.wrong(known, f"{name} was entered without being announced ({ctx.call_id})")
            return
        late_ms = self._ledger.now_ms() - known.announced_ms[ctx.call_id]
        # A third of a lease, in whole milliseconds.
        if late_ms > known.lease_ms // 3 + 1:
            self._ledger.wrong(known, f"{name} was entered {late_ms} ms after it was announced ({ctx.call_id})")
        if known.cancel_has_returned:
            # It had been announced before, which is when a call counts as started.
            self._ledger.figures.late_starts += 1

    def _check_written(self, known: Known, call_id: str, name: str, effect: Effect) -> None:
        """Results are journaled one by one: before the next call, unless both only read and may overlap."""
        fence = known.entered_at[call_id]
        for other, (returned_at, its_effect) in known.unwritten.items():
            if fence and returned_at == fence and (effect != "none" or its_effect != "none"):
                self._ledger.wrong(known, f"{name} was entered before the result of {other} was journaled ({call_id})")

    def returned(self, ctx: ToolContext, name: str, effect: Effect, value: str) -> None:
        """A tool had its effect, and is about to return or to raise this text."""
        known, call_id = self._ledger.runs[ctx.run_id], ctx.call_id
        if effect == "once" and call_id in known.returned:
            self._ledger.wrong(known, f"{name} must happen once and happened again ({call_id})")
        known.returned.setdefault(call_id, []).append(value)
        if call_id not in known.finished:
            known.unwritten[call_id] = (known.entered_at[call_id], effect)

    def left(self, ctx: ToolContext) -> None:
        """A tool was left, however it ended."""
        self._ledger.runs[ctx.run_id].inside[ctx.call_id].remove(current_thread().process)

    def truth(self, run_id: str, call_id: str) -> str | Reconciled:
        """What became of a call, as one can find out: what it returned, or that it cannot happen any more."""
        known = self._ledger.runs[run_id]
        if call_id in known.returned:
            return known.returned[call_id][0]
        is_going_on = any(not process.is_dead for process in known.inside.get(call_id, ()))
        return Reconciled.UNKNOWN if is_going_on else Reconciled.DID_NOT_HAPPEN

    def _is_holder(self, known: Known) -> bool:
        return known.is_running and known.owner == current_thread().process.name
