"""Saying that a call starts, before it does: in the journal where it has an effect, else to viewers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.errors import CancelRequested
from agentq.loop.interrupts import Interrupt
from agentq.steps import encode_call_step
from agentq.stores.base import StepRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq._clock import Clock
    from agentq.events.model import ToolCalled
    from agentq.loop.interrupts import Interrupts
    from agentq.loop.writer import StepWriter
    from agentq.messages import ToolCallPart
    from agentq.steps import CallStep

# `act_within_s` is a third of a lease.
_LEASE_IN_ACTS = 3


class Announcing:
    """The beginnings of the calls of one iteration; `steps` is what the journal knows of them, and is kept up to date.

    A call with an effect starts within `act_within_s` of the moment at which its announcement was sent, or not at all.
    """

    def __init__(
        self,
        steps: dict[str, CallStep],
        writer: StepWriter,
        interrupts: Interrupts,
        clock: Clock,
        act_within_s: float,
    ) -> None:
        self._steps = steps
        self._writer = writer
        self._interrupts = interrupts
        self._clock = clock
        self._act_within_s = act_within_s
        # Calls that only read, and of which viewers know.
        self._told: set[str] = set()

    @property
    def start_by(self) -> float:
        """Until when a call that only reads may start, by our own clock."""
        return self._writer.confirmed_at + _LEASE_IN_ACTS * self._act_within_s

    async def begin(
        self, call: ToolCallPart, step: CallStep, called: ToolCalled, records: Sequence[StepRecord]
    ) -> float | None:
        """Tell of a call as its effect wants it; until when it may start, or None for not at all."""
        if step.effect == "none":
            return await self.look_alive(called, records)
        return await self.announce(call, step, called, records)

    async def look_alive(self, called: ToolCalled, records: Sequence[StepRecord] = ()) -> float:
        """Tell viewers of a call that only reads; until when it may start, by our own clock.

        A worker that was held up for long may have lost its lease, so it asks before it starts anything.
        """
        if records or self._clock.monotonic() - self._writer.confirmed_at >= self._act_within_s:
            await self._writer.write(records, [called])
        elif called.call_id not in self._told:
            self._writer.emit(called)
        self._told.add(called.call_id)
        return self.start_by

    async def announce(
        self, call: ToolCallPart, step: CallStep, called: ToolCalled, records: Sequence[StepRecord] = ()
    ) -> float | None:
        """Journal that a call with an effect starts; until when it may, by our own clock, or None for not at all.

        `records` are journaled with it.

        A worker that was held up since it asked may have lost its lease without knowing, so it asks again.
        """
        events = [called]
        while self._interrupts.current is None:
            sent_at = self._clock.monotonic()
            try:
                announced = StepRecord(call.call_id, encode_call_step(step), starts_effect=True)
                await self._writer.write([*records, announced], events)
            except CancelRequested:
                self._interrupts.stop(Interrupt.CANCEL)
                break
            self._steps[call.call_id] = step
            if self._interrupts.current is None and self._clock.monotonic() - sent_at < self._act_within_s:
                return sent_at + self._act_within_s
            # Another record than the one that stands, or the store would let it pass after a cancel too.
            step = step.model_copy(update={"asked": (step.asked or 1) + 1})
            events = []
        await self.withdraw(call, step)
        return None

    async def withdraw(self, call: ToolCallPart, step: CallStep) -> None:
        """Journal that an announced call was not made, so that nobody takes its outcome for unknown.

        What an earlier attempt began stays as it is: that one may have been made.
        """
        stands = self._steps.get(call.call_id)
        if stands is not None and stands.attempt == step.attempt and self._interrupts.current is not Interrupt.LOSE:
            withdrawn = stands.model_copy(update={"withdrawn": True})
            await self._writer.write([StepRecord(call.call_id, encode_call_step(withdrawn))])
            self._steps[call.call_id] = withdrawn
