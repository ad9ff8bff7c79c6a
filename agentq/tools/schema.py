"""Tools that bring a JSON Schema of their own: whether it fits the function, and the check of a call's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from agentq._json import checked
from agentq.errors import InvalidInput
from agentq.tools.arguments import (
    Arguments,
    function_name,
    invalid_arguments,
    is_context,
    resolved,
    unknown_argument,
)

_JSON_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


def raw_arguments(parameters: Mapping[str, Any], function: Callable[..., Any]) -> Arguments:
    """Take `parameters` as the schema of `function`, after a look whether the two fit each other.

    Checks of a call: required arguments are there, no name is unknown where `additionalProperties` is false or the
    function would not take it, and top-level values have their `type`. Everything deeper is left to the function.
    """
    schema = _checked_schema(parameters)
    shape = _shape(function)
    properties = schema.get("properties", {})
    if shape.context_parameter in properties:
        raise InvalidInput(
            f"parameters describes {shape.context_parameter}, which takes the ToolContext; remove it from the schema",
            field="parameters",
        )
    for name in properties:
        if shape.accepted is not None and name not in shape.accepted:
            raise InvalidInput(
                f"parameters describes {name}, which the function does not take; add it or **kwargs to the function",
                field="parameters",
            )
    for name in shape.needed:
        if name not in properties:
            raise InvalidInput(
                f"the function needs {name}, which parameters does not describe; add it to the schema",
                field="parameters",
            )
    return Arguments(schema, shape.context_parameter, partial(_bind_raw, schema, shape))


@dataclass(frozen=True, slots=True)
class _Shape:
    """How a function can be called by keyword. `accepted` is None where it takes any name."""

    accepted: frozenset[str] | None = None
    needed: tuple[str, ...] = ()
    context_parameter: str | None = None


def _shape(function: Callable[..., Any]) -> _Shape:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError, NameError):  # some builtins have none
        return _Shape()
    accepted: set[str] = set()
    needed: list[str] = []
    context_parameter: str | None = None
    takes_any = False
    for parameter in parameters:
        required = parameter.default is inspect.Parameter.empty
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            takes_any = True
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            continue
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            if required:
                name = function_name(function)
                raise InvalidInput(f"{name} takes {parameter.name} by position only; remove the /", field="function")
        elif _wants_context(function, parameter.annotation):
            context_parameter = parameter.name
        else:
            accepted.add(parameter.name)
            if required:
                needed.append(parameter.name)
    return _Shape(None if takes_any else frozenset(accepted), tuple(needed), context_parameter)


def _wants_context(function: Callable[..., Any], annotation: Any) -> bool:
    try:
        return is_context(resolved(function, annotation, {}))
    except Exception:  # noqa: BLE001 - an annotation of no concern to us may name anything
        return False


def _checked_schema(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `parameters`. Raises `InvalidInput` unless it is a JSON Schema of type object."""
    if not isinstance(parameters, Mapping):
        raise InvalidInput(f"parameters is a JSON Schema, not {type(parameters).__name__}", field="parameters")
    schema: dict[str, Any] = checked(dict(parameters), field="parameters")
    if schema.get("type") != "object":
        raise InvalidInput('parameters must be an object schema: {"type": "object", ...}', field="parameters")
    properties = schema.get("properties", {})
    if not isinstance(properties, dict) or not all(isinstance(value, (dict, bool)) for value in properties.values()):
        raise InvalidInput("parameters.properties maps names to JSON Schemas", field="parameters")
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise InvalidInput("parameters.required is a list of names", field="parameters")
    return schema


def _bind_raw(schema: Mapping[str, Any], shape: _Shape, arguments: Mapping[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties", {})
    closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    required = dict.fromkeys([*schema.get("required", ()), *shape.needed])
    problems = [f"{name}: Field required" for name in required if name not in arguments]
    for name, value in arguments.items():
        if name in properties:
            problems += _type_problems(name, value, properties[name])
        elif closed or name == shape.context_parameter or (shape.accepted is not None and name not in shape.accepted):
            problems.append(unknown_argument(name, tuple(properties)))
    if problems:
        raise invalid_arguments(problems)
    return dict(arguments)


def _type_problems(name: str, value: Any, schema: Any) -> list[str]:
    stated = schema.get("type") if isinstance(schema, dict) else None
    types = [stated] if isinstance(stated, str) else stated
    if not isinstance(types, list) or any(_has_type(value, each) for each in types):
        return []
    return [f"{name}: Input should be of type {' or '.join(types)}"]


def _has_type(value: Any, json_type: Any) -> bool:
    """Whether `value` is of a type of JSON Schema; anything is of a type that the standard does not know."""
    if json_type == "integer":
        return (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, float) and value.is_integer()
        )
    if not isinstance(json_type, str) or json_type not in _JSON_TYPES:
        return True
    return isinstance(value, _JSON_TYPES[json_type]) and (json_type == "boolean" or not isinstance(value, bool))
