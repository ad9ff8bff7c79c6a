"""Google's Gemini API: streamed generateContent."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.providers import _http
from agentq.providers._google_request import MEDIA_TYPES, request_body
from agentq.providers._google_settings import (
    GEMINI_KEY,
    GoogleEnvironment,
    GoogleSettings,
    Server,
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
        post = self._post(settings, server, request)
        answer = reply(
            self._connections,
            post,
            lambda: GoogleReader(self.name, request.model),
            retry=settings.retry,
            key_source=server.key_source,
            key_name=GEMINI_KEY,
        )
        async with aclosing(answer) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._connections.aclose()

    def _post(self, settings: GoogleSettings, server: Server, request: ModelRequest) -> _http.Post:
        return _http.Post(
            self.name,
            server.url(request.model),
            server.headers,
            _json.dumps(request_body(request, settings, provider=self.name)),
            connect_s=settings.connect_s,
            headers_s=settings.headers_s,
            first_s=settings.first_s,
            idle_s=settings.idle_s,
            timeout_s=settings.timeout_s,
        )
