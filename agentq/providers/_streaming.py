"""One streamed reply over HTTP, whatever the wire format: send, check the status, read the events to their end."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from agentq import _json
from agentq.errors import ProviderError
from agentq.providers import _http
from agentq.providers._failures import error_in, excerpt, refused, told_in_stream
from agentq.providers.base import Retried

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping

    from agentq.providers._settings import HttpSettings
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
    connections: _http.Connections,
    settings: HttpSettings,
    make_reader: Callable[[], Reader],
    *,
    provider: str,
    url: str,
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    key_source: str | None,
    key_name: str,
    not_there: str = "",
) -> AsyncGenerator[Chunk]:
    """Send a request and yield its reply, `ReplyEnd` last; again as the settings say, if nothing of a reply came.

    Raises `ProviderError`. `key_source` says, for people, where the key that was sent comes from, `key_name` where one
    is expected, and `not_there` what to do where the server does not have this API. The `timeout_s` of the settings
    holds for all attempts together.
    """
    post = _http.Post(
        provider,
        url,
        headers,
        _json.dumps(body),
        connect_s=settings.connect_s,
        headers_s=settings.headers_s,
        first_s=settings.first_s,
        idle_s=settings.idle_s,
        timeout_s=settings.timeout_s,
    )
    hint = partial(_hint, url=url, key_source=key_source, key_name=key_name, not_there=not_there)
    until = None if post.timeout_s is None else time.monotonic() + post.timeout_s
    for attempt in itertools.count(1):
        has_begun = False
        try:
            async with aclosing(_reply_once(connections, post, make_reader(), hint)) as chunks:
                async for chunk in chunks:
                    has_begun = True
                    yield chunk
        except ProviderError as error:
            wait_s = None if has_begun else settings.retry.wait_s(error, attempt)
            if until is not None and wait_s is not None:
                left_s = until - time.monotonic() - wait_s
                post = replace(post, timeout_s=left_s)
                wait_s = wait_s if left_s > 0 else None
            if wait_s is None:
                raise
            again = Retried(attempt + 1, wait_s, str(error))
        else:
            return
        yield again
        await asyncio.sleep(wait_s)


async def _reply_once(
    connections: _http.Connections, post: _http.Post, reader: Reader, hint: Callable[[int, bytes], str]
) -> AsyncGenerator[Chunk]:
    async with connections.post(post) as answer:
        if answer.status != 200:
            body = await answer.error_body()
            raise refused(post.provider, answer.status, answer.headers, body, hint=hint(answer.status, body))
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
            if frame.is_bare:
                # An error where events were to come. Anything else is none of the server's events.
                if error := error_in(frame.data):
                    raise told_in_stream(provider, error)
                continue
            for chunk in reader.read(frame):
                yield chunk
            if reader.has_ended:
                answer.hurry(_END_S if reader.is_done else _USAGE_S)


def _hint(status: int, body: bytes, *, url: str, key_source: str | None, key_name: str, not_there: str) -> str:
    # Google answers 400 to a key that it does not know.
    if status in (401, 403) or (status == 400 and b"API_KEY_INVALID" in body):
        if key_source:
            return f"the key is the one in {key_source}"
        return f"no key was sent: set {key_name}, or api_key_env in model_settings"
    if status in (404, 405) or 300 <= status < 400:
        return f"asked was {url}{f'; {not_there}' if not_there and status >= 400 else ''}"
    return ""
