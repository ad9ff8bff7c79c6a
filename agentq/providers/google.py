"""Google's Gemini API: streamed generateContent."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from agentq.providers import _http
from agentq.providers._google_request import MEDIA_TYPES, request_body
from agentq.providers._google_settings import (
    GEMINI_KEY,
    GoogleEnvironment,
    check_model,
    read_settings,
    server_of,
)
from agentq.providers._google_stream import GoogleReader
from agentq.providers._streaming import reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agentq.providers.base import Chunk, ModelRequest


class Google:
    """Streams one reply per call. Keeps nothing between calls but connections, one pool per event loop."""

    name = "google"
    media_types = MEDIA_TYPES
    result_media_types = MEDIA_TYPES

    def __init__(self, *, connections: _http.Connections | None = None) -> None:
        self._connections = connections or _http.connections

    def check(self, model: str, settings: Mapping[str, Any]) -> None:
        """Raise `InvalidInput` where the name of the model, its settings or the key are not usable."""
        check_model(self.name, model)
        server_of(self.name, read_settings(self.name, settings), GoogleEnvironment.load())

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Yield the reply. Raises `ProviderError`, and `InvalidInput` as `check` does."""
        check_model(self.name, request.model)
        settings = read_settings(self.name, request.settings)
        server = server_of(self.name, settings, GoogleEnvironment.load())
        answer = reply(
            self._connections,
            settings,
            lambda: GoogleReader(self.name, request.model),
            provider=self.name,
            url=server.url(request.model),
            headers=server.headers,
            body=request_body(request, settings, provider=self.name),
            key_source=server.key_source,
            key_name=GEMINI_KEY,
        )
        async with aclosing(answer) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._connections.aclose()
