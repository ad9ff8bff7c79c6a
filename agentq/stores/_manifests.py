"""What workers say of the agents that they serve, as it stands in Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentq import _json

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

    async def publish(self, manifests: Mapping[str, Mapping[str, Any]]) -> None:
        """Say which agents a worker serves. To be repeated well within a day."""
        if not manifests:
            return
        await self._pipeline.run(
            self._scripts("publish"),
            agents=self._keys.agents,
            ttl_ms=_TTL_MS,
            # With the name, no manifest is empty.
            manifests=[
                item for name, each in manifests.items() for item in (name, _json.dumps({"name": name, **each}))
            ],
        )

    async def known(self) -> Mapping[str, Mapping[str, Any]]:
        """The agents that were published within a day: name → manifest."""
        raw: Mapping[bytes, bytes]
        seconds: bytes
        raw, (seconds, _) = await asyncio.gather(
            self._pipeline.execute("HGETALL", self._keys.agents), self._pipeline.execute("TIME")
        )
        manifests = {name.decode(): _json.loads(manifest) for name, manifest in raw.items()}
        # One that nobody serves any more stays in the hash until another is published.
        since = int(seconds) * 1000 - _TTL_MS
        return {name: manifest for name, manifest in manifests.items() if manifest["published_ms"] > since}
