"""OpenAI's Responses: the API of its reasoning models, and of the few other servers that speak it."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from agentq.providers import _http
from agentq.providers._openai_server import OPENAI_KEY
from agentq.providers._responses_request import MEDIA_TYPES, request_body
from agentq.providers._responses_settings import read_settings, server_of
from agentq.providers._responses_stream import ResponsesReader
from agentq.providers._settings import check_model
from agentq.providers._streaming import reply
from agentq.settings import OpenAIEnvironment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agentq.providers.base import Chunk, ModelRequest

_NO_RESPONSES = "a server that has Chat Completions only takes openai-chat: in place of openai:"


class OpenAI:
    """Streams one reply per call. Keeps nothing between calls but connections, one pool per event loop.

    The server keeps nothing either: each call brings all that was said, reasoning in its encrypted form.
    """

    media_types = MEDIA_TYPES
    result_media_types = MEDIA_TYPES

    def __init__(self, name: str = "openai", *, connections: _http.Connections | None = None) -> None:
        self.name = name
        self._connections = connections or _http.connections

    def check(self, model: str, settings: Mapping[str, Any]) -> None:
        """Raise `InvalidInput` where the name of the model, its settings or the key are not usable."""
        check_model(self.name, model, "gpt-4o-mini")
        server_of(read_settings(self.name, settings), OpenAIEnvironment.load())

    def promises_output(self, request: ModelRequest) -> bool:
        """The API takes any schema, and keeps the model to those of the strict kind."""
        return request.output is not None

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Yield the reply. Raises `ProviderError`, and `InvalidInput` as `check` does."""
        settings = read_settings(self.name, request.settings)
        server = server_of(settings, OpenAIEnvironment.load())
        answer = reply(
            self._connections,
            settings,
            lambda: ResponsesReader(self.name, request.model),
            provider=self.name,
            url=server.url,
            headers=server.headers,
            body=request_body(request, settings, server, provider=self.name),
            key_source=server.key_source,
            key_name=OPENAI_KEY,
            not_there="" if server.is_openai else _NO_RESPONSES,
        )
        async with aclosing(answer) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._connections.aclose()
