"""What comes of calls that rest: results of other runs, words of people, signals; and how a run rests meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.stores.base import Rest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentq.loop.children import Children
    from agentq.loop.keeping import Keeping
    from agentq.loop.policy import Policy
    from agentq.loop.toolbox import Toolbox
    from agentq.loop.waits import Waits
    from agentq.messages import ToolCallPart
    from agentq.runs import Question, RunState
    from agentq.steps import CallStep
    from agentq.tools.function import Tool

# A run whose child has ended without a word is looked at after so long.
_CHILD_MS = 300_000


class Collecting:
    """Looks at the calls of one iteration that rest; `steps` is what the journal knows of them."""

    def __init__(
        self,
        run: RunState,
        steps: Mapping[str, CallStep],
        children: Children,
        waits: Waits,
        keeping: Keeping,
        policy: Policy,
    ) -> None:
        self._run = run
        self._steps = steps
        self._children = children
        self._waits = waits
        self._keeping = keeping
        self._policy = policy

    async def look(self, calls: Sequence[ToolCallPart], toolbox: Toolbox) -> tuple[Rest | None, int]:
        """How the run rests if nothing has come, and how many results were taken."""
        found, taken = False, 0
        for call in calls:
            if self._steps[call.call_id].child is None:
                found |= await self._waits.look(call)
            elif await self._take_child(call, toolbox.named(call.name)):
                found, taken = True, taken + 1
        if found:
            return None, taken
        questions = tuple(self._question(call) for call in calls)
        within = [ms for call in calls if (ms := self._within_ms(call))]
        return Rest(questions, self._run.signals, within_ms=min(within, default=0)), taken

    async def _take_child(self, call: ToolCallPart, tool: Tool | None) -> bool:
        """Take the result of a run that has ended."""
        step = self._steps[call.call_id]
        outcome = await self._children.outcome(call, tool, step)
        if outcome is None:
            return False
        outcome = await self._policy.after_tool(call, outcome)
        result = self._keeping.within_limit(outcome.result, tool)
        finished = step.model_copy(update={"result": result, "raised": outcome.raised})
        await self._keeping.journal(result, finished, outcome.duration_ms)
        return True

    def _question(self, call: ToolCallPart) -> Question:
        step = self._steps[call.call_id]
        return self._waits.question(call) if step.child is None else self._children.question(call, step)

    def _within_ms(self, call: ToolCallPart) -> int:
        # The end of that run wakes this one; should it be lost, a sweep does.
        return _CHILD_MS if self._steps[call.call_id].child is not None else self._waits.within_ms(call)
