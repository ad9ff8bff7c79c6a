"""Any async iterator is a provider."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, RunFailed, tool
from agentq.errors import InvalidInput, ProviderError
from agentq.messages import StopReason, Usage, user_message
from agentq.providers.base import ModelRequest, ReasoningChunk, ReplyEnd, TextChunk, ToolCallChunk, media_types_of
from agentq.providers.iterable import IterableProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REQUEST = ModelRequest("m", (user_message("Hi"),))


async def words(*deltas: Any) -> AsyncIterator[Any]:
    for delta in deltas:
        if isinstance(delta, BaseException):
            raise delta
        yield delta


async def chunks(provider: IterableProvider) -> list[Any]:
    return [chunk async for chunk in provider.stream(REQUEST)]


async def failure(source: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await chunks(IterableProvider(source, name="mine"))
    assert caught.value.provider == "mine"
    return caught.value


class Again:
    """May be read as often as one likes."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return words("again")


async def test_strings_are_text_and_the_end_of_the_iterator_is_the_end_of_the_reply():
    assert await chunks(IterableProvider(words("Hel", "lo"))) == [
        TextChunk("Hel"),
        TextChunk("lo"),
        ReplyEnd(StopReason.END),
    ]


async def test_chunks_are_what_they_are_and_an_end_of_ones_own_is_kept():
    given = [ReasoningChunk("hm"), ToolCallChunk(0, "f", "{}"), ReplyEnd(StopReason.MAX_TOKENS, Usage(input_tokens=3))]
    assert await chunks(IterableProvider(words(*given))) == given
    assert (await chunks(IterableProvider(words(*given[:2]))))[-1] == ReplyEnd(StopReason.TOOL_CALLS)


@pytest.mark.parametrize("is_awaited", [False, True])
async def test_a_function_makes_the_reply_to_each_request(is_awaited: bool):
    """It may have to be awaited: client libraries open a connection first."""

    def echo(request: ModelRequest) -> AsyncIterator[Any]:
        return words(request.messages[-1].text, " from ", request.model)

    async def opens(request: ModelRequest) -> AsyncIterator[Any]:
        return echo(request)

    app = AgentQ([Agent("a", model="mine:echo")], models={"mine": IterableProvider(opens if is_awaited else echo)})
    assert [(await app.run("a", prompt)).output for prompt in ("one", "two")] == ["one from echo", "two from echo"]


async def test_an_iterable_serves_every_call_and_an_iterator_one():
    provider = IterableProvider(Again())
    assert await chunks(provider) == await chunks(provider) == [TextChunk("again"), ReplyEnd(StopReason.END)]
    once = IterableProvider(words("once"), name="mine")
    await chunks(once)
    with pytest.raises(ProviderError, match="serves one call; give it a function that makes one") as caught:
        await chunks(once)
    assert not caught.value.retryable


async def test_a_run_with_a_tool():
    @tool(effect="none")
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    async def reply(request: ModelRequest) -> AsyncIterator[Any]:
        if results := request.messages[-1].tool_results:
            yield f"It is {results[0].content}."
        else:
            yield ToolCallChunk(0, "add", '{"a": 7, "b": 9}')

    app = AgentQ([Agent("a", model="mine", tools=[add])], models={"mine": IterableProvider(reply)})
    assert (await app.run("a", "7 + 9?")).output == "It is 16."


async def test_what_it_raises_is_an_error_of_the_provider_with_the_name_of_its_type():
    error = await failure(words("Hel", OSError("line is dead")))
    assert (str(error), error.retryable) == ("mine: OSError: line is dead", True)
    assert str(await failure(words(TimeoutError()))) == "mine: TimeoutError"
    assert str(await failure(lambda _: 1 / 0)) == "mine: ZeroDivisionError: division by zero"


async def test_errors_of_agentq_go_through():
    mine = ProviderError("no", provider="mine", retryable=False)
    assert await failure(words(mine)) is mine
    with pytest.raises(InvalidInput, match="wrong"):
        await chunks(IterableProvider(words(InvalidInput("wrong"))))


@pytest.mark.parametrize(
    ("source", "said"),
    [(lambda _: "text", "made str, which is no async iterator"), (words("a", 7), "gave int, which is neither")],
)
async def test_what_cannot_be_a_reply_is_told_and_not_tried_again(source: Any, said: str):
    error = await failure(source)
    assert said in str(error)
    assert not error.retryable


async def test_a_run_fails_with_the_words_of_the_source():
    async def breaks(request: ModelRequest) -> AsyncIterator[Any]:
        yield "Hel"
        raise KeyError("choices")

    agent = Agent("a", model="mine", max_error_retries=0)
    with pytest.raises(RunFailed, match="KeyError: 'choices'"):
        await AgentQ([agent], models={"mine": IterableProvider(breaks)}).run("a", "hi")


class TestClosing:
    """The iterator holds a connection open: it is closed in the same task, not by the garbage collector."""

    @pytest.fixture
    def closed(self) -> list[str]:
        return []

    @pytest.fixture
    def provider(self, closed: list[str]) -> IterableProvider:
        async def endless(request: ModelRequest) -> AsyncIterator[Any]:
            try:
                yield "tick"
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                closed.append(request.model)

        return IterableProvider(endless)

    async def test_cancelling_closes_it(self, provider: IterableProvider, closed: list[str]):
        begun = asyncio.Event()

        async def read() -> None:
            async for _ in provider.stream(REQUEST):
                begun.set()

        reading = asyncio.create_task(read())
        await begun.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert closed == ["m"]

    async def test_leaving_the_stream_closes_it(self, provider: IterableProvider, closed: list[str]):
        stream = provider.stream(REQUEST)
        assert await anext(stream) == TextChunk("tick")
        await stream.aclose()  # type: ignore[attr-defined]
        assert closed == ["m"]

    async def test_an_error_closes_it(self, closed: list[str]):
        class Source:
            def __aiter__(self) -> Source:
                return self

            async def __anext__(self) -> str:
                raise OSError("gone")

            async def aclose(self) -> None:
                closed.append("it")

        await failure(lambda _: Source())
        assert closed == ["it"]


def test_it_says_which_files_it_takes():
    assert media_types_of(IterableProvider(Again())) == ()
    assert media_types_of(IterableProvider(Again(), media_types=("image/*",))) == ("image/*",)
