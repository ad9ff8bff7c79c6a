"""What all who work in one process share for a time; see `Shared`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentq.stores._rates import Rates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq.stores.values import BreakerRule


_FEW = 100


class MemoryShared:
    """A dictionary that forgets."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._held: dict[str, tuple[int, bytes]] = {}
        # When there are so many values, those whose time is over are taken away.
        self._many = _FEW
        self._rates = Rates()
        self._breakers: dict[str, _Breaker] = {}

    async def get(self, key: str) -> bytes | None:
        until_ms, value = self._held.get(key, (0, None))
        return value if until_ms > self._now_ms() else None

    async def set(self, key: str, value: bytes, *, ttl_ms: int) -> None:
        self._held[key] = (self._now_ms() + ttl_ms, value)
        if len(self._held) >= self._many:
            self._forget()
            self._many = 2 * max(len(self._held), _FEW)

    async def delete(self, key: str) -> None:
        self._held.pop(key, None)

    def _forget(self) -> None:
        now = self._now_ms()
        for key in [key for key, (until_ms, _) in self._held.items() if until_ms <= now]:
            del self._held[key]

    async def take(self, limits: str, of: Sequence[str]) -> float:
        return await self._rates.take(limits, of)

    async def ask_breaker(self, key: str, rule: BreakerRule, *, token: str) -> int:
        now, state = self._now_ms(), self._breakers.get(key)
        if state is None or state.forget_ms <= now:
            return 0
        if state.until_ms > now:
            return state.until_ms - now
        if state.failures < rule.failures:
            return 0
        if state.trying_ms > now and state.by != token:
            return state.trying_ms - now
        state.trying_ms, state.by = now + rule.pause_ms, token
        return 0

    async def tell_breaker(self, key: str, rule: BreakerRule, *, failed: bool, token: str) -> None:
        now = self._now_ms()
        state = self._breakers.get(key)
        if not failed:
            self._breakers.pop(key, None)
            return
        if state is None or state.forget_ms <= now:
            state = self._breakers[key] = _Breaker()
        if state.token == token:
            return
        state.token, state.trying_ms = token, 0
        state.failures += 1
        state.until_ms = now + rule.pause_ms if state.failures >= rule.failures else 0
        state.forget_ms = now + rule.pause_ms + rule.window_ms


@dataclass(slots=True)
class _Breaker:
    failures: int = 0
    until_ms: int = 0
    trying_ms: int = 0
    forget_ms: int = 0
    token: str = ""
    by: str = ""
