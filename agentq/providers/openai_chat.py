"""OpenAI's Chat Completions, and every server that speaks it: Ollama, vLLM, llama.cpp, OpenRouter and many more."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.providers import _http
from agentq.providers._chat_request import MEDIA_TYPES, request_body
from agentq.providers._chat_settings import ChatSettings, read_settings, server_of
from agentq.providers._chat_stream import ChatReader
from agentq.providers._openai_server import OPENAI_KEY, Server
from agentq.providers._settings import check_model
from agentq.providers._streaming import reply
from agentq.settings import OpenAIEnvironment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agentq.providers.base import Chunk, ModelRequest


class OpenAIChat:
    """Streams one reply per call. Keeps nothing between calls but connections, one pool per event loop.

    It makes no second attempt: the loop does, with its back-off and its budget, from any worker.
    """

    media_types = MEDIA_TYPES

    def __init__(self, name: str = "openai-chat", *, connections: _http.Connections | None = None) -> None:
        self.name = name
        self._connections = connections or _http.connections

    def check(self, model: str, settings: Mapping[str, Any]) -> None:
        """Raise `InvalidInput` where the name of the model, its settings or the key are not usable."""
        check_model(self.name, model, "gpt-4o-mini")
        server_of(read_settings(self.name, settings), OpenAIEnvironment.load())

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Yield the reply. Raises `ProviderError`, and `InvalidInput` as `check` does."""
        settings = read_settings(self.name, request.settings)
        server = server_of(settings, OpenAIEnvironment.load())
        post = self._post(settings, server, request_body(request, settings, server, provider=self.name))
        answer = reply(
            self._connections, post, ChatReader(self.name), key_source=server.key_source, key_name=OPENAI_KEY
        )
        async with aclosing(answer) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._connections.aclose()

    def _post(self, settings: ChatSettings, server: Server, body: dict[str, Any]) -> _http.Post:
        return _http.Post(
            self.name,
            server.url,
            server.headers,
            _json.dumps(body),
            connect_s=settings.connect_s,
            headers_s=settings.headers_s,
            first_s=settings.first_s,
            idle_s=settings.idle_s,
            timeout_s=settings.timeout_s,
        )
