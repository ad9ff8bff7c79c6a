"""The model settings of OpenAI's Responses, and what they and the environment come to: where a call goes. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agentq.providers import _openai_server, _settings
from agentq.providers._chat_settings import ChatSettings
from agentq.providers._openai_server import OpenAISettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.providers._openai_server import Server
    from agentq.settings import OpenAIEnvironment

_ENDPOINT = "/responses"
_OURS = frozenset({"input", "stream", "tools"})
# OpenAI's models that do not reason, all of them old: asked for encrypted reasoning, they answer 400.
_WITHOUT_REASONING = re.compile(r"(ft:)?(gpt-3\.5|gpt-4|chatgpt-4o|gpt-5-chat)")


class ResponsesSettings(OpenAISettings):
    """`model_settings` of an agent whose model is `openai:…`. Documented in docs/guide/models.md."""

    reasoning_summary: str | None = None
    truncation: str | None = None
    # How the server wants it
    encrypted_reasoning: bool | None = None

    @property
    def idle_s(self) -> float:
        """How long the server may be silent at any time: a model that thinks without telling of it sends no event."""
        return self.first_s

    def has_encrypted_reasoning(self, model: str) -> bool:
        """Whether to ask for reasoning in the form in which it can be sent back, and to send it."""
        if self.encrypted_reasoning is not None:
            return self.encrypted_reasoning
        return _WITHOUT_REASONING.match(model.rpartition("/")[2]) is None


def read_settings(provider: str, given: Mapping[str, Any]) -> ResponsesSettings:
    """Check the settings of an agent. Raises `InvalidInput` that names the field."""
    for name, value in given.items():
        if value is None:
            continue
        if name == "stop":
            raise _settings.wrong(name, f"{provider} speaks OpenAI's Responses, which has none; openai-chat has")
        if name in ChatSettings.model_fields and name not in ResponsesSettings.model_fields:
            raise _settings.wrong(name, f"{provider} has no such setting, openai-chat has")
    return _settings.read(provider, ResponsesSettings, given, ours=_OURS)


def server_of(settings: ResponsesSettings, environment: OpenAIEnvironment) -> Server:
    """Where to send a call. Raises `InvalidInput` for an address or a key that cannot be used, or is missing."""
    return _openai_server.server_of(settings, environment, endpoint=_ENDPOINT)
