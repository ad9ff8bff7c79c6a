"""`Toolset`, a named group of tools, and `ToolSource`, which is asked for its tools in each iteration. Asks nobody."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from agentq.errors import InvalidInput
from agentq.settings import check_name
from agentq.tools.function import Tool, tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from agentq.runs import RunState

# Tools, functions, toolsets and sources, or one function of the run that returns such a list, sync or async.
ToolList: TypeAlias = "Sequence[Any] | Callable[[RunState], Any]"
_PREFIX = re.compile(r"[A-Za-z0-9_-]{0,50}")


@runtime_checkable
class ToolSource(Protocol):
    """Tools that are asked for in each iteration, such as those of an MCP server.

    What `tools_for` raises fails the turn; a call that stands in the journal gets it as its result. With an `aclose`,
    it is closed at the end of its worker.
    """

    @property
    def name(self) -> str: ...

    async def tools_for(self, run: RunState) -> Sequence[Any]:
        """The tools for this iteration of the run; asked for often, so it remembers what is dear to find out."""
        ...


@dataclass(frozen=True)
class Toolset:
    """A named group of tools, which a run may choose by its name. Raises `InvalidInput`, naming the field.

    `tools` is what an agent's `tools` may be. `prefix` goes before the name of each tool, as in "shop_".
    """

    name: str
    tools: ToolList = ()
    prefix: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, field="name")
        if not isinstance(self.prefix, str) or not _PREFIX.fullmatch(self.prefix):
            raise InvalidInput(
                f"prefix must be at most 50 letters, digits, _ or -, not {self.prefix!r}", field="prefix"
            )
        object.__setattr__(self, "tools", checked_tools(self.tools))
        tuple(flatten([self]))  # every name with its prefix must be one


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool, and the toolsets that it is in by name, the outermost first."""

    tool: Tool
    toolsets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unasked:
    """A source, or a function of the run, and what goes with the tools that it will name."""

    source: ToolSource | Callable[[RunState], Any]
    toolsets: tuple[str, ...]
    prefix: str

    @property
    def title(self) -> str:
        """What people call it."""
        if isinstance(self.source, ToolSource):
            return self.source.name
        name = getattr(self.source, "__name__", "")
        return name if name.isidentifier() else "the function of the run"


def checked_tools(tools: ToolList) -> ToolList:
    """The tools with every plain function made a tool. Raises `InvalidInput`."""
    if isinstance(tools, Tool | Toolset | ToolSource):
        raise InvalidInput(f"tools must be a list; write tools=[{tools.name}]", field="tools")
    if callable(tools):
        _check_function_of_run(tools)
        return tools
    if isinstance(tools, str) or not isinstance(tools, Sequence):
        raise InvalidInput(f"tools must be a list, or a function of the run, not {type(tools).__name__}", field="tools")
    for entry in tools:
        if isinstance(entry, Tool) and entry.is_method:
            raise InvalidInput(
                f"{entry.name} is a method; give the one of an instance, tools=[thing.{entry.name}], or decorate its "
                "class with @agent",
                field="tools",
            )
    return tuple(entry if isinstance(entry, Tool | Toolset | ToolSource) else tool(entry) for entry in tools)


def flatten(tools: ToolList, toolsets: tuple[str, ...] = (), prefix: str = "") -> Iterator[Offered | Unasked]:
    """The tools one by one, in order, under their full names; what has to be asked stands in the place of its tools."""
    if not isinstance(tools, Sequence):
        yield Unasked(tools, toolsets, prefix)
        return
    for entry in tools:
        if isinstance(entry, Tool):
            yield Offered(entry.renamed(prefix + entry.name) if prefix else entry, toolsets)
        elif isinstance(entry, Toolset):
            yield from flatten(entry.tools, (*toolsets, entry.name), prefix + entry.prefix)
        else:
            yield Unasked(entry, (*toolsets, entry.name), prefix)


def manifest_of(offered: Offered) -> dict[str, Any]:
    """What clients are told of a tool."""
    tool, behaves = offered.tool, offered.tool.behaviour
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "effect": tool.effect,
        "read_only": behaves.read_only,
        "destructive": behaves.destructive,
        "toolset": offered.toolsets[-1] if offered.toolsets else None,
    }


def clash(found: Sequence[Offered | Unasked]) -> tuple[str, str] | None:
    """A name that means two things, and why; None where each means one."""
    names = [each.tool.name for each in found if isinstance(each, Offered)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        return twice[0], f"has two tools named {twice[0]!r}; rename one, or give a toolset a prefix"
    both = sorted({name for each in found for name in each.toolsets}.intersection(names))
    if both:
        return both[0], f"has a tool and a toolset named {both[0]!r}; rename one"
    return None


def _check_function_of_run(function: Any) -> None:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        name = getattr(function, "__name__", "function")
        raise InvalidInput(
            "tools is a list, or a function of the run, which takes the run alone; "
            f"to offer {name} as a tool, write tools=[{name}]",
            field="tools",
        ) from None
    except ValueError:  # a callable without a signature
        return
