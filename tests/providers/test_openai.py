"""Runs over the openai provider, against a server that misbehaves: the answer comes all the same, or an error."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

from agentq import Agent, AgentQ, RunFailed, Settings, tool
from agentq.errors import InvalidInput, ProviderError
from agentq.events.model import ReasoningDelta, TextDelta, ToolFinished
from agentq.messages import Usage, user_message
from agentq.providers._http import Connections
from agentq.providers.base import ModelRequest, ReplyEnd, TextChunk
from agentq.providers.openai import OpenAI
from tests.providers.faults import EVENTS, FaultServer, Wire, cuts, fails
from tests.providers.responses import (
    call,
    encoded,
    events,
    message,
    refusal,
    replies,
    response,
    sends,
    thought,
)
from tests.providers.strict import check

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agentq.providers.base import Chunk

TWO_CALLS = (
    thought("Two sums.", "Both at once."),
    message("Adding.", phase="commentary"),
    call(1, "add", '{"a":7,"b":9}'),
    call(2, "add", '{"a": 1, "b": 2}'),
)
ANSWER = encoded(events(message("It is 16.")))
# One retry, at once: the tests are about what is retried, not about waiting.
PATIENCE = {"max_error_retries": 1, "retry_backoff_s": 0}
ONCE = {"max_attempts": 1}


@tool(effect="none")
def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


@pytest.fixture
async def provider(model_server: FaultServer) -> AsyncIterator[OpenAI]:
    """With connections of its own, so that the test sees them closed. All that it asked must be of the SDK's type."""
    made = OpenAI(connections=Connections())
    yield made
    await made.aclose()
    for asked in model_server.asked:
        check(ResponseCreateParamsStreaming, {name: asked.body[name] for name in asked.body if name != "top_k"})


@pytest.fixture
def make_app(model_server: FaultServer, provider: OpenAI) -> Callable[..., AgentQ]:
    def make(*, tools: Any = (), agent: Any = PATIENCE, **settings: Any) -> AgentQ:
        settings = {"base_url": model_server.url, "retry": ONCE} | settings
        writer = Agent("writer", model="openai:gpt-x", tools=tools, model_settings=settings, **agent)
        return AgentQ([writer], settings=Settings(), models={"openai": provider})

    return make


async def reply(provider: OpenAI, server: FaultServer, **settings: Any) -> list[Chunk]:
    request = ModelRequest(
        "gpt-x",
        (user_message("Hi"),),
        settings={"base_url": server.url, "api_key": "sk-secret", "retry": ONCE} | settings,
    )
    return [chunk async for chunk in provider.stream(request)]


async def failure(provider: OpenAI, server: FaultServer, **settings: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await reply(provider, server, **settings)
    assert "sk-secret" not in str(caught.value)
    return caught.value


class TestRuns:
    async def test_two_parallel_calls_and_an_answer(self, model_server: FaultServer, make_app: Callable[..., AgentQ]):
        """The second request holds the first reply as it was sent, then the results."""
        model_server.answers(replies(*TWO_CALLS), replies(message("It is 16.", phase="final_answer")))
        seen: list[Any] = []
        result = await make_app(tools=[add]).run("writer", "7 + 9?", on_event=seen.append)
        assert result.output == "It is 16."
        assert result.usage == Usage(
            input_tokens=200, output_tokens=140, cached_input_tokens=40, cache_write_tokens=60, reasoning_tokens=80
        )
        assert "".join(event.text for event in seen if isinstance(event, TextDelta)) == "Adding.It is 16."
        told = "".join(event.text for event in seen if isinstance(event, ReasoningDelta))
        assert told == "Two sums.\n\nBoth at once."
        assert sorted(event.content for event in seen if isinstance(event, ToolFinished)) == ["16", "3"]
        first, second = model_server.asked
        assert first.path == "/v1/responses"
        assert (first.body["store"], first.body["tools"][0]["name"]) == (False, "add")
        assert second.body["input"] == [
            *first.body["input"],
            *TWO_CALLS,
            {"type": "function_call_output", "call_id": "call_1", "output": "16"},
            {"type": "function_call_output", "call_id": "call_2", "output": "3"},
        ]

    async def test_runs_of_a_session_send_what_was_said_before(
        self, model_server: FaultServer, make_app: Callable[..., AgentQ]
    ):
        said = message("It is 16.", item_id="msg_2", phase="final_answer")
        model_server.answers(replies(*TWO_CALLS), replies(said), replies(message("I said 16.")))
        app = make_app(tools=[add])
        await app.run("writer", "7 + 9?", session_id="s")
        await app.run("writer", "What did you say?", session_id="s")
        sent = model_server.asked[-1].body["input"]
        assert sent[1:5] == list(TWO_CALLS)
        assert sent[7] == said
        assert sent[8]["content"] == "What did you say?"

    async def test_a_stream_cut_at_any_byte_is_a_failure_or_was_complete(
        self, model_server: FaultServer, provider: OpenAI
    ):
        """It is complete from the last event on, whether or not the connection was closed well."""
        for at in range(0, len(ANSWER) + 1, 7):
            model_server.answers(cuts(ANSWER, at))
            if at >= len(ANSWER):
                *pieces, end = await reply(provider, model_server)
                assert "".join(piece.text for piece in pieces if isinstance(piece, TextChunk)) == "It is 16."
                assert isinstance(end, ReplyEnd)
            else:
                error = await failure(provider, model_server)
                assert (at, error.retryable, "broke" in str(error)) == (at, True, True)

    @pytest.mark.parametrize(
        "play",
        [
            fails(500, {"error": {"message": "sorry"}}),
            fails(503, "<html><title>Down</title></html>"),
            fails(429, {"error": {"code": "rate_limit_exceeded"}}, Retry_After="0"),
            sends(encoded([{"type": "error", "code": "server_error", "message": "sorry"}])),
            sends(encoded([{"type": "response.failed", "response": response(status="failed")}])),
            sends(encoded(events(message("It"))[:-1])),
            cuts(b'data: {"type": "resp', 20),
            replies(refusal("I can't.")),
            replies(message("It"), status="incomplete", incomplete_details={"reason": "content_filter"}),
        ],
    )
    async def test_what_may_heal_is_tried_again(
        self, model_server: FaultServer, make_app: Callable[..., AgentQ], play: Any
    ):
        model_server.answers(play, replies(message("16")))
        assert (await make_app().run("writer", "7 + 9?")).output == "16"
        assert len(model_server.asked) == 2
        assert model_server.asked[1].body["input"][0]["content"].startswith("7 + 9?\n\n")

    @pytest.mark.parametrize(
        ("play", "words"),
        [
            (fails(401, {"error": {"code": "invalid_api_key", "message": "Wrong key."}}), "401 .*Wrong key"),
            (fails(400, {"error": {"message": "context too long"}}), "answered 400: context too long"),
            (fails(404, {"detail": "Not Found"}), "404.*asked was http://127.*takes openai-chat: in place of openai:"),
            (fails(405, ""), "405; asked was http://127.*takes openai-chat:"),
            (fails(302, "", Location="/elsewhere"), "answered 302; asked was [^;]*$"),
            (fails(429, {"error": {"code": "insufficient_quota", "message": "Pay."}}, Retry_After="1"), "Pay"),
            (fails(429, {"error": {"code": "credit_balance_exhausted", "message": "Pay."}}), "Pay"),
            (fails(200, {"error": {"type": "invalid_request_error", "message": "no"}}), "broke the reply off"),
            (fails(200, {"detail": "hello"}), "sent no reply"),
            (fails(200, "<html><title>Proxy</title>"), "page titled 'Proxy'; is its base_url right"),
            (replies(thought("hm"), status="incomplete"), "raise max_tokens"),
            (
                sends(encoded([{"type": "error", "code": "invalid_prompt", "message": "flagged"}])),
                "broke the reply off .*flagged",
            ),
        ],
    )
    async def test_what_stays_ends_the_run_at_once(
        self, model_server: FaultServer, make_app: Callable[..., AgentQ], play: Any, words: str
    ):
        model_server.answers(play)
        with pytest.raises(RunFailed, match=words):
            await make_app().run("writer", "7 + 9?")
        assert len(model_server.asked) == 1

    async def test_a_long_retry_after_puts_the_run_off(self, model_server: FaultServer, provider: OpenAI):
        model_server.answers(fails(429, {"error": {"message": "later"}}, Retry_After="3600", X_Request_Id="req_1"))
        error = await failure(provider, model_server)
        assert (error.retryable, error.retry_after_s, error.request_id) == (True, 3600, "req_1")

    async def test_a_call_that_the_token_limit_cut_is_not_made(
        self, model_server: FaultServer, make_app: Callable[..., AgentQ]
    ):
        ran: list[str] = []

        @tool(effect="once")
        def delete(name: str = "everything") -> str:
            """Delete."""
            ran.append(name)
            return name

        cut = call(1, "delete", '{"na', status="incomplete")
        model_server.answers(replies(cut, status="incomplete"), replies(message("Sorry.")))
        assert (await make_app(tools=[delete]).run("writer", "Tidy up")).output == "Sorry."
        assert ran == []
        *_, called, answered = model_server.asked[1].body["input"]
        assert (called["call_id"], called["arguments"], called["id"]) == ("call_1", "{}", "fc_1")
        assert "token limit" in answered["output"]

    async def test_an_attached_image_reaches_the_model_and_what_it_cannot_take_does_not(
        self, model_server: FaultServer, make_app: Callable[..., AgentQ], tmp_path: Path
    ):
        model_server.answers(replies(message("A dot.")))
        image, sound = tmp_path / "dot.png", tmp_path / "dot.wav"
        image.write_bytes(b"\x89PNG\r\n\x1a\n")
        sound.write_bytes(b"RIFF")
        assert (await make_app().run("writer", "What is this?", files=[image])).output == "A dot."
        (asked,) = model_server.asked
        picture, text = asked.body["input"][0]["content"]
        assert text["text"] == "What is this?"
        assert picture["image_url"] == "data:image/png;base64,iVBORw0KGgo="
        with pytest.raises(InvalidInput, match=r"cannot take dot.wav \(audio/.*it takes image/\*"):
            await make_app().run("writer", "What is this?", files=[sound])

    async def test_a_server_that_does_not_stream(self, model_server: FaultServer, make_app: Callable[..., AgentQ]):
        model_server.answers(fails(200, response(message("16"))))
        assert (await make_app().run("writer", "7 + 9?")).output == "16"

    async def test_a_stream_that_is_packed_ends_with_a_last_word_and_no_blank_line(
        self, model_server: FaultServer, provider: OpenAI
    ):
        async def play(wire: Wire) -> None:
            await wire.head(200, EVENTS | {"Content-Encoding": "gzip"})
            await wire.send(gzip.compress(b": OPENROUTER PROCESSING\n\n" * 50 + ANSWER + b"data: [DONE]"))
            await wire.end()

        model_server.answers(play)
        *pieces, end = await reply(provider, model_server)
        assert "".join(piece.text for piece in pieces if isinstance(piece, TextChunk)) == "It is 16."
        assert isinstance(end, ReplyEnd)


class TestKeys:
    async def test_a_wrong_key_is_told_with_the_name_of_its_place(self, model_server: FaultServer, provider: OpenAI):
        model_server.answers(fails(401, {"error": {"message": "Wrong key."}}))
        assert "the key is the one in model_settings.api_key" in str(await failure(provider, model_server))
        assert model_server.asked[0].headers["authorization"] == "Bearer sk-secret"
        error = await failure(provider, model_server, api_key=None)
        assert "no key was sent: set OPENAI_API_KEY, or api_key_env in model_settings" in str(error)
        assert "authorization" not in model_server.asked[-1].headers

    async def test_headers_and_body_of_ones_own(self, model_server: FaultServer, provider: OpenAI):
        model_server.answers(replies(message("16")))
        await reply(provider, model_server, extra_headers={"X-Title": "mine"}, extra_body={"top_k": 3})
        (asked,) = model_server.asked
        assert (asked.headers["x-title"], asked.body["top_k"]) == ("mine", 3)
