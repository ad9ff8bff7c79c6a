"""`Agent`: what a model is told, which tools it has, and how far a run of it may go."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.decide import Limits
from agentq.errors import InvalidInput
from agentq.providers.registry import parse_model
from agentq.settings import check_name, times_to_live
from agentq.tools.function import Tool, tool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentq.tools.spec import ToolSpec

logger = logging.getLogger(__name__)
_BACKOFF_MAX_MS = 30_000


@dataclass(frozen=True)
class Agent:
    """An agent by name. Validated when it is built; raises `InvalidInput` naming the field.

    `model` is "provider:model"; `model_settings` go to the provider as they are. `queue` is where its runs wait,
    if not on the queue that the settings name.
    `max_iterations` counts turns that made progress, `max_error_retries` consecutive turns that failed.
    `retry_backoff_s` is the first wait after a model call failed; it doubles up to 30 s.
    `ttl_s` is how long its runs are kept when they have ended: one length, or a mapping such as `{"failed": 3600}`.
    """

    name: str
    instructions: str = ""
    model: str = "mock"
    tools: Sequence[Tool | Any] = ()
    max_iterations: int = 16
    max_error_retries: int = 10
    queue: str | None = None
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    retry_backoff_s: float = 1.0
    ttl_s: float | Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        check_name(self.name, field="name")
        if self.queue is not None:
            check_name(self.queue, field="queue")
        parse_model(self.model)
        if self.max_iterations < 1:
            raise InvalidInput(f"max_iterations must be at least 1, not {self.max_iterations}", field="max_iterations")
        if self.max_error_retries < 0:
            raise InvalidInput("max_error_retries must not be negative", field="max_error_retries")
        if self.retry_backoff_s < 0:
            raise InvalidInput("retry_backoff_s must not be negative", field="retry_backoff_s")
        object.__setattr__(self, "_ttl_ms", times_to_live(self.ttl_s, field="ttl_s"))
        _json.checked(dict(self.model_settings), field="model_settings")
        tools = tuple(entry if isinstance(entry, Tool) else tool(entry) for entry in self.tools)
        object.__setattr__(self, "tools", tools)
        names = [entry.name for entry in tools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidInput(f"agent {self.name!r} has two tools named {twice[0]!r}; rename one", field="tools")
        silent = [entry.name for entry in tools if not entry.declared_effect]
        if silent:
            logger.info(
                "agent %s: %s did not say what repeating a call does, so a call is never repeated after a crash "
                '(effect="once"); say effect="none", "idempotent" or "once"',
                self.name,
                ", ".join(silent),
            )
        object.__setattr__(self, "_by_name", {entry.name: entry for entry in tools})

    def tool_named(self, name: str) -> Tool | None:
        by_name: Mapping[str, Tool] = self._by_name  # type: ignore[attr-defined]  # set in __post_init__
        return by_name.get(name)

    @property
    def ttl_ms(self) -> Mapping[str, int]:
        """How long its runs are kept, by outcome, where that is not for the settings to say."""
        ttl_ms: Mapping[str, int] = self._ttl_ms  # type: ignore[attr-defined]  # set in __post_init__
        return ttl_ms

    @property
    def tool_names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.tools)

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        return tuple(entry.spec for entry in self.tools)

    def limits(self, max_recoveries: int) -> Limits:
        return Limits(
            self.max_iterations,
            self.max_error_retries,
            max_recoveries,
            int(self.retry_backoff_s * 1000),
            _BACKOFF_MAX_MS,
        )

    def manifest(self) -> dict[str, Any]:
        """What clients without agent code are told of the agent."""
        return {
            "name": self.name,
            "queue": self.queue,
            "model": self.model,
            "max_iterations": self.max_iterations,
            "max_error_retries": self.max_error_retries,
            "ttl_ms": dict(self.ttl_ms),
            "tools": [
                {"name": spec.name, "description": spec.description, "parameters": spec.parameters}
                for spec in self.specs
            ],
        }
