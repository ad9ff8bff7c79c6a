"""Whether a tool may be called now: rate limits put the run off, and a tool that keeps failing is left in peace."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from agentq._words import duration
from agentq.errors import StoreUnavailable
from agentq.loop.writer import patiently
from agentq.stores.values import BreakerRule
from agentq.tools.execution import refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentq.loop.loop import Loop
    from agentq.loop.writer import StepWriter
    from agentq.messages import ToolCallPart
    from agentq.runs import RunState
    from agentq.tools.execution import CallOutcome
    from agentq.tools.function import Tool
    from agentq.tools.rates import CircuitBreaker, RateLimit

T = TypeVar("T")
logger = logging.getLogger(__name__)
# Runs that wait for the same window come back spread over a tenth more.
_SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class PutOff:
    """The call may be made in `wait_s`."""

    call: ToolCallPart
    wait_s: float
    why: str


class Admission:
    """Asks for the calls of one iteration."""

    def __init__(self, loop: Loop, run: RunState, writer: StepWriter) -> None:
        self._loop = loop
        self._run = run
        self._writer = writer

    async def ask(self, tool: Tool, call: ToolCallPart) -> PutOff | CallOutcome | None:
        """None where the call may be made; else until when the run is put off, or what the call gets in its place."""
        breaker, limit = tool.behaviour.breaker, tool.behaviour.rate_limit
        if breaker is not None:
            rule = _rule(breaker)
            left_ms = await self._patiently(lambda: self._loop.shared.ask_breaker(tool.name, rule, token=call.call_id))
            if left_ms:
                return refused(
                    call,
                    f"{call.name} was not called: its last {breaker.failures} calls failed, and it is left in peace "
                    f"for {duration(left_ms)} more",
                )
        if limit is not None:
            of = self._counted(tool, limit)
            wait_s = await self._patiently(lambda: self._loop.shared.take(limit.limits, of))
            if wait_s > 0:
                wait_s *= 1 + random.uniform(0, _SPREAD)  # noqa: S311 - spreads wake-ups, guards nothing
                return PutOff(call, wait_s, f"{call.name} may be called {limit.limits}")
        return None

    async def tell(self, tool: Tool, call: ToolCallPart, outcome: CallOutcome) -> None:
        """Tell the tool's breaker how the call went. Losing that costs little: it is not waited for."""
        breaker = tool.behaviour.breaker
        if breaker is None or not outcome.entered:
            return
        try:
            await self._loop.shared.tell_breaker(tool.name, _rule(breaker), failed=outcome.is_fault, token=call.call_id)
        except StoreUnavailable as error:
            logger.warning("the breaker of %s was not told: %s", tool.name, error, extra={"run_id": self._run.run_id})

    def _counted(self, tool: Tool, limit: RateLimit) -> tuple[str, ...]:
        """Whose calls are counted together."""
        of = {"tool": "", "user": self._run.user_id or "", "session": self._run.session_id or ""}[limit.per]
        return (tool.name, limit.per, of)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await patiently(ask, self._loop.clock, lambda: self._writer.closed)


def _rule(breaker: CircuitBreaker) -> BreakerRule:
    return BreakerRule(breaker.failures, int(breaker.pause_s * 1000), int(breaker.window_s * 1000))
