"""How long what is imported is kept: anew from now, as if it had ended just then."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentq.loop.finishing import TimesToLive
from agentq.runs import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.archive.records import RunRecord
    from agentq.settings import Settings


@dataclass(frozen=True, slots=True)
class Terms:
    """`ttl_ms` for all runs, else each run's own word, its agent's (as workers published it), or the settings'."""

    settings: Settings
    ttl_ms: int | None = None
    manifests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of_run(self, run: RunRecord) -> int:
        """In milliseconds."""
        if self.ttl_ms is not None:
            return self.ttl_ms
        agent_ttl_ms = self.manifests.get(run.agent, {}).get("ttl_ms", {})
        return TimesToLive(dict(run.ttl_ms.items()), agent_ttl_ms, self.settings).of(Status(run.status))

    @property
    def of_session(self) -> int:
        """In milliseconds; a session is not kept for less than the runs that `ttl_ms` is for."""
        return max(self.settings.session_ttl_ms, self.ttl_ms or 0)
