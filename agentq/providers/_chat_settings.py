"""The model settings of Chat Completions, and what they and the environment come to: where a call goes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from agentq.providers import _openai_server, _settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.providers._openai_server import Server
    from agentq.settings import OpenAIEnvironment

_ENDPOINT = "/chat/completions"
# A reasoning model may think for minutes before the first word, and this wire has no event to tell of it.
_FIRST_S = 300.0
_OURS = frozenset({"messages", "stream", "tools"})


class ChatSettings(_settings.HttpSettings):
    """`model_settings` of an agent whose model is `openai-chat:…`. Documented in docs/guide/models.md."""

    organization: str | None = None
    project: str | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    response_format: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    # How the server wants it
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    system_role: Literal["system", "developer"] | None = None
    note_role: Literal["system", "developer", "user"] | None = None
    send_reasoning: Literal["reasoning_content", "reasoning"] | None = None
    include_usage: bool = True

    @property
    def first_s(self) -> float:
        """How long the server may be silent before its first event."""
        return self.idle_timeout_s or _FIRST_S


def read_settings(provider: str, given: Mapping[str, Any]) -> ChatSettings:
    """Check the settings of an agent. Raises `InvalidInput` that names the field."""
    return _settings.read(provider, ChatSettings, given, ours=_OURS)


def server_of(settings: ChatSettings, environment: OpenAIEnvironment) -> Server:
    """Where to send a call. Raises `InvalidInput` for an address or a key that cannot be used, or is missing."""
    return _openai_server.server_of(
        settings, environment, endpoint=_ENDPOINT, organization=settings.organization, project=settings.project
    )
