"""How long a run is kept that only the store can end, because it cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.stores.base import SESSION_TTL_MS

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Retention:
    """What the settings say, in milliseconds: of a run that failed, and of a session after its last run."""

    failed_ms: int = 7 * 86_400_000
    session_ms: int = SESSION_TTL_MS

    def of_broken(self, raw: Mapping[bytes, bytes], manifests: Mapping[str, Mapping[str, Any]]) -> int:
        """The run's own word if it can be read, else its agent's, else that of the settings."""
        agent = raw.get(b"agent", b"").decode(errors="replace")
        return _failed_ms(_ttl_of(raw)) or _failed_ms(manifests.get(agent, {}).get("ttl_ms")) or self.failed_ms


def _ttl_of(raw: Mapping[bytes, bytes]) -> Any:
    try:
        return _json.loads(raw.get(b"ttl", b"{}"))
    except ValueError:
        return {}


def _failed_ms(ttl_ms: Any) -> int:
    """What is said of runs that failed; 0 where nothing is, or nothing that makes sense."""
    said = ttl_ms.get("failed") if isinstance(ttl_ms, dict) else None
    return said if isinstance(said, int) and said > 0 else 0
