"""Any async iterator as a provider: a client library's stream, a generator of your own."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from inspect import isawaitable

from agentq.errors import AgentQError, ProviderError
from agentq.messages import StopReason
from agentq.providers.base import Chunk, ModelRequest, ReplyEnd, TextChunk, ToolCallChunk

# A piece of a reply: text, or a chunk.
Delta = str | Chunk
Deltas = AsyncIterable[Delta]


class IterableProvider:
    """Streams what an async iterator gives: strings are text, chunk objects are what they are.

        provider = IterableProvider(my_async_generator_function, name="mine")

    `source` is a function that takes the `ModelRequest` and returns the deltas of its reply, or deltas that serve every
    call; an iterator serves one. Where it gives no `ReplyEnd`, its end is the end of the reply: if it was cut, it has
    to raise. What it raises becomes a `ProviderError`, and the model is asked again; raise `ProviderError` yourself to
    say `retryable=False`. It is closed when it is done with, also by cancellation, if it has `aclose`.
    """

    def __init__(
        self,
        source: Deltas | Callable[[ModelRequest], Deltas | Awaitable[Deltas]],
        *,
        name: str = "iterable",
        media_types: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.media_types = media_types
        self._source = source
        self._is_used_up = False

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Yield the reply. Raises `ProviderError`, and what else of agentq's errors the source raises."""
        deltas: AsyncIterator[Delta] | None = None
        try:
            deltas = await self._deltas(request)
            end: ReplyEnd | None = None
            has_calls = False
            async for delta in deltas:
                chunk = self._chunk(delta)
                if isinstance(chunk, ReplyEnd):
                    end = chunk
                has_calls = has_calls or isinstance(chunk, ToolCallChunk)
                yield chunk
        except AgentQError:
            raise
        except Exception as error:
            what = f"{self.name}: {type(error).__name__}: {error}".removesuffix(": ")
            raise ProviderError(what, provider=self.name) from error
        finally:
            close = getattr(deltas, "aclose", None)
            if close is not None:
                await close()
        if end is None:
            yield ReplyEnd(StopReason.TOOL_CALLS if has_calls else StopReason.END)

    async def _deltas(self, request: ModelRequest) -> AsyncIterator[Delta]:
        given = self._source
        if not isinstance(given, AsyncIterable):
            made = given(request)
            given = await made if isawaitable(made) else made
            if not isinstance(given, AsyncIterable):
                raise self._problem(f"made {type(given).__name__}, which is no async iterator")
        elif isinstance(given, AsyncIterator):
            if self._is_used_up:
                raise self._problem("was given an iterator, which serves one call; give it a function that makes one")
            self._is_used_up = True
        return aiter(given)

    def _chunk(self, delta: Delta) -> Chunk:
        if isinstance(delta, str):
            return TextChunk(delta)
        if not isinstance(delta, Chunk):
            raise self._problem(f"gave {type(delta).__name__}, which is neither a string nor a chunk")
        return delta

    def _problem(self, what: str) -> ProviderError:
        return ProviderError(f"{self.name} {what}", provider=self.name, retryable=False)
