"""Runs over the anthropic provider, against a server that misbehaves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, Settings, tool
from agentq.errors import InvalidInput, ProviderError
from agentq.events.model import ToolFinished
from agentq.messages import user_message
from agentq.providers._http import Connections
from agentq.providers.anthropic import Anthropic
from agentq.providers.base import ModelRequest, ReplyEnd, Retried, TextChunk
from tests.providers.anthropic_parts import check_body, encoded, end, says, start, streams, text, thinking, tool_use
from tests.providers.faults import fails, says_then_hangs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.providers.base import Chunk
    from tests.providers.faults import FaultServer

ANSWER = encoded(says("It ", "is ", "16."))
TWO_CALLS = [
    start(),
    *thinking(0, "SIG==", "Two of them."),
    *text(1, "Adding."),
    *tool_use(2, "toolu_1", "add", '{"a": 7,', ' "b": 9}'),
    *tool_use(3, "toolu_2", "add", '{"a": 1, "b": 2}'),
    *end("tool_use"),
]
ONCE = {"max_attempts": 1}
BOUND = {
    "type": "error",
    "error": {
        "type": "invalid_request_error",
        "message": "messages.1.content.0: thinking block is invalid. The block is bound to a different conversation.",
    },
}


@tool(effect="none")
def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


@pytest.fixture
async def provider() -> AsyncIterator[Anthropic]:
    made = Anthropic(connections=Connections())
    yield made
    await made.aclose()


def app_of(provider: Anthropic, server: FaultServer, **settings: Any) -> AgentQ:
    given = {"base_url": server.url, "api_key": "sk-secret", "retry": ONCE} | settings
    agent = Agent(
        "writer", model="anthropic:claude-opus-5-5", tools=[add], model_settings=given, max_error_retries=1,
        retry_backoff_s=0, instructions="Be brief.",
    )  # fmt: skip
    return AgentQ([agent], settings=Settings(), models={"anthropic": provider})


async def chunks_of(provider: Anthropic, server: FaultServer, **settings: Any) -> list[Chunk]:
    given = {"base_url": server.url, "api_key": "sk-secret", "retry": ONCE} | settings
    request = ModelRequest("claude-opus-5-5", (user_message("Hi"),), settings=given)
    return [chunk async for chunk in provider.stream(request)]


async def failure(provider: Anthropic, server: FaultServer, **settings: Any) -> ProviderError:
    with pytest.raises(ProviderError) as raised:
        await chunks_of(provider, server, **settings)
    return raised.value


async def test_two_parallel_calls_and_an_answer(model_server: FaultServer, provider: Anthropic):
    model_server.answers(streams(TWO_CALLS), streams(says("16 and 3.")))
    events: list[Any] = []
    result = await app_of(provider, model_server).run("writer", "7 + 9, and 1 + 2?", on_event=events.append)
    assert result.output == "16 and 3."
    assert sorted(event.content for event in events if isinstance(event, ToolFinished)) == ["16", "3"]
    first, second = model_server.asked
    for asked in (first, second):
        check_body(asked.body)
        assert (asked.path, asked.headers["x-api-key"]) == ("/v1/messages", "sk-secret")
    assert second.body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Two of them.", "signature": "SIG=="},
                {"type": "text", "text": "Adding."},
                {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 7, "b": 9}},
                {"type": "tool_use", "id": "toolu_2", "name": "add", "input": {"a": 1, "b": 2}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "16"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "3"},
            ],
        },
    ]


class TestBinding:
    async def test_thinking_that_no_longer_fits_is_dropped_by_the_server(
        self, model_server: FaultServer, provider: Anthropic
    ):
        model_server.answers(fails(400, BOUND), streams(says("Hi")))
        chunks = await chunks_of(provider, model_server, betas=["mine-1"])
        assert not [chunk for chunk in chunks if isinstance(chunk, Retried)]
        first, second = model_server.asked
        assert first.headers["anthropic-beta"] == "mine-1"
        assert second.headers["anthropic-beta"] == "mine-1,thinking-binding-controls-2026-08-01"
        check_body(second.body, beta=True)
        assert second.body["thinking"]["block_binding"] == {"prefix_mismatch_behavior": "drop_block"}

    async def test_only_once(self, model_server: FaultServer, provider: Anthropic):
        model_server.answers(fails(400, BOUND))
        assert not (await failure(provider, model_server)).retryable
        assert len(model_server.asked) == 2

    async def test_another_fault_of_the_request_stays(self, model_server: FaultServer, provider: Anthropic):
        model_server.answers(fails(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "No"}}))
        await failure(provider, model_server)
        assert len(model_server.asked) == 1


class TestFaults:
    @pytest.mark.parametrize(
        ("status", "kind", "retryable"),
        [
            (401, "authentication_error", False),
            (402, "billing_error", False),
            (413, "request_too_large", False),
            (429, "rate_limit_error", True),
            (500, "api_error", True),
            (529, "overloaded_error", True),
        ],
    )
    async def test_errors_say_what_the_server_said(
        self, model_server: FaultServer, provider: Anthropic, status: int, kind: str, *, retryable: bool
    ):
        body = {"type": "error", "error": {"type": kind, "message": "Oh."}, "request_id": "req_1"}
        model_server.answers(fails(status, body, request_id="req_1", retry_after="7"))
        error = await failure(provider, model_server)
        assert (error.status, error.code, error.request_id) == (status, kind, "req_1")
        assert error.retryable is retryable
        assert error.retry_after_s == 7
        assert "sk-secret" not in str(error)

    async def test_a_limit_of_spending_is_not_asked_again(self, model_server: FaultServer, provider: Anthropic):
        details = {"error_code": "enforced_spend_limit_reached"}
        body = {"type": "error", "error": {"type": "rate_limit_error", "message": "Spent.", "details": details}}
        model_server.answers(fails(429, body))
        error = await failure(provider, model_server)
        assert (error.code, error.retryable) == ("enforced_spend_limit_reached", False)

    async def test_a_key_that_is_wrong_says_where_it_is_from(self, model_server: FaultServer, provider: Anthropic):
        model_server.answers(fails(401, {"error": {"type": "authentication_error", "message": "invalid x-api-key"}}))
        assert "the key is the one in model_settings.api_key" in str(await failure(provider, model_server))

    async def test_a_page_in_place_of_a_reply(self, model_server: FaultServer, provider: Anthropic):
        model_server.answers(fails(200, "<html><title>Sign in</title></html>"))
        assert "is its base_url right?" in str(await failure(provider, model_server))


async def test_cancelling_closes_the_connection(model_server: FaultServer, provider: Anthropic):
    model_server.answers(says_then_hangs(ANSWER[: ANSWER.index(b"16.")].rpartition(b"event:")[0]))
    settings = {"base_url": model_server.url, "api_key": "k"}
    stream = provider.stream(ModelRequest("claude", (user_message("Hi"),), settings=settings))
    while not isinstance(await anext(stream), TextChunk):
        pass
    waiting = asyncio.ensure_future(_until_the_end(stream))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await model_server.is_quiet()


async def _until_the_end(stream: AsyncIterator[Chunk]) -> None:
    async for chunk in stream:
        assert not isinstance(chunk, ReplyEnd)


async def test_settings_are_checked_before_the_first_call(monkeypatch: pytest.MonkeyPatch):
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidInput, match="ANTHROPIC_API_KEY is not set"):
        Anthropic().check("claude-opus-5-5", {})
    with pytest.raises(InvalidInput, match="name the model after the colon"):
        Anthropic().check("", {"api_key": "k"})
    Anthropic().check("claude-opus-5-5", {"api_key": "k"})
