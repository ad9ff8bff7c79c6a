"""Hayhooks' durable agents on Redis: `python -m bench.programs.hayhooks_agent URL RUNS`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import redis.asyncio
from hayhooks.durable.haystack import HaystackDurableAdapter
from hayhooks.durable.models import ExecutionKind
from hayhooks.durable.redis import RedisExecutionStore
from hayhooks.durable.runtime import DurableDeployment, RuntimeConfig
from haystack import component
from haystack.components.agents import Agent
from haystack.dataclasses import ChatMessage, ToolCall
from haystack.tools import Tool
from loguru import logger
from pydantic import BaseModel

from bench.programs.measuring import ITERATIONS, MESSAGES, measured, talk

if TYPE_CHECKING:
    from hayhooks.durable.context import DurableContext

logger.remove()
_WARM_UP_RUNS = 10
_AT_ONCE = 10
_LOOK_S = 0.02


def reply(messages: list[ChatMessage]) -> ChatMessage:
    """Two turns that call the tool, and an answer, at once."""
    turn = (len(messages) - MESSAGES) // 2
    if turn < ITERATIONS - 1:
        call = ToolCall(tool_name="look_up", arguments={"key": f"word {turn}"}, id=f"call_{turn}")
        return ChatMessage.from_assistant(tool_calls=[call])
    return ChatMessage.from_assistant("It is what it is.")


@component
class InstantModel:
    """A chat generator that answers at once."""

    @component.output_types(replies=list[ChatMessage])
    def run(self, messages: list[ChatMessage], tools: Any = None, **_: Any) -> dict[str, Any]:
        return {"replies": [reply(messages)]}

    @component.output_types(replies=list[ChatMessage])
    async def run_async(self, messages: list[ChatMessage], tools: Any = None, **_: Any) -> dict[str, Any]:
        return {"replies": [reply(messages)]}


def look_up(key: str) -> str:
    return f"the meaning of {key}"


class Request(BaseModel):
    """What a run begins with."""

    messages: list[tuple[str, str]]


def _message(role: str, text: str) -> ChatMessage:
    return ChatMessage.from_user(text) if role == "user" else ChatMessage.from_assistant(text)


async def run(context: DurableContext, request: Request) -> dict[str, Any]:
    said = [_message(role, text) for role, text in request.messages]
    result = await context.run_agent_async(messages=said)
    return {"answer": result["last_message"].text}


def _agent() -> Agent:
    schema = {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}
    tool = Tool(name="look_up", description="Look a word up.", parameters=schema, function=look_up)
    return Agent(chat_generator=InstantModel(), tools=[tool], exit_conditions=["text"])


async def _done(deployment: DurableDeployment, said: Any, runs: int) -> None:
    submitted = await asyncio.gather(*[deployment.submit({"messages": said}) for _ in range(runs)])
    left = {each.control.run_id for each in submitted}
    while left:
        await asyncio.sleep(_LOOK_S)
        for run_id in tuple(left):
            control = await deployment.get_control(run_id)
            if not control.terminal:
                break  # they end about in the order in which they came
            if control.status.value != "completed":
                raise RuntimeError(f"a run ended as {control.status.value}")
            left.discard(run_id)


async def main() -> None:
    url, runs = sys.argv[1], int(sys.argv[2])
    client = redis.asyncio.Redis.from_url(url)
    deployment = DurableDeployment(
        "bench",
        "1",
        RedisExecutionStore(client, "bench"),
        Request,
        run,
        kind=ExecutionKind.AGENT,
        adapter=HaystackDurableAdapter(_agent()),
        config=RuntimeConfig(worker_concurrency=_AT_ONCE),
    )
    await deployment.start()
    said = talk()
    await _done(deployment, said, _WARM_UP_RUNS)
    with measured(url):
        await _done(deployment, said, runs)
    await deployment.close()
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(main())
