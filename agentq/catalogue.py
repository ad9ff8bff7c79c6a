"""What workers have published about their agents, as clients see it: they have no agent code."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from agentq.errors import UnknownAgent
from agentq.limits import SpendLimit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agentq.stores.base import Store

_log = logging.getLogger(__name__)
# How long an agent that workers have published counts as known, so that an enqueue is one round trip.
_FRESH_S = 5.0


class Catalogue:
    """The manifests of agents by name, read anew when they are old or do not have the agent that is asked for."""

    def __init__(self) -> None:
        self._read_at = 0.0
        self._manifests: Mapping[str, Any] = {}
        self._warned: set[str] = set()

    async def manifest(self, store: Store, agent: str) -> Mapping[str, Any]:
        """What workers have published about the agent: empty if none has published anything. Raises `UnknownAgent`."""
        manifests = await self._known(store, agent)
        if manifests is None:
            return {}
        if agent in manifests:
            return dict(manifests[agent])
        if manifests:
            raise UnknownAgent(
                f"no worker has published an agent named {agent!r}; there are: {', '.join(sorted(manifests))}",
                field="agent",
            )
        if agent not in self._warned:
            self._warned.add(agent)
            _log.warning("no worker has published its agents yet; %r is accepted unseen and waits for one", agent)
        return {}

    async def times_to_live(self, store: Store, agent: str) -> Mapping[str, int]:
        """How long runs of the agent are kept, in milliseconds by outcome; empty where nobody has said."""
        manifests = await self._known(store, agent) or {}
        ttl_ms: Mapping[str, int] = manifests.get(agent, {}).get("ttl_ms", {})
        return ttl_ms

    async def spend(self, store: Store, agent: str) -> tuple[SpendLimit, ...]:
        """What runs of the agent may use together with others; empty where nobody has said."""
        manifests = await self._known(store, agent) or {}
        published = manifests.get(agent, {}).get("spend", ())
        # A newer worker may say more of a limit than this version knows.
        known = SpendLimit.__dataclass_fields__
        return tuple(SpendLimit(**{name: each[name] for name in each if name in known}) for each in published)

    async def _known(self, store: Store, agent: str) -> Mapping[str, Any] | None:
        """All manifests, that of `agent` not older than a moment; None for a store where nobody publishes any."""
        known_agents: Callable[[], Awaitable[Mapping[str, Any] | None]] | None = getattr(store, "known_agents", None)
        if known_agents is None:
            return None
        if agent not in self._manifests or time.monotonic() - self._read_at > _FRESH_S:
            published = await known_agents()
            if published is None:
                return None
            self._read_at, self._manifests = time.monotonic(), published
        return self._manifests
