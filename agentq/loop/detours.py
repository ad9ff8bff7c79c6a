"""What only some calls need, made when one first does: most iterations get by without, and there are many of them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from agentq.loop.admission import Admission
from agentq.loop.children import Children
from agentq.loop.collecting import Collecting
from agentq.loop.gates import Gates
from agentq.loop.settling import Settling
from agentq.loop.waits import Waits

if TYPE_CHECKING:
    from agentq.loop.contexts import Contexts
    from agentq.loop.durable import Parts
    from agentq.loop.interrupts import Interrupts
    from agentq.loop.keeping import Keeping
    from agentq.loop.loop import Loop
    from agentq.loop.policy import Policy
    from agentq.loop.writer import StepWriter
    from agentq.runs import RunState
    from agentq.steps import CallStep


class Detours:
    """The ways of the calls of one iteration that are not simply made."""

    def __init__(
        self,
        loop: Loop,
        run: RunState,
        writer: StepWriter,
        interrupts: Interrupts,
        policy: Policy,
        steps: dict[str, CallStep],
        parts: Parts,
        keeping: Keeping,
        contexts: Contexts,
    ) -> None:
        self._loop = loop
        self._run = run
        self._writer = writer
        self._interrupts = interrupts
        self._policy = policy
        self._steps = steps
        self._parts = parts
        self._keeping = keeping
        self._contexts = contexts

    @cached_property
    def gates(self) -> Gates:
        return Gates(self._interrupts, self._contexts, self.admission, self.waits, self._parts, self._policy)

    @cached_property
    def admission(self) -> Admission:
        return Admission(self._loop, self._run, self._writer)

    @cached_property
    def waits(self) -> Waits:
        return Waits(self._loop, self._run, self._writer, self._steps, self._parts)

    @cached_property
    def children(self) -> Children:
        return Children(self._loop, self._run, self._writer, self._policy)

    @cached_property
    def collecting(self) -> Collecting:
        return Collecting(self._run, self._steps, self.children, self.waits, self._keeping, self._policy)

    @cached_property
    def settling(self) -> Settling:
        settings = self._loop.settings
        return Settling(
            self._steps, self._interrupts, self._contexts, self._keeping, self._writer, settings, self._policy
        )
