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
_REVISION = "1"
# Closed while runs are submitted: agentq's stand in the queue, too, before the time counts.
gate = asyncio.Event()
calls = 0


def reply(messages: list[ChatMessage]) -> ChatMessage:
    """Two turns that call the tool, and an answer, at once."""
    global calls  # noqa: PLW0603 - a component has no other place in this process
    calls += 1
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
    await gate.wait()
    said = [_message(role, text) for role, text in request.messages]
    result = await context.run_agent_async(messages=said)
    return {"answer": result["last_message"].text}


def _agent() -> Agent:
    schema = {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}
    tool = Tool(name="look_up", description="Look a word up.", parameters=schema, function=look_up)
    return Agent(chat_generator=InstantModel(), tools=[tool], exit_conditions=["text"])


async def _submitted(deployment: DurableDeployment, said: Any, runs: int) -> list[str]:
    """The ids of runs that wait before the gate, as many as there are slots, and behind it."""
    gate.clear()
    submitted = await asyncio.gather(*[deployment.submit({"messages": said}) for _ in range(runs)])
    return [each.control.run_id for each in submitted]


async def _done(deployment: DurableDeployment) -> None:
    gate.set()
    while (await deployment.store.operational_counts(revision=_REVISION))["nonterminal"]:  # noqa: ASYNC110 - what changes is in Redis
        await asyncio.sleep(_LOOK_S)


async def _check(deployment: DurableDeployment, run_ids: list[str], called: int) -> None:
    statuses = {(await deployment.get_control(run_id)).status.value for run_id in run_ids}
    if statuses != {"completed"} or called != len(run_ids) * ITERATIONS:
        raise SystemExit(f"{len(run_ids)} runs of Hayhooks called the model {called} times and are {statuses}")


async def main() -> None:
    url, runs = sys.argv[1], int(sys.argv[2])
    client = redis.asyncio.Redis.from_url(url)
    deployment = DurableDeployment(
        "bench",
        _REVISION,
        RedisExecutionStore(client, "bench"),
        Request,
        run,
        kind=ExecutionKind.AGENT,
        adapter=HaystackDurableAdapter(_agent()),
        config=RuntimeConfig(worker_concurrency=_AT_ONCE),
    )
    await deployment.start()
    said = talk()
    await _submitted(deployment, said, _WARM_UP_RUNS)
    await _done(deployment)
    run_ids, before = await _submitted(deployment, said, runs), calls
    with measured(url):
        await _done(deployment)
    await _check(deployment, run_ids, calls - before)
    await deployment.close()
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(main())
