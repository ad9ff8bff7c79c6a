"""A call that failed before anything of a reply came is made again at once, as the settings say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, Settings
from agentq.errors import InvalidInput, ProviderError, RunFailed
from agentq.events.model import AttemptReset, ModelRetried, Note
from agentq.messages import user_message
from agentq.providers._http import Connections
from agentq.providers._retry import LONGEST_WAIT_S, Retry
from agentq.providers.base import ModelRequest, ReplyEnd, Retried
from agentq.providers.openai_chat import OpenAIChat
from tests.providers.faults import cuts, encoded, fails, hangs, says, says_then_hangs, streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.providers.base import Chunk
    from tests.providers.faults import FaultServer

ANSWER = encoded(says("It ", "is ", "16."))
SOON = {"initial_s": 0.01}


class TestPolicy:
    def test_waits_double_up_to_a_limit(self):
        retry = Retry(max_attempts=9, initial_s=1, max_s=5, jitter=0)
        busy = ProviderError("busy", status=503)
        assert [retry.wait_s(busy, attempt) for attempt in range(1, 10)] == [1, 2, 4, 5, 5, 5, 5, 5, None]

    def test_the_spread_is_to_both_sides(self):
        retry = Retry(initial_s=10, jitter=0.25)
        waits = [retry.wait_s(ProviderError("busy", status=503), 1) or 0 for _ in range(300)]
        assert 7.5 <= min(waits) < 9 < 11 < max(waits) <= 12.5

    @pytest.mark.parametrize(
        ("error", "wait_s"),
        [
            (ProviderError("broke"), 1),
            (ProviderError("asks for little", status=429, retry_after_s=0), 1),
            (ProviderError("asks for more", status=429, retry_after_s=20), 20),
            (ProviderError("asks for too much", status=429, retry_after_s=LONGEST_WAIT_S + 1), None),
            (ProviderError("not again", status=400, retryable=False), None),
            (ProviderError("a status that is not listed", status=599), None),
            (ProviderError("overloaded", status=529), 1),
        ],
    )
    def test_what_is_waited_for(self, error: ProviderError, wait_s: float | None):
        assert Retry(jitter=0).wait_s(error, 1) == wait_s


def request(server: FaultServer, **settings: Any) -> ModelRequest:
    given = {"base_url": server.url, "retry": SOON} | settings
    return ModelRequest("gpt-x", (user_message("Hi"),), settings=given)


@pytest.fixture
async def provider() -> AsyncIterator[OpenAIChat]:
    made = OpenAIChat(connections=Connections())
    yield made
    await made.aclose()


async def chunks_of(provider: OpenAIChat, asked: ModelRequest) -> list[Chunk]:
    return [chunk async for chunk in provider.stream(asked)]


class TestCalls:
    async def test_two_failures_and_an_answer(self, model_server: FaultServer, provider: OpenAIChat):
        model_server.answers(fails(503), fails(429, ""), streams(says("Hi")))
        first, second, *rest = await chunks_of(provider, request(model_server))
        assert isinstance(first, Retried)
        assert isinstance(second, Retried)
        assert [first.attempt, second.attempt] == [2, 3]
        assert "503" in first.error
        assert isinstance(rest[-1], ReplyEnd)
        assert len(model_server.asked) == 3

    async def test_the_last_failure_is_raised(self, model_server: FaultServer, provider: OpenAIChat):
        model_server.answers(fails(503))
        with pytest.raises(ProviderError, match="503"):
            await chunks_of(provider, request(model_server))
        assert len(model_server.asked) == 3

    @pytest.mark.parametrize("play", [fails(401), fails(400), fails(429, {"error": {"code": "insufficient_quota"}})])
    async def test_what_stays_is_not_asked_again(self, model_server: FaultServer, provider: OpenAIChat, play: Any):
        model_server.answers(play)
        with pytest.raises(ProviderError):
            await chunks_of(provider, request(model_server))
        assert len(model_server.asked) == 1

    async def test_a_long_wait_is_the_runs(self, model_server: FaultServer, provider: OpenAIChat):
        model_server.answers(fails(429, "", **{"Retry-After": "90"}))
        with pytest.raises(ProviderError) as raised:
            await chunks_of(provider, request(model_server))
        assert raised.value.retry_after_s == 90
        assert len(model_server.asked) == 1

    async def test_a_reply_that_has_begun_is_not_made_again_here(self, model_server: FaultServer, provider: OpenAIChat):
        model_server.answers(cuts(ANSWER, len(ANSWER) // 2))
        with pytest.raises(ProviderError):
            await chunks_of(provider, request(model_server))
        assert len(model_server.asked) == 1

    async def test_a_connection_that_breaks_before_the_first_word(
        self, model_server: FaultServer, provider: OpenAIChat
    ):
        model_server.answers(cuts(ANSWER, 5), streams(says("Hi")))
        assert isinstance((await chunks_of(provider, request(model_server)))[0], Retried)

    async def test_the_limit_for_all_holds_for_all_attempts(self, model_server: FaultServer, provider: OpenAIChat):
        model_server.answers(fails(503), hangs)
        with pytest.raises(ProviderError, match=r"timeout_s"):
            await chunks_of(provider, request(model_server, timeout_s=0.3))
        await model_server.is_quiet()

    async def test_a_wait_beyond_that_limit_is_not_begun(self, model_server: FaultServer, provider: OpenAIChat):
        model_server.answers(fails(503, "", **{"Retry-After": "30"}))
        with pytest.raises(ProviderError, match="503"):
            await chunks_of(provider, request(model_server, timeout_s=5))

    async def test_cancelling_ends_the_wait(self, model_server: FaultServer, provider: OpenAIChat):
        model_server.answers(fails(503))
        stream = provider.stream(request(model_server, retry={"initial_s": 60.0}))
        assert isinstance(await anext(stream), Retried)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(model_server.asked) == 1


class TestRuns:
    def app(self, provider: OpenAIChat, server: FaultServer, **settings: Any) -> AgentQ:
        given = {"base_url": server.url, "retry": SOON} | settings
        agent = Agent("writer", model="openai-chat:gpt-x", model_settings=given, max_error_retries=1, retry_backoff_s=0)
        return AgentQ([agent], settings=Settings(), models={"openai-chat": provider})

    async def test_viewers_are_told_and_the_budget_is_not_touched(
        self, model_server: FaultServer, provider: OpenAIChat
    ):
        model_server.answers(fails(503, "overloaded"), streams(says("Hi")))
        events: list[Any] = []
        result = await self.app(provider, model_server).run("writer", "Hello", on_event=events.append)
        assert result.output == "Hi"
        (told,) = [event for event in events if isinstance(event, ModelRetried)]
        assert (told.model, told.attempt) == ("openai-chat:gpt-x", 2)
        assert "overloaded" in told.reason
        assert not [event for event in events if isinstance(event, Note)]
        assert [message.note for message in result.messages] == [None, None]

    async def test_a_reply_that_broke_is_made_again_by_the_run(self, model_server: FaultServer, provider: OpenAIChat):
        model_server.answers(
            says_then_hangs(ANSWER[: len(ANSWER) // 2]),
            streams(says("Hi")),
        )
        events: list[Any] = []
        app = self.app(provider, model_server, idle_timeout_s=0.3)
        result = await app.run("writer", "Hello", on_event=events.append)
        assert result.output == "Hi"
        assert [event.reason for event in events if isinstance(event, AttemptReset)] == ["provider_error"]

    async def test_when_nothing_helps_the_run_fails(self, model_server: FaultServer, provider: OpenAIChat):
        model_server.answers(fails(503))
        with pytest.raises(RunFailed, match="2 turns in a row failed"):
            await self.app(provider, model_server).run("writer", "Hello")
        assert len(model_server.asked) == 6


@pytest.mark.parametrize(
    ("retry", "field"),
    [({"max_attempts": 0}, "max_attempts"), ({"initial_s": -1.0}, "initial_s"), ({"tries": 3}, "tries")],
)
def test_wrong_settings_are_named(retry: dict[str, Any], field: str):
    provider = OpenAIChat()
    with pytest.raises(InvalidInput, match=rf"model_settings\.retry\.{field}"):
        provider.check("gpt-x", {"base_url": "http://127.0.0.1:1", "retry": retry})
