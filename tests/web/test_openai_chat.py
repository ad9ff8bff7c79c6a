"""The openai-chat provider against aimock: fragments, parallel calls, errors, limits, and its requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from agentq import Agent, AgentQ, AsyncClient, Callbacks, RunFailed, Settings, tool
from agentq.events.model import AttemptReset, Note, ReasoningDelta, TextDelta, ToolFinished
from agentq.messages import StopReason, Usage
from agentq.providers._http import Connections
from agentq.providers.openai_chat import OpenAIChat
from tests.providers.strict import check
from tests.web import chain
from tests.worker.harness import working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.web.conftest import AIMock

QUESTION = "What is 7 + 9, and 3 times 4?"
LONG = "Seven and nine are sixteen, and three times four is twelve: e\u0301 \u2028 \u00fc \U0001f600."
TWO_CALLS = {
    "match": {"userMessage": QUESTION, "hasToolResult": False},
    "response": {
        "toolCalls": [
            {"id": "call_add", "name": "add", "arguments": {"a": 7, "b": 9}},
            {"id": "call_multiply", "name": "multiply", "arguments": {"a": 3, "b": 4}},
        ]
    },
}
ANSWER = {"match": {"toolCallId": "call_multiply"}, "response": {"content": LONG}}
# After a failed call the loop's note stands at the end of the transcript.
AGAIN = {"match": {"userMessage": "Go on from where you were"}, "response": {"content": LONG}}


@tool(effect="none")
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(effect="none")
async def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


@pytest.fixture
async def make_app(aimock: AIMock) -> AsyncIterator[Callable[..., AgentQ]]:
    provider = OpenAIChat(connections=Connections())

    def make(redis_url: str = "redis://127.0.0.1:1/0", model: str = "gpt-4o-mini", **settings: Any) -> AgentQ:
        agent = Agent(
            "calculator",
            instructions="Use the tools.",
            model=f"openai-chat:{model}",
            tools=[add, multiply, chain.subtract],
            max_error_retries=1,
            retry_backoff_s=0.01,
            model_settings={"base_url": aimock.openai, "api_key": "sk-test", "retry": {"max_attempts": 1}, **settings},
        )
        options = Settings(redis_url=redis_url, sweep_ms=100)
        return AgentQ([agent], settings=options, models={"openai-chat": provider})

    yield make
    await provider.aclose()


def says(content: str, **more: Any) -> dict[str, Any]:
    return {"match": {"userMessage": QUESTION}, "response": {"content": content, **more}}


async def test_two_parallel_calls_in_fragments_and_an_answer(aimock: AIMock, make_app: Callable[..., AgentQ]):
    aimock.answers(TWO_CALLS, ANSWER)
    events: list[Any] = []
    result = await make_app().run("calculator", QUESTION, on_event=events.append)
    assert result.output == LONG
    assert {event.name: event.content for event in events if isinstance(event, ToolFinished)} == {
        "add": "16",
        "multiply": "12",
    }
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == LONG
    first, second = aimock.asked()
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert [(message["role"], message.get("tool_call_id")) for message in second["messages"][2:]] == [
        ("assistant", None),
        ("tool", "call_add"),
        ("tool", "call_multiply"),
    ]
    assert [message["content"] for message in second["messages"][3:]] == ["16", "12"]


async def test_requests_are_of_the_type_of_openais_sdk(aimock: AIMock, make_app: Callable[..., AgentQ]):
    aimock.answers(TWO_CALLS, ANSWER)
    settings = {"temperature": 0.5, "max_tokens": 100, "max_tokens_field": "max_completion_tokens", "seed": 7}
    await make_app(**settings).run("calculator", QUESTION)
    for body in aimock.asked():
        known = {name: value for name, value in body.items() if not name.startswith("_")}
        check(CompletionCreateParamsStreaming, known)
        assert (body["temperature"], body["max_completion_tokens"], body["seed"]) == (0.5, 100, 7)


async def test_usage_and_the_name_of_the_model(aimock: AIMock, make_app: Callable[..., AgentQ]):
    usage = {"prompt_tokens": 40, "completion_tokens": 9, "total_tokens": 49}
    aimock.answers(says("16 and 12", usage=usage, model="gpt-4o-mini-2024-07-18"))
    result = await make_app().run("calculator", QUESTION)
    assert result.messages[-1].model == "gpt-4o-mini-2024-07-18"
    assert result.usage == Usage(input_tokens=40, output_tokens=9)


async def test_openrouter_with_reasoning_and_details_of_the_usage(aimock: AIMock, make_app: Callable[..., AgentQ]):
    usage = {
        "prompt_tokens": 40,
        "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    aimock.answers(says("16 and 12", reasoning="First the sum, then the product.", usage=usage))
    events: list[Any] = []
    app = make_app(model="openai/o4-mini", base_url=f"{aimock.address}/api/v1")
    result = await app.run("calculator", QUESTION, on_event=events.append)
    told = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    assert (result.output, told) == ("16 and 12", "First the sum, then the product.")
    assert result.usage == Usage(input_tokens=40, output_tokens=9, cached_input_tokens=30, reasoning_tokens=4)


async def test_a_reply_that_its_token_limit_cut(aimock: AIMock, make_app: Callable[..., AgentQ]):
    aimock.answers(says("16 and", finishReason="length"))
    result = await make_app().run("calculator", QUESTION)
    assert (result.output, result.messages[-1].stop_reason) == ("16 and", StopReason.MAX_TOKENS)


async def test_a_filtered_reply_is_a_failure(aimock: AIMock, make_app: Callable[..., AgentQ]):
    aimock.answers(says("16 and", finishReason="content_filter"))
    with pytest.raises(RunFailed, match="a content filter stopped the reply: 16 and"):
        await make_app().run("calculator", QUESTION)
    assert len(aimock.asked()) == 2


async def test_a_chain_of_three_tools_two_of_them_in_parallel(aimock: AIMock, make_app: Callable[..., AgentQ]):
    aimock.answers(*chain.CHAIN, chain.ANSWER)
    events: list[Any] = []
    result = await make_app().run("calculator", chain.QUESTION, on_event=events.append)
    assert result.output == chain.LONG
    told = {event.name: event.content for event in events if isinstance(event, ToolFinished)}
    assert told == {"add": "16", "multiply": "12", "subtract": "4"}
    *_, last = aimock.asked()
    assert [(message["role"], message.get("tool_call_id")) for message in last["messages"]][2:] == [
        ("assistant", None),
        ("tool", "call_add"),
        ("tool", "call_multiply"),
        ("assistant", None),
        ("tool", "call_subtract"),
    ]
    assert aimock.statuses() == [200, 200, 200]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_errors_that_may_heal_are_tried_again(aimock: AIMock, make_app: Callable[..., AgentQ], status: int):
    error = {"error": {"message": "Slow down", "type": "rate_limit_error"}, "status": status, "retryAfter": 1}
    aimock.answers({"match": {"userMessage": QUESTION, "sequenceIndex": 0}, "response": error}, says("16 and 12"))
    events: list[Any] = []
    assert (await make_app().run("calculator", QUESTION, on_event=events.append)).output == "16 and 12"
    (note,) = [event for event in events if isinstance(event, Note)]
    assert f"openai-chat answered {status} (rate_limit_error): Slow down" in note.text
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


async def test_a_stream_that_breaks_off_is_asked_for_again(aimock: AIMock, make_app: Callable[..., AgentQ]):
    broken = {
        "match": {"toolCallId": "call_multiply", "sequenceIndex": 0},
        "response": {"content": LONG},
        "truncateAfterChunks": 4,
    }
    aimock.answers(TWO_CALLS, broken, AGAIN)
    events: list[Any] = []
    result = await make_app().run("calculator", QUESTION, on_event=events.append)
    assert result.output == LONG
    assert len([event for event in events if isinstance(event, ToolFinished)]) == 2
    assert [event.text for event in events if isinstance(event, Note)] != []
    assert len(aimock.asked()) == 3


async def test_a_request_that_no_fixture_answers_ends_the_run(aimock: AIMock, make_app: Callable[..., AgentQ]):
    """aimock's strict mode: a request that is not as expected is an error, not a polite reply."""
    with pytest.raises(RunFailed, match=r"answered \d+"):
        await make_app().run("calculator", QUESTION)


async def test_a_worker_on_redis(aimock: AIMock, make_app: Callable[..., AgentQ], redis_url: str):
    """The same, through the queue: calls, a stream that breaks off, the answer; late viewers see the answer alone."""
    broken = {
        "match": {"toolCallId": "call_multiply", "sequenceIndex": 0},
        "response": {"content": LONG},
        "truncateAfterChunks": 4,
        "latency": 60,
    }
    aimock.answers(TWO_CALLS, broken, AGAIN)
    live: list[Any] = []
    async with working(make_app(redis_url)), AsyncClient(redis_url) as client:
        run = await client.enqueue("calculator", QUESTION)
        await run.follow(Callbacks(on_event=live.append))
        assert (await run.result(20)).output == LONG
        late = [event async for event in client.events(run.id, live=False)]
    assert len([event for event in live if isinstance(event, AttemptReset)]) == 1
    assert "".join(event.text for event in late if isinstance(event, TextDelta)) == LONG
    assert len(aimock.asked()) == 3
