"""What a call has to pass before it is made: its tool's checks, a person who allows it, and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentq.loop.waits import needs_approval
from agentq.messages import ToolCallPart
from agentq.steps import APPROVAL, Wait, arguments_hash, read_approval
from agentq.tools.execution import AskFirst, CallOutcome, bound_or_outcome, check_call, refused

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from agentq.decide import PlannedCall
    from agentq.loop.admission import Admission, PutOff
    from agentq.loop.contexts import Contexts
    from agentq.loop.durable import Parts
    from agentq.loop.interrupts import Interrupts
    from agentq.loop.policy import Policy
    from agentq.loop.waits import Waits
    from agentq.steps import Approval
    from agentq.tools.function import Tool


_NOBODY = "{} was not called: a person would have to allow it, and nobody can be asked"


@dataclass(frozen=True, slots=True)
class Passed:
    """The call may be made: `call` as it was allowed, and its arguments where they were looked at."""

    call: ToolCallPart
    arguments: Mapping[str, Any] | None = None


def concerned(tool: Tool, policy: Policy) -> bool:
    """Whether a call of the tool has anything to pass."""
    return tool.behaviour.is_gated or policy.has("before_tool")


class Gates:
    """The gates of one iteration."""

    def __init__(
        self,
        interrupts: Interrupts,
        contexts: Contexts,
        admission: Admission,
        waits: Waits,
        parts: Parts,
        policy: Policy,
    ) -> None:
        self._interrupts = interrupts
        self._contexts = contexts
        self._admission = admission
        self._waits = waits
        self._parts = parts
        self._policy = policy

    async def ask(
        self, plan: PlannedCall, tool: Tool, flag: threading.Event, *, was_begun: bool
    ) -> Passed | CallOutcome | PutOff | Wait | None:
        """Whether the call may be made; else what it gets in its place, until when the run is put off, or what it waits
        for. None when an interrupt stopped a hook.

        A call that `was_begun` is not asked for again.
        """
        behaves = tool.behaviour
        approval = self._approval(plan.call)
        call = plan.call
        if approval is not None and approval.decision != "approved":
            return refused(call, _denied(call, approval))
        if approval is not None and approval.arguments is not None:
            call = call.model_copy(update={"arguments": approval.arguments})
        if self._policy.has("before_tool"):
            asked_hooks = await self._interrupts.run(self._policy.before_tool(call), "none", flag)
            if not isinstance(asked_hooks, ToolCallPart):
                return asked_hooks
            call = asked_hooks
        passed = Passed(call)
        is_allowed = was_begun or approval is not None
        if behaves.has_checks:
            context = self._contexts.of(call, tool, plan.attempt, flag)
            checked = await self._interrupts.run(
                check_call(tool, call, context, was_permitted=is_allowed), "none", flag
            )
            if checked is None or isinstance(checked, CallOutcome):
                return checked
            if isinstance(checked, AskFirst):
                return self._waits.for_approval(tool) or refused(call, _NOBODY.format(call.name))
            passed = Passed(call, checked)
        if behaves.approval is not False and not is_allowed:
            asked = self._needs_approval(tool, passed, self._contexts.of(call, tool, plan.attempt, flag))
            if isinstance(asked, CallOutcome):
                return asked
            if asked:
                return self._waits.for_approval(tool) or refused(call, _NOBODY.format(call.name))
        if behaves.is_admitted and not was_begun:
            return await self._admission.ask(tool, call) or passed
        return passed

    def _needs_approval(self, tool: Tool, passed: Passed, context: Any) -> bool | CallOutcome:
        arguments = passed.arguments
        if arguments is None:
            fit = bound_or_outcome(tool, passed.call, context)
            if isinstance(fit, CallOutcome):
                return fit
            arguments = fit
        try:
            return needs_approval(tool, arguments)
        except Exception as error:  # noqa: BLE001 - the function is the tool's, and the model is told
            return refused(
                passed.call,
                f"{passed.call.name} was not called: whether it has to be allowed could not be said: {error!r}",
                raised=True,
            )

    def _approval(self, call: ToolCallPart) -> Approval | None:
        """What was decided on exactly this call."""
        value = self._parts.find(call.call_id + APPROVAL)
        approval = None if value is None else read_approval(value)
        return approval if approval is not None and approval.arguments_hash == arguments_hash(call) else None


def _denied(call: ToolCallPart, approval: Approval) -> str:
    if approval.decision == "expired":
        return f"{call.name} was not called: nobody allowed it in time"
    by = f" by {approval.by}" if approval.by else ""
    return f"{call.name} was denied{by}" + (f": {approval.reason}" if approval.reason else "")
