"""From the signature of a function to its schema and the check of its arguments, by pydantic."""

from __future__ import annotations

import inspect
import typing
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, cast

import pydantic_core
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from agentq.errors import InvalidArguments, InvalidInput
from agentq.tools.arguments import (
    Arguments,
    function_name,
    invalid_arguments,
    is_context,
    resolved,
    unknown_argument,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def typed_arguments(
    function: Callable[..., Any], *, namespace: Mapping[str, Any], descriptions: Mapping[str, str]
) -> Arguments:
    """Read the signature of `function`; `namespace` are local names that its annotations may use.

    Checks as pydantic does in its lax JSON mode: "7" passes for an int, a list becomes a tuple or a set, a string a
    date or an enum. Raises `InvalidInput` for a signature that has no schema.
    """
    known: list[inspect.Parameter] = []
    context_parameter: str | None = None
    for parameter in _signature(function).parameters.values():
        annotation = _annotation(function, parameter, namespace)
        if not is_context(annotation):
            described = _described(annotation, descriptions.get(parameter.name))
            # By keyword only, so that whatever the model gives comes back as keyword arguments.
            known.append(parameter.replace(annotation=described, kind=inspect.Parameter.KEYWORD_ONLY))
        elif context_parameter is None:
            context_parameter = parameter.name
        else:
            raise InvalidInput(
                f"{context_parameter} and {parameter.name} of {function_name(function)} both take the ToolContext; "
                "remove one of them",
                field=parameter.name,
            )
    adapter, schema = _adapter(function, known)
    names = tuple(schema.get("properties", ()))
    return Arguments(schema, context_parameter, partial(_bind_typed, adapter, names))


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (ValueError, TypeError, NameError) as error:
        raise InvalidInput(
            f"the signature of {function_name(function)} cannot be read: {error}; wrap it in a function",
            field="function",
        ) from error


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter, namespace: Mapping[str, Any]) -> Any:
    """The resolved annotation of a parameter that a model can fill."""
    name, kind = parameter.name, parameter.kind
    problem = None
    if kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        stars = "*" if kind is inspect.Parameter.VAR_POSITIONAL else "**"
        problem = f"takes {stars}{name}, which has no schema; name each argument, or take a list or dict"
    elif kind is inspect.Parameter.POSITIONAL_ONLY:
        problem = f"takes {name} by position only; remove the / from its signature"
    elif parameter.annotation is not inspect.Parameter.empty:
        pass
    elif name in {"self", "cls"}:
        problem = "is a method; make a tool of the bound one: tool(thing.method)"
    else:
        problem = f"has no annotation for parameter {name}; write {name}: {'ToolContext' if name == 'ctx' else 'str'}"
    if problem is not None:
        raise InvalidInput(f"{function_name(function)} {problem}", field=name)
    try:
        return resolved(function, parameter.annotation, namespace)
    except Exception as error:
        raise InvalidInput(
            f"{function_name(function)} has an annotation for parameter {name}, {parameter.annotation!r}, that cannot "
            f"be resolved: {error}; define or import the type before the tool, and not only for type checkers",
            field=name,
        ) from error


def _described(annotation: Any, description: str | None) -> Any:
    """Attach the description of a parameter, unless a Field has one or there is an `Annotated[..., "text"]`."""
    base, metadata = annotation, list[Any]()
    if typing.get_origin(annotation) is Annotated:
        base, *metadata = typing.get_args(annotation)
    text = next((item for item in metadata if isinstance(item, str)), description)
    # In front, because of two Fields pydantic lets the later one win.
    return annotation if text is None else cast("Any", Annotated)[(base, Field(description=text), *metadata)]


def _adapter(
    function: Callable[..., Any], parameters: Sequence[inspect.Parameter]
) -> tuple[TypeAdapter[dict[str, Any]], dict[str, Any]]:
    """The validator and the schema of `parameters`. Raises `InvalidInput`, naming the one that has none."""
    try:
        return _build(parameters)
    except Exception as error:
        if len(parameters) > 1:
            for parameter in parameters:
                _adapter(function, [parameter])
        names = ", ".join(parameter.name for parameter in parameters)
        reason = str(error).split("\n\nFor further information")[0]
        raise InvalidInput(f"{names} of {function_name(function)} has no JSON Schema: {reason}", field=names) from error


def _build(parameters: Sequence[inspect.Parameter]) -> tuple[TypeAdapter[dict[str, Any]], dict[str, Any]]:
    # For a function, pydantic validates the arguments and then calls it: this one gives them back.
    def collect(**arguments: Any) -> dict[str, Any]:
        return arguments

    vars(collect)["__signature__"] = inspect.Signature(parameters)
    collect.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(cast("Any", collect))
    return adapter, _without_titles(adapter.json_schema(schema_generator=_QuietSchema))


class _QuietSchema(GenerateJsonSchema):
    """A default that has no JSON form is left out of the schema, without a warning: the function still has it."""

    ignored_warning_kinds = frozenset({"skipped-choice", "non-serializable-default"})  # type: ignore[assignment]


def _without_titles(node: Any) -> Any:
    """Drop the titles that pydantic derives from names: tokens that tell a model nothing."""
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    if not isinstance(node, dict):
        return node
    cleaned = {}
    for key, value in node.items():
        if key in {"properties", "$defs", "patternProperties"}:  # the keys below are names, one may be "title"
            cleaned[key] = {name: _without_titles(schema) for name, schema in value.items()}
        elif key in {"default", "const", "enum", "examples", "discriminator"}:  # values, not schemas
            cleaned[key] = value
        elif key != "title":
            cleaned[key] = _without_titles(value)
    return cleaned


def _bind_typed(
    adapter: TypeAdapter[dict[str, Any]], names: Sequence[str], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        # Through JSON text, which is what the arguments were: only so a strict model takes a date from a string.
        return adapter.validate_json(pydantic_core.to_json(arguments, inf_nan_mode="constants"))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise invalid_arguments(_problem(problem, names) for problem in problems) from error
    except pydantic_core.PydanticSerializationError as error:
        raise InvalidArguments(f"the arguments are not JSON: {error}") from error


def _problem(problem: pydantic_core.ErrorDetails, names: Sequence[str]) -> str:
    where = ".".join(str(step) for step in problem["loc"])
    if problem["type"] == "unexpected_keyword_argument":
        return unknown_argument(where, names)
    # The argument forms of "missing" speak of keywords, which a model has not heard of.
    return f"{where}: {'Field required' if problem['type'].startswith('missing') else problem['msg']}"
