"""Runs over the openai-chat provider, against a server that misbehaves: the answer comes all the same, or an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, RunFailed, Settings, tool
from agentq.errors import InvalidInput, ProviderError
from agentq.events.model import ReasoningDelta, TextDelta, ToolFinished
from agentq.messages import Usage, user_message
from agentq.providers import _streaming
from agentq.providers._http import Connections
from agentq.providers.base import ModelRequest, ReplyEnd, TextChunk
from agentq.providers.openai_chat import OpenAIChat
from tests.providers.faults import (
    FaultServer,
    call,
    chunk,
    cuts,
    encoded,
    fails,
    says,
    says_then_hangs,
    streams,
    usage,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agentq.providers.base import Chunk

TWO_CALLS = [
    chunk({"role": "assistant", "content": "Adding."}),
    *(piece for pair in zip(
        call(0, "call_1", "add", '{"a": 7, "b": 9}'), call(1, "call_2", "add", '{"a": 1, "b": 2}'), strict=True
    ) for piece in pair),
    chunk(finish="tool_calls"),
    usage(),
]  # fmt: skip
ANSWER = encoded(says("It ", "is ", "16."))
# One retry, at once: the tests are about what is retried, not about waiting.
PATIENCE = {"max_error_retries": 1, "retry_backoff_s": 0}
ONCE = {"max_attempts": 1}


@tool(effect="none")
def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


@dataclass
class Total:
    """What is asked for."""

    total: int


@pytest.fixture
async def provider() -> AsyncIterator[OpenAIChat]:
    """With connections of its own, so that the test sees them closed."""
    made = OpenAIChat(connections=Connections())
    yield made
    await made.aclose()


@pytest.fixture
def make_app(model_server: FaultServer, provider: OpenAIChat) -> Callable[..., AgentQ]:
    def make(*, tools: Any = (), agent: Any = PATIENCE, **settings: Any) -> AgentQ:
        settings = {"base_url": model_server.url, "retry": ONCE} | settings
        writer = Agent("writer", model="openai-chat:gpt-x", tools=tools, model_settings=settings, **agent)
        return AgentQ([writer], settings=Settings(), models={"openai-chat": provider})

    return make


async def reply(provider: OpenAIChat, server: FaultServer, **settings: Any) -> list[Chunk]:
    request = ModelRequest(
        "gpt-x",
        (user_message("Hi"),),
        settings={"base_url": server.url, "api_key": "sk-secret", "retry": ONCE} | settings,
    )
    return [chunk async for chunk in provider.stream(request)]


async def failure(provider: OpenAIChat, server: FaultServer, **settings: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await reply(provider, server, **settings)
    assert "sk-secret" not in str(caught.value)
    return caught.value


class TestRuns:
    async def test_two_parallel_calls_and_an_answer(self, model_server: FaultServer, make_app: Callable[..., AgentQ]):
        model_server.answers(streams(TWO_CALLS), streams(says("It ", "is ", "16.")))
        events: list[Any] = []
        result = await make_app(tools=[add]).run("writer", "7 + 9?", on_event=events.append)
        assert result.output == "It is 16."
        assert result.usage == Usage(input_tokens=200, output_tokens=14, cached_input_tokens=40, reasoning_tokens=6)
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Adding.It is 16."
        assert sorted(event.content for event in events if isinstance(event, ToolFinished)) == ["16", "3"]
        first, second = model_server.asked
        assert first.path == "/v1/chat/completions"
        assert first.body["tools"][0]["function"]["name"] == "add"
        assert [(m["role"], m.get("tool_call_id")) for m in second.body["messages"]] == [
            ("user", None),
            ("assistant", None),
            ("tool", "call_1"),
            ("tool", "call_2"),
        ]

    async def test_a_stream_cut_at_any_byte_is_a_failure_or_was_complete(
        self, model_server: FaultServer, provider: OpenAIChat
    ):
        """It is complete from the finish reason on, whether or not the usage came."""
        complete = ANSWER.index(b'"finish_reason": "stop"}]}\n\n') + len(b'"finish_reason": "stop"}]}\n\n')
        for at in range(len(ANSWER)):
            model_server.answers(cuts(ANSWER, at))
            if at >= complete:
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
            streams([{"error": {"code": 502, "message": "upstream"}, "choices": []}], done=False),
            streams([chunk({"content": "It"})], done=False),
            cuts(b'data: {"choices": [{"del', 20),
            streams([chunk({"content": "It"}), chunk(None, "error")]),
            streams([chunk({"refusal": "I can't."}), chunk(finish="stop")]),
            streams([chunk({"content": "It"}), chunk(finish="content_filter")]),
        ],
    )
    async def test_what_may_heal_is_tried_again(
        self, model_server: FaultServer, make_app: Callable[..., AgentQ], play: Any
    ):
        model_server.answers(play, streams(says("16")))
        assert (await make_app().run("writer", "7 + 9?")).output == "16"
        assert len(model_server.asked) == 2
        assert model_server.asked[1].body["messages"][0]["content"].startswith("7 + 9?\n\n")

    @pytest.mark.parametrize(
        ("play", "words"),
        [
            (fails(401, {"error": {"code": "invalid_api_key", "message": "Wrong key."}}), "401 .*Wrong key"),
            (fails(400, {"error": {"message": "context too long"}}), "answered 400: context too long"),
            (fails(404, {"error": "model not found"}), "404: model not found; asked was http://127"),
            (fails(302, "", Location="/elsewhere"), "answered 302; asked was"),
            (fails(429, {"error": {"code": "insufficient_quota", "message": "Pay."}}, Retry_After="1"), "Pay"),
            (fails(200, {"error": {"type": "invalid_request_error", "message": "no"}}), "broke the reply off"),
            (fails(200, {"detail": "hello"}), "sent no reply"),
            (fails(200, "<html><title>Ollama</title>"), "page titled 'Ollama'; is its base_url right"),
            (streams([chunk({"reasoning": "hm"}), chunk(finish="length")]), "raise max_tokens"),
        ],
    )
    async def test_what_stays_ends_the_run_at_once(
        self, model_server: FaultServer, make_app: Callable[..., AgentQ], play: Any, words: str
    ):
        model_server.answers(play)
        with pytest.raises(RunFailed, match=words):
            await make_app().run("writer", "7 + 9?")
        assert len(model_server.asked) == 1

    async def test_a_long_retry_after_puts_the_run_off(self, model_server: FaultServer, provider: OpenAIChat):
        model_server.answers(fails(429, {"error": {"message": "later"}}, Retry_After="3600"))
        error = await failure(provider, model_server)
        assert (error.retryable, error.retry_after_s) == (True, 3600)

    async def test_a_call_that_the_token_limit_cut_is_not_made(
        self, model_server: FaultServer, make_app: Callable[..., AgentQ]
    ):
        ran: list[str] = []

        @tool(effect="once")
        def delete(name: str = "everything") -> str:
            """Delete."""
            ran.append(name)
            return name

        model_server.answers(
            streams([*call(0, "call_1", "delete", "")[:1], chunk(finish="length")]), streams(says("Sorry."))
        )
        assert (await make_app(tools=[delete]).run("writer", "Tidy up")).output == "Sorry."
        assert ran == []
        assert "token limit" in model_server.asked[1].body["messages"][-1]["content"]

    async def test_reasoning_streams_and_is_not_sent_back(
        self, model_server: FaultServer, make_app: Callable[..., AgentQ]
    ):
        thinking = [chunk({"reasoning_content": "Hm, "}), chunk({"reasoning_content": "add."}), *TWO_CALLS]
        model_server.answers(streams(thinking), streams(says("16")))
        events: list[Any] = []
        await make_app(tools=[add]).run("writer", "7 + 9?", on_event=events.append)
        assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "Hm, add."
        assert "Hm" not in str(model_server.asked[1].body)

    async def test_an_attached_image_reaches_the_model_and_what_it_cannot_take_does_not(
        self, model_server: FaultServer, make_app: Callable[..., AgentQ], tmp_path: Path
    ):
        model_server.answers(streams(says("A ", "dot.")))
        image, sound = tmp_path / "dot.png", tmp_path / "dot.wav"
        image.write_bytes(b"\x89PNG\r\n\x1a\n")
        sound.write_bytes(b"RIFF")
        assert (await make_app().run("writer", "What is this?", files=[image])).output == "A dot."
        (asked,) = model_server.asked
        picture, text = asked.body["messages"][0]["content"]
        assert text["text"] == "What is this?"
        assert picture["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
        with pytest.raises(InvalidInput, match=r"cannot take dot.wav \(audio/.*it takes image/\*"):
            await make_app().run("writer", "What is this?", files=[sound])

    async def test_runs_of_a_session_send_what_was_said_before(
        self, model_server: FaultServer, make_app: Callable[..., AgentQ]
    ):
        model_server.answers(streams(TWO_CALLS), streams(says("It is 16.")), streams(says("I said 16.")))
        app = make_app(tools=[add])
        await app.run("writer", "7 + 9?", session_id="s")
        await app.run("writer", "What did you say?", session_id="s")
        said = [(message["role"], message["content"]) for message in model_server.asked[-1].body["messages"]]
        assert said == [
            ("user", "7 + 9?"),
            ("assistant", "Adding."),
            ("tool", "16"),
            ("tool", "3"),
            ("assistant", "It is 16."),
            ("user", "What did you say?"),
        ]

    async def test_a_server_that_does_not_stream(self, model_server: FaultServer, make_app: Callable[..., AgentQ]):
        message = {"role": "assistant", "content": "16"}
        model_server.answers(fails(200, {"choices": [{"message": message, "finish_reason": "stop"}]}))
        assert (await make_app().run("writer", "7 + 9?")).output == "16"


class TestTime:
    async def test_a_server_that_leaves_the_stream_open_does_not_hold_the_reply_back(
        self, model_server: FaultServer, provider: OpenAIChat, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(_streaming, "_USAGE_S", 0.05)
        for data in (ANSWER, encoded([chunk({"content": "16"}, "stop")], done=False)):
            model_server.answers(says_then_hangs(data))
            assert isinstance((await reply(provider, model_server))[-1], ReplyEnd)
            await model_server.is_quiet()


class TestKeys:
    async def test_a_wrong_key_is_told_with_the_name_of_its_place(
        self, model_server: FaultServer, provider: OpenAIChat, monkeypatch: pytest.MonkeyPatch
    ):
        model_server.answers(fails(401, {"error": {"message": "Wrong key."}}))
        assert "the key is the one in model_settings.api_key" in str(await failure(provider, model_server))
        assert model_server.asked[0].headers["authorization"] == "Bearer sk-secret"
        monkeypatch.setenv("OTHER_KEY", "sk-other")
        error = await failure(provider, model_server, api_key=None, api_key_env="OTHER_KEY")
        assert "the key is the one in OTHER_KEY" in str(error)
        error = await failure(provider, model_server, api_key=None)
        assert "no key was sent: set OPENAI_API_KEY, or api_key_env in model_settings" in str(error)
        assert "authorization" not in model_server.asked[-1].headers

    async def test_a_function_that_gives_the_key_is_called_once_for_each_request(
        self, model_server: FaultServer, make_app: Callable[..., AgentQ]
    ):
        """Also where the answer has a form: it may ask a vault, or count."""
        given: list[str] = []

        def key() -> str:
            given.append(f"sk-{len(given)}")
            return given[-1]

        model_server.answers(streams(TWO_CALLS), streams(says('{"total": 16}')))
        app = make_app(tools=[add], agent=PATIENCE | {"output_type": Total}, api_key=key)
        assert (await app.run("writer", "7 + 9?")).parse(Total) == Total(16)
        # The first was for the check of the settings, before the run began.
        assert given == ["sk-0", "sk-1", "sk-2"]
        assert [asked.headers["authorization"] for asked in model_server.asked] == ["Bearer sk-1", "Bearer sk-2"]
        assert "response_format" in model_server.asked[0].body

    async def test_headers_and_body_of_ones_own(self, model_server: FaultServer, provider: OpenAIChat):
        model_server.answers(streams(says("16")))
        await reply(provider, model_server, extra_headers={"X-Title": "mine"}, extra_body={"top_k": 3})
        (asked,) = model_server.asked
        assert (asked.headers["x-title"], asked.body["top_k"]) == ("mine", 3)
