"""Calls whose work is a run of another agent: started, waited for without holding anything, and taken as results."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from agentq import _ids
from agentq.decide import unknown_result
from agentq.errors import CancelRequested, InvalidArguments, InvalidInput, RunNotFound
from agentq.loop.finishing import output_of
from agentq.loop.waking import wake_or_leave
from agentq.loop.writer import patiently
from agentq.messages import ToolResultPart, user_message
from agentq.runs import CHILD, Question, Status
from agentq.steps import arguments_hash
from agentq.stores.base import NewRun
from agentq.tools.execution import CallOutcome, refused
from agentq.tools.function import Tool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.loop.agent import Agent
    from agentq.loop.loop import Loop
    from agentq.loop.policy import Policy
    from agentq.loop.writer import StepWriter
    from agentq.messages import ToolCallPart
    from agentq.runs import RunState
    from agentq.steps import CallStep

logger = logging.getLogger(__name__)
# A chain of agents that ask each other and never come to an end costs a model call with every link.
MAX_DEPTH = 8
_PARAMETERS = {
    "type": "object",
    "properties": {"prompt": {"type": "string", "description": "The task, with all that is needed to do it."}},
    "required": ["prompt"],
    "additionalProperties": False,
}


def tool_of(agent: Agent, name: str, description: str) -> Tool:
    """The tool whose calls are runs of the agent."""

    async def run(prompt: str) -> None:
        raise InvalidInput(f"{name} starts a run of the agent {agent.name}, so only a run can call it", field="agent")

    # Creating the run again finds the one that is there.
    tool = Tool(name, description, _PARAMETERS, run, effect="idempotent", concurrency_safe=True)
    tool.agent = agent
    return tool


class Children:
    """The runs that the calls of one iteration start and wait for."""

    def __init__(self, loop: Loop, run: RunState, writer: StepWriter, policy: Policy) -> None:
        self._loop = loop
        self._run = run
        self._writer = writer
        self._policy = policy

    def arguments_of(self, call: ToolCallPart, tool: Tool) -> dict[str, Any] | CallOutcome:
        """The arguments, or why the call starts no run."""
        if self._run.depth >= MAX_DEPTH:
            return refused(call, f"{call.name} was not called: there are {MAX_DEPTH} agents above this run already")
        try:
            return tool.bind(call.arguments)
        except InvalidArguments as error:
            return refused(call, f"The arguments do not fit {call.name}:\n{error}")

    async def start(self, call: ToolCallPart, agent: Agent, arguments: Mapping[str, Any]) -> None:
        """Create the run, unless it is there. Raises `CancelRequested`, and `RunNotFound` for one that has gone."""
        new = NewRun(
            run_id=_ids.child_run_id(call.call_id),
            agent=agent.name,
            messages=(user_message(str(arguments["prompt"])),),
            queue=agent.queue or self._loop.settings.queue,
            user_id=self._run.user_id,
            metadata=self._run.metadata,
            tenant=self._run.tenant,
            priority=self._run.priority,
            request_hash=arguments_hash(call),
            parent_run_id=self._run.run_id,
            depth=self._run.depth + 1,
        )
        created = await self._patiently(lambda: self._loop.store.create(new, wake=self._loop.wakeup))
        # Not `existed`: that is also the answer to our own create when it had to be sent twice.
        if not created.woken:
            await wake_or_leave(self._loop, new.run_id)

    async def outcome(self, call: ToolCallPart, tool: Tool | None, step: CallStep) -> CallOutcome | None:
        """What the run came to; None while it goes on. Raises `CancelRequested` where it must not start any more."""
        store, run_id, messages = self._loop.store, step.child or "", ()
        try:
            state = await self._patiently(lambda: store.read(run_id))
            if state.status is Status.COMPLETED:
                messages = await self._patiently(lambda: store.messages(run_id))
        except RunNotFound:
            return await self._start_after_all(call, tool)
        if not state.status.is_final:
            return None
        if state.status is Status.COMPLETED:
            return _outcome(call, output_of(messages))
        if state.status is Status.FAILED:
            return _outcome(call, f"{state.agent} failed: {state.last_error or 'no reason was recorded'}", "error")
        reason = f": {state.cancel_reason}" if state.cancel_reason else ""
        return _outcome(call, f"The run of {state.agent} was cancelled{reason}.", "cancelled")

    async def _start_after_all(self, call: ToolCallPart, tool: Tool | None) -> CallOutcome | None:
        """The worker that journaled the call died before it had created the run; or the run has long been deleted."""
        try:
            if tool is None or tool.agent is None:
                raise RunNotFound.of(_ids.child_run_id(call.call_id))
            asked = await self._policy.before_tool(call)
            if isinstance(asked, CallOutcome):
                return asked
            fit = self.arguments_of(asked, tool)
            if isinstance(fit, CallOutcome):
                return fit
            await self.start(asked, tool.agent, fit)
        except RunNotFound as error:
            logger.warning("%s", error, extra={"run_id": self._run.run_id, "call_id": call.call_id})
            return CallOutcome(unknown_result(call), raised=False, duration_ms=0)
        except CancelRequested:
            # Or this run has ended meanwhile. Then the lease is not ours, and the store says so.
            await self._writer.write(())
            raise
        return None

    def question(self, call: ToolCallPart, step: CallStep) -> Question:
        """What the run waits for."""
        return Question(
            call_id=call.call_id,
            tool=call.name,
            text=f"it waits for run {step.child}, which {call.name} started",
            kind=CHILD,
            run_id=step.child,
        )

    async def _patiently(self, work: Any) -> Any:
        return await patiently(work, self._loop.clock, lambda: self._writer.closed)


def _outcome(call: ToolCallPart, content: str, outcome: Literal["ok", "error", "cancelled"] = "ok") -> CallOutcome:
    result = ToolResultPart(
        call_id=call.call_id,
        name=call.name,
        content=content,
        outcome=outcome,
        provider_call_id=call.provider_call_id,
    )
    return CallOutcome(result, raised=outcome == "error", duration_ms=0)
