"""Iterations that are stopped: by a cancel, by a worker that shuts down, by a lease that is lost, by a Redis away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentq.errors import StoreUnavailable
from agentq.events.model import AttemptReset, ReplyCompleted, RunReleased, ToolCalled
from agentq.messages import Role, StopReason, unanswered_calls
from agentq.providers.base import ReasoningChunk, ToolCallChunk
from agentq.runs import Status
from agentq.testing import ScriptedModel, call
from agentq.testing._contract import deltas_of, types_of
from agentq.tools.context import ToolContext
from agentq.tools.function import Tool, tool
from tests.helpers import wait_until
from tests.unit._loop import LEASE_MS, Gate, SlowModel, Stage, is_stuck, outcome_of

if TYPE_CHECKING:
    from agentq.steps import Effect
    from agentq.tools.behaviour import OnInterrupt

EFFECTS: tuple[Effect, ...] = ("none", "idempotent", "once")


def gated(effect: Effect, gate: Gate, name: str = "") -> Tool[..., Any]:
    """A tool of that effect which waits at the gate."""

    async def work(ctx: ToolContext) -> str:
        return str(await gate.wait(f"attempt {ctx.attempt}"))

    return Tool.from_function(work, name=name or effect, description="Work.", effect=effect)


def asking(*names: str) -> ScriptedModel:
    """A model that asks for these tools and then answers."""
    return ScriptedModel([[call(name) for name in names], "It is 16."])


async def cancel(stage: Stage, iteration: Any) -> None:
    """Cancel, and let the worker hear of it."""
    await stage.store.cancel(stage.run_id, reason="enough")
    iteration.cancel()


class TestCancelWhileTheModelStreams:
    async def test_partial_text_is_kept(self):
        stage = Stage(model := SlowModel(before=[ReasoningChunk("hm"), "It ", "is"]))
        iteration, task = await stage.begin()
        await model.waiting.wait()
        await wait_until(lambda: stage.store.writes)
        await cancel(stage, iteration)
        outcome = await outcome_of(task)
        assert (outcome.kind, outcome.status) == ("committed", Status.CANCELLED)
        (partial,) = await stage.messages()
        assert (partial.text, partial.stop_reason) == ("It is", StopReason.CANCELLED)
        assert [part.type for part in partial.parts] == ["reasoning", "text"]
        events = await stage.events()
        assert types_of(events[-3:]) == ["reply.completed", "iteration.finished", "run.cancelled"]
        assert "".join(event.text for event in deltas_of(events)) == "hmIt is"
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert model.left == 1

    async def test_what_nobody_was_told_yet_is_kept_too(self):
        stage = Stage(model := SlowModel(before=["It ", "is"]), coalesce_ms=60_000)
        iteration, task = await stage.begin()
        await model.waiting.wait()
        await cancel(stage, iteration)
        await outcome_of(task)
        assert [message.text for message in await stage.messages()] == ["It is"]
        assert [event.text for event in deltas_of(await stage.events())] == ["It is"]

    async def test_reasoning_alone_is_no_reply(self):
        stage = Stage(model := SlowModel(before=[ReasoningChunk("hm")]))
        iteration, task = await stage.begin()
        await model.waiting.wait()
        await wait_until(lambda: stage.store.writes)
        await cancel(stage, iteration)
        await outcome_of(task)
        assert await stage.messages() == []
        assert deltas_of(await stage.events()) == []
        assert types_of(await stage.events())[-3:] == ["attempt.reset", "iteration.finished", "run.cancelled"]

    async def test_a_rumour_of_a_cancel_costs_a_model_call_and_nothing_else(self):
        stage = Stage(model := SlowModel(before=["It "], after=["is 16."]))
        iteration, task = await stage.begin()
        await model.waiting.wait()
        await wait_until(lambda: stage.store.writes)
        model.go.set()
        iteration.cancel()
        outcome = await outcome_of(task)
        assert outcome.status is Status.COMPLETED
        assert model.left == 2
        events = await stage.events()
        assert "".join(event.text for event in deltas_of(events)) == "It is 16."
        (reset,) = [event for event in events if isinstance(event, AttemptReset)]
        assert reset.reason == "restarted"
        reply = next(event for event in events if isinstance(event, ReplyCompleted))
        assert sum(sum(piece.lengths) for piece in reply.deltas) == len(reply.text)

    async def test_a_run_that_was_cancelled_before_it_began_says_nothing(self):
        stage = Stage(ScriptedModel(["16"]))
        await stage.enqueue()
        await stage.store.cancel(stage.run_id, reason="enough")
        await stage.advance()
        run = await stage.read()
        assert (run.status, await stage.messages(), run.last_error) == (Status.CANCELLED, [], None)


class TestCancelWhileToolsRun:
    async def test_reads_stop_at_once(self):
        gates = [Gate(), Gate()]
        stage = Stage(asking("a", "b"), gated("none", gates[0], "a"), gated("none", gates[1], "b"))
        iteration, task = await stage.begin()
        await wait_until(lambda: all(gate.entered for gate in gates))
        await cancel(stage, iteration)
        outcome = await outcome_of(task)
        assert outcome.status is Status.CANCELLED
        assert [gate.stopped for gate in gates] == [1, 1]
        assert [result.outcome for result in await stage.results()] == ["cancelled", "cancelled"]

    @pytest.mark.parametrize("effect", ["idempotent", "once"])
    async def test_an_effect_that_began_is_waited_for_and_the_next_one_does_not_start(self, effect: Effect):
        gates = [Gate(), Gate()]
        stage = Stage(asking("a", "b", "c"), gated(effect, gates[0], "a"), *(gated(effect, gates[1], n) for n in "bc"))
        iteration, task = await stage.begin()
        await wait_until(lambda: gates[0].entered)
        await cancel(stage, iteration)
        assert await is_stuck(task)
        gates[0].open()
        outcome = await outcome_of(task)
        assert outcome.status is Status.CANCELLED
        assert gates[1].entered == 0
        first, *others = await stage.results()
        assert (first.content, first.outcome) == ("attempt 1", "ok")
        assert [result.outcome for result in others] == ["cancelled", "cancelled"]
        assert await stage.ends_of_calls() == [("a", "ok"), ("b", "cancelled"), ("c", "cancelled")]
        called = [event.name for event in await stage.events() if isinstance(event, ToolCalled)]
        assert called == ["a"]

    async def test_a_tool_with_an_effect_sees_that_it_was_cancelled(self):
        seen: list[ToolContext] = []

        @tool(effect="once")
        async def charge(ctx: ToolContext) -> str:
            seen.append(ctx)
            while not ctx.cancelled:  # noqa: ASYNC110 - the flag is all that a tool has
                await asyncio.sleep(0)
            return "stopped by itself"

        stage = Stage(asking("charge"), charge)
        iteration, task = await stage.begin()
        await wait_until(lambda: seen)
        await cancel(stage, iteration)
        await outcome_of(task)
        assert [result.content for result in await stage.results()] == ["stopped by itself"]

    @pytest.mark.parametrize("effect", ["idempotent", "once"])
    async def test_after_a_cancel_no_effect_starts_even_if_the_worker_has_not_heard_of_it(self, effect: Effect):
        """Promise P10: the store refuses what announces an effect."""
        gate = Gate()
        stage = Stage(asking(effect), gated(effect, gate))

        async def cancel_first(name: str, records: Any) -> None:
            if name == "journal" and any(record.starts_effect for record in records):
                await stage.store.cancel(stage.run_id)

        stage.store.before = cancel_first
        outcome = await stage.advance()
        assert (outcome.status, gate.entered) == (Status.CANCELLED, 0)
        assert [result.outcome for result in await stage.results()] == ["cancelled"]
        assert "tool.called" not in types_of(await stage.events())

    @pytest.mark.parametrize("tells_worker", [True, False])
    async def test_a_cancel_between_announcement_and_start_withdraws_the_call(self, tells_worker: bool):
        """The store's answer took so long that the worker asks again: by then the run was cancelled."""
        gate = Gate()
        stage = Stage(asking("once"), gated("once", gate))
        iteration = stage.loop.begin(await stage.claim())
        answered = stage.store.journal

        async def slowly(lease: Any, records: Any, batch: Any, **rest: Any) -> Any:
            answer = await answered(lease, records, batch, **rest)
            if any(record.starts_effect for record in records):
                stage.clock.advance(LEASE_MS / 3000)
                await stage.store.cancel(stage.run_id)
                if tells_worker:
                    iteration.cancel()
            return answer

        stage.store.journal = slowly  # type: ignore[method-assign]
        outcome = await iteration.run()
        assert (outcome.status, gate.entered) == (Status.CANCELLED, 0)
        # Nobody has to find out whether it had its effect.
        assert [result.outcome for result in await stage.results()] == ["cancelled"]

    async def test_a_worker_that_was_held_up_asks_again_and_tells_of_the_call_once(self):
        gate = Gate()
        gate.open()
        stage = Stage(asking("once"), gated("once", gate))
        slow = 2

        async def slowly(name: str, records: Any) -> None:
            nonlocal slow
            if name == "journal" and any(record.starts_effect for record in records) and slow:
                slow -= 1
                stage.clock.advance(LEASE_MS / 3000)

        stage.store.before = slowly
        await stage.play()
        assert gate.done == 1
        assert await stage.told("once") == ["tool.called", "tool.finished"]
        assert [result.content for result in await stage.results()] == ["attempt 1"]

    async def test_a_worker_whose_lease_ended_while_it_was_held_up_does_not_start_the_call(self):
        gate = Gate()
        stage = Stage(asking("once"), gated("once", gate))
        iteration = stage.loop.begin(await stage.claim())
        answered = stage.store.journal

        async def slowly(lease: Any, records: Any, batch: Any, **rest: Any) -> Any:
            answer = await answered(lease, records, batch, **rest)
            if any(record.starts_effect for record in records):
                stage.store.journal = answered  # type: ignore[method-assign]
                stage.clock.advance(LEASE_MS / 1000)
                await stage.lose_lease()
            return answer

        stage.store.journal = slowly  # type: ignore[method-assign]
        assert (await iteration.run()).kind == "lost"
        assert gate.entered == 0


class TestHandBack:
    async def test_a_stream_is_given_up_and_another_worker_goes_on(self):
        stage = Stage(model := SlowModel(before=["It "], after=["is 16."]))
        iteration, task = await stage.begin()
        await model.waiting.wait()
        await wait_until(lambda: stage.store.writes)
        iteration.hand_back()
        outcome = await outcome_of(task)
        assert (outcome.kind, outcome.status) == ("released", Status.QUEUED)
        assert stage.executor.woken == [(stage.run_id, 0)]
        assert types_of(await stage.events())[-2:] == ["attempt.reset", "run.released"]
        model.go.set()
        assert (await stage.advance("worker-2")).status is Status.COMPLETED
        run = await stage.read()
        assert (run.recoveries, run.errors, run.iteration) == (0, 0, 1)
        assert "".join(event.text for event in deltas_of(await stage.events())) == "It is 16."

    @pytest.mark.parametrize("effect", EFFECTS)
    @pytest.mark.parametrize("force", [False, True])
    async def test_finished_calls_stay_in_the_journal_and_running_ones_follow_their_effect(
        self, effect: Effect, force: bool
    ):
        first, second, _ = gates = [Gate() for _ in range(3)]
        stage = Stage(
            asking("a", "b", "c"), *(gated(effect, gate, name) for gate, name in zip(gates, "abc", strict=True))
        )
        iteration, task = await stage.begin()
        first.open()
        await wait_until(lambda: first.done and second.entered)
        await wait_until(lambda: len(stage.store._runs[stage.run_id].journal) >= 2)  # noqa: SLF001 - what is journaled
        assert iteration.must_not_repeat is (effect == "once")
        iteration.hand_back(force=force)
        if effect == "once" and not force:
            assert await is_stuck(task)
            second.open()
        assert (await outcome_of(task)).kind == "released"
        for gate in gates:
            gate.open()
        model = stage.model
        assert isinstance(model, ScriptedModel)
        assert len(model.requests) == 1
        await stage.advance("worker-2")
        assert len(model.requests) == 1
        assert first.entered == 1
        contents = [result.content for result in await stage.results()]
        outcomes = [result.outcome for result in await stage.results()]
        assert (contents[0], contents[2]) == ("attempt 1", "attempt 1")
        if effect == "once":
            assert second.entered == 1
            assert outcomes == ["ok", "unknown" if force else "ok", "ok"]
        else:
            # A read is not journaled before it ends, so nobody counts its attempts.
            assert contents[1] == ("attempt 2" if effect == "idempotent" else "attempt 1")
            assert (second.entered, outcomes) == (2, ["ok"] * 3)
        assert (await stage.play()).status is Status.COMPLETED
        assert unanswered_calls(await stage.messages()) == ()

    async def test_nothing_new_starts(self):
        gates = [Gate(), Gate()]
        stage = Stage(asking("a", "b"), gated("once", gates[0], "a"), gated("once", gates[1], "b"))
        iteration, task = await stage.begin()
        await wait_until(lambda: gates[0].entered)
        iteration.hand_back()
        gates[0].open()
        await outcome_of(task)
        assert gates[1].entered == 0
        assert not iteration.must_not_repeat

    @pytest.mark.parametrize("force", [False, True])
    async def test_a_call_that_was_announced_and_not_made_is_made_by_the_next_worker(self, force: bool):
        gate = Gate()
        gate.open()
        stage = Stage(asking("once"), gated("once", gate))
        iteration = stage.loop.begin(await stage.claim())

        async def shut_down(name: str, records: Any) -> None:
            if name == "journal" and any(record.starts_effect for record in records):
                iteration.hand_back(force=force)

        stage.store.before = shut_down
        assert (await iteration.run()).kind == "released"
        assert gate.entered == 0
        stage.store.before = None
        await stage.advance("worker-2")
        assert [(result.content, result.outcome) for result in await stage.results()] == [("attempt 1", "ok")]
        assert gate.done == 1

    async def test_a_reply_that_ends_as_the_worker_shuts_down_is_not_lost(self):
        stage = Stage(model := SlowModel(before=["It is 16."]))
        iteration, task = await stage.begin()
        await model.waiting.wait()
        model.go.set()
        await wait_until(lambda: model.left)
        iteration.hand_back()
        outcome = await outcome_of(task)
        assert outcome.kind in ("committed", "released")
        assert (await stage.play()).status is Status.COMPLETED

    async def test_a_second_signal_stops_what_the_first_one_waited_for(self):
        gate = Gate()
        stage = Stage(asking("once"), gated("once", gate))
        iteration, task = await stage.begin()
        await wait_until(lambda: gate.entered)
        iteration.hand_back()
        assert await is_stuck(task)
        iteration.hand_back(force=True)
        assert (await outcome_of(task)).kind == "released"
        assert gate.stopped == 1

    async def test_released_events_name_the_worker(self):
        stage = Stage(model := SlowModel())
        iteration, task = await stage.begin("worker-7")
        await model.waiting.wait()
        iteration.hand_back()
        await outcome_of(task)
        assert [event.worker for event in await stage.events() if isinstance(event, RunReleased)] == ["worker-7"]


class TestLose:
    @pytest.mark.parametrize("effect", EFFECTS)
    async def test_everything_stops_and_nothing_more_is_written(self, effect: Effect):
        gate = Gate()
        stage = Stage(asking(effect), gated(effect, gate))
        iteration, task = await stage.begin()
        await wait_until(lambda: gate.entered)
        await wait_until(lambda: "tool.called" in types_of(stage.store._runs[stage.run_id].log.read(0)))  # noqa: SLF001
        written = len(stage.store.writes)
        iteration.lose()
        outcome = await outcome_of(task)
        assert (outcome.kind, outcome.status) == ("lost", None)
        assert gate.stopped == 1
        assert len(stage.store.writes) == written
        assert stage.executor.woken == []

    async def test_the_model_is_left_alone(self):
        stage = Stage(model := SlowModel(before=["It "]))
        iteration, task = await stage.begin()
        await model.waiting.wait()
        iteration.lose()
        assert (await outcome_of(task)).kind == "lost"
        assert model.left == 1

    async def test_results_on_their_way_keep_nobody_waiting(self):
        """Two reads end; the first result is being written, the second waits its turn: then the lease is lost."""
        gates = [Gate(), Gate()]
        stage = Stage(asking("a", "b"), gated("none", gates[0], "a"), gated("none", gates[1], "b"))
        stuck = asyncio.Event()

        async def hang(name: str, records: Any) -> None:
            if any(record.name != "reply" for record in records):
                stuck.set()
                await asyncio.Event().wait()

        stage.store.before = hang
        iteration, task = await stage.begin()
        await wait_until(lambda: all(gate.entered for gate in gates))
        gates[0].open()
        await stuck.wait()
        gates[1].open()
        await wait_until(lambda: gates[1].done)
        assert await is_stuck(task)
        iteration.lose()
        assert (await outcome_of(task)).kind == "lost"

    async def test_a_worker_that_was_replaced_finds_out_by_its_next_write(self):
        gate = Gate()
        stage = Stage(asking("idempotent"), gated("idempotent", gate))
        _, task = await stage.begin()
        await wait_until(lambda: gate.entered)
        newer = await stage.lose_lease()
        assert newer.run.recoveries == 1
        before = await stage.events()
        gate.open()
        assert (await outcome_of(task)).kind == "lost"
        assert await stage.events() == before

    async def test_a_stale_commit_is_refused(self):
        stage = Stage(model := SlowModel(before=["It is 16."]), coalesce_ms=60_000)
        _, task = await stage.begin()
        await model.waiting.wait()
        await stage.lose_lease()
        model.go.set()
        assert (await outcome_of(task)).kind == "lost"
        assert await stage.messages() == []


class TestRedisAway:
    async def test_every_write_is_repeated_until_it_is_through(self):
        gate = Gate()
        gate.open()
        stage = Stage(asking("once", "none"), gated("once", gate), gated("none", gate))
        failures: dict[str, int] = {}

        async def fail_twice(name: str, what: Any) -> None:
            key = f"{name} {what}"
            failures[key] = failures.get(key, 0) + 1
            if failures[key] <= 2:
                raise StoreUnavailable

        stage.store.before = fail_twice
        _, task = await stage.begin()
        while not task.done():
            await asyncio.sleep(0)
            stage.clock.advance(0.5)
        assert (await outcome_of(task)).kind == "committed"
        assert [result.outcome for result in await stage.results()] == ["ok", "ok"]

    async def test_a_worker_that_waits_for_redis_can_be_told_that_it_lost(self):
        async def fail(name: str, what: Any) -> None:
            raise StoreUnavailable

        stage = Stage(ScriptedModel(["16"]), coalesce_ms=60_000)
        stage.store.before = fail
        iteration, task = await stage.begin()
        await wait_until(lambda: stage.clock.sleepers)
        iteration.lose()
        while not task.done():
            await asyncio.sleep(0)
            stage.clock.advance(1)
        assert (await outcome_of(task)).kind in ("lost", "failed_to_store")


async def test_an_iteration_that_is_cancelled_like_a_task_leaves_no_task_behind():
    for tools in (("none", "none"), ("once",)):
        gate = Gate()
        stage = Stage(asking(*tools), gated("none", gate), gated("once", gate))
        _, task = await stage.begin()
        await wait_until(lambda gate=gate: gate.entered)  # type: ignore[misc]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wait_until(lambda: len(asyncio.all_tasks()) == 1)
        assert (await stage.read()).status is Status.RUNNING


async def test_a_transcript_never_begins_with_a_role_that_answers_nothing():
    stage = Stage(asking("once"), gated("once", gate := Gate()))
    gate.open()
    await stage.play()
    assert [message.role for message in await stage.messages()] == [Role.ASSISTANT, Role.TOOL, Role.ASSISTANT]


class TestHeldUp:
    """A worker that slept past its lease, as a laptop does, or a machine that is moved."""

    async def test_it_starts_no_tool_that_only_reads_before_it_knows_that_it_still_holds_the_run(self):
        first, gate = Gate(), Gate()
        stage = Stage(asking("a", "b"), gated("idempotent", first, "a"), gated("none", gate, "b"))
        iteration, task = await stage.begin()
        await wait_until(lambda: first.entered)
        first.open()
        iteration.hand_back()
        assert (await outcome_of(task)).kind == "released"
        # The next worker has only to read. It is held up first, and another one takes the run.
        iteration = stage.loop.begin(await stage.claim("worker-2"))
        stage.clock.advance(LEASE_MS / 1000 + 1)
        await stage.lose_lease()
        assert (await iteration.run()).kind == "lost"
        assert gate.entered == 0

    async def test_one_that_still_holds_it_goes_on(self):
        gate = Gate()
        gate.open()
        stage = Stage(model := SlowModel(after=[ToolCallChunk(0, "b", "{}")]), gated("none", gate, "b"))
        _, task = await stage.begin()
        await model.waiting.wait()
        # A long reply, under a lease that was renewed all the time.
        stage.clock.advance(LEASE_MS / 1000 * 5)
        model.go.set()
        assert (await outcome_of(task)).kind == "committed"
        assert (gate.entered, await stage.told("b")) == (1, ["tool.called", "tool.finished"])


@pytest.mark.parametrize("interrupt", ["cancel", "block"])
@pytest.mark.parametrize("effect", EFFECTS)
async def test_a_tool_says_whether_a_cancel_stops_it(effect: Effect, interrupt: OnInterrupt):
    gate = Gate()

    @tool(effect=effect, name="a", interrupt=interrupt)
    async def slow() -> str:
        """Be slow."""
        return str(await gate.wait())

    stage = Stage(asking("a"), slow)
    iteration, task = await stage.begin()
    await wait_until(lambda: gate.entered)
    await stage.store.cancel(stage.run_id)
    iteration.cancel()
    if interrupt == "block":
        assert await is_stuck(task)
        gate.open()
    assert (await outcome_of(task)).status is Status.CANCELLED
    assert gate.stopped == (interrupt == "cancel")
    expected = "ok" if interrupt == "block" else "cancelled" if effect == "none" else "unknown"
    assert [result.outcome for result in await stage.results()] == [expected]


async def test_calls_that_wait_for_their_turn_are_not_announced_after_a_cancel():
    gate = Gate()

    @tool(effect="none")
    async def look(number: int) -> str:
        """Look."""
        return str(await gate.wait())

    stage = Stage(ScriptedModel([[call("look", number=number) for number in range(3)]]), look, max_parallel=1)
    iteration, task = await stage.begin()
    await wait_until(lambda: gate.entered == 1, message="the first call runs")
    await stage.store.cancel(stage.run_id)
    iteration.cancel()
    outcome = await outcome_of(task)
    assert outcome.status is Status.CANCELLED
    assert gate.entered == 1
    assert (await stage.told("look")).count("tool.called") == 1
    assert [result.outcome for result in await stage.results()] == ["cancelled"] * 3
