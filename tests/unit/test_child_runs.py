"""An agent as a tool: its calls are runs of their own, and the run that calls waits for them without a worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, Settings, tool
from agentq._ids import child_run_id
from agentq._redis.connection import Connection
from agentq.client_async import AsyncClient
from agentq.errors import InvalidInput, NotWaiting, RunNotFound
from agentq.events.model import RunWaiting, ToolCalled
from agentq.events.redis import RedisEventStream
from agentq.loop import Loop
from agentq.loop.children import MAX_DEPTH
from agentq.loop.hooks import Hooks
from agentq.messages import unanswered_calls
from agentq.runs import RunState, Status
from agentq.stores.memory import MemoryStore
from agentq.stores.redis import RedisStore
from agentq.testing import FakeClock, ScriptedModel, call
from agentq.testing._contract import new_run
from tests.helpers import wait_until
from tests.unit._loop import Gate, NotedWakeups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def results_of(messages: Any) -> list[tuple[str, str, str]]:
    return [(each.name, each.outcome, each.content) for message in messages for each in message.tool_results]


class Family:
    """A writer that asks a researcher, on some store; the test carries the runs on by hand."""

    def __init__(
        self,
        store: Any,
        *replies: Any,
        child: Any = ("42",),
        more: Any = (),
        hooks: Any = (),
        lease_ms: int = 9_000,
    ) -> None:
        self.store = store
        self.executor = NotedWakeups()
        self.models = {"writer": ScriptedModel(list(replies)), "researcher": ScriptedModel(list(child))}
        researcher = Agent("researcher", model="researcher", max_error_retries=0)
        writer = Agent(
            "writer", model="writer", tools=[researcher.as_tool(description="Find out."), *more], hooks=hooks
        )
        self.loop = Loop(
            {"writer": writer, "researcher": researcher},
            store,
            self.executor,
            Settings(lease_ms=lease_ms),
            resolve_model=lambda name: (self.models[name], name),
        )
        self.run_id = ""
        self.child_id = ""

    async def start(self, **fields: Any) -> None:
        self.run_id = (await self.store.create(new_run(agent="writer", **fields))).run_id
        self.child_id = child_run_id(f"{self.run_id}.1.0")

    async def advance(self, run_id: str) -> Any:
        return await self.loop.advance(run_id, owner="worker-1")

    async def let_the_lease_expire(self) -> None:
        if isinstance(self.store, MemoryStore):
            self.store._clock.advance(0.5)  # type: ignore[attr-defined]  # noqa: SLF001 - it is a FakeClock
        else:
            await asyncio.sleep(0.45)

    async def state(self, run_id: str | None = None) -> RunState:
        return await self.store.read(run_id or self.run_id)  # type: ignore[no-any-return]

    async def results(self) -> list[tuple[str, str, str]]:
        return results_of(await self.store.messages(self.run_id))


ASK = call("researcher", prompt="What is it?")


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Any]:
    if request.param == "memory":
        yield MemoryStore(FakeClock())
        return
    connection = Connection(redis_url)
    store = RedisStore(connection)
    yield store
    await store.aclose()
    await connection.aclose()


async def test_the_answer_of_the_other_run_is_the_result(store: Any):
    family = Family(store, ASK, "It is 42.")
    await family.start(user_id="ann", metadata={"plan": "pro"}, tenant="acme", priority="low")
    await family.advance(family.run_id)
    parent, child = await family.state(), await family.state(family.child_id)
    assert (parent.status, parent.owner) == (Status.WAITING, None)
    assert parent.question is not None
    assert parent.question.run_id == family.child_id
    assert (child.status, child.agent, child.prompt) == (Status.QUEUED, "researcher", "What is it?")
    assert (child.parent_run_id, child.depth) == (family.run_id, 1)
    assert (child.user_id, child.metadata, child.session_id) == ("ann", {"plan": "pro"}, None)
    assert (child.tenant, child.priority) == ("acme", "low")
    assert [run_id for run_id, _ in family.executor.woken] == [family.child_id]

    await family.advance(family.child_id)
    assert (await family.state()).status is Status.QUEUED
    assert [run_id for run_id, _ in family.executor.woken] == [family.child_id, family.run_id]
    await family.advance(family.run_id)
    assert await family.results() == [("researcher", "ok", "42")]
    await family.advance(family.run_id)
    parent = await family.state()
    assert (parent.status, parent.iteration) == (Status.COMPLETED, 2)
    assert len(family.models["writer"].requests) == 2


async def test_a_run_whose_first_reply_was_lost_is_woken(store: Any, monkeypatch: pytest.MonkeyPatch):
    """redis-py sends the command again, and then the run is there already."""
    family = Family(store, ASK, "It is 42.")
    await family.start()
    create = store.create

    async def twice(*args: Any, **fields: Any) -> Any:
        await create(*args, **fields)
        return await create(*args, **fields)

    monkeypatch.setattr(store, "create", twice)
    await family.advance(family.run_id)
    assert [run_id for run_id, _ in family.executor.woken] == [family.child_id]


async def test_viewers_hear_which_run_does_the_work_and_nobody_is_asked(store: Any):
    family = Family(store, ASK, "It is 42.")
    await family.start()
    await family.advance(family.run_id)
    stream = (
        store.stream
        if isinstance(store, MemoryStore)
        else RedisEventStream(store.pipeline, store.hub, store.keys, store.messages)
    )
    events = [event async for event in stream.follow(family.run_id, live=False)]
    (called,) = [event for event in events if isinstance(event, ToolCalled)]
    assert called.child_run_id == family.child_id
    assert not [event for event in events if isinstance(event, RunWaiting)]


async def test_several_runs_at_once_and_results_in_order(store: Any):
    @tool(effect="once")
    async def publish() -> str:
        """Publish."""
        return "published"

    asks = [call("researcher", prompt=f"Question {number}") for number in range(3)]
    family = Family(store, [*asks, call("publish")], "Done.", more=[publish])
    await family.start()
    children = [child_run_id(f"{family.run_id}.1.{number}") for number in range(3)]
    await family.advance(family.run_id)
    assert [run_id for run_id, _ in family.executor.woken] == children
    for child in reversed(children):
        await family.advance(child)
        await family.advance(family.run_id)
        if child != children[0]:
            assert (await family.state()).status is Status.WAITING
    # What is not safe beside others waits for what came before it.
    assert await family.results() == [
        *[("researcher", "ok", "42")] * 3,
        ("publish", "ok", "published"),
    ]
    assert (await family.state()).status is Status.QUEUED


async def test_a_run_that_ends_while_the_other_is_still_at_work_is_not_missed(store: Any):
    """The child ends between the moment at which it was started and the one at which its parent goes to rest."""
    gate = Gate()

    @tool(effect="none")
    async def look() -> str:
        """Look."""
        return str(await gate.wait("seen"))

    family = Family(store, [ASK, call("look")], "It is 42.", more=[look])
    await family.start()
    working = asyncio.create_task(family.advance(family.run_id))
    await wait_until(
        lambda: gate.entered == 1 and (family.child_id, 0) in family.executor.woken, message="both have begun"
    )
    await family.advance(family.child_id)
    gate.open()
    await working
    assert await family.results() == [("researcher", "ok", "42"), ("look", "ok", "seen")]
    assert (await family.state()).status is Status.QUEUED


async def test_a_run_that_fails_is_an_error(store: Any):
    family = Family(store, ASK, "It is a pity.", child=[RuntimeError("the library is closed")])
    await family.start()
    await family.advance(family.run_id)
    await family.advance(family.child_id)
    assert (await family.state(family.child_id)).status is Status.FAILED
    await family.advance(family.run_id)
    ((_, outcome, content),) = await family.results()
    assert outcome == "error"
    assert content.startswith("researcher failed: ")
    assert "the library is closed" in content
    assert (await family.state()).errors == 1


async def test_a_cancel_reaches_the_runs_below(store: Any):
    grandchild = call("researcher", prompt="And deeper?")
    family = Family(store, ASK, "It is 42.", child=[grandchild, "42"])
    deeper = family.loop.agents["writer"].tools
    family.loop.agents = {
        **family.loop.agents,
        "researcher": Agent("researcher", model="researcher", tools=deeper),
    }
    await family.start()
    await family.advance(family.run_id)
    await family.advance(family.child_id)
    below = child_run_id(f"{family.child_id}.1.0")
    assert (await family.state(below)).depth == 2
    await store.cancel(family.run_id, reason="changed my mind")
    for run_id in (family.run_id, family.child_id, below):
        state = await family.state(run_id)
        assert (state.status, state.is_cancel_requested) == (Status.QUEUED, True)
        await family.advance(run_id)
        assert (await family.state(run_id)).status is Status.CANCELLED
    ((_, outcome, content),) = await family.results()
    assert (outcome, content) == ("cancelled", "The run was cancelled before this call finished.")


async def test_a_child_that_was_cancelled_alone_is_told(store: Any):
    family = Family(store, ASK, "So be it.")
    await family.start()
    await family.advance(family.run_id)
    await store.cancel(family.child_id, reason="too slow")
    await family.advance(family.child_id)
    await family.advance(family.run_id)
    assert await family.results() == [("researcher", "cancelled", "The run of researcher was cancelled: too slow.")]
    assert (await family.state()).errors == 0


async def test_nothing_starts_for_a_run_that_was_cancelled(store: Any):
    family = Family(store, ASK)
    await family.start()
    create = store.create

    async def cancel_first(new: Any, **options: Any) -> Any:
        await store.cancel(family.run_id)
        return await create(new, **options)

    store.create = cancel_first
    await family.advance(family.run_id)
    assert (await family.state()).status is Status.CANCELLED
    with pytest.raises(RunNotFound):
        await family.state(family.child_id)
    assert not unanswered_calls(await store.messages(family.run_id))


async def test_a_crash_before_the_run_is_created_creates_it_once(store: Any):
    family = Family(store, ASK, "It is 42.", lease_ms=400)
    await family.start()
    create = store.create

    async def die(new: Any, **options: Any) -> Any:
        raise asyncio.CancelledError

    store.create = die
    await asyncio.gather(family.advance(family.run_id), return_exceptions=True)
    store.create = create
    with pytest.raises(RunNotFound):
        await family.state(family.child_id)
    await family.let_the_lease_expire()
    await family.advance(family.run_id)
    assert (await family.state()).status is Status.WAITING
    await family.advance(family.child_id)
    await family.advance(family.run_id)
    assert await family.results() == [("researcher", "ok", "42")]
    assert len(family.models["writer"].requests) == 1
    assert len(family.models["researcher"].requests) == 1


async def test_a_hook_that_says_something_else_after_a_crash_starts_nothing(store: Any):
    """The arguments that it gives now do not fit the tool; that must not take one worker after the other down."""
    said: list[Any] = [None, {"prompt": 5}]
    hooks = Hooks(before_tool=lambda context, call: said.pop(0))
    family = Family(store, ASK, "So be it.", hooks=hooks, lease_ms=400)
    await family.start()
    create = store.create

    async def die(new: Any, **options: Any) -> Any:
        raise asyncio.CancelledError

    store.create = die
    await asyncio.gather(family.advance(family.run_id), return_exceptions=True)
    store.create = create
    await family.let_the_lease_expire()
    await family.advance(family.run_id)
    ((name, outcome, content),) = await family.results()
    assert (name, outcome) == ("researcher", "error")
    assert content.startswith("The arguments do not fit researcher:")
    with pytest.raises(RunNotFound):
        await family.state(family.child_id)


async def test_a_cancel_that_overtakes_what_a_dead_worker_left_undone_ends_the_run(store: Any):
    """A worker died before it had created the run; the next one is about to do so when the cancel comes."""
    family = Family(store, ASK, lease_ms=400)
    await family.start()
    create = store.create

    async def die(new: Any, **options: Any) -> Any:
        raise asyncio.CancelledError

    async def cancel_first(new: Any, **options: Any) -> Any:
        await store.cancel(family.run_id)
        return await create(new, **options)

    store.create = die
    await asyncio.gather(family.advance(family.run_id), return_exceptions=True)
    await family.let_the_lease_expire()
    store.create = cancel_first
    await family.advance(family.run_id)
    assert (await family.state()).status is Status.CANCELLED
    with pytest.raises(RunNotFound):
        await family.state(family.child_id)


async def test_an_executor_that_fails_leaves_the_run_to_the_sweep(store: Any, caplog: pytest.LogCaptureFixture):
    family = Family(store, ASK, "It is 42.")
    await family.start()

    async def fail(run_id: str, *, delay: float = 0) -> None:
        raise RuntimeError("the queue is away")

    family.executor.schedule_next_iteration = fail  # type: ignore[method-assign]
    await family.advance(family.run_id)
    assert (await family.state()).status is Status.WAITING
    assert f"run {family.child_id} was not woken" in caplog.text
    await family.advance(family.child_id)
    await family.advance(family.run_id)
    assert await family.results() == [("researcher", "ok", "42")]


async def test_a_worker_that_starts_runs_for_one_that_has_ended_has_lost_it(store: Any):
    """It was held up when it was about to create the run; meanwhile another worker ended the parent."""
    family = Family(store, ASK, lease_ms=400)
    await family.start()
    create = store.create

    async def die(new: Any, **options: Any) -> Any:
        raise asyncio.CancelledError

    async def end_first(new: Any, **options: Any) -> Any:
        store.create = create
        await family.let_the_lease_expire()
        await store.cancel(family.run_id)
        (claim,) = await store.claim([family.run_id], owner="worker-2", claim_id="c", lease_ms=400)
        assert (await family.loop.begin(claim).run()).status is Status.CANCELLED
        return await create(new, **options)

    store.create = die
    await asyncio.gather(family.advance(family.run_id), return_exceptions=True)
    await family.let_the_lease_expire()
    (claim,) = await store.claim([family.run_id], owner="worker-1", claim_id="b", lease_ms=400)
    store.create = end_first
    assert (await family.loop.begin(claim).run()).kind == "lost"
    with pytest.raises(RunNotFound):
        await family.state(family.child_id)


async def test_a_run_that_is_deleted_while_its_answer_is_read():
    store = MemoryStore(FakeClock())
    family = Family(store, ASK, "So be it.")
    await family.start()
    await family.advance(family.run_id)
    await family.advance(family.child_id)
    messages = store.messages

    async def gone(run_id: str, **options: Any) -> Any:
        store._runs.pop(family.child_id, None)  # noqa: SLF001 - its time has passed
        return await messages(run_id, **options)

    store.messages = gone  # type: ignore[method-assign]
    await family.advance(family.run_id)
    assert [outcome for _, outcome, _ in await family.results()] == ["unknown"]


async def test_a_run_of_which_nothing_is_left_is_not_made_again():
    store = MemoryStore(clock := FakeClock())
    family = Family(store, ASK, "So be it.")
    await family.start()
    await family.advance(family.run_id)
    await family.advance(family.child_id)
    clock.advance(366 * 86_400)
    await family.advance(family.run_id)
    ((_, outcome, content),) = await family.results()
    assert outcome == "unknown"
    assert content.startswith("Outcome unknown")
    assert len(family.models["researcher"].requests) == 1


async def test_a_sweep_wakes_a_run_whose_child_is_lost():
    store = MemoryStore(clock := FakeClock())
    family = Family(store, ASK, "So be it.")
    await family.start()
    await family.advance(family.run_id)
    del store._runs[family.child_id]  # noqa: SLF001 - as a Redis that has lost its last second
    clock.advance(299)
    await store.sweep(lease_ms=9_000)
    assert (await family.state()).status is Status.WAITING
    clock.advance(2)
    assert family.run_id in (await store.sweep(lease_ms=9_000)).to_wake
    await family.advance(family.run_id)
    assert [outcome for _, outcome, _ in await family.results()] == ["unknown"]


async def test_it_gets_no_deeper_than_so(store: Any):
    family = Family(store, ASK, "So be it.")
    await family.start(depth=MAX_DEPTH)
    await family.advance(family.run_id)
    assert await family.results() == [
        ("researcher", "error", f"researcher was not called: there are {MAX_DEPTH} agents above this run already")
    ]


@pytest.mark.parametrize("arguments", [{}, {"prompt": 5}, {"prompt": "x", "more": 1}])
async def test_arguments_that_do_not_fit_start_nothing(store: Any, arguments: dict[str, Any]):
    family = Family(store, call("researcher", **arguments), "So be it.")
    await family.start()
    await family.advance(family.run_id)
    ((_, outcome, content),) = await family.results()
    assert outcome == "error"
    assert content.startswith("The arguments do not fit researcher:")
    assert family.executor.woken == [(family.run_id, 0)]


async def test_nobody_answers_in_its_place(store: Any):
    family = Family(store, ASK)
    await family.start()
    await family.advance(family.run_id)
    stream = (
        store.stream
        if isinstance(store, MemoryStore)
        else RedisEventStream(store.pipeline, store.hub, store.keys, store.messages)
    )
    client = AsyncClient(store=store, stream=stream, executor=family.executor)
    with pytest.raises(NotWaiting, match=f"waits for no answer: it waits for run {family.child_id}"):
        await client.answer(family.run_id, "43")


async def test_in_this_process_without_redis():
    researcher = Agent("researcher", model="r", instructions="Find out.")
    writer = Agent("writer", model="w", tools=[researcher.as_tool("ask", description="Ask the researcher.")])
    models: Any = {
        "w": ScriptedModel([[call("ask", prompt="a?"), call("ask", prompt="b?")], "Both are 42."]),
        "r": ScriptedModel(["42"]),
    }
    app = AgentQ([writer], settings=Settings(), models=models)
    assert set(app.agents) == {"writer", "researcher"}
    result = await app.run("writer", "go")
    assert result.output == "Both are 42."
    assert results_of(result.messages) == [("ask", "ok", "42")] * 2


def test_two_agents_of_one_name():
    inner = Agent("writer")
    with pytest.raises(InvalidInput, match="another agent named 'writer'") as raised:
        AgentQ([Agent("writer", tools=[inner.as_tool("ask")])], settings=Settings())
    assert raised.value.field == "agents"


def test_a_tool_that_is_an_agent_is_no_function():
    made = Agent("researcher").as_tool()
    assert (made.name, made.description) == ("researcher", "Hand a task to researcher; the result is its answer.")
    with pytest.raises(InvalidInput, match="only a run can call it"):
        asyncio.run(made("x"))
