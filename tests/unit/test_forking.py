"""Forks: a new run from the first part of an old one."""

from __future__ import annotations

from typing import Any

import pytest

from agentq import Agent, AgentQ, AsyncClient, tool
from agentq.errors import IdempotencyConflict, InvalidInput, ToolError
from agentq.forking import first_part
from agentq.messages import Message, Role, StopReason, TextPart, unanswered_calls, user_message
from agentq.runs import Status
from agentq.stores.memory import MemoryStore


@tool(effect="none")
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(effect="none")
async def fail() -> str:
    """Fail."""
    raise ToolError("no")


SCRIPT = 'call add {"a": 1, "b": 2}\ncall fail {}\ncall add {"a": 3, "b": 4}\nsay $1 and $3'


class Wakes:
    """An executor that only notes whom it is to wake."""

    def __init__(self) -> None:
        self.woken: list[str] = []

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        self.woken.append(run_id)


class Bench:
    """An app and a client of one store."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.executor = Wakes()
        self.client = AsyncClient(store=self.store, executor=self.executor)
        self.app = AgentQ([Agent("adder", tools=[add, fail])], store=self.store, stream=self.store.stream)

    async def played(self, prompt: str = SCRIPT, **fields: Any) -> str:
        return (await self.app.run("adder", prompt, **fields)).run_id

    async def finished(self, run_id: str) -> str:
        loop = self.app.loop(self.store, self.executor)
        while not (await self.store.read(run_id)).status.is_final:
            await loop.advance(run_id, owner="w")
        outcome = await self.client.outcome(run_id)
        return outcome.output if outcome else ""


def shape(messages: tuple[Message, ...]) -> str:
    return " ".join(message.role.value for message in messages)


async def test_a_part_ends_with_an_iteration_that_made_progress_and_its_results():
    bench = Bench()
    messages = await bench.store.messages(await bench.played())
    assert shape(messages) == "user assistant tool assistant tool system assistant tool assistant"
    assert shape(first_part(messages, 0)) == "user"
    assert shape(first_part(messages, 1)) == "user assistant tool"
    # The turn whose tool raised was none.
    assert shape(first_part(messages, 2)) == "user assistant tool assistant tool system assistant tool"
    assert first_part(messages, 3) == first_part(messages, None) == messages
    for iteration in range(4):
        assert unanswered_calls(first_part(messages, iteration)) == ()
    with pytest.raises(InvalidInput, match="the run has 3 iterations, not 4"):
        first_part(messages, 4)


def test_what_was_cut_off_by_a_cancel_is_no_iteration():
    half = Message(role=Role.ASSISTANT, parts=(TextPart(text="It is"),), stop_reason=StopReason.CANCELLED)
    with pytest.raises(InvalidInput, match="the run has 0 iterations"):
        first_part((user_message("x"), half), 1)


async def test_a_fork_goes_on_from_there_and_the_old_run_stays_as_it_is():
    bench = Bench()
    run_id = await bench.played(user_id="ada", metadata={"a": 1})
    before = await bench.store.read(run_id), await bench.store.messages(run_id)
    fork = await bench.client.fork(run_id, iteration=1)
    assert bench.executor.woken == [fork.id]
    state = await fork.read()
    assert (state.forked_from, state.agent, state.user_id, state.metadata) == (run_id, "adder", "ada", {"a": 1})
    assert (state.status, state.iteration, state.session_id) == (Status.QUEUED, 0, None)
    assert await bench.finished(fork.id) == "3 and 7"
    assert (await bench.store.read(run_id), await bench.store.messages(run_id)) == before


async def test_a_prompt_is_added_and_an_answer_needs_one():
    bench = Bench()
    run_id = await bench.played("say five")
    with pytest.raises(InvalidInput, match="ends with an answer: give a prompt, or an earlier iteration"):
        await bench.client.fork(run_id)
    fork = await bench.client.fork(run_id, prompt="say six")
    assert await bench.finished(fork.id) == "six"
    assert [message.text for message in await fork.messages()] == ["say five", "five", "say six", "six"]


async def test_a_key_makes_one_fork_of_one_request():
    bench = Bench()
    run_id = await bench.played("say five")
    one = await bench.client.fork(run_id, prompt="say six", idempotency_key="k")
    assert (await bench.client.fork(run_id, prompt="say six", idempotency_key="k")).id == one.id
    with pytest.raises(IdempotencyConflict):
        await bench.client.fork(run_id, prompt="say seven", idempotency_key="k")


async def test_a_fork_of_a_session_takes_along_what_was_said_before_and_stays_outside():
    bench = Bench()
    await bench.played("say one", session_id="s1")
    second = await bench.played("say two", session_id="s1")
    fork = await bench.client.fork(second, iteration=0)
    assert await bench.finished(fork.id) == "two"
    assert [message.text for message in await fork.messages()] == ["say one", "one", "say two", "two"]
    assert len(await bench.client.session_messages("s1")) == 4
    with pytest.raises(InvalidInput, match="name a new session"):
        await bench.client.fork(second, iteration=0, session_id="s1")
    inside = await bench.client.fork(second, iteration=0, session_id="s2")
    await bench.finished(inside.id)
    assert len(await bench.client.session_messages("s2")) == 4


async def test_files_go_along():
    bench = Bench()
    run_id = (await bench.app.run("adder", "say five", files=[b"%PDF-1.7 x"])).run_id
    fork = await bench.client.fork(run_id, iteration=0)
    (part,) = [part for message in await fork.messages() for part in message.parts if part.type == "file"]
    assert await fork.file(part) == b"%PDF-1.7 x"


async def test_what_comes_of_a_run_is_its_tenants():
    bench = Bench()
    first = await bench.client.enqueue("adder", "x", session_id="s", tenant="acme", priority="low")
    forked, following = await bench.client.fork(first.id), await bench.client.follow_up(first.id, "And now?")
    for run in (await forked.read(), await following.read()):
        assert (run.tenant, run.priority) == ("acme", "low")


async def test_what_comes_of_a_run_counts_among_those_with_its_key():
    """Else a tenant's runs could multiply beyond the number that may go on at the same time."""
    bench = Bench()
    first = await bench.client.enqueue("adder", "x", session_id="s", concurrency_key="tenant-7", concurrency=1)
    forked, following = await bench.client.fork(first.id), await bench.client.follow_up(first.id, "And now?")
    for run in (await forked.read(), await following.read()):
        assert (run.concurrency_key, run.concurrency) == ("tenant-7", 1)
    alone = await bench.client.follow_up((await bench.client.enqueue("adder", "x", session_id="t")).id, "And now?")
    assert (await alone.read()).concurrency_key is None
