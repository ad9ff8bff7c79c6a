"""PURE: why a run rests that waits for something, or was paused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agentq._words import duration
from agentq.insight.pauses import paused
from agentq.insight.phrases import shown_call
from agentq.insight.reasons import Code, Reason, reason_of
from agentq.runs import APPROVAL, CHILD, INPUT, LIMIT, SIGNAL, TIMER, Status

if TYPE_CHECKING:
    from agentq.insight.facts import Snapshot
    from agentq.runs import Question

# How the command line names the limits of a run.
_OPTIONS = {
    "tokens": "--max-tokens",
    "cost_usd": "--max-cost",
    "iterations": "--max-iterations",
    "wall_s": "--max-time",
}


def resting(seen: Snapshot) -> Reason:
    """The reason of a run that is waiting or paused: the first thing that it waits for."""
    if seen.run.status is Status.PAUSED:
        return paused(seen)
    since = duration(seen.now_ms - seen.run.updated_ms)
    end = f"agentq cancel {seen.run.run_id} ends it"
    asked = seen.run.question
    if asked is None:
        return reason_of(seen, Code.WAITING, f"it has waited for {since} for something from outside", end)
    code, text, fix = _said(seen, asked, since, end)
    details: dict[str, Any] = {"call_id": asked.call_id, "tool": asked.tool, "arguments": dict(asked.arguments)}
    if asked.run_id is not None:
        details["child_run_id"] = asked.run_id
    if asked.until_ms:
        details["until_ms"] = asked.until_ms
    more = len(seen.run.questions) - 1
    notes = [f"it waits for {more} more {'thing' if more == 1 else 'things'}"] if more else []
    return reason_of(seen, code, text, fix, *notes, **details)


def _said(seen: Snapshot, asked: Question, since: str, end: str) -> tuple[Code, str, str]:
    """The code, what is said, and what to do."""
    run_id, called = seen.run.run_id, shown_call(asked.tool, asked.arguments)
    left = duration(max((asked.until_ms or seen.run.not_before_ms) - seen.now_ms, 0))
    given_up = f"; in {left} it is given up" if asked.until_ms else ""
    who = f" ({' or '.join(asked.approvers)})" if asked.approvers else ""
    match asked.kind:
        case _ if asked.kind == LIMIT and not asked.tool:
            return _limited(seen, asked.text, end)
        case _ if asked.kind == LIMIT:
            return Code.RATE_LIMITED, f"it goes on in {left}: {asked.text}", ""
        case _ if asked.kind == TIMER:
            return Code.WAITS_FOR_TIME, f"{asked.tool} sleeps, and goes on in {left}", ""
        case _ if asked.kind == CHILD:
            return (
                Code.WAITS_FOR_RUN,
                f"it has waited for {since} for run {asked.run_id}, which {asked.tool} started",
                f"agentq why {asked.run_id} says what that one is at; {end}, and that one with it",
            )
        case _ if asked.kind == SIGNAL:
            return (
                Code.WAITS_FOR_SIGNAL,
                f"it has waited for {since} for the signal {asked.name}{given_up}",
                f"agentq signal {run_id} {asked.name} sends it; {end}",
            )
        case _ if asked.kind == APPROVAL:
            return (
                Code.WAITS_FOR_APPROVAL,
                f"it has waited for {since} for somebody{who} to allow {called}{given_up}",
                f"agentq approve {run_id}, or agentq deny {run_id}; {end}",
            )
        case _ if asked.kind == INPUT:
            return (
                Code.WAITS_FOR_INPUT,
                f"it has waited for {since} for an answer to: {asked.name}{given_up}",
                f"agentq answer {run_id} ANSWER; {end}",
            )
        case _:
            return (
                Code.WAITS_FOR_ANSWER,
                f"it has waited for {since} for somebody to say what became of {called}, whose worker died in it",
                f"agentq answer {run_id} RESULT, or with --did-not-happen or --unknown; {end}",
            )


def _limited(seen: Snapshot, text: str, end: str) -> tuple[Code, str, str]:
    """It waits until it may use more."""
    reached = re.search(r"^the run has reached its limit (\w+)=", text)
    option = _OPTIONS.get(reached[1]) if reached else None
    more = f"{option} N gives it more" if option else "lets it look again, when there is more"
    fix = f"agentq limit {seen.run.run_id} {more}; {end}"
    if not seen.run.not_before_ms:
        return Code.LIMIT_REACHED, f"it waits until it may use more: {text}", fix
    left = duration(max(seen.run.not_before_ms - seen.now_ms, 0))
    return Code.LIMITED_FOR_NOW, f"it goes on in {left}: {text}", fix
