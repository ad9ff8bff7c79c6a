"""What a run does next: budgets, crashes and cancels, case by case, and what holds for every view."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq._ids import call_id
from agentq.decide import (
    Ask,
    CallModel,
    Decision,
    Failure,
    Finish,
    Limits,
    PlannedCall,
    RunCalls,
    Settle,
    View,
    decide,
)
from agentq.messages import (
    Message,
    NoteKind,
    Role,
    StopReason,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    results_message,
    unanswered_calls,
    user_message,
)
from agentq.runs import RunState, Status
from agentq.steps import CallStep, Effect, Steps, Verdict

RUN = RunState("R", "calculator", Status.RUNNING)
ASKED = (user_message("Take 7 + 9."),)
EFFECTS: tuple[Effect, ...] = ("none", "idempotent", "once")
LIMITS = Limits(max_iterations=16, max_error_retries=10, max_recoveries=5, backoff_initial_ms=100, backoff_max_ms=800)


def effect_of(call: ToolCallPart) -> Effect:
    """Tools here are named after their effect."""
    return next(effect for effect in EFFECTS if effect == call.name)


def see(**given: Any) -> View:
    """A view; fields of the run may be given among its own."""
    of_run = {name for name in RunState.__dataclass_fields__ if name not in View.__dataclass_fields__}
    changed = {name: given.pop(name) for name in tuple(given) if name in of_run}
    whole: dict[str, Any] = {"messages": ASKED, "steps": Steps(), "limits": LIMITS, "effect_of": effect_of} | given
    return View(run=replace(RUN, **changed), **whole)


def answer(text: str = "16", stop_reason: StopReason = StopReason.END) -> Message:
    return Message(role=Role.ASSISTANT, parts=(TextPart(text=text),), stop_reason=stop_reason)


def calls(*names: str, turn: int = 1, stop_reason: StopReason = StopReason.TOOL_CALLS) -> Message:
    parts = tuple(ToolCallPart(call_id=call_id("R", turn, at), name=name) for at, name in enumerate(names))
    return Message(role=Role.ASSISTANT, parts=parts, stop_reason=stop_reason)


def finished(call: ToolCallPart, content: str = "16", *, raised: bool = False, effect: Effect = "once") -> CallStep:
    result = ToolResultPart(call_id=call.call_id, name=call.name, content=content, outcome="error" if raised else "ok")
    return CallStep(effect=effect, result=result, raised=raised)


def all_finished(reply: Message, **given: Any) -> Steps:
    return Steps(reply, {call.call_id: finished(call, **given) for call in reply.tool_calls})


def finish(view: View) -> Finish:
    decision = decide(view)
    assert isinstance(decision, Finish), decision
    return decision


class TestTurns:
    def test_a_new_run_asks_the_model(self):
        assert decide(see()) == CallModel()

    def test_a_run_with_results_asks_the_model(self):
        reply = calls("none")
        results = results_message(step.result for step in all_finished(reply).calls.values() if step.result)
        assert decide(see(messages=(*ASKED, reply, results), iteration=1)) == CallModel()

    @pytest.mark.parametrize("stop_reason", [StopReason.END, StopReason.MAX_TOKENS])
    def test_a_reply_without_calls_is_the_answer(self, stop_reason: StopReason):
        reply = answer(stop_reason=stop_reason)
        assert finish(see(steps=Steps(reply), iteration=2, errors=3)) == Finish(Status.COMPLETED, (reply,), 3, 0)

    @pytest.mark.parametrize("text", ["", " \n"])
    def test_a_reply_that_its_token_limit_cut_before_the_first_word_is_no_answer(self, text: str):
        """All its tokens went into reasoning; another try would cost as much."""
        done = finish(see(steps=Steps(answer(text, StopReason.MAX_TOKENS))))
        assert (done.status, done.messages) == (Status.FAILED, ())
        assert "raise max_tokens" in (done.reason or "")

    def test_a_reply_with_calls_is_committed_with_its_results_in_order(self):
        reply = calls("once", "none", "idempotent")
        steps = Steps(reply, dict(reversed(list(all_finished(reply).calls.items()))))
        done = finish(see(steps=steps, iteration=2, errors=3))
        assert (done.status, done.iteration, done.errors, done.note) == (Status.QUEUED, 3, 0, None)
        assert done.messages[0] == reply
        assert [result.call_id for result in done.messages[1].tool_results] == [c.call_id for c in reply.tool_calls]

    def test_a_run_that_a_signal_kept_completes_with_the_answer_it_has(self):
        kept = see(messages=(*ASKED, answer()), iteration=4, signals=1)
        assert finish(kept) == Finish(Status.COMPLETED, (), 4, 0)


class TestIterationBudget:
    @pytest.mark.parametrize("used", [0, 1, 15])
    def test_a_run_goes_on_while_iterations_are_left(self, used: int):
        assert decide(see(iteration=used)) == CallModel()

    def test_the_last_iteration_may_bring_the_answer(self):
        assert finish(see(iteration=15, steps=Steps(answer()))).status is Status.COMPLETED

    def test_the_last_iteration_may_make_calls(self):
        assert isinstance(decide(see(iteration=15, steps=Steps(calls("once")))), RunCalls)

    @pytest.mark.parametrize("used", [16, 17, 1000])
    def test_past_the_last_iteration_the_run_fails_and_names_the_budget(self, used: int):
        done = finish(see(iteration=used))
        assert (done.status, done.messages, done.note, done.iteration) == (Status.FAILED, (), None, used)
        assert "max_iterations=16" in (done.reason or "")

    def test_a_reply_that_was_journaled_is_finished_whatever_the_budget_says(self):
        reply = calls("once")
        done = finish(see(iteration=16, steps=all_finished(reply)))
        assert (done.status, done.messages[0]) == (Status.QUEUED, reply)


class TestErrorBudget:
    FAILURES = (
        (NoteKind.PROVIDER_ERROR, {"failure": Failure("busy")}),
        (NoteKind.REFUSED, {"steps": Steps(answer("No.", StopReason.REFUSAL))}),
        (NoteKind.REFUSED, {"steps": Steps(answer("", StopReason.CONTENT_FILTER))}),
        (NoteKind.TOOL_ERROR, {"steps": all_finished(calls("once"), content="out of paper", raised=True)}),
    )

    @pytest.mark.parametrize(("kind", "what"), FAILURES)
    @pytest.mark.parametrize("before", [0, 1, 9])
    def test_a_failure_is_told_to_the_model_and_uses_no_iteration(self, kind: NoteKind, what: Any, before: int):
        done = finish(see(iteration=3, errors=before, **what))
        assert (done.status, done.iteration, done.errors, done.note) == (Status.QUEUED, 3, before + 1, kind)
        note = done.messages[-1]
        assert (note.role, note.note) == (Role.SYSTEM, kind)
        assert (done.reason or "") in note.text

    @pytest.mark.parametrize(("kind", "what"), FAILURES)
    def test_one_more_than_the_cap_fails_the_run_with_the_last_error(self, kind: NoteKind, what: Any):
        last = finish(see(**what)).reason or ""
        assert last
        done = finish(see(iteration=3, errors=10, **what))
        assert (done.status, done.iteration, done.errors, done.note) == (Status.FAILED, 3, 11, kind)
        assert "max_error_retries=10" in (done.reason or "")
        assert last in (done.reason or "")
        assert done.delay_ms == 0
        assert done.messages[-1].note is kind

    @pytest.mark.parametrize("what", [{"failure": Failure("busy")}, {"steps": Steps(answer("", StopReason.REFUSAL))}])
    def test_without_retries_the_first_failure_is_the_end(self, what: Any):
        assert finish(see(limits=replace(LIMITS, max_error_retries=0), **what)).status is Status.FAILED

    def test_a_failure_in_the_last_iteration_leaves_it_to_be_used(self):
        done = finish(see(iteration=15, failure=Failure("busy")))
        assert decide(see(iteration=done.iteration, errors=done.errors)) == CallModel()

    def test_a_good_turn_forgets_the_errors(self):
        assert finish(see(errors=10, steps=Steps(answer()))).errors == 0
        assert finish(see(errors=10, steps=all_finished(calls("none")))).errors == 0

    def test_wrong_arguments_and_unknown_outcomes_are_no_failure_of_the_turn(self):
        """The model reads the error result; the tool was never entered, or nobody knows how it went."""
        reply = calls("none")
        for outcome in ("error", "unknown"):
            result = ToolResultPart(call_id=reply.tool_calls[0].call_id, name="none", content="?", outcome=outcome)
            done = finish(see(errors=2, steps=Steps(reply, {result.call_id: CallStep(result=result)})))
            assert (done.errors, done.note, done.iteration) == (0, None, 1)

    def test_any_tool_that_raised_makes_the_turn_a_failure_with_one_note_after_all_results(self):
        reply = calls("none", "once", "idempotent")
        first, second, third = reply.tool_calls
        steps = {
            first.call_id: finished(first),
            second.call_id: finished(second, "out of paper", raised=True),
            third.call_id: finished(third, "out of {ink}", raised=True),
        }
        done = finish(see(iteration=3, steps=Steps(reply, steps)))
        assert [message.role for message in done.messages] == [Role.ASSISTANT, Role.TOOL, Role.SYSTEM]
        assert (done.iteration, done.errors, done.delay_ms) == (3, 1, 0)
        assert done.reason == "once: out of paper; idempotent: out of {ink}"

    def test_what_was_refused_stands_in_no_transcript(self):
        """A provider may refuse to read its own refusal; and the calls of a filtered reply are not made (P5)."""
        for stop_reason in (StopReason.REFUSAL, StopReason.CONTENT_FILTER):
            done = finish(see(steps=Steps(calls("once", stop_reason=stop_reason))))
            assert [message.note for message in done.messages] == [NoteKind.REFUSED]
        assert "I can't help" in (finish(see(steps=Steps(answer("I can't help", StopReason.REFUSAL)))).reason or "")


class TestProviderFaults:
    def test_the_backoff_doubles_up_to_its_maximum(self):
        delays = [finish(see(errors=errors, failure=Failure("busy"))).delay_ms for errors in range(6)]
        for delay_ms, at_least_ms in zip(delays, [100, 200, 400, 800, 800, 800], strict=True):
            assert at_least_ms <= delay_ms <= at_least_ms * 1.1

    def test_runs_that_failed_in_one_moment_come_back_one_after_the_other(self):
        """Also where the provider has named that moment. A run that is looked at twice decides the same."""
        failure = Failure("busy", retry_after_ms=60_000)
        delays = [finish(see(run_id=f"R{number}", failure=failure)).delay_ms for number in range(300)]
        assert delays == [finish(see(run_id=f"R{number}", failure=failure)).delay_ms for number in range(300)]
        assert 60_000 <= min(delays) < 60_200
        assert 65_800 < max(delays) < 66_000
        tenths = Counter((delay_ms - 60_000) // 600 for delay_ms in delays)
        assert min(tenths[tenth] for tenth in range(10)) > 10, tenths

    def test_the_next_wait_of_a_run_is_spread_anew(self):
        delays = {finish(see(errors=errors, failure=Failure("busy"))).delay_ms for errors in range(3, 10)}
        assert len(delays) > 5

    @pytest.mark.parametrize(("wait_ms", "expected"), [(0, 800), (50, 800), (60_000, 60_000)])
    def test_the_provider_may_ask_for_more_time_but_not_for_less(self, wait_ms: int, expected: int):
        """A server in trouble says 0, and all its callers would be back at once."""
        delay_ms = finish(see(errors=3, failure=Failure("busy", retry_after_ms=wait_ms))).delay_ms
        assert expected <= delay_ms <= expected * 1.1

    def test_what_cannot_get_better_fails_at_once(self):
        done = finish(see(iteration=3, errors=1, failure=Failure("no such key", retryable=False, retry_after_ms=5)))
        assert done == Finish(Status.FAILED, (), 3, 1, reason="no such key")


class TestCrashes:
    def test_calls_that_had_not_started_are_made_in_order_without_asking_again(self):
        reply = calls("none", "idempotent", "once")
        assert decide(see(steps=Steps(reply))) == RunCalls(
            tuple(PlannedCall(call, 1, effect_of(call)) for call in reply.tool_calls)
        )

    @pytest.mark.parametrize("known", [1, 2])
    def test_calls_that_had_finished_are_not_made_again(self, known: int):
        reply = calls("once", "none", "idempotent")
        steps = {call.call_id: finished(call) for call in reply.tool_calls[:known]}
        decision = decide(see(steps=Steps(reply, steps)))
        assert isinstance(decision, RunCalls)
        assert [plan.call for plan in decision.calls] == list(reply.tool_calls[known:])

    @pytest.mark.parametrize("effect", ["none", "idempotent"])
    def test_a_call_that_may_be_repeated_is_another_attempt(self, effect: Effect):
        (call,) = (reply := calls("once")).tool_calls
        # The journal counts: what the tool of this worker says may be a later version's opinion.
        steps = {call.call_id: CallStep(attempt=3, effect=effect)}
        assert decide(see(steps=Steps(reply, steps))) == RunCalls((PlannedCall(call, 4, effect),))

    def test_what_became_of_a_call_that_must_not_be_repeated_is_found_out_before_the_next(self):
        reply = calls("idempotent", "none")
        first, _ = reply.tool_calls
        assert decide(see(steps=Steps(reply, {first.call_id: CallStep(effect="once")}))) == Settle(first)

    def test_calls_before_it_are_made_first(self):
        reply = calls("none", "once", "none")
        first, second, _ = reply.tool_calls
        decision = decide(see(steps=Steps(reply, {second.call_id: CallStep(effect="once")})))
        assert decision == RunCalls((PlannedCall(first, 1, "none"),), is_rest=False)

    def test_a_call_that_did_not_happen_is_made_again_as_another_attempt(self):
        (call,) = (reply := calls("once")).tool_calls
        steps = Steps(reply, {call.call_id: CallStep(attempt=2, effect="once", verdict="did_not_happen")})
        assert decide(see(steps=steps)) == RunCalls((PlannedCall(call, 3, "once"),))

    def test_a_run_rests_while_a_person_is_asked(self):
        reply = calls("once", "none")
        first, _ = reply.tool_calls
        steps = Steps(reply, {first.call_id: CallStep(effect="once", verdict="ask")})
        assert decide(see(steps=steps)) == Ask(first)

    def test_a_retry_has_all_its_iterations_again(self):
        assert decide(see(iteration=20, retried_at=5)) == CallModel()
        assert finish(see(iteration=21, retried_at=5)).status is Status.FAILED

    @pytest.mark.parametrize(("retried_at", "heard_at"), [(0, 5), (5, 0), (3, 5)])
    def test_what_came_last_counts_of_a_retry_and_a_message(self, retried_at: int, heard_at: int):
        assert decide(see(iteration=20, retried_at=retried_at, heard_at=heard_at)) == CallModel()
        assert finish(see(iteration=21, retried_at=retried_at, heard_at=heard_at)).status is Status.FAILED

    def test_a_call_that_was_withdrawn_is_made_as_if_never_announced(self):
        (call,) = (reply := calls("once")).tool_calls
        steps = Steps(reply, {call.call_id: CallStep(effect="once", withdrawn=True)})
        assert decide(see(steps=steps)) == RunCalls((PlannedCall(call, 1, "once"),))

    @pytest.mark.parametrize("recoveries", [0, 5])
    def test_recoveries_within_the_budget_go_on(self, recoveries: int):
        assert decide(see(recoveries=recoveries)) == CallModel()

    @pytest.mark.parametrize("steps", [Steps(), Steps(calls("once")), Steps(answer())])
    def test_a_run_that_kills_its_workers_is_set_aside_and_says_so(self, steps: Steps):
        done = finish(see(recoveries=6, steps=steps, iteration=3, errors=2))
        assert (done.status, done.messages, done.iteration, done.errors) == (Status.FAILED, (), 3, 2)
        assert "6 times" in (done.reason or "")
        assert "max_recoveries=5" in (done.reason or "")


class TestCancel:
    def test_a_run_that_said_nothing_ends_with_its_reason(self):
        done = finish(see(cancel_reason="enough", iteration=3))
        assert done == Finish(Status.CANCELLED, (), 3, 0, reason="enough")

    def test_partial_text_is_kept(self):
        partial = answer("It is", StopReason.CANCELLED)
        assert finish(see(cancel_reason="", partial=partial)).messages == (partial,)

    def test_every_call_gets_the_result_that_is_true(self):
        reply = calls("none", "once", "idempotent", "once", "none", "once", "idempotent")
        done, started, repeatable, withdrawn, reading, unborn, again = reply.tool_calls
        steps = {
            done.call_id: finished(done),
            started.call_id: CallStep(effect="once"),
            repeatable.call_id: CallStep(effect="idempotent"),
            withdrawn.call_id: CallStep(effect="once", withdrawn=True),
            reading.call_id: CallStep(effect="none"),
            # Announced again by a second worker and withdrawn: the first attempt may have had its effect.
            again.call_id: CallStep(attempt=2, effect="idempotent", withdrawn=True),
        }
        _, results = finish(see(cancel_reason="", steps=Steps(reply, steps))).messages
        assert [(result.call_id, result.outcome) for result in results.tool_results] == [
            (done.call_id, "ok"),
            (started.call_id, "unknown"),
            (repeatable.call_id, "unknown"),
            (withdrawn.call_id, "cancelled"),
            (reading.call_id, "cancelled"),
            (unborn.call_id, "cancelled"),
            (again.call_id, "unknown"),
        ]

    def test_a_cancel_comes_before_any_other_end(self):
        for what in (
            {"failure": Failure("busy", retryable=False)}, {"recoveries": 99}, {"iteration": 99},
            {"messages": (*ASKED, answer())}, {"steps": Steps(answer("", StopReason.REFUSAL))},
        ):  # fmt: skip
            assert finish(see(cancel_reason="", **what)).status is Status.CANCELLED


# Every view that a store could hold, and many that it could not.

names = st.lists(st.sampled_from(EFFECTS), max_size=4)
outcomes: st.SearchStrategy[Any] = st.sampled_from(("ok", "error", "unknown", "cancelled"))


verdicts: dict[str, Verdict] = {"did_not_happen": "did_not_happen", "ask": "ask"}


@st.composite
def journals(draw: st.DrawFn) -> Steps:
    if draw(st.booleans()):
        return Steps()
    wanted = draw(names)
    stop_reason = draw(st.sampled_from(StopReason))
    reply = calls(*wanted, stop_reason=stop_reason) if wanted else answer(draw(st.text(max_size=3)), stop_reason)
    steps: dict[str, CallStep] = {}
    for call in reply.tool_calls:
        state = draw(st.sampled_from(("none", "started", "withdrawn", "finished", "did_not_happen", "ask")))
        if state == "none":
            continue
        result = None
        if state == "finished":
            result = ToolResultPart(call_id=call.call_id, name=call.name, content="", outcome=draw(outcomes))
        steps[call.call_id] = CallStep(
            attempt=draw(st.integers(1, 3)),
            effect=draw(st.sampled_from(EFFECTS)),
            result=result,
            raised=result is not None and draw(st.booleans()),
            withdrawn=state == "withdrawn",
            verdict=verdicts.get(state),
        )
    return Steps(reply, steps)


transcripts = st.sampled_from(
    [(), ASKED, (*ASKED, answer()), (*ASKED, calls("none", turn=9), results_message(()), answer(""))]
)
failures = st.builds(Failure, st.text(max_size=5), st.booleans(), st.none() | st.integers(0, 10**9))
views = st.builds(
    see,
    messages=transcripts,
    steps=journals(),
    iteration=st.integers(0, 40),
    turn=st.integers(0, 40),
    errors=st.integers(0, 40),
    recoveries=st.integers(0, 10),
    signals=st.integers(0, 3),
    cancel_reason=st.none() | st.text(max_size=5),
    failure=st.none() | failures,
    partial=st.none() | st.just(answer("It is", StopReason.CANCELLED)),
    limits=st.builds(
        Limits, st.integers(1, 20), st.integers(0, 12), st.integers(0, 6), st.integers(0, 10**4), st.integers(0, 10**5)
    ),
)


@given(views)
def test_every_view_has_one_decision(view: View):
    decision = decide(view)
    assert isinstance(decision, Decision)
    assert decide(view) == decision


@given(views)
def test_no_transcript_ever_holds_a_call_without_a_result(view: View):
    """Promise P5, whatever has happened."""
    decision = decide(view)
    if isinstance(decision, Finish):
        assert unanswered_calls(decision.messages) == ()


@given(views)
def test_a_cancelled_run_ends_cancelled_and_keeps_what_it_has(view: View):
    if not view.run.is_cancel_requested:
        return
    done = finish(view)
    assert (done.status, done.note, done.delay_ms) == (Status.CANCELLED, None, 0)
    reply = view.steps.reply or view.partial
    assert done.messages[:1] == ((reply,) if reply else ())
    known = {name: step.result for name, step in view.steps.calls.items() if step.result is not None}
    for result in (result for message in done.messages for result in message.tool_results):
        assert result == known.get(result.call_id, result)
        # Only what may have had an effect is called unknown.
        if result.call_id not in known and result.outcome == "unknown":
            assert view.steps.calls[result.call_id].effect != "none"


@given(views)
def test_calls_are_made_at_most_once_each_and_never_again_once_finished(view: View):
    decision = decide(view)
    if not isinstance(decision, RunCalls):
        return
    assert view.steps.reply is not None
    asked = [call.call_id for call in view.steps.reply.tool_calls]
    planned = [plan.call.call_id for plan in decision.calls]
    done = [name for name, step in view.steps.calls.items() if step.result is not None]
    # In the order in which they were asked for, up to one whose outcome has to be found out first.
    open_calls = [name for name in asked if name not in done]
    assert planned == open_calls[: len(planned)]
    assert planned
    for name in open_calls[len(planned) : len(planned) + 1]:
        assert view.steps.calls[name].effect == "once"
    for plan in decision.calls:
        step = view.steps.calls.get(plan.call.call_id)
        if step is not None and not step.withdrawn:
            assert step.effect != "once" or step.verdict == "did_not_happen"
            assert plan.attempt == step.attempt + 1


@given(views)
def test_the_books_are_kept(view: View):
    """Failures use no iteration, progress forgets errors, and each end says why."""
    decision = decide(view)
    if not isinstance(decision, Finish):
        return
    run, limits = view.run, view.limits
    assert decision.delay_ms >= 0
    match decision.status:
        case Status.QUEUED if decision.note is not None:
            assert (decision.iteration, decision.errors) == (run.iteration, run.errors + 1)
            assert decision.errors <= limits.max_error_retries
            assert decision.messages[-1].note is decision.note
        case Status.QUEUED | Status.COMPLETED:
            assert decision.iteration - run.iteration == (1 if decision.messages else 0)
            assert decision.errors == 0
            assert decision.reason is None
        case Status.FAILED:
            assert decision.iteration == run.iteration
            assert decision.reason is not None
        case status:
            assert status is Status.CANCELLED
            assert decision.iteration == run.iteration
