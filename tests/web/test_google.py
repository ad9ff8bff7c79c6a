"""The google provider against aimock: calls, thoughts, errors, limits, and its requests.

aimock says FUNCTION_CALL where Gemini says STOP, and signs nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, AsyncClient, Callbacks, RunFailed, Settings
from agentq.events.model import AttemptReset, Note, ReasoningDelta, TextDelta, ToolFinished
from agentq.messages import StopReason, Usage
from agentq.providers.google import Google
from tests.providers.strict_google import check_google
from tests.web.chain import AGAIN, ANSWER, CHAIN, LONG, QUESTION, Recorded, add, multiply, says, subtract
from tests.worker.harness import working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.web.conftest import AIMock


@pytest.fixture
def sent() -> Recorded:
    return Recorded()


@pytest.fixture
async def make_app(aimock: AIMock, sent: Recorded) -> AsyncIterator[Callable[..., AgentQ]]:
    """Afterwards all that was sent must be what Google's own SDK would send."""
    provider = Google(connections=sent)

    def make(redis_url: str = "redis://127.0.0.1:1/0", **settings: Any) -> AgentQ:
        agent = Agent(
            "calculator",
            instructions="Use the tools.",
            model="google:gemini-3-flash",
            tools=[add, multiply, subtract],
            max_error_retries=1,
            retry_backoff_s=0.01,
            model_settings={"base_url": aimock.google, "api_key": "key-test", "retry": {"max_attempts": 1}, **settings},
        )
        options = Settings(redis_url=redis_url, sweep_ms=100)
        return AgentQ([agent], settings=options, models={"google": provider})

    yield make
    await provider.aclose()
    for body in sent.bodies:
        check_google(body)


async def test_a_chain_of_three_tools_two_of_them_in_parallel(
    aimock: AIMock, make_app: Callable[..., AgentQ], sent: Recorded
):
    aimock.answers(*CHAIN, ANSWER)
    events: list[Any] = []
    app = make_app(reasoning_effort="low", max_tokens=100, temperature=0.5)
    result = await app.run("calculator", QUESTION, on_event=events.append)
    assert result.output == LONG
    assert [(event.name, event.content) for event in events if isinstance(event, ToolFinished)] == [
        ("add", "16"),
        ("multiply", "12"),
        ("subtract", "4"),
    ]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == LONG
    told = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    assert told == "First the sum and the product."
    assert aimock.statuses() == [200, 200, 200]
    *_, last = aimock.asked()
    assert (last["temperature"], last["max_tokens"]) == (0.5, 100)
    assert [(message["role"], message.get("tool_call_id")) for message in last["messages"]] == [
        ("system", None),
        ("user", None),
        ("assistant", None),
        ("tool", "call_add"),
        ("tool", "call_multiply"),
        ("assistant", None),
        ("tool", "call_subtract"),
    ]
    assert [json.loads(message["content"]) for message in last["messages"] if message["role"] == "tool"] == [
        {"output": "16"},
        {"output": "12"},
        {"output": "4"},
    ]
    # Back as they came: the thought in one piece, the calls with their ids and without signatures.
    assert sent.bodies[-1]["contents"][1]["parts"] == [
        {"text": "First the sum and the product.", "thought": True},
        {"functionCall": {"id": "call_add", "name": "add", "args": {"a": 7, "b": 9}}},
        {"functionCall": {"id": "call_multiply", "name": "multiply", "args": {"a": 3, "b": 4}}},
    ]


async def test_usage(aimock: AIMock, make_app: Callable[..., AgentQ]):
    usage = {"promptTokenCount": 40, "candidatesTokenCount": 9, "totalTokenCount": 49}
    aimock.answers(says("16, 12 and 4", usage=usage))
    result = await make_app().run("calculator", QUESTION)
    assert result.usage == Usage(input_tokens=40, output_tokens=9)


async def test_a_reply_that_its_token_limit_cut(aimock: AIMock, make_app: Callable[..., AgentQ]):
    aimock.answers(says("16 and", finishReason="length"))
    result = await make_app().run("calculator", QUESTION)
    assert (result.output, result.messages[-1].stop_reason) == ("16 and", StopReason.MAX_TOKENS)


async def test_a_filtered_reply_is_a_failure(aimock: AIMock, make_app: Callable[..., AgentQ]):
    aimock.answers(says("16 and", finishReason="content_filter"))
    with pytest.raises(RunFailed, match="a content filter stopped the reply: 16 and"):
        await make_app().run("calculator", QUESTION)
    assert len(aimock.asked()) == 2


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "OTHER"])
async def test_an_end_that_is_no_reply_is_tried_again(aimock: AIMock, make_app: Callable[..., AgentQ], reason: str):
    broken = says("16 and", finishReason=reason)
    broken["match"]["sequenceIndex"] = 0
    aimock.answers(broken, says("16, 12 and 4"), AGAIN)
    events: list[Any] = []
    assert (await make_app().run("calculator", QUESTION, on_event=events.append)).output == "16, 12 and 4"
    assert [reason in event.text for event in events if isinstance(event, Note)] == [True]


@pytest.mark.parametrize(("status", "word"), [(429, "RESOURCE_EXHAUSTED"), (500, "INTERNAL"), (503, "UNAVAILABLE")])
async def test_errors_that_may_heal_are_tried_again(
    aimock: AIMock, make_app: Callable[..., AgentQ], status: int, word: str
):
    error = {"error": {"message": "Slow down", "type": word}, "status": status}
    aimock.answers({"match": {"userMessage": QUESTION, "sequenceIndex": 0}, "response": error}, says("16 and 12"))
    events: list[Any] = []
    assert (await make_app().run("calculator", QUESTION, on_event=events.append)).output == "16 and 12"
    (note,) = [event for event in events if isinstance(event, Note)]
    assert f"google answered {status} ({word}): Slow down" in note.text
    assert aimock.statuses() == [status, 200]


async def test_an_error_that_stays_ends_the_run(aimock: AIMock, make_app: Callable[..., AgentQ]):
    error = {"message": "API key not valid", "type": "INVALID_ARGUMENT"}
    aimock.answers({"match": {"userMessage": QUESTION}, "response": {"error": error, "status": 400}})
    with pytest.raises(RunFailed, match="API key not valid"):
        await make_app().run("calculator", QUESTION)
    assert aimock.statuses() == [400]


async def test_a_worker_on_redis(aimock: AIMock, make_app: Callable[..., AgentQ], redis_url: str):
    """Through the queue: calls, a stream that breaks off, the answer; late viewers see the answer alone."""
    broken = {
        "match": {"toolCallId": "call_subtract", "sequenceIndex": 0},
        "response": {"content": LONG},
        "truncateAfterChunks": 2,
        "latency": 60,
    }
    aimock.answers(*CHAIN, broken, AGAIN)
    live: list[Any] = []
    async with working(make_app(redis_url)), AsyncClient(redis_url) as client:
        run = await client.enqueue("calculator", QUESTION)
        await run.follow(Callbacks(on_event=live.append))
        assert (await run.result(20)).output == LONG
        late = [event async for event in client.events(run.id, live=False)]
    assert len([event for event in live if isinstance(event, AttemptReset)]) == 1
    assert "".join(event.text for event in late if isinstance(event, TextDelta)) == LONG
    assert len(aimock.asked()) == 4
