"""The anthropic provider against aimock: a chain of tools with parallel calls, thinking, errors, and its requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, AsyncClient, Callbacks, RunFailed, Settings
from agentq.events.model import AttemptReset, ModelRetried, ReasoningDelta, TextDelta, ToolFinished
from agentq.messages import StopReason
from agentq.providers.anthropic import Anthropic
from tests.providers.anthropic_parts import check_body
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
    """Afterwards all that was sent must be of the type of Anthropic's own SDK."""
    provider = Anthropic(connections=sent)

    def make(redis_url: str = "redis://127.0.0.1:1/0", **settings: Any) -> AgentQ:
        agent = Agent(
            "calculator",
            instructions="Use the tools.",
            model="anthropic:claude-opus-5-5",
            tools=[add, multiply, subtract],
            max_error_retries=1,
            retry_backoff_s=0.01,
            model_settings={
                "base_url": aimock.address, "api_key": "key-test", "retry": {"initial_s": 0.01}, **settings,
            },
        )  # fmt: skip
        options = Settings(redis_url=redis_url, sweep_ms=100)
        return AgentQ([agent], settings=options, models={"anthropic": provider})

    yield make
    await provider.aclose()
    for body in sent.bodies:
        check_body(body)


async def test_a_chain_of_three_tools_two_of_them_in_parallel(
    aimock: AIMock, make_app: Callable[..., AgentQ], sent: Recorded
):
    aimock.answers(*CHAIN, ANSWER)
    events: list[Any] = []
    result = await make_app(max_tokens=100).run("calculator", QUESTION, on_event=events.append)
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
    assert [(message["role"], message.get("tool_call_id")) for message in last["messages"] if message["role"] == "tool"]
    turns = sent.bodies[-1]["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    # Back as they came; the thought goes back too if it was signed.
    uses = [block for block in turns[1]["content"] if block["type"] == "tool_use"]
    assert uses == [
        {"type": "tool_use", "id": "call_add", "name": "add", "input": {"a": 7, "b": 9}},
        {"type": "tool_use", "id": "call_multiply", "name": "multiply", "input": {"a": 3, "b": 4}},
    ]
    assert turns[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "call_add", "content": "16"},
        {"type": "tool_result", "tool_use_id": "call_multiply", "content": "12"},
    ]


async def test_a_reply_that_its_token_limit_cut(aimock: AIMock, make_app: Callable[..., AgentQ]):
    aimock.answers(says("16 and", finishReason="length"))
    result = await make_app().run("calculator", QUESTION)
    assert (result.output, result.messages[-1].stop_reason) == ("16 and", StopReason.MAX_TOKENS)


@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limit_error"), (500, "api_error"), (529, "overloaded_error")])
async def test_errors_that_may_heal_are_tried_again_at_once(
    aimock: AIMock, make_app: Callable[..., AgentQ], status: int, kind: str
):
    error = {"error": {"message": "Slow down", "type": kind}, "status": status}
    aimock.answers({"match": {"userMessage": QUESTION, "sequenceIndex": 0}, "response": error}, says("16 and 12"))
    events: list[Any] = []
    assert (await make_app().run("calculator", QUESTION, on_event=events.append)).output == "16 and 12"
    (told,) = [event for event in events if isinstance(event, ModelRetried)]
    assert f"anthropic answered {status} ({kind}): Slow down" in told.reason
    assert aimock.statuses() == [status, 200]


async def test_an_error_that_stays_ends_the_run(aimock: AIMock, make_app: Callable[..., AgentQ]):
    error = {"message": "invalid x-api-key", "type": "authentication_error"}
    aimock.answers({"match": {"userMessage": QUESTION}, "response": {"error": error, "status": 401}})
    with pytest.raises(RunFailed, match="invalid x-api-key"):
        await make_app().run("calculator", QUESTION)
    assert aimock.statuses() == [401]


async def test_a_worker_on_redis(aimock: AIMock, make_app: Callable[..., AgentQ], redis_url: str):
    """Through the queue: calls, a stream that breaks off, the answer; late viewers see the answer alone."""
    broken = {
        "match": {"toolCallId": "call_subtract", "sequenceIndex": 0},
        "response": {"content": LONG},
        "truncateAfterChunks": 4,
        "latency": 60,
    }
    aimock.answers(*CHAIN, broken, AGAIN)
    live: list[Any] = []
    async with working(make_app(redis_url)), AsyncClient(redis_url) as client:
        run = await client.enqueue("calculator", QUESTION)
        await run.follow(Callbacks(on_event=live.append))
        assert (await run.result(20)).output == LONG
        late = [event async for event in client.events(run.id, live=False)]
    assert len([event for event in live if isinstance(event, AttemptReset)]) <= 1
    assert "".join(event.text for event in late if isinstance(event, TextDelta)) == LONG
    assert len(aimock.asked()) == 4
