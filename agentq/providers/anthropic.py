"""Anthropic's Messages API: Claude."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from agentq.errors import ProviderError
from agentq.messages import Origin
from agentq.providers import _http
from agentq.providers._anthropic_request import (
    BINDING_BETA,
    MEDIA_TYPES,
    request_body,
    takes_schema,
    with_blocks_dropped,
)
from agentq.providers._anthropic_settings import (
    ANTHROPIC_KEY,
    AnthropicEnvironment,
    AnthropicSettings,
    Server,
    read_settings,
    server_of,
)
from agentq.providers._anthropic_stream import AnthropicReader
from agentq.providers._settings import check_model
from agentq.providers._streaming import reply

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from agentq.providers.base import Chunk, ModelRequest

_BETAS = "anthropic-beta"
# What the server says when thinking that is sent back does not belong to what stands before it: instructions or tools
# of the agent have changed since.
_BOUND = "bound to a different conversation"


class Anthropic:
    """Streams one reply per call. Keeps nothing between calls but connections, one pool per event loop."""

    name = "anthropic"
    media_types = MEDIA_TYPES
    result_media_types = MEDIA_TYPES

    def __init__(self, *, connections: _http.Connections | None = None) -> None:
        self._connections = connections or _http.connections

    def check(self, model: str, settings: Mapping[str, Any]) -> None:
        """Raise `InvalidInput` where the name of the model, its settings or the key are not usable."""
        check_model(self.name, model, "claude-opus-5-5")
        server_of(self.name, read_settings(self.name, settings), AnthropicEnvironment.load())

    def promises_output(self, request: ModelRequest) -> bool:
        """Whether the schema is of the kind that the API can keep a model to."""
        return takes_schema(request)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Yield the reply. Raises `ProviderError`, and `InvalidInput` as `check` does."""
        settings = read_settings(self.name, request.settings)
        server = server_of(self.name, settings, AnthropicEnvironment.load())
        body = request_body(request, settings, server, provider=self.name)
        try:
            async with aclosing(self._reply(request, settings, server, server.headers, body)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ProviderError as error:
            if error.status != 400 or _BOUND not in str(error):
                raise
        else:
            return
        # Nothing has come yet, and without that thinking the run goes on.
        given = {name.lower(): value for name, value in server.headers.items()}.get(_BETAS)
        headers = {name: value for name, value in server.headers.items() if name.lower() != _BETAS}
        headers[_BETAS] = f"{given},{BINDING_BETA}" if given else BINDING_BETA
        again = self._reply(request, settings, server, headers, with_blocks_dropped(body))
        async with aclosing(again) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._connections.aclose()

    def _reply(
        self,
        request: ModelRequest,
        settings: AnthropicSettings,
        server: Server,
        headers: Mapping[str, str],
        body: Mapping[str, Any],
    ) -> AsyncGenerator[Chunk]:
        origin = Origin(api=settings.api, model=request.model)
        return reply(
            self._connections,
            settings,
            lambda: AnthropicReader(self.name, origin),
            provider=self.name,
            url=server.url,
            headers=headers,
            body=body,
            key_source=server.key_source,
            key_name=ANTHROPIC_KEY,
        )
