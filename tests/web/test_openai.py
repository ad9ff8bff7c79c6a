"""The openai provider against aimock: a chain of tools with parallel calls, errors, limits, and its requests."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

from agentq import Agent, AgentQ, AsyncClient, Callbacks, RunFailed, Settings, tool
from agentq.events.model import AttemptReset, Note, ReasoningDelta, TextDelta, ToolFinished
from agentq.messages import StopReason
from agentq.providers.openai import OpenAI
from tests.providers.strict import check
from tests.web.chain import Recorded, add, multiply
from tests.worker.harness import working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.web.conftest import AIMock

QUESTION = "What is the square root of (7 + 9) times (3 times 4)?"
LONG = "The square root of 192 is 13.86: e\u0301 \u2028 \u00fc \U0001f600."
SUM_AND_PRODUCT = {
    "match": {"userMessage": QUESTION, "hasToolResult": False},
    "response": {
        "toolCalls": [
            {"id": "call_add", "name": "add", "arguments": {"a": 7, "b": 9}},
            {"id": "call_multiply", "name": "multiply", "arguments": {"a": 3, "b": 4}},
        ]
    },
}
ROOT = {
    "match": {"toolCallId": "call_multiply"},
    "response": {"toolCalls": [{"id": "call_root", "name": "root", "arguments": {"x": 192}}]},
}
ANSWER = {"match": {"toolCallId": "call_root"}, "response": {"content": LONG}}
# After a failed call the loop's note stands at the end of the transcript.
AGAIN = {"match": {"userMessage": "Go on from where you were"}, "response": {"content": LONG}}


@tool(effect="none")
async def root(x: float) -> float:
    """The square root of a number."""
    return round(math.sqrt(x), 2)


@pytest.fixture
def sent() -> Iterator[Recorded]:
    """What is sent. Each body must be of the type of OpenAI's SDK."""
    recorded = Recorded()
    yield recorded
    for body in recorded.bodies:
        check(ResponseCreateParamsStreaming, body)


@pytest.fixture
def bodies(sent: Recorded) -> list[dict[str, Any]]:
    return sent.bodies


@pytest.fixture
async def make_app(aimock: AIMock, sent: Recorded) -> AsyncIterator[Callable[..., AgentQ]]:
    provider = OpenAI(connections=sent)

    def make(redis_url: str = "redis://127.0.0.1:1/0", model: str = "gpt-6-luna", **settings: Any) -> AgentQ:
        agent = Agent(
            "calculator",
            instructions="Use the tools.",
            model=f"openai:{model}",
            tools=[add, multiply, root],
            max_error_retries=1,
            retry_backoff_s=0.01,
            model_settings={"base_url": aimock.openai, "api_key": "sk-test", "retry": {"max_attempts": 1}, **settings},
        )
        return AgentQ([agent], settings=Settings(redis_url=redis_url, sweep_ms=100), models={"openai": provider})

    yield make
    await provider.aclose()


SAID = [
    ("user", None),
    ("reasoning", None),
    ("function_call", "call_add"),
    ("function_call", "call_multiply"),
    ("function_call_output", "call_add"),
    ("function_call_output", "call_multiply"),
    ("reasoning", None),
    ("function_call", "call_root"),
    ("function_call_output", "call_root"),
]


def says(content: str, **more: Any) -> dict[str, Any]:
    return {"match": {"userMessage": QUESTION}, "response": {"content": content, **more}}


def kinds(body: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(item.get("role") or item["type"], item.get("call_id")) for item in body["input"]]


async def test_three_tools_two_of_them_at_once_and_an_answer(
    aimock: AIMock, bodies: list[dict[str, Any]], make_app: Callable[..., AgentQ]
):
    aimock.answers(SUM_AND_PRODUCT, ROOT, ANSWER)
    events: list[Any] = []
    result = await make_app(max_tokens=500).run("calculator", QUESTION, on_event=events.append)
    assert result.output == LONG
    assert {event.name: event.content for event in events if isinstance(event, ToolFinished)} == {
        "add": "16",
        "multiply": "12",
        "root": "13.86",
    }
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == LONG
    assert [kinds(body) for body in bodies] == [SAID[:1], SAID[:6], SAID]
    calls = [item for item in bodies[-1]["input"] if item["type"] == "function_call"]
    assert len({item["id"] for item in calls} | {item["call_id"] for item in calls}) == 6
    assert all(item["encrypted_content"] for item in bodies[-1]["input"] if item["type"] == "reasoning")
    # The journal tells what aimock understood, in the words of Chat Completions.
    understood = aimock.asked()
    assert [body["max_tokens"] for body in understood] == [500] * 3
    assert [
        (message["role"], message.get("tool_call_id"), message["content"]) for message in understood[-1]["messages"]
    ] == [
        ("system", None, "Use the tools."),
        ("user", None, QUESTION),
        ("assistant", None, None),
        ("assistant", None, None),
        ("tool", "call_add", "16"),
        ("tool", "call_multiply", "12"),
        ("assistant", None, None),
        ("tool", "call_root", "13.86"),
    ]


async def test_reasoning_streams_and_the_usage_is_told(aimock: AIMock, make_app: Callable[..., AgentQ]):
    usage = {"input_tokens": 40, "output_tokens": 9, "total_tokens": 49}
    aimock.answers(says("13.86", reasoning="First the sum, then the product.", usage=usage, model="gpt-6-luna-x"))
    events: list[Any] = []
    result = await make_app().run("calculator", QUESTION, on_event=events.append)
    told = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    assert (result.output, told) == ("13.86", "First the sum, then the product.")
    assert result.messages[-1].model == "gpt-6-luna-x"
    assert (result.usage.input_tokens, result.usage.output_tokens) == (40, 9)


async def test_a_reply_that_its_token_limit_cut(aimock: AIMock, make_app: Callable[..., AgentQ]):
    aimock.answers(says("13 and", finishReason="length"))
    result = await make_app().run("calculator", QUESTION)
    assert (result.output, result.messages[-1].stop_reason) == ("13 and", StopReason.MAX_TOKENS)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_errors_that_may_heal_are_tried_again(aimock: AIMock, make_app: Callable[..., AgentQ], status: int):
    error = {"error": {"message": "Slow down", "type": "rate_limit_error"}, "status": status, "retryAfter": 1}
    aimock.answers({"match": {"userMessage": QUESTION, "sequenceIndex": 0}, "response": error}, says("13.86"))
    events: list[Any] = []
    assert (await make_app().run("calculator", QUESTION, on_event=events.append)).output == "13.86"
    (note,) = [event for event in events if isinstance(event, Note)]
    assert f"openai answered {status} (rate_limit_error): Slow down" in note.text
    asked_ms = 1000 if status == 429 else 10  # aimock asks for time with 429 alone
    assert asked_ms <= note.delay_ms <= asked_ms * 1.1
    assert aimock.statuses() == [status, 200]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, {"message": "Incorrect API key provided", "type": "invalid_request_error", "code": "invalid_api_key"}),
        (429, {"message": "You exceeded your quota", "type": "insufficient_quota", "code": "insufficient_quota"}),
    ],
)
async def test_errors_that_stay_end_the_run(
    aimock: AIMock, make_app: Callable[..., AgentQ], status: int, error: dict[str, str]
):
    aimock.answers({"match": {"userMessage": QUESTION}, "response": {"error": error, "status": status}})
    with pytest.raises(RunFailed, match=error["message"]):
        await make_app().run("calculator", QUESTION)
    assert aimock.statuses() == [status]


async def test_a_worker_on_redis(aimock: AIMock, make_app: Callable[..., AgentQ], redis_url: str):
    """The same, through the queue: calls, a stream that breaks off, the answer; late viewers see the answer alone."""
    broken = {
        "match": {"toolCallId": "call_root", "sequenceIndex": 0},
        "response": {"content": LONG},
        "truncateAfterChunks": 12,
        "latency": 60,
    }
    aimock.answers(SUM_AND_PRODUCT, ROOT, broken, AGAIN)
    live: list[Any] = []
    async with working(make_app(redis_url)), AsyncClient(redis_url) as client:
        run = await client.enqueue("calculator", QUESTION)
        await run.follow(Callbacks(on_event=live.append))
        assert (await run.result(20)).output == LONG
        late = [event async for event in client.events(run.id, live=False)]
    assert len([event for event in live if isinstance(event, AttemptReset)]) == 1
    assert "".join(event.text for event in late if isinstance(event, TextDelta)) == LONG
    assert len(aimock.asked()) == 4
