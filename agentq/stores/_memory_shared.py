"""What all who work in one process share for a time; see `Shared`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class MemoryShared:
    """A dictionary that forgets."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._held: dict[str, tuple[int, bytes]] = {}

    async def get(self, key: str) -> bytes | None:
        self._forget()
        return self._held[key][1] if key in self._held else None

    async def set(self, key: str, value: bytes, *, ttl_ms: int) -> None:
        self._forget()
        self._held[key] = (self._now_ms() + ttl_ms, value)

    async def delete(self, key: str) -> None:
        self._held.pop(key, None)

    def _forget(self) -> None:
        now = self._now_ms()
        for key in [key for key, (until_ms, _) in self._held.items() if until_ms <= now]:
            del self._held[key]
