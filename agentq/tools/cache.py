"""What tools find out once for all workers, and keep for a time."""

from __future__ import annotations

from typing import Any, Protocol

from agentq import _json
from agentq.errors import InvalidInput

_MAX_KEY_CHARS = 500
_MAX_VALUE_BYTES = 1_000_000
_LONGEST_S = 30 * 86_400


class Held(Protocol):
    """Where the values are."""

    async def get(self, key: str) -> bytes | None:
        """The value; None where there is none any more."""

    async def set(self, key: str, value: bytes, *, ttl_ms: int) -> None:
        """Keep a value for so long."""

    async def delete(self, key: str) -> None:
        """Forget a value."""


class Cache:
    """JSON values by key, shared by all tools and workers of a deployment. To be awaited; see `ToolContext.wait`.

    It belongs to no run: a value may be gone at any time, and whoever sets it last wins.
    """

    def __init__(self, held: Held) -> None:
        self._held = held

    async def get(self, key: str, default: Any = None) -> Any:
        """The value, or `default` where there is none any more."""
        value = await self._held.get(_checked(key))
        return default if value is None else _json.loads(value)

    async def set(self, key: str, value: Any, *, ttl_s: float = 3600) -> None:
        """Keep a value for so long, at most 30 days. Raises `InvalidInput` for one that is no JSON or above 1 MB."""
        if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float) or not 0.001 <= ttl_s <= _LONGEST_S:
            raise InvalidInput(f"ttl_s must be seconds, up to {_LONGEST_S} (30 days), not {ttl_s!r}", field="ttl_s")
        encoded = _json.dumps(_json.checked(value, field="value"))
        if len(encoded) > _MAX_VALUE_BYTES:
            raise InvalidInput(f"value has {len(encoded)} bytes, more than {_MAX_VALUE_BYTES}", field="value")
        await self._held.set(_checked(key), encoded, ttl_ms=int(ttl_s * 1000))

    async def delete(self, key: str) -> None:
        """Forget a value."""
        await self._held.delete(_checked(key))


def _checked(key: Any) -> str:
    if not isinstance(key, str) or not 0 < len(key) <= _MAX_KEY_CHARS:
        raise InvalidInput(f"key must have 1 to {_MAX_KEY_CHARS} characters, not {key!r}", field="key")
    return f"cache:{key}"


def memory_cache() -> Cache:
    """A cache of its own, which forgets nothing: for a context that no loop made, as in a user's test."""
    return Cache(_Unforgetting())


class _Unforgetting:
    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self._values.get(key)

    async def set(self, key: str, value: bytes, *, ttl_ms: int) -> None:
        self._values[key] = value

    async def delete(self, key: str) -> None:
        self._values.pop(key, None)
