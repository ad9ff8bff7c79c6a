"""Runs over the google provider, against a server that misbehaves: the answer comes all the same, or an error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, RunFailed, Settings, tool
from agentq.errors import ProviderError
from agentq.events.model import ReasoningDelta, TextDelta, ToolFinished
from agentq.messages import Usage, user_message
from agentq.providers._google_request import FOREIGN_SIGNATURE
from agentq.providers._http import Connections
from agentq.providers.base import ModelRequest, ReplyEnd, TextChunk
from agentq.providers.google import Google
from agentq.testing.models import ScriptedModel
from agentq.testing.models import call as scripted
from tests.providers.faults import (
    FaultServer,
    Wire,
    cuts,
    encoded,
    fails,
    streams,
)
from tests.providers.gemini import FIRST, SECOND, call, end, quota, response, says, text, thought
from tests.providers.strict_google import check_google

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agentq.providers.base import Chunk

PARTS = [
    thought("Hm, add."),
    text("Adding."),
    call("add", {"a": 7, "b": 9}, "fc1", FIRST),
    call("add", {"a": 1, "b": 2}, "fc2"),
    text("", SECOND),
]
TWO_CALLS = [*(response(part) for part in PARTS[:2]), response(*PARTS[2:4]), end(PARTS[4])]
ANSWER = encoded(says("It ", "is ", "16."), done=False)
# One retry, at once: the tests are about what is retried, not about waiting.
PATIENCE: Any = {"max_error_retries": 1, "retry_backoff_s": 0}
ONCE = {"max_attempts": 1}


def plays(*responses: Any) -> Any:
    return streams(responses, done=False)


@tool(effect="none")
def add(a: float, b: float) -> float:
    """Add two numbers."""
    if a == b:
        raise ValueError("the same")
    return a + b


@pytest.fixture
async def provider() -> AsyncIterator[Google]:
    """With connections of its own, so that the test sees them closed."""
    made = Google(connections=Connections())
    yield made
    await made.aclose()


@pytest.fixture
def google_server(model_server: FaultServer) -> FaultServer:
    model_server.url = model_server.url.replace("/v1", "/v1beta")
    return model_server


@pytest.fixture
async def make_app(google_server: FaultServer, provider: Google) -> AsyncIterator[Callable[..., AgentQ]]:
    """Afterwards all that was asked must be what Google's own SDK would send."""

    def make(*, tools: Any = (), models: Any = None, **settings: Any) -> AgentQ:
        settings = {"base_url": google_server.url, "retry": ONCE} | settings
        writer = Agent("writer", model="google:gemini-x", tools=tools, model_settings=settings, **PATIENCE)
        return AgentQ([writer], settings=Settings(), models={"google": provider, **(models or {})})

    yield make
    for asked in google_server.asked:
        check_google(asked.body)


async def reply(provider: Google, server: FaultServer, **settings: Any) -> list[Chunk]:
    request = ModelRequest(
        "gemini-x",
        (user_message("Hi"),),
        settings={"base_url": server.url, "api_key": "key-secret", "retry": ONCE} | settings,
    )
    return [chunk async for chunk in provider.stream(request)]


async def failure(provider: Google, server: FaultServer, **settings: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await reply(provider, server, **settings)
    assert "key-secret" not in str(caught.value)
    return caught.value


class TestRuns:
    async def test_two_parallel_calls_and_an_answer(self, google_server: FaultServer, make_app: Callable[..., AgentQ]):
        google_server.answers(plays(*TWO_CALLS), plays(*says("It ", "is ", "16.")))
        events: list[Any] = []
        app = make_app(tools=[add], reasoning_effort="low", api_key="key-secret")
        result = await app.run("writer", "7 + 9?", on_event=events.append)
        assert result.output == "It is 16."
        assert result.usage == Usage(input_tokens=200, output_tokens=14, cached_input_tokens=40, reasoning_tokens=6)
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Adding.It is 16."
        assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "Hm, add."
        assert sorted(event.content for event in events if isinstance(event, ToolFinished)) == ["16", "3"]
        first, second = google_server.asked
        assert first.path == "/v1beta/models/gemini-x:streamGenerateContent?alt=sse"
        assert first.headers["x-goog-api-key"] == "key-secret"
        (declared,) = first.body["tools"][0]["functionDeclarations"]
        assert (declared["name"], declared["parametersJsonSchema"]["required"]) == ("add", ["a", "b"])
        assert second.body["contents"] == [
            {"role": "user", "parts": [{"text": "7 + 9?"}]},
            {"role": "model", "parts": PARTS},
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": "fc1", "name": "add", "response": {"output": "16"}}},
                    {"functionResponse": {"id": "fc2", "name": "add", "response": {"output": "3"}}},
                ],
            },
        ]
        assert {**second.body, "contents": 0} == {**first.body, "contents": 0}

    async def test_calls_without_ids_and_a_tool_that_fails(
        self, google_server: FaultServer, make_app: Callable[..., AgentQ]
    ):
        parts = [call("add", {"a": 1, "b": 1}), call("add", {"a": 1, "b": 2})]
        google_server.answers(plays(end(*parts)), plays(*says("Sorry.")))
        assert (await make_app(tools=[add]).run("writer", "1 + 1?")).output == "Sorry."
        _, model, results, *notes = google_server.asked[1].body["contents"]
        assert model["parts"] == parts
        failed, good = (part["functionResponse"] for part in results["parts"])
        assert (failed.get("id"), "the same" in failed["response"]["error"]) == (None, True)
        assert good == {"name": "add", "response": {"output": "3"}}
        assert [note["role"] for note in notes] in (["user"], [])

    async def test_runs_of_a_session_send_what_was_said_before(
        self, google_server: FaultServer, make_app: Callable[..., AgentQ]
    ):
        google_server.answers(plays(*TWO_CALLS), plays(*says("It is 16.")), plays(*says("I said 16.")))
        app = make_app(tools=[add])
        await app.run("writer", "7 + 9?", session_id="s")
        await app.run("writer", "What did you say?", session_id="s")
        contents = google_server.asked[-1].body["contents"]
        assert [content["role"] for content in contents] == ["user", "model", "user", "model", "user"]
        assert contents[1]["parts"] == PARTS
        assert contents[3]["parts"] == [{"text": "It is 16."}]

    async def test_another_model_can_begin_a_session(self, google_server: FaultServer, make_app: Callable[..., AgentQ]):
        other = ScriptedModel([scripted("add", a=7, b=9), "It is 16."])
        google_server.answers(plays(*says("I said 16.")))
        app = make_app(tools=[add], models={"scripted": other})
        await app.run("writer", "7 + 9?", session_id="s", model="scripted")
        await app.run("writer", "What did you say?", session_id="s")
        (made,) = google_server.asked[0].body["contents"][1]["parts"]
        assert made["thoughtSignature"] == FOREIGN_SIGNATURE
        (answered,) = google_server.asked[0].body["contents"][2]["parts"]
        assert answered["functionResponse"]["id"] == made["functionCall"]["id"]

    async def test_a_stream_cut_at_any_byte_is_a_failure_or_was_complete(
        self, google_server: FaultServer, provider: Google
    ):
        for at in (*range(0, len(ANSWER) - 1, 3), len(ANSWER) - 1, len(ANSWER)):
            google_server.answers(cuts(ANSWER, at))
            if at == len(ANSWER):
                *pieces, last = await reply(provider, google_server)
                assert "".join(piece.text for piece in pieces if isinstance(piece, TextChunk)) == "It is 16."
                assert isinstance(last, ReplyEnd)
            else:
                error = await failure(provider, google_server)
                assert (at, error.retryable, "broke" in str(error)) == (at, True, True)

    @pytest.mark.parametrize(
        "play",
        [
            fails(500, {"error": {"code": 500, "message": "sorry", "status": "INTERNAL"}}),
            fails(503, [{"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}]),
            fails(504, {"error": {"code": 504, "message": "late", "status": "DEADLINE_EXCEEDED"}}),
            fails(503, "<html><title>Down</title></html>"),
            fails(429, quota(delay="0s")),
            plays(response(text("It")), {"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}),
            plays(response(text("It"))),
            plays(response(text("It")), response(finish="MALFORMED_FUNCTION_CALL")),
            plays(response(text("It")), response(finish="SAFETY")),
            plays({"promptFeedback": {"blockReason": "OTHER"}}),
        ],
    )
    async def test_what_may_heal_is_tried_again(
        self, google_server: FaultServer, make_app: Callable[..., AgentQ], play: Any
    ):
        google_server.answers(play, plays(*says("16")))
        assert (await make_app().run("writer", "7 + 9?")).output == "16"
        assert len(google_server.asked) == 2
        (again,) = google_server.asked[1].body["contents"]
        assert next(part["text"] for part in again["parts"]) == "7 + 9?"

    @pytest.mark.parametrize(
        ("play", "words"),
        [
            (fails(400, {"error": {"code": 400, "message": "Bad.", "status": "INVALID_ARGUMENT"}}), "400 .INVALID_ARG"),
            (fails(402, {"error": {"code": 402, "message": "Pay."}}), "answered 402 .*Pay"),
            (
                fails(404, {"error": {"code": 404, "message": "no model", "status": "NOT_FOUND"}}),
                "asked was http://127",
            ),
            (fails(302, "", Location="/elsewhere"), "answered 302; asked was"),
            (fails(429, quota("GenerateRequestsPerDayPerProject-FreeTier", delay="6s")), "429 .RESOURCE_EXHAUSTED"),
            (fails(429, quota(limit="0")), "limit: 0, model"),
            (fails(429, quota(delay="40000s")), "RESOURCE_EXHAUSTED"),
            (plays(quota("InputTokensPerModelPerDay-FreeTier")), "broke the reply off .RESOURCE_EXHAUSTED"),
            (fails(200, {"error": {"code": 403, "message": "no", "status": "PERMISSION_DENIED"}}), "PERMISSION_DENIED"),
            (fails(200, {"detail": "hello"}), "sent no reply"),
            (fails(200, "<html><title>Proxy</title>"), "page titled 'Proxy'; is its base_url right"),
            (plays(response(thought("hm")), response(finish="MAX_TOKENS")), "raise max_tokens"),
        ],
    )
    async def test_what_stays_ends_the_run_at_once(
        self, google_server: FaultServer, make_app: Callable[..., AgentQ], play: Any, words: str
    ):
        google_server.answers(play)
        with pytest.raises(RunFailed, match=words):
            await make_app().run("writer", "7 + 9?")
        assert len(google_server.asked) == 1

    async def test_the_delay_that_google_asks_for(self, google_server: FaultServer, provider: Google):
        google_server.answers(fails(429, [quota(delay="46.5s")]))
        error = await failure(provider, google_server)
        assert (error.retryable, error.retry_after_s, error.code) == (True, 46.5, "RESOURCE_EXHAUSTED")

    @pytest.mark.parametrize("wrap", [lambda error: error, lambda error: [error]])
    @pytest.mark.parametrize("indent", [None, 2])
    async def test_an_error_inside_the_stream_without_the_marks_of_an_event(
        self, google_server: FaultServer, provider: Google, wrap: Any, indent: int | None
    ):
        """So Google ends a stream that it cannot go on with: JSON as it is, over several lines."""
        for error, is_retryable in (
            ({"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}, True),
            (quota("InputTokensPerModelPerDay-FreeTier"), False),
        ):

            async def play(wire: Wire, words: bytes = json.dumps(wrap(error), indent=indent).encode()) -> None:
                await wire.head()
                await wire.send(encoded([response(text("It"))], done=False))
                await wire.send(words[:20])
                await wire.send(words[20:])
                await wire.end()

            google_server.answers(play)
            raised = await failure(provider, google_server)
            assert (raised.code, raised.status) == (error["error"]["status"], error["error"]["code"])
            assert raised.retryable is is_retryable
            assert "google broke the reply off" in str(raised)

    async def test_other_json_inside_the_stream_is_none_of_it(self, google_server: FaultServer, provider: Google):
        async def play(wire: Wire) -> None:
            await wire.head()
            await wire.send(b'{"note": 1}\n[]\n\n{"no JSON\n' + ANSWER)
            await wire.end()

        google_server.answers(play)
        *pieces, _ = await reply(provider, google_server)
        assert "".join(piece.text for piece in pieces if isinstance(piece, TextChunk)) == "It is 16."

    async def test_a_wrong_key_is_told_with_the_name_of_its_place(self, google_server: FaultServer, provider: Google):
        """Google answers 400 to it, not 401."""
        error = {"code": 400, "message": "API key not valid.", "details": [{"reason": "API_KEY_INVALID"}]}
        google_server.answers(fails(400, {"error": error}))
        assert "the key is the one in model_settings.api_key" in str(await failure(provider, google_server))
        told = str(await failure(provider, google_server, api_key=None))
        assert "no key was sent: set GEMINI_API_KEY, or api_key_env in model_settings" in told
        assert "x-goog-api-key" not in google_server.asked[-1].headers

    async def test_an_attached_image_reaches_the_model(
        self, google_server: FaultServer, make_app: Callable[..., AgentQ], tmp_path: Path
    ):
        google_server.answers(plays(*says("A ", "dot.")))
        image = tmp_path / "dot.png"
        image.write_bytes(b"\x89PNG\r\n\x1a\n")
        assert (await make_app().run("writer", "What is this?", files=[image])).output == "A dot."
        (asked,) = google_server.asked
        picture, words = asked.body["contents"][0]["parts"]
        assert words == {"text": "What is this?"}
        assert picture == {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}

    async def test_a_server_that_does_not_stream(self, google_server: FaultServer, make_app: Callable[..., AgentQ]):
        google_server.answers(fails(200, TWO_CALLS), fails(200, end(text("16"))))
        assert (await make_app(tools=[add]).run("writer", "7 + 9?")).output == "16"
        assert google_server.asked[1].body["contents"][1]["parts"] == PARTS

    async def test_one_pool_serves_many_replies_and_the_body_is_plain_json(
        self, google_server: FaultServer, provider: Google
    ):
        google_server.answers(plays(*says("16")))
        for _ in range(3):
            await reply(provider, google_server)
        assert google_server.connections == 1
        assert json.dumps(google_server.asked[0].body) == '{"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}'
