"""The clients of others, headless, over a network that cuts them off at random places: they all read the same."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from agentq.events.kinds import KINDS
from tests.helpers import wait_until
from tests.web.cutting import client, cutting
from tests.web_app.serving import House, house
from tests.worker.harness import working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TALK = 'call add {"a": 7, "b": 9} & call add {"a": 1, "b": 2}\nstream 60 "token " 0.01'
SAID = "token " * 60
PAY = 'call pay {"amount": 5} & call pay {"amount": 6}\nsay $1 and $2'
SEEDS = range(8)
ENDS = ["run.completed", "run.failed", "run.cancelled"]


@asynccontextmanager
async def crashing(here: House) -> AsyncIterator[None]:
    """Once text streams, the worker goes away and another one begins the reply anew."""

    async def crash() -> None:
        await wait_until(lambda: _streams(here), timeout=30, message="text")
        await here.worker.stopped()
        async with working(here.app):
            await asyncio.Event().wait()

    task = asyncio.create_task(crash())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _streams(here: House) -> bool:
    for run in await here.client.list(limit=1):
        kinds = [event.type async for event in here.client.events(run.run_id, live=False)]
        return kinds.count("text.delta") > 5
    return False


@pytest.mark.parametrize("seed", SEEDS)
async def test_eventsource(node: str, redis_url: str, seed: int):
    async with house(redis_url) as here, cutting(here.address, cuts=seed, seed=seed, in_head=True) as net:
        run = await here.client.enqueue("clerk", TALK)
        url = f"{net.url}/api/v1/runs/{run.id}/events"
        got = await client(node, "eventsource", url=url, kinds=KINDS, ends=ENDS)
        events = [event.model_dump(mode="json") async for event in here.client.events(run.id)]
        assert [each["data"] for each in got["seen"]] == events
        assert [int(each["id"]) for each in got["seen"]] == list(range(1, len(events) + 1))
        assert bool(net.made) is bool(seed)


def read(messages: list[Any]) -> list[Any]:
    """What a person reads of AI SDK messages."""
    return [
        (message["role"], [_read(part) for part in message["parts"] if part["type"] != "step-start"])
        for message in messages
    ]


def _read(part: Any) -> Any:
    if part["type"] == "text":
        return part["text"]
    return part["type"], part["state"], part["input"], part.get("output")


SUMS = [
    ("tool-add", "output-available", {"a": 7, "b": 9}, "16"),
    ("tool-add", "output-available", {"a": 1, "b": 2}, "3"),
]


@pytest.mark.parametrize("transport", ["default", "workflow"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_use_chat(node: str, redis_url: str, seed: int, transport: str):
    async with house(redis_url) as here, cutting(here.address, cuts=seed, seed=seed) as net:
        task = {"api": f"{net.url}/ai-sdk/clerk", "chatId": "chat-1", "transport": transport, "approves": True}
        got = await client(node, "chat", **task, texts=[TALK, PAY])
        assert got["status"] == "ready"
        assert read(got["messages"]) == [
            ("user", [TALK]),
            ("assistant", [*SUMS, SAID]),
            ("user", [PAY]),
            (
                "assistant",
                [
                    ("tool-pay", "output-available", {"amount": 5}, "paid 5"),
                    ("tool-pay", "output-available", {"amount": 6}, "paid 6"),
                    "paid 5 and paid 6",
                ],
            ),
        ]
        assert here.done == ["paid 5", "paid 6"]
        assert len(await here.client.list(session_id="chat-1")) == 2


@pytest.mark.parametrize("transport", ["default", "workflow"])
@pytest.mark.parametrize("cuts", [0, 3])
async def test_use_chat_reads_a_reply_that_begins_anew(node: str, redis_url: str, transport: str, cuts: int):
    async with (
        house(redis_url) as here,
        crashing(here),
        cutting(here.address, cuts=cuts, seed=cuts) as net,
    ):
        task = {"api": f"{net.url}/ai-sdk/clerk", "chatId": "chat-1", "transport": transport, "approves": True}
        got = await client(node, "chat", **task, texts=[TALK])
        assert read(got["messages"]) == [("user", [TALK]), ("assistant", [*SUMS, SAID])]
        kinds = [event.type async for event in here.client.events(got["messages"][1]["id"])]
        assert "attempt.reset" in kinds


async def test_use_chat_shows_what_was_denied(node: str, redis_url: str):
    async with house(redis_url) as here:
        task = {"api": f"{here.address}/ai-sdk/clerk", "chatId": "chat-1", "transport": "default", "approves": False}
        got = await client(node, "chat", **task, texts=['call pay {"amount": 5}\nsay fine'])
        assert [part["state"] for part in got["messages"][1]["parts"] if part["type"] == "tool-pay"] == [
            "output-denied"
        ]
        assert here.done == []


def conversation(messages: list[Any]) -> list[Any]:
    """What a person reads of AG-UI messages."""
    return [
        (
            message["role"],
            message.get("content") or "",
            [call["function"]["arguments"] for call in message.get("toolCalls", ())],
        )
        for message in messages
    ]


@pytest.mark.parametrize("seed", SEEDS)
async def test_ag_ui(node: str, redis_url: str, seed: int):
    async with house(redis_url) as here, cutting(here.address, cuts=seed, seed=seed, in_head=True) as net:
        task = {"url": f"{net.url}/ag-ui/clerk", "approves": True}
        got = await client(node, "ag_ui", **task, threadId="t1", text=TALK)
        assert conversation(got["messages"]) == [
            ("user", TALK, []),
            ("assistant", "", ['{"a":7,"b":9}', '{"a":1,"b":2}']),
            ("tool", "16", []),
            ("tool", "3", []),
            ("assistant", SAID, []),
        ]
        assert got["result"] == {"output": SAID, "iterations": 2}
        assert got["cuts"] == net.made
        assert bool(net.made) is bool(seed)
        got = await client(node, "ag_ui", **task, threadId="t2", text=PAY)
        assert conversation(got["messages"])[2:] == [
            ("tool", "paid 5", []),
            ("tool", "paid 6", []),
            ("assistant", "paid 5 and paid 6", []),
        ]
        assert (got["outcomes"], here.done) == (["interrupt", "interrupt", "success"], ["paid 5", "paid 6"])


@pytest.mark.parametrize("cuts", [0, 3])
async def test_ag_ui_reads_a_reply_that_begins_anew(node: str, redis_url: str, cuts: int):
    async with (
        house(redis_url) as here,
        crashing(here),
        cutting(here.address, cuts=cuts, seed=cuts, in_head=True) as net,
    ):
        got = await client(node, "ag_ui", url=f"{net.url}/ag-ui/clerk", approves=True, threadId="t1", text=TALK)
        assert conversation(got["messages"])[-1] == ("assistant", SAID, [])
        assert [message["role"] for message in got["messages"]] == ["user", "assistant", "tool", "tool", "assistant"]
        assert "MESSAGES_SNAPSHOT" in got["events"]
