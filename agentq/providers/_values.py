"""What the JSON of a server holds, whatever it sent: a value of another kind counts as not there. Pure."""

from __future__ import annotations

from typing import Any

from agentq import _json
from agentq.errors import ProviderError
from agentq.providers._failures import excerpt


def dict_or_empty(value: Any) -> dict[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def dicts_in(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; none where `value` is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text_or_empty(value: Any) -> str:
    """`value` if it is a text, else an empty one."""
    return value if isinstance(value, str) else ""


def some_text(value: Any) -> str | None:
    """`value` if it is a text that says something."""
    return value if isinstance(value, str) and value else None


def count(value: Any) -> int:
    """`value` if it can be a number of tokens, else 0."""
    return value if isinstance(value, int) and value >= 0 else 0


def parsed(data: bytes) -> Any:
    """The JSON value; None where it is none."""
    try:
        return _json.loads_tolerantly(data)
    except (ValueError, RecursionError):
        return None


def object_in(data: bytes, provider: str) -> dict[str, Any]:
    """The JSON object. Raises `ProviderError` for anything else."""
    return as_object(parsed(data), data, provider)


def as_object(value: Any, data: bytes, provider: str) -> dict[str, Any]:
    """`value`, which `data` says, if it is an object. Raises `ProviderError`."""
    if not isinstance(value, dict):
        raise problem(provider, f"sent something that is no JSON object: {shown(data)}")
    return value


def shown(data: bytes) -> str:
    """`data` in a message for people."""
    return excerpt(data.decode("utf-8", "replace"))


def problem(provider: str, what: str, *, retryable: bool = True) -> ProviderError:
    """The error for a reply of which `what` is wrong."""
    return ProviderError(f"{provider}: {what}", provider=provider, retryable=retryable)
