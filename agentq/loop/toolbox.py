"""`Toolbox`: the tools that one iteration has, from what its agent offers and what its run may use."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.errors import AgentQError, ToolError
from agentq.tools.function import Tool, is_async
from agentq.tools.threads import pool
from agentq.tools.toolset import Offered, ToolSource, Unasked, checked_tools, clash, flatten

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

    from agentq.runs import RunState
    from agentq.tools.spec import ToolSpec

logger = logging.getLogger(__name__)


class Toolbox:
    """Tools by name. `problem` says that there may be more, and why they could not be had."""

    __slots__ = ("_by_name", "names", "offered", "problem", "specs")

    def __init__(self, offered: Iterable[Offered], problem: str | None = None) -> None:
        self.offered: tuple[Offered, ...] = tuple(offered)
        self.problem = problem
        self._by_name: dict[str, Tool] = {each.tool.name: each.tool for each in self.offered}
        self.names: tuple[str, ...] = tuple(self._by_name)
        self.specs: tuple[ToolSpec, ...] = tuple(tool.spec for tool in self._by_name.values())

    def named(self, name: str) -> Tool | None:
        """The tool of that name. Where it may be among those that could not be had, one whose calls say so."""
        tool = self._by_name.get(name)
        if tool is None and self.problem is not None:
            return _unreachable(name, self.problem)
        return tool

    def only(self, wanted: Collection[str]) -> Toolbox:
        """Those of these names, of tools or of toolsets."""
        return Toolbox([each for each in self.offered if _is_wanted(each, wanted)], self.problem)


NO_TOOLS = Toolbox(())
# Those that may hold something open, by identity: one that a function of the run made is in no agent's list.
_asked_sources: dict[int, ToolSource] = {}
# No deployment has so many. Whoever makes one for each run has a session, and perhaps a process, left over each time.
_TOO_MANY = 100


async def close_sources() -> None:
    """Close what the sources that were asked in this process hold open in this event loop. One that fails is logged."""
    for source in list(_asked_sources.values()):
        close: Callable[[], Awaitable[None]] = source.aclose  # type: ignore[attr-defined]
        try:
            await close()
        except Exception:
            logger.exception("%s could not be closed", source.name)


def _remember(source: ToolSource) -> None:
    if id(source) not in _asked_sources:
        _asked_sources[id(source)] = source
        if len(_asked_sources) == _TOO_MANY:
            logger.warning(
                "%d sources of tools are open, the last one is %s: make each once, and not in a function of the run",
                _TOO_MANY,
                source.name,
            )


async def find_tools(parts: Sequence[Offered | Unasked], run: RunState) -> Toolbox:
    """Ask whom there is to ask, all at once. What fails is the toolbox's `problem`, and the log says why."""
    wanted = run.tools
    if wanted is not None:
        parts = _worth_asking(parts, wanted)
    found, problems = await _asked(parts, run)
    while (ambiguous := clash(found)) is not None:
        # Which one the model meant nobody knows, and one of them may do harm.
        name, why = ambiguous
        problems.append(f"the agent {why}")
        found = [each for each in found if each.tool.name != name]
    toolbox = Toolbox(found, _json.storable("; ".join(problems)) or None)
    return toolbox if wanted is None else toolbox.only(wanted)


def _is_wanted(each: Offered | Unasked, wanted: Collection[str]) -> bool:
    return (isinstance(each, Offered) and each.tool.name in wanted) or any(name in wanted for name in each.toolsets)


def _worth_asking(parts: Sequence[Offered | Unasked], wanted: Collection[str]) -> Sequence[Offered | Unasked]:
    """A run that needs nothing of a source must not fail with it."""
    at_hand = {each.tool.name for each in parts if isinstance(each, Offered)}
    at_hand.update(name for each in parts for name in each.toolsets)
    if not at_hand.issuperset(wanted):
        return parts
    return [each for each in parts if isinstance(each, Offered) or _is_wanted(each, wanted)]


async def _asked(parts: Sequence[Offered | Unasked], run: RunState) -> tuple[list[Offered], list[str]]:
    """The tools in order, and what went wrong."""
    unasked = [each for each in parts if isinstance(each, Unasked)]
    answers = iter(await asyncio.gather(*[_ask(each, run) for each in unasked], return_exceptions=True))
    found: list[Offered] = []
    problems: list[str] = []
    for part in parts:
        if isinstance(part, Offered):
            found.append(part)
            continue
        answer = next(answers)
        if isinstance(answer, BaseException):
            problems.append(_told(part, answer, run))
        else:
            more, failed = answer
            found += more
            problems += failed
    return found, problems


async def _ask(each: Unasked, run: RunState) -> tuple[list[Offered], list[str]]:
    source = each.source
    if isinstance(source, ToolSource):
        if hasattr(source, "aclose"):
            _remember(source)
        given: Any = await source.tools_for(run)
    elif is_async(source):
        given = await source(run)
    else:
        function = source
        given = await pool.run(lambda: function(run), abandoned=lambda: None)
        if asyncio.iscoroutine(given):  # a lambda around an async function
            given = await given
    return await _asked(list(flatten(checked_tools(given), each.toolsets, each.prefix)), run)


def _told(part: Unasked, error: BaseException, run: RunState) -> str:
    is_ours = isinstance(error, AgentQError)
    words = str(error) if is_ours and str(error) else f"{type(error).__name__}: {error}"
    logger.warning(
        "the tools of %s cannot be had: %s",
        part.title,
        words,
        exc_info=None if is_ours else error,
        extra={"run_id": run.run_id},
    )
    return f"the tools of {part.title} cannot be had: {words}"


def _unreachable(name: str, problem: str) -> Tool:
    """Stands for a tool that may be there; its calls fail at once."""

    async def fail(**_: Any) -> None:
        raise ToolError(f"the tool {name} cannot be reached: {problem}")

    # A model may ask for a name that no tool can have.
    stand_in = Tool("unreachable", "", {"type": "object"}, fail, effect="none")
    stand_in.name = name
    return stand_in
