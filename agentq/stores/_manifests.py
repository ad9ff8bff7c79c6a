"""What workers say of the agents that they serve, as it stands in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq._clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq._redis.scripts import Script

# Workers publish their agents every minute; an agent that nobody has served for a day is forgotten.
_TTL_MS = 86_400_000


class Manifests:
    """Agents by name, with what clients without agent code have to know of them."""

    def __init__(self, pipeline: Pipeline, keys: Keys, scripts: Callable[[str], Script]) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._scripts = scripts
        self._clock = SystemClock()

    async def publish(self, manifests: Mapping[str, Mapping[str, Any]]) -> None:
        """Say which agents a worker serves. To be repeated well within a day."""
        if not manifests:
            return
        # At the end of each manifest, where the script looks for it.
        now = {"published_ms": self._clock.now_ms()}
        await self._pipeline.run(
            self._scripts("publish"),
            agents=self._keys.agents,
            ttl_ms=_TTL_MS,
            since=self._clock.now_ms() - _TTL_MS,
            manifests=[item for name, each in manifests.items() for item in (name, _json.dumps({**each, **now}))],
        )

    async def known(self) -> Mapping[str, Mapping[str, Any]]:
        """The agents that were published within a day: name → manifest."""
        raw: Mapping[bytes, bytes] = await self._pipeline.execute("HGETALL", self._keys.agents)
        manifests = {name.decode(): _json.loads(manifest) for name, manifest in raw.items()}
        # One that nobody serves any more stays in the hash until another is published.
        since = self._clock.now_ms() - _TTL_MS
        return {name: manifest for name, manifest in manifests.items() if manifest["published_ms"] > since}
