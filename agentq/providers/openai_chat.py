"""OpenAI's Chat Completions, and every server that speaks it: Ollama, vLLM, llama.cpp, OpenRouter and many more.

`openai` names this adapter too, until the one for OpenAI's Responses is there.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.errors import ProviderError
from agentq.providers import _http
from agentq.providers._chat_request import MEDIA_TYPES, request_body
from agentq.providers._chat_settings import (
    OPENAI_KEY,
    ChatSettings,
    Server,
    check_model,
    connect_s,
    idle_s,
    read_settings,
    server_of,
)
from agentq.providers._chat_stream import ChatReader
from agentq.providers._failures import excerpt, refused
from agentq.settings import OpenAIEnvironment

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from agentq.providers.base import Chunk, ModelRequest

# After the end of the reply: for the usage, which comes in a chunk of its own, and for the end of the body, without
# which the connection cannot be used again. A server that leaves it open must not hold the reply back.
_USAGE_S = 10.0
_END_S = 0.25


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
        check_model(self.name, model)
        server_of(self.name, read_settings(self.name, settings), OpenAIEnvironment.load())

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Yield the reply. Raises `ProviderError`, and `InvalidInput` as `check` does."""
        settings = read_settings(self.name, request.settings)
        server = server_of(self.name, settings, OpenAIEnvironment.load())
        body = request_body(request, settings, server, provider=self.name)
        reader = ChatReader(self.name)
        async with self._connections.post(self._post(settings, server, body)) as answer:
            if answer.status != 200:
                raise await self._refusal(answer, server)
            try:
                async with aclosing(_chunks(answer, reader, self.name)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except ProviderError:
                # Only the usage and the end of the body were still to come: the reply is paid for and complete.
                if not reader.has_ended:
                    raise
        yield reader.end()

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._connections.aclose()

    def _post(self, settings: ChatSettings, server: Server, body: dict[str, Any]) -> _http.Post:
        return _http.Post(
            self.name,
            server.url,
            server.headers,
            _json.dumps(body),
            connect_s(settings),
            idle_s(settings),
            settings.timeout_s,
        )

    async def _refusal(self, answer: _http.Answer, server: Server) -> ProviderError:
        hint = ""
        if answer.status in (401, 403):
            hint = (
                f"the key is the one in {server.key_source}"
                if server.key_source
                else f"no key was sent: set {OPENAI_KEY}, or api_key_env in model_settings"
            )
        elif answer.status == 404 or 300 <= answer.status < 400:
            hint = f"asked was {server.url}"
        return refused(self.name, answer.status, answer.headers, await answer.error_body(), hint=hint)


async def _chunks(answer: _http.Answer, reader: ChatReader, provider: str) -> AsyncGenerator[Chunk]:
    if answer.media_type == "application/json":
        for chunk in reader.read_whole(await answer.body()):
            yield chunk
        return
    if answer.media_type == "text/html":
        words = excerpt((await answer.error_body()).decode("utf-8", "replace"))
        raise ProviderError(
            f"{provider}: the server answered with {words}; does its base_url end as it should, in /v1?",
            provider=provider,
            retryable=False,
        )
    async with aclosing(answer.frames()) as frames:
        async for frame in frames:
            for chunk in reader.read(frame.data):
                yield chunk
            if reader.has_ended:
                answer.hurry(_END_S if reader.is_done else _USAGE_S)


def openai() -> OpenAIChat:
    """The provider of `openai:` models."""
    return OpenAIChat("openai")
