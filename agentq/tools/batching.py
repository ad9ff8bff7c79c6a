"""Which calls of a reply may run at the same time. Runs nothing."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

from agentq.errors import InvalidArguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agentq.messages import ToolCallPart
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
