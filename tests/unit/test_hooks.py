"""Hooks: what they see, what they may change or refuse, and what becomes of a run when they fail."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, HookContext, Hooks, PolicyRefused, RunEnd, RunFailed, Settings, tool
from agentq.errors import InvalidInput
from agentq.events.model import AttemptReset, ReplyCompleted, TextRedacted
from agentq.loop import Loop
from agentq.messages import (
    Message,
    NoteKind,
    Origin,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    encode_message,
)
from agentq.providers.base import ReasoningChunk, ReplyEnd, TextChunk
from agentq.runs import Status
from agentq.steps import APPROVAL, Approval, encode_approval, read_steps
from agentq.stores.base import Decision, StepRecord
from agentq.testing import ScriptedModel, call
from tests.helpers import wait_until
from tests.unit._loop import SlowModel, Stage, outcome_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agentq.providers.base import Chunk, ModelRequest

SECRET = "4711-0815"


@tool(effect="none")
def look_up(name: str) -> str:
    """Find a number."""
    return f"{name}: {SECRET}"


@tool(effect="idempotent")
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def redact(ctx: HookContext, text: str) -> str:
    return text.replace(SECRET, "[number]")


def stage_of(model: Any, *tools: Any, hooks: Any = (), of_app: Sequence[Hooks] = ()) -> Stage:
    stage = Stage(model, *tools, hooks=hooks, retry_backoff_s=0)
    stage.loop = Loop(
        {"calculator": stage.agent},
        stage.store,
        stage.executor,
        stage.settings,
        clock=stage.clock,
        resolve_model=lambda name: (stage.model, name),
        hooks=of_app,
    )
    return stage


def stored(stage: Stage) -> str:
    """All that the store has of the run, as text: transcript, journal and events."""
    run = stage.store._runs[stage.run_id]  # noqa: SLF001 - the reference store
    return repr(vars(run) if hasattr(run, "__dict__") else [getattr(run, name) for name in run.__slots__])


class Thinking:
    """Streams a thought and a text that its provider wants back as they were."""

    name = "thinking"

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        yield ReasoningChunk(f"I know {SECRET}", signature="s", native={"raw": SECRET})
        for piece in self.pieces:
            yield TextChunk(piece)
            await asyncio.sleep(0.01)
        yield TextChunk("", native={"raw": SECRET})
        yield ReplyEnd("end", origin=Origin(api="x/1", model="x"))  # type: ignore[arg-type]


class TestTheModel:
    async def test_a_hook_changes_what_is_sent_and_nothing_of_it_is_stored(self):
        model = ScriptedModel(["Hello."])

        async def be_brief(ctx: HookContext, request: ModelRequest) -> ModelRequest:
            return replace(request, instructions=f"{request.instructions} Be brief, {ctx.agent}.")

        stage = stage_of(model, hooks=Hooks(before_model=be_brief))
        run = await stage.play()
        assert run.status is Status.COMPLETED
        assert model.requests[0].instructions == " Be brief, calculator."
        assert "Be brief" not in stored(stage)

    async def test_hooks_of_the_app_come_last_and_see_what_the_agents_made(self):
        model = ScriptedModel(["Hello."])

        def say(word: str) -> Hooks:
            return Hooks(
                before_model=lambda ctx, request: replace(request, instructions=f"{request.instructions}{word}")
            )

        stage = stage_of(model, hooks=[say("a"), say("b")], of_app=[say("c")])
        await stage.play()
        assert model.requests[0].instructions == "abc"

    async def test_a_critical_hook_that_fails_fails_the_turn_and_no_model_is_asked(self):
        model = ScriptedModel([ConnectionError("never asked"), "Hello."])
        answers = iter([ConnectionError("the gate is away"), None])

        def gate(ctx: HookContext, request: ModelRequest) -> None:
            problem = next(answers)
            if problem is not None:
                raise problem

        stage = stage_of(model, hooks=Hooks(before_model=gate, critical=True))
        await stage.enqueue()
        await stage.advance()
        assert model.requests == []
        run = await stage.read()
        assert (run.status, run.errors) == (Status.QUEUED, 1)
        (note,) = await stage.notes()
        assert note == (
            "The last turn was stopped (the hook before_model (TestTheModel."
            "test_a_critical_hook_that_fails_fails_the_turn_and_no_model_is_asked.<locals>.gate) failed: "
            "ConnectionError: the gate is away). Go on from where you were."
        )
        assert [message.note for message in await stage.messages()] == [NoteKind.HOOK_ERROR]

    async def test_a_refusal_ends_the_run_at_once_with_its_words(self):
        def refuse(ctx: HookContext, request: ModelRequest) -> None:
            raise PolicyRefused("the budget of this month is used up")

        model = ScriptedModel(["Hello."])
        stage = stage_of(model, hooks=Hooks(before_model=refuse, critical=True))
        run = await stage.play()
        assert (run.status, run.last_error) == (Status.FAILED, "the budget of this month is used up")
        assert model.requests == []

    async def test_a_hook_that_is_not_critical_costs_a_line_in_the_log(self, caplog: pytest.LogCaptureFixture):
        def refuse(ctx: HookContext, request: ModelRequest) -> None:
            raise PolicyRefused("no")

        stage = stage_of(ScriptedModel(["Hello."]), hooks=Hooks(before_model=refuse))
        assert (await stage.play()).status is Status.COMPLETED
        (record,) = [each for each in caplog.records if "hook" in each.message]
        assert "refuse" in record.message
        assert "PolicyRefused: no" in record.message
        assert record.levelno == logging.WARNING
        assert record.__dict__["run_id"] == stage.run_id

    async def test_a_reply_is_changed_before_it_is_stored(self):
        def only_ten(ctx: HookContext, reply: Message) -> Message:
            parts = tuple(
                part.model_copy(update={"arguments": {"amount": min(part.arguments["amount"], 10)}})
                if isinstance(part, ToolCallPart)
                else part
                for part in reply.parts
            )
            return reply.model_copy(update={"parts": parts, "model": "forged", "usage": None})

        stage = stage_of(ScriptedModel([call("pay", amount=500), "Done."]), pay, hooks=Hooks(after_model=only_ten))
        await stage.play()
        assert [result.content for result in await stage.results()] == ["paid 10"]
        (asked, _, _) = await stage.messages()
        assert asked.tool_calls[0].arguments == {"amount": 10}
        assert asked.usage is not None
        assert TextRedacted not in {type(event) for event in await stage.events()}

    async def test_an_early_call_that_a_hook_took_out_is_stopped(self):
        def no_calls(ctx: HookContext, reply: Message) -> Message:
            return reply.model_copy(update={"parts": (TextPart(text="I must not look."),)})

        stage = stage_of(ScriptedModel([call("look_up", name="x")]), look_up, hooks=Hooks(after_model=no_calls))
        run = await stage.play()
        assert run.status is Status.COMPLETED
        assert [message.text for message in await stage.messages()] == ["I must not look."]
        assert await stage.told("look_up") == []

    @pytest.mark.parametrize(
        "said",
        [
            "a text",
            Message(role=Role.USER, parts=(TextPart(text="x"),)),
            Message(role=Role.ASSISTANT, parts=(ToolCallPart(call_id="made-up", name="pay"),)),
            Message(role=Role.ASSISTANT, parts=(TextPart(text="half a pair: \ud83d"),)),
        ],
        ids=["no message", "another role", "a call of its own", "no JSON"],
    )
    async def test_what_is_no_such_reply_counts_as_a_failure(self, said: Any, caplog: pytest.LogCaptureFixture):
        stage = stage_of(ScriptedModel(["Hello."]), hooks=Hooks(after_model=lambda ctx, reply: said))
        assert (await stage.play()).status is Status.COMPLETED
        assert [message.text for message in await stage.messages()] == ["Hello."]
        assert "the hook after_model" in caplog.text


class TestFinalText:
    async def test_what_is_stored_has_no_trace_of_what_was_said(self):
        stage = stage_of(Thinking("It is ", SECRET, "."), hooks=Hooks(on_final_text=redact))
        run = await stage.play()
        assert run.status is Status.COMPLETED
        (answer,) = await stage.messages()
        assert encode_message(answer).count(b"[number]") == 1
        assert answer.origin is None
        assert SECRET not in stored(stage)

    async def test_who_watches_hears_what_was_streamed_and_that_it_is_void(self):
        said = asyncio.Event()
        seen: list[Any] = []

        class Waiting(Thinking):
            async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
                async for chunk in super().stream(request):
                    if isinstance(chunk, TextChunk) and chunk.native:
                        await said.wait()
                    yield chunk

        stage = stage_of(Waiting("It is ", SECRET, "."), hooks=Hooks(on_final_text=redact))
        await stage.enqueue()

        async def watch() -> None:
            async for event in stage.store.stream.follow(stage.run_id):
                seen.append(event)
                if event.type == "run.completed":
                    return

        watching = asyncio.create_task(watch())
        _, task = await stage.begin()
        await wait_until(lambda: SECRET in "".join(getattr(event, "text", "") for event in seen))
        said.set()
        await outcome_of(task)
        await asyncio.wait_for(watching, 5)
        types = [event.type for event in seen]
        assert types[-5:] == [
            "attempt.reset",
            "text.redacted",
            "reply.completed",
            "iteration.finished",
            "run.completed",
        ]
        (reset,) = [event for event in seen if isinstance(event, AttemptReset)]
        assert reset.reason == "redacted"
        assert seen[-1].output == "It is [number]."

    async def test_who_comes_later_sees_the_stored_text_and_no_gap(self):
        stage = stage_of(Thinking("It is ", SECRET, "."), hooks=Hooks(on_final_text=redact))
        await stage.play()
        types = [event.type for event in await stage.events()]
        assert "text.delta" not in types
        assert "gap" not in types
        (reply,) = [event for event in await stage.events() if isinstance(event, ReplyCompleted)]
        assert (reply.text, reply.reasoning, reply.deltas) == ("It is [number].", "", ())

    async def test_a_text_that_stays_as_it_is_keeps_its_deltas(self):
        stage = stage_of(Thinking("It is ", "5."), hooks=Hooks(on_final_text=redact))
        await stage.play()
        types = [event.type for event in await stage.events()]
        assert "text.delta" in types
        assert "text.redacted" not in types
        (answer,) = await stage.messages()
        assert any(isinstance(part, ReasoningPart) for part in answer.parts)
        assert SECRET in stored(stage)  # its thoughts: so the other tests look at the right place

    async def test_what_a_cancelled_run_keeps_passes_through_too(self):
        model = SlowModel([f"It is {SECRET}, and "])
        stage = stage_of(model, hooks=Hooks(on_final_text=redact, critical=True))
        iteration, task = await stage.begin()
        await model.waiting.wait()
        await stage.store.cancel(stage.run_id)
        iteration.cancel()
        assert (await outcome_of(task)).status is Status.CANCELLED
        (kept,) = await stage.messages()
        assert kept.text == "It is [number], and "
        assert SECRET not in stored(stage)

    async def test_nothing_is_kept_of_it_where_a_critical_hook_fails(self):
        def broken(ctx: HookContext, text: str) -> str:
            raise ConnectionError("away")

        model = SlowModel([f"It is {SECRET}, and "])
        stage = stage_of(model, hooks=Hooks(on_final_text=broken, critical=True))
        iteration, task = await stage.begin()
        await model.waiting.wait()
        await stage.store.cancel(stage.run_id)
        iteration.cancel()
        assert (await outcome_of(task)).status is Status.CANCELLED
        assert await stage.messages() == []
        assert SECRET not in stored(stage)

    async def test_a_critical_hook_that_keeps_failing_fails_the_run_and_nothing_is_stored(self):
        def broken(ctx: HookContext, text: str) -> str:
            raise ConnectionError("away")

        stage = stage_of(Thinking(SECRET), hooks=Hooks(on_final_text=broken, critical=True))
        run = await stage.play()
        assert run.status is Status.FAILED
        assert run.last_error is not None
        assert "ConnectionError: away" in run.last_error
        assert SECRET not in stored(stage)

    async def test_a_text_with_half_a_character_is_stored_with_a_question_mark(self):
        stage = stage_of(ScriptedModel(["Hello."]), hooks=Hooks(on_final_text=lambda ctx, text: "\ud83d"))
        await stage.play()
        assert [message.text for message in await stage.messages()] == ["?"]


class TestTools:
    async def test_other_arguments_are_validated_and_the_models_stay_in_the_transcript(self):
        def ten(ctx: HookContext, asked: ToolCallPart) -> dict[str, Any]:
            return {"amount": 10 if asked.arguments["amount"] > 10 else "much"}

        model = ScriptedModel([call("pay", amount=500), call("pay", amount=5), "Done."])
        stage = stage_of(model, pay, hooks=Hooks(before_tool=ten))
        await stage.play()
        first, second = await stage.results()
        assert first.content == "paid 10"
        assert second.outcome == "error"
        assert "do not fit pay" in second.content
        assert [message.tool_calls[0].arguments for message in await stage.messages() if message.tool_calls] == [
            {"amount": 500},
            {"amount": 5},
        ]

    @pytest.mark.parametrize(
        ("said", "told"), [("not on Sundays", "pay was denied: not on Sundays"), (False, "pay was denied")]
    )
    async def test_a_call_is_refused_and_the_model_is_told(self, said: Any, told: str):
        stage = stage_of(
            ScriptedModel([call("pay", amount=5), "Ok."]), pay, hooks=Hooks(before_tool=lambda ctx, asked: said)
        )
        run = await stage.play()
        assert [(result.outcome, result.content) for result in await stage.results()] == [("error", told)]
        assert (run.status, run.errors, await stage.notes()) == (Status.COMPLETED, 0, [])
        assert await stage.told("pay") == ["tool.failed"]

    async def test_a_critical_hook_that_fails_before_a_call_keeps_it_from_being_made(self):
        def broken(ctx: HookContext, asked: ToolCallPart) -> None:
            raise ConnectionError("away")

        stage = stage_of(
            ScriptedModel([call("pay", amount=5), "Ok."]), pay, hooks=Hooks(before_tool=broken, critical=True)
        )
        await stage.play()
        (result,) = await stage.results()
        assert result.content.startswith("pay was not called: the hook before_tool")
        assert len(await stage.notes()) == 1

    async def test_a_call_that_only_reads_is_not_made_before_its_hook_was_asked(self):
        asked = asyncio.Event()

        async def hook(ctx: HookContext, call: ToolCallPart) -> str:
            asked.set()
            return "no"

        stage = stage_of(ScriptedModel([call("look_up", name="x"), "Ok."]), look_up, hooks=Hooks(before_tool=hook))
        await stage.play()
        assert [result.content for result in await stage.results()] == ["look_up was denied: no"]

    async def test_a_result_is_changed_before_it_is_journaled(self):
        def clean(ctx: HookContext, asked: ToolCallPart, result: ToolResultPart) -> str:
            return redact(ctx, result.content)

        model = ScriptedModel([[call("look_up", name="a"), call("look_up", name="b")], "Done."])
        stage = stage_of(model, look_up, hooks=Hooks(after_tool=clean))
        await stage.play()
        assert [result.content for result in await stage.results()] == ["a: [number]", "b: [number]"]
        assert SECRET not in stored(stage)

    async def test_arguments_that_are_no_json_count_as_a_failure(self, caplog: pytest.LogCaptureFixture):
        hooks = Hooks(before_tool=lambda ctx, asked: {"name": object()})
        stage = stage_of(ScriptedModel([call("look_up", name="a"), "Done."]), look_up, hooks=hooks)
        await stage.play()
        assert [result.outcome for result in await stage.results()] == ["ok"]
        assert "the run goes on without it: InvalidInput: arguments cannot be stored as JSON" in caplog.text

    async def test_a_result_is_journaled_while_the_hook_is_asked_about_another(self):
        asked: list[str] = []

        async def wait_for_a(ctx: HookContext, call: ToolCallPart, result: ToolResultPart) -> None:
            asked.append(call.arguments["name"])
            if call.arguments["name"] == "a":
                await asyncio.Event().wait()

        model = ScriptedModel([[call("look_up", name="a"), call("look_up", name="b")]])
        stage = stage_of(model, look_up, hooks=Hooks(after_tool=wait_for_a))
        _, task = await stage.begin()
        await wait_until(lambda: len(asked) == 2 and stage.store.writes.count("journal") > 1, message="b is kept")
        journal = (await stage.lose_lease()).journal
        task.cancel()
        await asyncio.wait([task])
        assert [name[-1] for name, value in journal.items() if b'"result"' in value] == ["1"]

    async def test_a_result_is_withheld_where_a_critical_hook_fails(self):
        def broken(ctx: HookContext, asked: ToolCallPart, result: ToolResultPart) -> str:
            raise ConnectionError("away")

        stage = stage_of(
            ScriptedModel([call("look_up", name="a"), "Ok."]), look_up, hooks=Hooks(after_tool=broken, critical=True)
        )
        await stage.play()
        (result,) = await stage.results()
        assert result.outcome == "error"
        assert result.content.startswith("What look_up returned is withheld: the hook after_tool")
        assert SECRET not in stored(stage)

    async def test_after_a_crash_the_call_is_made_with_the_changed_arguments_again(self):
        paid: list[int] = []

        @tool(effect="idempotent")
        async def charge(amount: int) -> str:
            """Charge."""
            paid.append(amount)
            if len(paid) == 1:
                await asyncio.Event().wait()
            return "ok"

        stage = stage_of(
            ScriptedModel([call("charge", amount=500), "Done."]),
            charge,
            hooks=Hooks(before_tool=lambda ctx, call: {"amount": 10}),
        )
        iteration, task = await stage.begin()
        await wait_until(lambda: bool(paid))
        claim = await stage.lose_lease()
        iteration.lose()
        await outcome_of(task)
        await stage.loop.begin(claim).run()
        await stage.play()
        assert paid == [10, 10]

    async def test_what_a_person_allows_passes_the_hook_again(self):
        seen: list[Any] = []

        @tool(effect="idempotent", approval=True)
        def send(amount: int) -> str:
            """Send."""
            return f"sent {amount}"

        def at_most_ten(ctx: HookContext, asked: ToolCallPart) -> dict[str, Any]:
            seen.append(asked.arguments["amount"])
            return {"amount": min(asked.arguments["amount"], 10)}

        model = ScriptedModel([call("send", amount=500), "Done."])
        stage = stage_of(model, send, hooks=Hooks(before_tool=at_most_ten))
        await stage.enqueue()
        await stage.advance()
        (question,) = (await stage.read()).questions
        line = stage.store._runs[stage.run_id].journal[question.call_id]  # noqa: SLF001 - what a client reads
        step = read_steps({question.call_id: line}).calls[question.call_id]
        approval = Approval(decision="approved", arguments_hash=step.arguments_hash, arguments={"amount": 50})
        record = StepRecord(question.call_id + APPROVAL, encode_approval(approval))
        await stage.store.decide(stage.run_id, Decision(question.call_id, line, record))
        await stage.play()
        assert [result.content for result in await stage.results()] == ["sent 10"]
        assert seen == [500, 50]


class TestRunEnd:
    async def test_it_is_told_once_after_the_end_is_stored(self):
        ends: list[tuple[RunEnd, Status]] = []
        stage = stage_of(ScriptedModel([call("pay", amount=5), "Done."]), pay)

        async def note(ctx: HookContext, end: RunEnd) -> None:
            ends.append((end, (await stage.store.read(ctx.run_id)).status))

        stage.loop._hooks = (Hooks(on_run_end=note),)  # noqa: SLF001 - the hook needs the stage
        await stage.play()
        ((end, status),) = ends
        assert (end.status, end.output, end.iterations, status) == (Status.COMPLETED, "Done.", 2, Status.COMPLETED)

    async def test_what_it_raises_changes_nothing(self, caplog: pytest.LogCaptureFixture):
        def broken(ctx: HookContext, end: RunEnd) -> None:
            raise ConnectionError(end.reason)

        hooks = Hooks(on_run_end=broken, before_model=_refuse, critical=True)
        stage = stage_of(ScriptedModel([]), hooks=hooks)
        assert (await stage.play()).status is Status.FAILED
        assert "ConnectionError: never" in caplog.text


def _refuse(ctx: HookContext, request: Any) -> None:
    raise PolicyRefused("never")


class TestTimeAndThreads:
    async def test_a_hook_that_takes_too_long_counts_as_failed(self):
        async def hang(ctx: HookContext, request: Any) -> None:
            await asyncio.Event().wait()

        stage = stage_of(ScriptedModel(["Hello."]), hooks=Hooks(before_model=hang, critical=True, timeout=0.01))
        await stage.enqueue()
        await stage.advance()
        (note,) = await stage.notes()
        assert "TimeoutError: it took longer than 0.01 s" in note

    async def test_a_plain_function_does_not_hold_up_the_event_loop(self):
        ticks = 0

        def slow(ctx: HookContext, text: str) -> None:
            until = time.monotonic() + 5
            while ticks < 3 and time.monotonic() < until:
                time.sleep(0.001)

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        stage = stage_of(ScriptedModel(["Hello."]), hooks=Hooks(on_final_text=slow))
        ticking = asyncio.create_task(tick())
        await stage.play()
        ticking.cancel()
        assert ticks >= 3

    async def test_a_hook_that_cancels_itself_counts_as_failed(self):
        async def odd(ctx: HookContext, text: str) -> None:
            raise asyncio.CancelledError

        stage = stage_of(ScriptedModel(["Hello."]), hooks=Hooks(on_final_text=odd))
        assert (await stage.play()).status is Status.COMPLETED


class TestAnApp:
    async def test_hooks_of_the_app_are_asked_about_every_agent(self):
        app = AgentQ(
            [Agent("a"), Agent("b")], settings=Settings(), hooks=Hooks(on_final_text=lambda ctx, text: ctx.agent)
        )
        assert [(await app.run(name, "hello")).output for name in ("a", "b")] == ["a", "b"]

    async def test_the_session_sees_what_was_stored(self):
        app = AgentQ([Agent("a")], settings=Settings(), hooks=[Hooks(on_final_text=redact)])
        await app.run("a", f"It is {SECRET}.", session_id="s")
        result = await app.run("a", "And?", session_id="s")
        assert SECRET not in result.output

    async def test_a_refusal_is_what_the_caller_reads(self):
        app = AgentQ([Agent("a")], settings=Settings(), hooks=Hooks(before_model=_refuse, critical=True))
        with pytest.raises(RunFailed, match="never"):
            await app.run("a", "hello")


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (Hooks, "hooks"),
        (lambda: Hooks(before_tool="no"), "before_tool"),  # type: ignore[arg-type]
        (lambda: Hooks(before_tool=lambda ctx: None), "before_tool"),
        (lambda: Hooks(on_run_end=lambda ctx, end: None, critical=True), "critical"),
        (lambda: Hooks(before_model=_refuse, critical="yes"), "critical"),  # type: ignore[arg-type]
        (lambda: Hooks(before_model=_refuse, timeout=0), "timeout"),
        (lambda: Hooks(before_model=_refuse, timeout="1"), "timeout"),  # type: ignore[arg-type]
        (lambda: Agent("a", hooks=_refuse), "hooks"),  # type: ignore[arg-type]
        (lambda: AgentQ([Agent("a")], settings=Settings(), hooks=[_refuse]), "hooks"),  # type: ignore[list-item]
    ],
)
def test_bad_hooks_are_refused_when_they_are_built(build: Any, field: str):
    with pytest.raises(InvalidInput) as refused:
        build()
    assert refused.value.field == field
