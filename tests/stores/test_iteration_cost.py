"""What an iteration costs: two scripts beside its journal and events, and bytes that follow what is new (P7)."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, Settings, tool
from agentq._ids import new_run_id, new_token
from agentq._redis.connection import Connection
from agentq._redis.scripts import Script, script
from agentq.events.model import ReplyCompleted, RunCompleted, ToolFinished
from agentq.events.redis import RedisEventStream
from agentq.executors.queue import QueueExecutor
from agentq.messages import Message, Role, TextPart, user_message
from agentq.stores.base import NewRun
from agentq.stores.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LEASE_MS = 60_000


@tool(effect="none")
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(effect="idempotent")
async def repeat(word: str, times: int) -> str:
    """Say a word again and again."""
    return word * times


class Bench:
    """One worker's parts on a real Redis, with a count of the scripts that they run."""

    def __init__(self, url: str) -> None:
        self.scripts: Counter[str] = Counter()
        self.connection = Connection(url)
        self.store = RedisStore(self.connection, scripts=self._counted)
        self.executor = QueueExecutor(self.store)
        # Windows are shared by all runs of a process, so a short one may end between two events of one iteration.
        settings = Settings(redis_url=url, coalesce_ms=1000)
        app = AgentQ([Agent("adder", tools=[add, repeat])], settings=settings)
        self.loop = app.loop(self.store, self.executor)

    def _counted(self, name: str) -> Script:
        self.scripts[name] += 1
        return script(name)

    async def enqueue(self, prompt: str, *, earlier: int = 0) -> str:
        past = Message(role=Role.ASSISTANT, parts=(TextPart(text="x" * 1000),))
        messages = (*([past] * earlier), user_message(prompt))
        new = NewRun(run_id=new_run_id(), agent="adder", messages=messages)
        await self.store.create(new, wake=self.executor.wakeup)
        return new.run_id

    async def iterate(self) -> None:
        claimed = await self.store.claim_wakeups(
            self.executor.source(), owner="worker", claim_id=new_token(), lease_ms=LEASE_MS, count=1
        )
        (claim,) = claimed.claims
        await self.loop.begin(claim).run()

    async def received(self) -> int:
        """Bytes that Redis has been sent."""
        info: dict[str, Any] = await self.connection.client.info("stats")
        return int(info["total_net_input_bytes"])


@pytest.fixture
async def bench(redis_url: str) -> AsyncIterator[Bench]:
    bench = Bench(redis_url)
    yield bench
    await bench.store.aclose()
    await bench.connection.aclose()


async def test_an_iteration_is_two_scripts_and_its_journal(bench: Bench) -> None:
    await bench.enqueue('call add {"a": 7, "b": 9}\nsay It is $1.')
    bench.scripts.clear()
    await bench.iterate()
    # The reply when it is there; the last result goes with the commit.
    assert bench.scripts == {"claim": 1, "journal": 1, "commit": 1}
    bench.scripts.clear()
    await bench.iterate()
    # An answer needs no journal: its commit records it.
    assert bench.scripts == {"claim": 1, "commit": 1}


async def test_the_bytes_written_do_not_follow_the_length_of_the_transcript(bench: Bench) -> None:
    written: dict[int, int] = {}
    # The first runs load the scripts.
    for earlier in (1, 10, 1000):
        await bench.enqueue('call add {"a": 7, "b": 9}\nsay It is $1.', earlier=earlier)
        before = await bench.received()
        await bench.iterate()
        await bench.iterate()
        written[earlier] = await bench.received() - before
    # The transcript has a megabyte; events that wait too long for company go alone, in a few hundred bytes.
    assert written[1000] < written[10] + 2000


async def test_a_worker_that_goes_on_reads_only_what_is_new(bench: Bench) -> None:
    await bench.enqueue('call add {"a": 7, "b": 9}\nsay It is $1.', earlier=1000)
    await bench.iterate()
    info: dict[str, Any] = await bench.connection.client.info("stats")
    await bench.iterate()
    after: dict[str, Any] = await bench.connection.client.info("stats")
    # The transcript has a megabyte.
    assert after["total_net_output_bytes"] - info["total_net_output_bytes"] < 20_000


async def test_a_long_result_is_sent_with_the_journal_and_the_transcript_and_told_whole(bench: Bench) -> None:
    """The events that tell of it, and of the answer that quotes it, are made in Redis."""
    word, times = 'a "word" and ü\n', 4000
    script = f"call repeat {json.dumps({'word': word, 'times': times})}\nsay $1"
    run_id = await bench.enqueue(script)
    await bench.iterate()
    await bench.iterate()
    run_id = await bench.enqueue(script)
    text, before = word * times, await bench.received()
    await bench.iterate()
    await bench.iterate()
    received = await bench.received() - before
    messages = await bench.store.messages(run_id)
    assert [messages[2].tool_results[0].content, messages[3].text] == [text, text]
    stream = RedisEventStream(bench.store.pipeline, bench.store.hub, bench.store.keys, bench.store.messages)
    events = [event async for event in stream.follow(run_id, live=False)]
    assert [event.content for event in events if isinstance(event, ToolFinished)] == [text]
    assert [event.text for event in events if isinstance(event, ReplyCompleted)] == ["", text]
    assert [event.output for event in events if isinstance(event, RunCompleted)] == [text]
    # The journal, the transcript and the answer, and the answer's pieces as they were streamed.
    assert received < 4.2 * len(json.dumps(text, ensure_ascii=False).encode())
