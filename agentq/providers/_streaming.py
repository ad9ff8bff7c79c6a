"""One streamed reply over HTTP, whatever the wire format: send, check the status, read the events to their end."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from agentq.errors import ProviderError
from agentq.providers._failures import excerpt, refused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from agentq.providers import _http
    from agentq.providers._sse import Frame
    from agentq.providers.base import Chunk, ReplyEnd

# After the end of the reply: for what the server may still say, such as the usage, and for the end of the body, without
# which the connection cannot be used again. A server that leaves it open must not hold the reply back.
_USAGE_S = 10.0
_END_S = 0.25


class Reader(Protocol):
    """Turns the events of one wire format into chunks. Made for one reply.

    `has_ended`: the reply is complete, though its usage may be missing; `is_done`: the server has said all.
    Each method raises `ProviderError` for what is wrong with the reply.
    """

    @property
    def has_ended(self) -> bool: ...

    @property
    def is_done(self) -> bool: ...

    def read(self, frame: Frame) -> Iterable[Chunk]:
        """The chunks of one event."""
        ...

    def read_whole(self, body: bytes) -> Iterable[Chunk]:
        """The chunks of a reply that came as one JSON document: the server does not stream."""
        ...

    def end(self) -> ReplyEnd:
        """The end of the reply; an error when the stream was cut before it."""
        ...


async def reply(
    connections: _http.Connections, post: _http.Post, reader: Reader, *, key_source: str | None, key_name: str
) -> AsyncGenerator[Chunk]:
    """Send a request and yield its reply, `ReplyEnd` last. Raises `ProviderError`.

    `key_source` says, for people, where the key that was sent comes from, and `key_name` where one is expected.
    """
    async with connections.post(post) as answer:
        if answer.status != 200:
            body = await answer.error_body()
            hint = _hint(answer.status, body, post.url, key_source, key_name)
            raise refused(post.provider, answer.status, answer.headers, body, hint=hint)
        try:
            async with aclosing(_chunks(answer, reader, post.provider)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ProviderError:
            # Only the usage and the end of the body were still to come: the reply is paid for and complete.
            if not reader.has_ended:
                raise
    yield reader.end()


async def _chunks(answer: _http.Answer, reader: Reader, provider: str) -> AsyncGenerator[Chunk]:
    if answer.media_type == "application/json":
        for chunk in reader.read_whole(await answer.body()):
            yield chunk
        return
    if answer.media_type == "text/html":
        words = excerpt((await answer.error_body()).decode("utf-8", "replace"))
        raise ProviderError(
            f"{provider}: the server answered with {words}; is its base_url right?",
            provider=provider,
            retryable=False,
        )
    async with aclosing(answer.frames()) as frames:
        async for frame in frames:
            for chunk in reader.read(frame):
                yield chunk
            if reader.has_ended:
                answer.hurry(_END_S if reader.is_done else _USAGE_S)


def _hint(status: int, body: bytes, url: str, key_source: str | None, key_name: str) -> str:
    # Google answers 400 to a key that it does not know.
    if status in (401, 403) or (status == 400 and b"API_KEY_INVALID" in body):
        if key_source:
            return f"the key is the one in {key_source}"
        return f"no key was sent: set {key_name}, or api_key_env in model_settings"
    if status == 404 or 300 <= status < 400:
        return f"asked was {url}"
    return ""
