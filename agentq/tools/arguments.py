"""What a tool takes, and what the two sources of that share: a signature (signature.py), a given schema (schema.py)."""

from __future__ import annotations

import inspect
import typing
from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union

from agentq.errors import InvalidArguments
from agentq.tools.context import ToolContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

# More lines than this teach the model nothing, and a long list of bad items would have thousands.
_MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Arguments:
    """The parameters of a tool as JSON Schema, the one that receives the context (or None), and the check of a call.

    `bind` turns the model's arguments into keyword arguments, without the context. It raises `InvalidArguments`, one
    line per problem.
    """

    parameters: dict[str, Any]
    context_parameter: str | None
    bind: Callable[[Mapping[str, Any]], dict[str, Any]]


def function_name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", None) or repr(function)


def resolved(function: Callable[..., Any], annotation: Any, namespace: Mapping[str, Any]) -> Any:
    """Evaluate an annotation that is a string or holds one. Raises whatever the evaluation raises."""

    def shim() -> None: ...

    shim.__annotations__ = {"it": annotation}
    global_names = getattr(inspect.unwrap(function), "__globals__", {})
    local_names = dict(namespace)
    if "ToolContext" not in global_names:  # linters like to move that import below `if TYPE_CHECKING`
        local_names.setdefault("ToolContext", ToolContext)
    return typing.get_type_hints(shim, global_names, local_names, include_extras=True)["it"]


def is_context(annotation: Any) -> bool:
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return is_context(typing.get_args(annotation)[0])
    if origin in {Union, UnionType}:
        return any(is_context(member) for member in typing.get_args(annotation))
    return annotation is ToolContext


def unknown_argument(name: str, names: Sequence[str]) -> str:
    return f"{name}: unknown argument; " + (f"known are {', '.join(names)}" if names else "the tool takes none")


def invalid_arguments(problems: Iterable[str]) -> InvalidArguments:
    lines = list(problems)
    more = len(lines) - _MAX_PROBLEMS
    if more > 0:
        lines[_MAX_PROBLEMS:] = [f"... and {more} more"]
    return InvalidArguments("\n".join(lines))
