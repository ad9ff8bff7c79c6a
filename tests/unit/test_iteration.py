"""One iteration from claim to commit: models that say anything, tools that do anything, and what is stored of it."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from agentq.errors import ProviderError, StoreUnavailable, ToolError
from agentq.events.model import AttemptReset, Note, ReplyCompleted, TextDelta, ToolCalled, ToolProgress
from agentq.loop import Agent
from agentq.messages import Message, NoteKind, ReasoningPart, Role, StopReason, TextPart, ToolCallPart, Usage
from agentq.providers.base import ReasoningChunk, ReplyEnd, TextChunk, ToolCallChunk
from agentq.providers.registry import resolve
from agentq.runs import Phase, Status
from agentq.stores.base import EventBatch
from agentq.testing import ScriptedCall, ScriptedModel, call
from agentq.testing._contract import deltas_of, types_of
from agentq.tools.context import ToolContext
from agentq.tools.function import tool
from tests.helpers import wait_until
from tests.unit._loop import LEASE_MS, Gate, SlowModel, Stage, is_stuck, outcome_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.providers.base import Chunk, ModelRequest


@tool(effect="none")
async def add_numbers(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


@tool(effect="once")
async def break_down(why: str) -> str:
    """Fail."""
    raise ToolError(why)


class Chunks:
    """A model that streams whatever it is given, exceptions too."""

    name = "chunks"

    def __init__(self, *replies: list[Any]) -> None:
        self.replies = list(replies)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        for chunk in self.replies.pop(0):
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk
            # Long enough for what was said to go out on its own.
            await asyncio.sleep(0.002)


END = ReplyEnd(StopReason.END)


class TestAnswers:
    async def test_a_run_goes_from_prompt_over_calls_to_its_answer(self):
        model = ScriptedModel([["Adding. ", call("add_numbers", a=7, b=9)], "It is 16."])
        stage = Stage(model, add_numbers)
        first = await stage.advance()
        assert (first.kind, first.status, first.iteration, first.tools) == ("committed", Status.QUEUED, 1, 1)
        assert stage.executor.woken == [(stage.run_id, 0)]
        second = await stage.advance("worker-2")
        assert (second.kind, second.status, second.iteration) == ("committed", Status.COMPLETED, 2)
        assert len(stage.executor.woken) == 1
        reply, results, answer = await stage.messages()
        assert [part.type for part in reply.parts] == ["text", "tool_call"]
        (result,) = results.tool_results
        assert (result.call_id, result.content, result.outcome) == (f"{stage.run_id}.1.0", "16", "ok")
        assert answer.text == "It is 16."
        events = await stage.events()
        assert types_of(events) == [
            "run.queued", "run.started",
            "iteration.started", "text.delta", "reply.completed", "tool.called", "tool.finished", "iteration.finished",
            "iteration.started", "text.delta", "reply.completed", "iteration.finished", "run.completed",
        ]  # fmt: skip
        run = await stage.read()
        assert (run.iteration, run.turn, run.errors, run.last_error) == (2, 2, 0, None)

    async def test_a_reply_without_calls_costs_one_write(self):
        stage = Stage(ScriptedModel(["16"]), coalesce_ms=60_000)
        await stage.advance()
        assert stage.store.writes == ["commit"]

    async def test_usage_adds_up(self):
        replies = [
            Message(
                role=Role.ASSISTANT,
                parts=(ToolCallPart(call_id="x", name="add_numbers", arguments={"a": 1, "b": 2}),),
                usage=Usage(input_tokens=5, output_tokens=2),
            ),
            Message(role=Role.ASSISTANT, parts=(TextPart(text="3"),), usage=Usage(input_tokens=7, reasoning_tokens=1)),
        ]
        stage = Stage(ScriptedModel(replies), add_numbers)
        run = await stage.play()
        assert run.usage == {"input_tokens": 12, "output_tokens": 2, "reasoning_tokens": 1}

    async def test_reasoning_and_its_signature_are_kept_and_streamed(self):
        parts = (ReasoningPart(text="hm, well", signature="s1g"), TextPart(text="It is 16."))
        stage = Stage(ScriptedModel([Message(role=Role.ASSISTANT, parts=parts)]), coalesce_ms=60_000)
        await stage.play()
        (answer,) = await stage.messages()
        assert answer.parts == parts
        events = await stage.events()
        assert [event.text for event in deltas_of(events)] == ["hm, well", "It is 16."]
        assert next(event.reasoning for event in events if isinstance(event, ReplyCompleted)) == "hm, well"

    async def test_the_budget_of_iterations_ends_a_run_that_never_answers(self):
        model = ScriptedModel([call("add_numbers", a=1, b=1)] * 9)
        stage = Stage(model, add_numbers, max_iterations=3)
        run = await stage.play()
        assert (run.status, run.iteration, len(model.requests)) == (Status.FAILED, 3, 3)
        assert "max_iterations=3" in (run.last_error or "")
        assert (await stage.events())[-1].type == "run.failed"

    async def test_the_request_carries_what_the_agent_says(self):
        model = ScriptedModel(["16"])
        stage = Stage(model, add_numbers, instructions="Be brief.", model_settings={"temperature": 0})
        await stage.enqueue(session_id="s1", model="mock:other")
        await stage.advance()
        (request,) = model.requests
        assert (request.model, request.instructions, request.session_id) == ("mock:other", "Be brief.", "s1")
        assert [spec.name for spec in request.tools] == ["add_numbers"]
        assert request.settings == {"temperature": 0}
        assert request.run_id == stage.run_id


class TestModelsThatFail:
    @pytest.mark.parametrize(
        "reply",
        [
            [ProviderError("busy", status=503)],
            [ValueError("odd")],
            [TextChunk("It "), ProviderError("cut")],
            [TextChunk("It is 16")],
            [END, TextChunk("more")],
            [END, END],
            ["no chunk"],
            [None],
            [TextChunk(7)],  # type: ignore[arg-type]
            [ReplyEnd("weird")],  # type: ignore[arg-type]
            # As an HTTP library does that was closed while it read.
            [asyncio.CancelledError()],
            [TextChunk("It "), asyncio.CancelledError("closed")],
            [ProviderError("half an emoji \ud83d")],
            [ProviderError("wait", retry_after_s=math.nan)],
            [ProviderError("wait", retry_after_s=-1)],
        ],
        ids=repr,
    )
    async def test_whatever_a_provider_does_is_a_failed_turn_that_is_tried_again(self, reply: list[Any]):
        stage = Stage(Chunks(reply, [TextChunk("16"), END]))
        outcome = await stage.advance()
        assert (outcome.kind, outcome.status) == ("committed", Status.QUEUED)
        run = await stage.read()
        assert (run.iteration, run.errors) == (0, 1)
        delay_ms = run.not_before_ms - run.updated_ms
        assert 1_000 <= delay_ms <= 1_100
        assert stage.executor.woken == [(stage.run_id, delay_ms / 1000)]
        assert [message.note for message in await stage.messages()] == [NoteKind.PROVIDER_ERROR]
        run = await stage.play()
        assert (run.status, run.iteration, run.errors, run.last_error) == (Status.COMPLETED, 1, 0, None)
        assert [event.text for event in deltas_of(await stage.events())] == ["16"]

    async def test_what_was_streamed_before_a_failure_is_voided(self):
        stage = Stage(Chunks([TextChunk("It "), TextChunk("might "), ProviderError("cut")], [TextChunk("16"), END]))
        await stage.play()
        events = await stage.events()
        (reset,) = [event for event in events if isinstance(event, AttemptReset)]
        assert (reset.first, reset.reason) == (4, "provider_error")
        assert [event.seq for event in events] == [
            seq for seq in range(1, events[-1].seq + 1) if not reset.first <= seq <= reset.last
        ]

    async def test_a_failed_stream_is_closed_at_once(self):
        stage = Stage(model := SlowModel(before=["It ", b"no chunk"]))
        await stage.advance()
        assert model.left == 1

    async def test_retries_are_told_and_the_cap_ends_the_run(self):
        stage = Stage(ScriptedModel([ProviderError("busy", status=503)] * 9), max_error_retries=2)
        run = await stage.play()
        assert (run.status, run.errors, run.iteration) == (Status.FAILED, 3, 0)
        assert "busy" in (run.last_error or "")
        notes = [event for event in await stage.events() if isinstance(event, Note)]
        # A wait is up to a tenth longer than the seconds that it is rounded to here.
        assert [(note.errors, note.max_error_retries, note.delay_ms // 1_000) for note in notes] == [
            (1, 2, 1), (2, 2, 2), (3, 2, 0)
        ]  # fmt: skip

    async def test_what_cannot_get_better_fails_at_once(self):
        stage = Stage(ScriptedModel([ProviderError("no such model", status=404, retryable=False)]))
        run = await stage.play()
        assert (run.status, run.last_error, await stage.messages()) == (Status.FAILED, "no such model", [])

    async def test_a_provider_that_is_not_there_fails_the_run_with_its_name(self):
        stage = Stage(ScriptedModel([]))
        stage.loop.provider = resolve
        await stage.enqueue(model="nobody:gpt")
        run = await stage.play()
        assert run.status is Status.FAILED
        assert "nobody" in (run.last_error or "")

    async def test_what_has_no_stored_form_is_replaced(self):
        """Servers cut emojis in half; that must cost no run its life."""
        chunks = [
            TextChunk("half \ud83d"),
            ReasoningChunk("\ude00 half"),
            ToolCallChunk(0, "add\ud83d", '{"a": "\ud83d"}', "id\ud83d"),
            END,
        ]
        stage = Stage(Chunks(chunks, [TextChunk("16"), END]), add_numbers)
        run = await stage.play()
        assert run.status is Status.COMPLETED
        assert (await stage.messages())[0].text == "half ?"

    @pytest.mark.parametrize("stop_reason", [StopReason.REFUSAL, StopReason.CONTENT_FILTER])
    @pytest.mark.parametrize("with_call", [False, True])
    async def test_a_refused_reply_is_a_failed_turn_and_no_call_of_it_is_made(
        self, stop_reason: StopReason, with_call: bool
    ):
        gate = Gate()

        @tool(effect="none")
        async def touch() -> None:
            await gate.wait()

        calls = (ToolCallPart(call_id="x", name="touch"),) if with_call else ()
        refused = Message(role=Role.ASSISTANT, parts=(TextPart(text="No."), *calls), stop_reason=stop_reason)
        stage = Stage(ScriptedModel([refused, "16"]), touch)
        await stage.advance()
        assert gate.entered == 0
        run = await stage.read()
        assert (run.status, run.iteration, run.errors, run.not_before_ms) == (Status.QUEUED, 0, 1, 0)
        assert [message.note for message in await stage.messages()] == [NoteKind.REFUSED]
        assert (await stage.play()).status is Status.COMPLETED


class TestCalls:
    async def test_reads_run_together_and_answer_in_the_order_of_the_request(self):
        gates = {name: Gate() for name in "abc"}

        @tool(effect="none")
        async def look(at: str) -> str:
            """Look."""
            return str(await gates[at].wait(f"saw {at}"))

        stage = Stage(ScriptedModel([[call("look", at=name) for name in "abc"], "Well."]), look)
        _, task = await stage.begin()
        await wait_until(lambda: all(gate.entered for gate in gates.values()))
        for name in "cab":
            gates[name].open()
            await wait_until(partial(getattr, gates[name], "done"))
            assert await is_stuck(task) is (name != "b")
        await outcome_of(task)
        assert [result.content for result in await stage.results()] == ["saw a", "saw b", "saw c"]
        finished = [event.content for event in await stage.events() if event.type == "tool.finished"]
        assert finished == ["saw c", "saw a", "saw b"]

    async def test_effects_run_one_at_a_time_and_after_the_reply_is_journaled(self):
        running: list[str] = []
        seen: list[tuple[list[str], Phase | None, set[str]]] = []

        @tool(effect="idempotent")
        async def book(what: str, ctx: ToolContext) -> str:
            """Book."""
            running.append(what)
            journal = stage.store._runs[stage.run_id].journal  # noqa: SLF001 - what a worker that takes over would see
            seen.append((list(running), (await stage.read()).phase, set(journal)))
            await asyncio.sleep(0)
            running.remove(what)
            assert ctx.idempotency_key == ctx.call_id
            return what

        stage = Stage(ScriptedModel([["Yes. ", call("book", what="x"), call("book", what="y")], "Well."]), book)
        await stage.play()
        ids = [f"{stage.run_id}.1.{index}" for index in range(2)]
        assert seen == [
            (["x"], Phase.USING_TOOLS, {"reply", ids[0]}),
            (["y"], Phase.USING_TOOLS, {"reply", *ids}),
        ]

    async def test_a_tool_knows_its_call(self):
        seen: list[ToolContext] = []

        @tool(effect="none")
        async def look(ctx: ToolContext) -> None:
            """Look."""
            seen.append(ctx)

        stage = Stage(ScriptedModel([call("look"), "Well."]), look)
        await stage.enqueue(session_id="s1", user_id="u1", metadata={"plan": "free"})
        await stage.play()
        (ctx,) = seen
        assert (ctx.run_id, ctx.call_id, ctx.attempt) == (stage.run_id, f"{stage.run_id}.1.0", 1)
        assert (ctx.session_id, ctx.user_id, ctx.metadata) == ("s1", "u1", {"plan": "free"})

    async def test_a_tool_that_raises_costs_an_error_and_the_model_is_told_after_all_results(self):
        script: list[Any] = [[call("break_down", why="no paper"), call("add_numbers", a=1, b=2)], "Well."]
        stage = Stage(ScriptedModel(script), break_down, add_numbers)
        await stage.advance()
        reply, results, note = await stage.messages()
        assert len(reply.tool_calls) == 2
        assert [(result.content, result.outcome) for result in results.tool_results] == [
            ("no paper", "error"),
            ("3", "ok"),
        ]
        assert (note.role, note.note) == (Role.SYSTEM, NoteKind.TOOL_ERROR)
        assert "no paper" in note.text
        run = await stage.read()
        assert (run.status, run.iteration, run.errors, run.not_before_ms) == (Status.QUEUED, 0, 1, 0)
        assert await stage.ends_of_calls() == [("break_down", "error"), ("add_numbers", "ok")]
        run = await stage.play()
        assert (run.status, run.errors, run.iteration) == (Status.COMPLETED, 0, 1)

    async def test_tools_that_keep_raising_end_the_run(self):
        stage = Stage(ScriptedModel([call("break_down", why="no paper")] * 9), break_down, max_error_retries=2)
        run = await stage.play()
        assert (run.status, run.errors, run.iteration, run.turn) == (Status.FAILED, 3, 0, 3)
        assert "no paper" in (run.last_error or "")

    @pytest.mark.parametrize(
        ("made", "words"),
        [
            (call("add_numbers", a=1), "b"),
            (call("add_numbers", a=1, b="x"), "b"),
            (ScriptedCall("add_numbers", "{broken"), "not valid JSON"),
            (ScriptedCall("add_numbers", "[1]"), "must be a JSON object"),
            (call("subtract", a=1), "add_numbers"),
            (ScriptedCall(""), "no tool named unnamed"),
        ],
        ids=["missing", "wrong type", "no JSON", "no object", "unknown tool", "no name"],
    )
    async def test_a_call_that_fits_no_tool_is_told_to_the_model_and_costs_no_error(self, made: Any, words: str):
        stage = Stage(ScriptedModel([made, "Well."]), add_numbers)
        await stage.advance()
        (result,) = await stage.results()
        assert result.outcome == "error"
        assert words in result.content
        run = await stage.read()
        assert (run.iteration, run.errors, await stage.notes()) == (1, 0, [])
        assert (await stage.play()).status is Status.COMPLETED

    async def test_a_tool_that_was_removed_in_a_deploy_gives_an_error_result(self):
        stage = Stage(ScriptedModel([call("break_down", why="x"), "Well."]), break_down)

        async def die(name: str, records: Any) -> None:
            if name == "journal" and any(record.starts_effect for record in records):
                raise StoreUnavailable

        stage.store.before = die
        _, task = await stage.begin()
        await wait_until(lambda: stage.clock.sleepers)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        stage.store.before = None
        await stage.store.release((await stage.lose_lease()).lease, EventBatch(1))
        stage.loop.agents = {"calculator": Agent("calculator")}
        await stage.advance()
        assert [(result.outcome, result.content) for result in await stage.results()] == [
            ("error", "There is no tool named break_down; use none")
        ]

    async def test_a_blocking_tool_runs_in_a_thread_and_the_event_loop_goes_on(self):
        entered, go = threading.Event(), threading.Event()

        @tool(effect="none")
        def block(ctx: ToolContext) -> str:
            """Block."""
            ctx.progress("in a thread", 0.5)
            entered.set()
            go.wait(20)
            return "woke up"

        stage = Stage(ScriptedModel([call("block"), "Well."]), block)
        _, task = await stage.begin()
        await wait_until(entered.is_set)
        # It blocks its thread and nothing else.
        assert await is_stuck(task)
        go.set()
        await outcome_of(task)
        assert [result.content for result in await stage.results()] == ["woke up"]
        assert await stage.told("block") == ["tool.called", "tool.progress", "tool.finished"]

    async def test_progress_is_told_between_call_and_result_and_never_after(self):
        kept: list[ToolContext] = []

        @tool(effect="idempotent")
        async def work(ctx: ToolContext) -> str:
            """Work."""
            kept.append(ctx)
            await ctx.progress("half", 0.5)
            ctx.progress("all \ud83d", 1)
            return "worked"

        stage = Stage(ScriptedModel([call("work"), "Well."]), work)
        await stage.advance()
        kept[0].progress("too late")
        await stage.advance()
        told = [event for event in await stage.events() if isinstance(event, ToolCalled | ToolProgress)]
        assert [getattr(event, "message", "called") for event in told] == ["called", "all ?"]
        assert await stage.told("work") == ["tool.called", "tool.progress", "tool.finished"]

    async def test_durations_are_measured(self):
        @tool(effect="none")
        def rest() -> None:
            """Rest."""
            time.sleep(0.02)

        stage = Stage(ScriptedModel([call("rest"), "Well."]), rest)
        await stage.play()
        assert [event.duration_ms >= 20 for event in await stage.events() if event.type == "tool.finished"] == [True]


class TestStream:
    async def test_who_comes_late_sees_what_the_first_viewer_saw(self):
        pieces = ["It ", "is ", "16", ", I ", "think."]
        stage = Stage(Chunks([TextChunk(piece) for piece in pieces] + [END]))
        await stage.enqueue()
        live: list[Any] = []

        async def watch() -> None:
            live.extend([event async for event in stage.store.stream.follow(stage.run_id)])

        watching = asyncio.create_task(watch())
        await stage.play()
        await watching
        assert "".join(event.text for event in live if isinstance(event, TextDelta)) == "".join(pieces)
        assert await stage.events() == live
        assert [event.seq for event in live] == list(range(1, len(live) + 1))


class TestSignals:
    async def test_a_cancel_that_the_worker_has_not_heard_of_is_obeyed_by_the_next_iteration(self):
        stage = Stage(model := SlowModel(before=["It is 16."]))
        _, task = await stage.begin()
        await model.waiting.wait()
        await stage.store.cancel(stage.run_id, reason="enough")
        model.go.set()
        outcome = await outcome_of(task)
        assert (outcome.kind, outcome.status) == ("committed", Status.QUEUED)
        assert stage.executor.woken == [(stage.run_id, 0)]
        run = await stage.play()
        assert (run.status, [message.text for message in await stage.messages()]) == (Status.CANCELLED, ["It is 16."])
        assert "run.completed" not in types_of(await stage.events())

    async def test_a_signal_takes_the_delay_of_a_failed_turn_away(self):
        stage = Stage(model := SlowModel(after=[b"no chunk"]), retry_backoff_s=20)
        _, task = await stage.begin()
        await model.waiting.wait()
        await stage.store.cancel(stage.run_id)
        model.go.set()
        await outcome_of(task)
        assert (await stage.read()).not_before_ms == 0
        assert stage.executor.woken == [(stage.run_id, 0)]

    async def test_an_executor_that_fails_takes_nothing_back(self, caplog: pytest.LogCaptureFixture):
        """What was committed is committed; a sweep wakes the run."""
        stage = Stage(ScriptedModel([call("add_numbers", a=7, b=9), "It is 16."]), add_numbers)

        async def fail(run_id: str, *, delay: float = 0) -> None:
            raise OSError("no route to the queue")

        stage.executor.schedule_next_iteration = fail  # type: ignore[method-assign]
        assert (await stage.advance()).kind == "committed"
        assert "was not woken" in caplog.text
        stage.pass_time(3)
        assert (await stage.store.sweep(lease_ms=LEASE_MS)).to_wake == (stage.run_id,)
        assert (await stage.play()).status is Status.COMPLETED
