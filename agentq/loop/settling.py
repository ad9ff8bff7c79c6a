"""Finding out what became of calls that had started when their worker died, and must not be repeated."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from agentq.steps import encode_call_step
from agentq.stores.base import StepRecord
from agentq.tools.behaviour import Reconciled
from agentq.tools.execution import CallOutcome, reconcile_call

if TYPE_CHECKING:
    from agentq.loop.contexts import Contexts
    from agentq.loop.interrupts import Interrupts
    from agentq.loop.keeping import Keeping
    from agentq.loop.policy import Policy
    from agentq.loop.writer import StepWriter
    from agentq.messages import ToolCallPart
    from agentq.settings import Settings
    from agentq.steps import CallStep, Verdict
    from agentq.tools.function import Tool


class Settling:
    """Asks the tools; `steps` is what the journal knows of the calls, and is kept up to date."""

    def __init__(
        self,
        steps: dict[str, CallStep],
        interrupts: Interrupts,
        contexts: Contexts,
        keeping: Keeping,
        writer: StepWriter,
        settings: Settings,
        policy: Policy,
    ) -> None:
        self._steps = steps
        self._interrupts = interrupts
        self._contexts = contexts
        self._keeping = keeping
        self._writer = writer
        self._settings = settings
        self._policy = policy

    async def settle(self, call: ToolCallPart, tool: Tool | None) -> None:
        """Journal what became of a call, as far as anybody knows. None is a tool that is not there any more."""
        step = self._steps[call.call_id]
        if tool is None:
            await self._keeping.give_up(call, step)
            return
        flag = threading.Event()
        asked = await self._policy.before_tool(call)
        # As it was made: with the arguments that hooks gave it.
        call = call if isinstance(asked, CallOutcome) else asked
        await self._contexts.prepare(tool)
        context = self._contexts.of(call, tool, step.attempt, flag)
        found = await self._interrupts.run(reconcile_call(tool, call, context, self._settings), "none", flag)
        if isinstance(found, CallOutcome):
            found = await self._policy.after_tool(call, found)
            result = self._keeping.within_limit(found.result, tool)
            finished = step.model_copy(update={"result": result})
            await self._keeping.journal(result, finished, found.duration_ms, contents=found.contents)
        elif found is Reconciled.UNKNOWN and tool.on_unknown == "tell":
            await self._keeping.give_up(call, step)
        elif found is not None:
            verdict: Verdict = "ask" if found is Reconciled.UNKNOWN else "did_not_happen"
            step = step.model_copy(update={"verdict": verdict})
            await self._writer.write([StepRecord(call.call_id, encode_call_step(step))])
            self._steps[call.call_id] = step
