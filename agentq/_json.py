"""JSON in and out, at the speed of pydantic-core. Bytes out, str or bytes in."""

from __future__ import annotations

import json
from typing import Any

import pydantic_core

from agentq.errors import InvalidInput


def dumps(value: Any) -> bytes:
    """Encode `value` as compact JSON. NaN and infinity become null."""
    return pydantic_core.to_json(value)


def loads(data: bytes | str) -> Any:
    """Decode JSON. Raises ValueError when `data` is not JSON."""
    return pydantic_core.from_json(data)


def loads_tolerantly(data: bytes) -> Any:
    """Decode JSON of others: halves of surrogate pairs, which some send for half of an emoji, become question marks.

    Raises ValueError when `data` is not JSON, and RecursionError where it is nested too deep.
    """
    try:
        return pydantic_core.from_json(data)
    except ValueError:
        # Python's own parser takes what the fast one does not.
        value = json.loads(data.decode("utf-8", "replace"))
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def checked(value: Any, *, field: str) -> Any:
    """Return `value` as JSON would give it back; raises `InvalidInput` naming `field` where it has no JSON form."""
    try:
        return pydantic_core.from_json(pydantic_core.to_json(value, inf_nan_mode="strings"))
    except (pydantic_core.PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        reason = str(error).removeprefix("Error serializing to JSON: ")
        raise InvalidInput(
            f"{field} cannot be stored as JSON: {reason}; use str, int, float, bool, None, list and dict", field=field
        ) from error


def storable_tree(value: Any) -> Any:
    """`value` of JSON with `storable` texts, all the way down."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(name): storable_tree(each) for name, each in value.items()}
    return [storable_tree(each) for each in value] if isinstance(value, list | tuple) else value


def storable(text: str) -> str:
    """`text` with a question mark for each lone surrogate, which has no place in JSON."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
