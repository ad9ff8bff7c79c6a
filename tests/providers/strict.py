"""Checks a request body against the types of the vendor's own SDK, harder than the SDK does.

A plain check lets most mistakes pass: iterables are not looked into, and unknown keys are welcome.
"""

from __future__ import annotations

import collections.abc
import functools
import os
import types
import typing
from typing import Any, Union, get_args, get_origin

import typing_extensions
from pydantic import ConfigDict, TypeAdapter, with_config

_MARKS: tuple[Any, ...] = (typing.Required, typing.NotRequired)


def check(kind: Any, value: Any) -> None:
    """Raise pydantic's ValidationError where `value` is not exactly of the type, keys included."""
    _adapter(kind).validate_python(value, strict=True)


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(_strict(kind))


@functools.cache
def _strict(kind: Any) -> Any:
    """The type with lists for iterables and without room for keys that it does not name, all the way down."""
    if typing_extensions.is_typeddict(kind):
        return _closed(kind)
    origin, args = get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        return _strict(args[0])
    if origin in (Union, types.UnionType):
        # Open files and paths, which the SDK would read, are nothing that goes over the wire.
        kept = [arg for arg in args if (get_origin(arg) or arg) not in (typing.IO, os.PathLike)]
        return Union[tuple(_strict(arg) for arg in kept)]  # noqa: UP007 - made at run time
    if origin in (collections.abc.Iterable, collections.abc.Sequence, list):
        return list[_strict(args[0])]  # type: ignore[misc]
    if origin is dict:
        return dict[tuple(_strict(arg) for arg in args)]  # type: ignore[misc]
    return kind


def _closed(kind: Any) -> Any:
    fields = {}
    for name, hint in typing_extensions.get_type_hints(kind, include_extras=True).items():
        # The class does not know: its annotations were text when it was made.
        said: Any = get_origin(hint)
        is_required = name in kind.__required_keys__ if said not in _MARKS else said is typing.Required
        strict = _strict(get_args(hint)[0] if said in _MARKS else hint)
        fields[name] = typing.Required[strict] if is_required else typing.NotRequired[strict]
    make: Any = typing_extensions.TypedDict
    return with_config(ConfigDict(extra="forbid"))(make(kind.__name__, fields))
