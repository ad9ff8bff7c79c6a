"""`AgentQ` in process: runs without Redis, with an executor and a store of one's own."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from agentq import Agent, AgentQ, AsyncClient, Callbacks, RunCancelled, RunFailed, RunResult, tool
from agentq import app as app_module
from agentq.errors import InvalidInput, UnknownAgent, UnknownProvider
from agentq.runs import Status
from agentq.stores.filters import RunFilter
from agentq.stores.memory import MemoryStore
from agentq.testing import ScriptedModel, call
from agentq.worker import Worker
from tests.helpers import wait_until


@tool(effect="none")
def double(x: int) -> int:
    """Double a number."""
    return 2 * x


def calculator(**settings: object) -> Agent:
    return Agent("calculator", tools=[double], retry_backoff_s=0.01, **settings)  # type: ignore[arg-type]


SCRIPT = 'call double {"x": 4}\nfail 503\nsay It is $1.'


async def test_a_prompt_is_carried_to_its_answer_without_redis():
    events: list[str] = []
    result = await AgentQ([calculator()]).run("calculator", SCRIPT, on_event=lambda event: events.append(event.type))
    assert result.output == "It is 8."
    assert [message.role for message in result.messages] == ["user", "assistant", "tool", "system", "assistant"]
    assert (events[0], events[-1]) == ("run.queued", "run.completed")
    assert result.usage.output_tokens > 0


async def test_callbacks_are_called_in_process():
    said: list[object] = []
    callbacks = Callbacks(
        on_partial_reply=said.append,
        on_tool_start=lambda event: said.append(event.name),
        on_tool_result=lambda event: said.append(event.content),
        on_done=lambda event: said.append(event.type),
    )
    await AgentQ([calculator()]).run("calculator", SCRIPT, callbacks=callbacks)
    assert said[:2] == ["double", "8"]
    assert "".join(map(str, said[2:-1])) == "It is 8."
    assert said[-1] == "run.completed"


async def test_what_a_callback_raises_comes_out_and_stops_the_run():
    def fail(_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await AgentQ([calculator()]).run("calculator", SCRIPT, on_event=fail)


async def test_a_run_that_fails_raises_its_reason():
    with pytest.raises(RunFailed, match=r"max_error_retries=1"):
        await AgentQ([calculator(max_error_retries=1)]).run("calculator", "fail! 503")


async def test_models_of_ones_own_are_used():
    model = ScriptedModel([[call("double", x=21)], "Done."])
    app = AgentQ([calculator(model="house:best")], models={"house": model})
    assert (await app.run("calculator", "Double 21.")).output == "Done."
    assert model.requests[-1].messages[-1].tool_results[0].content == "42"
    assert model.requests[0].model == "best"


class TaskExecutor:
    """Iterations as tasks of the event loop: an executor in ten lines."""

    def __init__(self) -> None:
        self.app: AgentQ | None = None
        self.scheduled: list[float] = []

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        self.scheduled.append(delay)
        self.task = asyncio.create_task(self._later(run_id, delay))

    async def _later(self, run_id: str, delay: float) -> None:
        await asyncio.sleep(delay)
        assert self.app is not None
        assert await self.app.advance(run_id)


async def test_an_executor_of_ones_own_schedules_every_iteration():
    executor = TaskExecutor()
    executor.app = app = AgentQ([calculator()], executor=executor)
    assert (await app.run("calculator", SCRIPT)).output == "It is 8."
    assert executor.scheduled == [0, 0, 0.01]
    await executor.task


async def test_a_store_of_ones_own_keeps_its_runs():
    store = MemoryStore()
    result = await AgentQ([calculator()], store=store).run("calculator", "hello there")
    assert (await store.read(result.run_id)).status == "completed"


async def test_advancing_what_is_not_to_be_advanced_does_nothing():
    executor = TaskExecutor()
    app = AgentQ([calculator()], executor=executor)
    executor.app = app
    result = await app.run("calculator", "hello")
    assert not await app.advance(result.run_id)
    await executor.task


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: AgentQ([calculator(), calculator()]), InvalidInput, "two agents are named 'calculator'"),
        (lambda: Agent("no spaces"), InvalidInput, "name 'no spaces' is not a name"),
        (lambda: Agent("a", tools=[double, double]), InvalidInput, "two tools named 'double'"),
        (lambda: Agent("a", max_iterations=0), InvalidInput, "max_iterations must be at least 1"),
        (lambda: Agent("a", model="not a model"), InvalidInput, "names no model"),
        (lambda: Agent("a", model_settings={"x": object()}), InvalidInput, "model_settings cannot be stored as JSON"),
        (lambda: Worker(AgentQ([Agent("a", model="nobody:x")])), UnknownProvider, "nobody"),
        (lambda: Worker(AgentQ([calculator()], store=MemoryStore())), InvalidInput, "a store or an executor"),
    ],
)
async def test_bad_input_is_refused_before_anything_runs(make, error, words):
    with pytest.raises(error, match=words):
        make()


async def test_running_what_there_is_not_is_refused():
    app = AgentQ([calculator()])
    with pytest.raises(UnknownAgent, match="this app has: calculator"):
        await app.run("poet", "hello")
    with pytest.raises(UnknownProvider, match="nobody"):
        await app.run("calculator", "hello", model="nobody:x")
    with pytest.raises(InvalidInput, match="callbacks must be Callbacks"):
        await app.run("calculator", "hello", callbacks=print)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="advance"):
        await app.advance("x")


class TestCancelledByWhoWaits:
    """The task that awaits `run` is cancelled, once or again at each await, as anyio and Starlette do."""

    @pytest.mark.parametrize("nags", [False, True])
    @pytest.mark.parametrize("owns_store", [False, True])
    async def test_the_run_ends_and_its_session_goes_on(self, nags: bool, owns_store: bool):
        entered = asyncio.Event()

        @tool(effect="idempotent")
        async def slow() -> str:
            """Be slow."""
            entered.set()
            await asyncio.Event().wait()
            return "never"

        store = MemoryStore() if owns_store else None
        app = AgentQ([Agent("slow", tools=[slow]), Agent("echo")], store=store)
        running = asyncio.create_task(app.run("slow", "call slow {}", session_id="s1"))
        await asyncio.wait_for(entered.wait(), 5)
        running.cancel()
        while nags and not running.done():
            await asyncio.sleep(0)
            running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        result = await asyncio.wait_for(app.run("echo", "hello", session_id="s1"), 5)
        assert result.output == "hello"
        session = await (store or MemoryStore(sessions=app._sessions)).session("s1")  # noqa: SLF001 - what is left there
        assert (session.open_runs, session.live_run_id) == (0, None)

    @pytest.mark.parametrize("owns_store", [False, True])
    async def test_who_leaves_early_leaves_no_room_for_the_next_before_the_last_tool_has_stopped(
        self, owns_store: bool
    ):
        entered, stopping, cleaned_up = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @tool(effect="idempotent")
        async def tidy() -> None:
            """Take long to stop."""
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopping.set()
                await cleaned_up.wait()

        @tool(effect="none")
        def look() -> bool:
            """Whether it has been cleaned up."""
            return cleaned_up.is_set()

        app = AgentQ([Agent("a", tools=[tidy, look])], store=MemoryStore() if owns_store else None)
        running = asyncio.create_task(app.run("a", "call tidy {}", session_id="s1"))
        await asyncio.wait_for(entered.wait(), 5)
        running.cancel()
        await asyncio.wait_for(stopping.wait(), 5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, 5)
        following = asyncio.create_task(app.run("a", "call look {}\nsay $1", session_id="s1"))
        # Long enough for a run that does not wait.
        assert (await app.run("a", "call look {}\nsay $1", session_id="s2")).output == "false"
        cleaned_up.set()
        assert (await asyncio.wait_for(following, 5)).output == "true"

    async def test_a_cancel_while_the_run_is_being_stored_leaves_nothing_open(self):
        stored = asyncio.Event()

        class SlowStore(MemoryStore):
            async def create(self, new, *, wake=None):
                created = await super().create(new, wake=wake)
                stored.set()
                await asyncio.sleep(60)
                return created

        store = SlowStore()
        app = AgentQ([Agent("echo")], store=store)
        running = asyncio.create_task(app.run("echo", "hello", session_id="s1"))
        await asyncio.wait_for(stored.wait(), 5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        (run,) = await store.list(RunFilter())
        assert run.status is Status.CANCELLED
        assert (await store.session("s1")).open_runs == 0


class TestTurns:
    @pytest.mark.parametrize("owns_store", [False, True])
    async def test_a_tool_that_runs_its_own_session_would_wait_for_itself(self, owns_store: bool):
        said: list[str] = []

        @tool(effect="none")
        async def ask() -> str:
            """Ask another agent, in the same session."""
            return (await app.run("echo", "hello", session_id="s1")).output

        @tool(effect="none")
        async def ask_elsewhere() -> str:
            """Ask another agent."""
            said.append((await app.run("echo", "hello", session_id="s2")).output)
            return said[-1]

        store = MemoryStore() if owns_store else None
        app = AgentQ([Agent("boss", tools=[ask, ask_elsewhere], retry_backoff_s=0), Agent("echo")], store=store)
        script = "call ask {}\ncall ask_elsewhere {}\nsay Done."
        result = await asyncio.wait_for(app.run("boss", script, session_id="s1"), 5)
        refused = next(part for message in result.messages for part in message.tool_results)
        assert "waits for this very call to end" in refused.content
        assert said == ["hello"]

    async def test_what_outlives_a_tool_is_free_to_go_on_with_its_session(self):
        later: list[asyncio.Task[RunResult]] = []
        go_on = asyncio.Event()

        @tool(effect="none")
        async def remind() -> None:
            """Say something in this session, later."""

            async def remind_later() -> RunResult:
                await go_on.wait()
                return await app.run("boss", "hello again", session_id="s1")

            later.append(asyncio.create_task(remind_later()))

        app = AgentQ([Agent("boss", tools=[remind])])
        await app.run("boss", "call remind {}\nsay Done.", session_id="s1")
        go_on.set()
        assert (await asyncio.wait_for(later[0], 5)).output == "hello again"

    async def test_a_store_in_memory_says_whose_turn_it_is(self, monkeypatch: pytest.MonkeyPatch):
        # Whoever only looked now and then would find it too late.
        monkeypatch.setattr(app_module, "_IN_LINE_S", 3_600.0)
        monkeypatch.setattr(app_module, "_TOLD_IN_LINE_S", 3_600.0)
        go_on = asyncio.Event()

        @tool(effect="none")
        async def slow() -> str:
            """Be slow."""
            await go_on.wait()
            return "done"

        store = MemoryStore()
        app = AgentQ([Agent("slow", tools=[slow]), Agent("echo")], store=store)
        first = asyncio.create_task(app.run("slow", "call slow {}\nsay $1", session_id="s1"))
        in_line = []
        for number in range(1, 4):
            await wait_until(partial(_open_runs, store, number))
            in_line.append(asyncio.create_task(app.run("echo", f"run {number}", session_id="s1")))
        await wait_until(lambda: _open_runs(store, 4))
        (newest, *_) = await store.list(RunFilter())
        async with AsyncClient(store=store, executor=app.executor) as client:
            await client.cancel(newest.run_id, reason="enough")
        with pytest.raises(RunCancelled, match="enough"):
            await asyncio.wait_for(in_line[2], 5)
        go_on.set()
        results = await asyncio.wait_for(asyncio.gather(first, *in_line[:2]), 5)
        assert [result.output for result in results] == ["done", "run 1", "run 2"]

    async def test_another_event_loop_is_refused_while_the_session_is_in_use(self):
        entered, go_on = asyncio.Event(), asyncio.Event()

        @tool(effect="none")
        async def slow() -> str:
            """Be slow."""
            entered.set()
            await go_on.wait()
            return "done"

        app = AgentQ([Agent("slow", tools=[slow]), Agent("echo")])
        running = asyncio.create_task(app.run("slow", "call slow {}\nsay Done.", session_id="s1"))
        await asyncio.wait_for(entered.wait(), 5)

        def elsewhere() -> str:
            return asyncio.run(app.run("echo", "hello", session_id="s1")).output

        with pytest.raises(InvalidInput, match="another event loop"):
            await asyncio.to_thread(elsewhere)
        go_on.set()
        assert (await running).output == "Done."
        assert await asyncio.to_thread(elsewhere) == "hello"


async def _open_runs(store: MemoryStore, number: int) -> bool:
    runs = await store.list(RunFilter())
    return len(runs) == number and all(run.status is not Status.COMPLETED for run in runs)
