"""Which calls of a reply may run at the same time, and what one gets that another took along. Runs nothing."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

from agentq.errors import InvalidArguments
from agentq.messages import ToolCallPart, ToolResultPart
from agentq.tools.execution import CallOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agentq.tools.function import Tool

_logger = logging.getLogger(__name__)


def is_safe_beside_others(tool: Tool | None, call: ToolCallPart) -> bool:
    """Whether a call may run at the same time as others that may. A call that enters no tool may.

    A function that cannot judge the arguments says no, and the log says why.
    """
    if tool is None or call.arguments_error is not None:
        return True
    judge = tool.behaviour.concurrency_safe
    if isinstance(judge, bool):
        return judge
    try:
        return judge(tool.bind(call.arguments)) is True
    except InvalidArguments:
        return True
    except Exception as error:
        _logger.warning("tool %s could not say whether a call may run beside others", tool.name, exc_info=error)
        return False


def batches(
    calls: Sequence[ToolCallPart], is_safe: Callable[[ToolCallPart], bool]
) -> Iterator[tuple[ToolCallPart, ...]]:
    """Split calls, in order, into groups that may each run at once: neighbours that are safe share a group.

    Any other call is alone: it may depend on those before it, and those after it on what it does.
    """
    for safe, stretch in itertools.groupby(calls, key=is_safe):
        if safe:
            yield tuple(stretch)
        else:
            for call in stretch:
                yield (call,)


def discarded(call: ToolCallPart, failed: str | None, *, may_have_happened: bool) -> CallOutcome:
    """The outcome of a call that was stopped, or never started, because the tool `failed` beside it has failed."""
    why = f"{failed}, which was called with it, failed"
    content = (
        f"Outcome unknown: the call was stopped because {why}. It may or may not have had its effect."
        if may_have_happened
        else f"Not done: {why}."
    )
    result = ToolResultPart(
        call_id=call.call_id,
        name=call.name,
        content=content,
        outcome="unknown" if may_have_happened else "cancelled",
        provider_call_id=call.provider_call_id,
    )
    return CallOutcome(result, raised=False, duration_ms=0)
