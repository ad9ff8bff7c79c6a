"""OpenAI's Chat Completions, and every server that speaks it: Ollama, vLLM, llama.cpp, OpenRouter and many more."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from agentq.messages import Origin
from agentq.providers import _http
from agentq.providers._chat_request import MEDIA_TYPES, request_body, takes_schema
from agentq.providers._chat_settings import ChatSettings, dialect_at, read_settings, server_of, vendor_server_of
from agentq.providers._chat_stream import ChatReader
from agentq.providers._settings import check_model
from agentq.providers._streaming import reply
from agentq.providers._vendors import VENDORS
from agentq.settings import OpenAIEnvironment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agentq.providers._openai_server import Server
    from agentq.providers._vendors import Vendor
    from agentq.providers.base import Chunk, ModelRequest


class OpenAIChat:
    """Streams one reply per call. Keeps nothing between calls but connections, one pool per event loop."""

    media_types = MEDIA_TYPES
    result_media_types = MEDIA_TYPES

    def __init__(
        self,
        name: str = "openai-chat",
        *,
        vendor: Vendor | None = None,
        connections: _http.Connections | None = None,
    ) -> None:
        self.name = name
        self._vendor = vendor
        self._connections = connections or _http.connections

    def check(self, model: str, settings: Mapping[str, Any]) -> None:
        """Raise `InvalidInput` where the name of the model, its settings or the key are not usable."""
        check_model(self.name, model, self._vendor.example if self._vendor else "gpt-4o-mini")
        self._server(read_settings(self.name, settings))

    def promises_output(self, request: ModelRequest) -> bool:
        """Whether the server is told what the answer must be: not all of them can be, or not together with tools."""
        settings = read_settings(self.name, request.settings)
        if settings.response_format is not None:
            return True
        dialect = self._vendor.dialect if self._vendor else dialect_at(settings, OpenAIEnvironment.load())
        return takes_schema(dialect, request)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Yield the reply. Raises `ProviderError`, and `InvalidInput` as `check` does."""
        settings = read_settings(self.name, request.settings)
        server = self._server(settings)
        origin = Origin(api=server.chat_api, model=request.model)
        answer = reply(
            self._connections,
            settings,
            lambda: ChatReader(self.name, origin),
            provider=self.name,
            url=server.url,
            headers=server.headers,
            body=request_body(request, settings, server, provider=self.name),
            key_source=server.key_source,
            key_name=server.key_name,
        )
        async with aclosing(answer) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._connections.aclose()

    def _server(self, settings: ChatSettings) -> Server:
        if self._vendor is not None:
            return vendor_server_of(self._vendor, settings)
        return server_of(settings, OpenAIEnvironment.load())


def vendor(name: str) -> OpenAIChat:
    """The provider of the models of one of `VENDORS`, which goes by its name in errors too."""
    return OpenAIChat(name, vendor=VENDORS[name])
