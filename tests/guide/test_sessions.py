"""Sessions: runs of one conversation see what was said before, and go on one after the other."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

from agentq import Agent, AgentQ, AsyncClient, Client, RunCancelled, SessionConflict, SessionNotFound
from agentq.stores.memory import MemoryStore
from agentq.testing import ScriptedModel
from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agentq.messages import Message


ADD = 'call add_numbers {{"a": {}, "b": 0}}'


def said(messages: tuple[Message, ...]) -> list[str]:
    return [message.text for message in messages]


def listener() -> tuple[AgentQ, ScriptedModel]:
    model = ScriptedModel(["I see."])
    return AgentQ([Agent("listener", model="house:best")], models={"house": model}), model


# --- in this process, without Redis


async def test_a_later_run_sees_what_was_said_before():
    app, model = listener()
    await app.run("listener", "I am Ada.", session_id="s1")
    await app.run("listener", "Who am I?", session_id="s1")
    await app.run("listener", "And I?", session_id="s2")
    await app.run("listener", "And I, who told nobody?")
    seen = [said(request.messages) for request in model.requests]
    assert seen == [
        ["I am Ada."],
        ["I am Ada.", "I see.", "Who am I?"],
        ["And I?"],
        ["And I, who told nobody?"],
    ]
    assert [request.history_length for request in model.requests] == [0, 2, 0, 0]


async def test_the_result_of_a_run_holds_its_own_messages_only():
    app, _ = listener()
    await app.run("listener", "I am Ada.", session_id="s1")
    result = await app.run("listener", "Who am I?", session_id="s1")
    assert said(result.messages) == ["Who am I?", "I see."]


async def test_runs_of_a_session_that_are_started_at_once_take_turns():
    app = AgentQ([Agent("a")])
    results = await asyncio.gather(
        *(app.run("a", f'stream 3 "{number} " 0.01', session_id="s1") for number in range(5)),
        app.run("a", "say Alone.", session_id="s2"),
    )
    assert [result.output for result in results] == [f"{number} " * 3 for number in range(5)] + ["Alone."]


async def test_runs_on_a_store_of_ones_own_take_turns_too():
    store = MemoryStore()
    first, second = AgentQ([Agent("a")], store=store), AgentQ([Agent("a")], store=store)
    runs = [app.run("a", f'stream 3 "{n} " 0.01', session_id="s1") for n, app in enumerate([first, second] * 2)]
    await asyncio.gather(*runs)
    assert said(await store.session_messages("s1")) == [
        text for n in range(4) for text in (f'stream 3 "{n} " 0.01', f"{n} " * 3)
    ]


@pytest.mark.parametrize("store", [None, MemoryStore()], ids=["no store", "a store"])
async def test_a_run_that_is_given_up_makes_room_for_the_next(store: MemoryStore | None):
    app = AgentQ([Agent("a")], store=store)
    started = asyncio.Event()
    waiting = asyncio.create_task(
        app.run("a", "sleep 60\nsay Never.", session_id="s1", on_event=lambda _: started.set())
    )
    await started.wait()
    in_line = asyncio.create_task(app.run("a", "say In time.", session_id="s1"))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await asyncio.wait_for(in_line, 10)).output == "In time."


async def test_a_run_that_waits_in_line_can_be_given_up():
    store = MemoryStore()
    app = AgentQ([Agent("a")], store=store)
    async with AsyncClient(store=store) as client:
        running = asyncio.create_task(app.run("a", 'stream 20 "x " 0.02', session_id="s1"))
        await wait_until(partial(_has_runs, client, 1))
        in_line = asyncio.create_task(app.run("a", "say Never.", session_id="s1"))
        await wait_until(partial(_has_runs, client, 2))
        in_line.cancel()
        with pytest.raises(asyncio.CancelledError):
            await in_line
        await running
        assert (await client.session("s1")).open_runs == 0
        assert len(await client.session_messages("s1")) == 2


async def _has_runs(client: AsyncClient, count: int) -> bool:
    return len(await client.list()) == count


# --- with workers


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    with Client(redis_url) as client:
        yield client


def test_runs_of_a_session_are_taken_in_the_order_in_which_they_came(client: Client, work: Callable[[], None]):
    runs = [client.enqueue("calculator", f"say answer {number}", session_id="s1") for number in range(5)]
    assert [run.read().waits_for_session for run in runs] == [False, True, True, True, True]
    work()
    assert [run.result(timeout=5).output for run in runs] == [f"answer {number}" for number in range(5)]
    finished = [run.read().finished_ms for run in runs]
    assert finished == sorted(finished)
    assert said(client.session_messages("s1")) == [
        text for number in range(5) for text in (f"say answer {number}", f"answer {number}")
    ]


def test_another_process_sees_what_was_said(client: Client, work: Callable[[], None]):
    """The worker is another process each time. The mock counts words, so its usage tells what it was shown."""
    alone = client.enqueue("calculator", "say one two three")
    first = client.enqueue("calculator", "say one two three", session_id="s1")
    work()
    second = client.enqueue("calculator", "say one two three", session_id="s1")
    work()
    tokens = [run.result(timeout=5).usage.input_tokens for run in (alone, first, second)]
    assert tokens == [4, 4, 4 + 3 + 4]


def test_a_run_of_a_session_that_is_cancelled_does_not_hold_up_the_others(client: Client, work: Callable[[], None]):
    first, second, third = (client.enqueue("calculator", f"say {n}", session_id="s1") for n in "abc")
    first.cancel()
    assert second.read().waits_for_session is False
    third.cancel()
    work()
    assert second.result(timeout=5).output == "b"
    assert said(client.session_messages("s1")) == ["say a", "say b", "b"]
    with pytest.raises(RunCancelled):
        third.result(timeout=5)


def test_many_producers_get_one_order(client: Client, work: Callable[[], None]):
    """Threads enqueue at once. Whatever the order is, it is one: each run sees the runs before it, whole."""
    with ThreadPoolExecutor(8) as threads:
        runs = list(
            threads.map(
                lambda n: client.enqueue(
                    "calculator", f'call add_numbers {{"a": {n}, "b": 0}}', session_id=f"s{n % 3}"
                ),
                range(30),
            )
        )
    work()
    assert {run.result(timeout=10).output for run in runs} == {str(n) for n in range(30)}
    for name in ("s0", "s1", "s2"):
        messages = client.session_messages(name)
        assert [message.role for message in messages] == ["user", "assistant", "tool", "assistant"] * 10
        prompts, answers = said(messages)[::4], said(messages)[3::4]
        assert [prompt.split('"a": ')[1].split(",")[0] for prompt in prompts] == answers


def test_a_session_has_one_user_and_is_listed_by_it(client: Client, work: Callable[[], None]):
    client.enqueue("calculator", "say a", session_id="s1", user_id="ada")
    client.enqueue("calculator", "say b", session_id="s2", user_id="bob")
    unnamed = client.enqueue("calculator", "say c", session_id="s1")
    assert {session.session_id for session in client.sessions()} == {"s1", "s2"}
    assert [session.session_id for session in client.sessions(user_id="bob")] == ["s2"]
    assert unnamed.read().user_id == "ada"
    assert unnamed.id in {run.run_id for run in client.list(user_id="ada")}
    with pytest.raises(SessionConflict, match=r"'s1'.*belongs to another user"):
        client.enqueue("calculator", "say d", session_id="s1", user_id="bob")
    work()
    session = client.session("s1")
    assert (session.user_id, session.run_count, session.open_runs, session.message_count) == ("ada", 2, 0, 4)
    with pytest.raises(SessionNotFound, match="nowhere"):
        client.session("nowhere")
