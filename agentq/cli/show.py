"""`agentq show`: the state of a run and its transcript."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentq.cli._output import Output
    from agentq.client import AsyncClient
    from agentq.insight.reasons import Reason
    from agentq.messages import Message
    from agentq.runs import RunState


@click.command("show", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.UNAVAILABLE))
@click.argument("run", shell_complete=_complete.runs)
@click.option("--full", is_flag=True, help="Shorten no arguments and no results.")
@pass_options
def command(options: Options, run: str, full: bool) -> int:
    """Show a run: its state and its transcript."""
    import asyncio
    import contextlib

    from agentq.cli import _words
    from agentq.cli._output import PIPE_WIDTH, stdout
    from agentq.cli._watch import checked_run_id, tell_of_need
    from agentq.errors import RunNotFound, StoreUnavailable
    from agentq.runs import Status

    run_id = checked_run_id(run)

    async def main() -> tuple[RunState, tuple[Message, ...], Reason | None, tuple[str, ...]]:
        async with options.connected() as client:
            state, messages = await client.read(run_id), await client.messages(run_id)
            reason = None
            if state.status is Status.QUEUED:
                with contextlib.suppress(StoreUnavailable, RunNotFound):
                    reason = await client.why(run_id)
            return state, messages, reason, () if options.json else await _spent(client, state)

    state, messages, reason, spent = asyncio.run(main())
    out = stdout()
    if reason is not None and reason.needs_help:
        tell_of_need(reason, as_json=options.json)
    if options.json:
        transcript = [message.model_dump(mode="json", exclude_none=True) for message in messages]
        out.document({"run": run_document(state), "messages": transcript})
        return ExitCode.OK
    for label, text in (*_facts(state, out), *(("spent", each) for each in spent)):
        out.line(f"{out.style(f'{label:<10}', 'dim')} {text}")
    out.line()
    for line in _words.transcript(messages, out, width=None if full else out.width or PIPE_WIDTH):
        out.line(line)
    return ExitCode.OK


async def _spent(client: AsyncClient, state: RunState) -> tuple[str, ...]:
    """What its user and its session have used today, where that is counted."""
    from agentq.cli import _limits
    from agentq.cli._output import one_line

    found = []
    if state.user_id is not None and (spent := await client.spent(user_id=state.user_id)):
        found.append(f"{_limits.spending(spent)} by user {one_line(state.user_id)} today")
    if state.session_id is not None and (spent := await client.spent(session_id=state.session_id)):
        found.append(f"{_limits.spending(spent)} in session {one_line(state.session_id)} today")
    return tuple(found)


def run_document(state: RunState) -> dict[str, Any]:
    """A run as JSON: every field, under its name in `RunState`."""
    from dataclasses import asdict

    return {**asdict(state), "metadata": dict(state.metadata), "usage": dict(state.usage)}


def _facts(state: RunState, out: Output) -> Iterator[tuple[str, str]]:
    """What there is to say of a run, in the order in which one asks."""
    from agentq.cli import _limits, _words
    from agentq.cli._output import age, count, duration, one_line
    from agentq.messages import Usage
    from agentq.runs import CHILD

    now_ms = time.time() * 1000
    phase = f" ({state.phase.replace('_', ' ')})" if state.phase else ""
    usage = Usage.model_validate(dict(state.usage))
    ended_ms = state.finished_ms or now_ms
    created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state.created_ms / 1000))
    facts = {
        "run": state.run_id,
        "status": status_word(state.status, out) + phase,
        "agent": state.agent,
        "model": state.model,
        "queue": state.queue,
        "session": state.session_id,
        "user": state.user_id,
        "tenant": state.tenant,
        "priority": state.priority,
        "metadata": json.dumps(dict(state.metadata), ensure_ascii=False) if state.metadata else None,
        "created": f"{created}, {age(now_ms - state.created_ms)} ago",
        "took" if state.finished_ms else "so far": duration(ended_ms - state.created_ms),
        "iterations": str(state.iteration),
        "failures": f"{state.errors} in a row" if state.errors else None,
        "recoveries": count(state.recoveries, "crash").replace("crashs", "crashes") if state.recoveries else None,
        "worker": state.owner,
        "starts": f"in {duration(state.not_before_ms - now_ms)}" if state.not_before_ms > now_ms else None,
        "waits": _waits(state),
        "parent": state.parent_run_id,
        "fork of": state.forked_from,
        "waits for" if state.question and state.question.kind == CHILD else "asks": (
            (state.question.run_id or state.question.text) if state.question else None
        ),
        "retries": count(state.retries, "time") if state.retries else None,
        "data lost": f"{age(now_ms - state.lost_ms)} ago, by Redis" if state.lost_ms else None,
        "tokens": _words.tokens(usage) if usage.input_tokens or usage.output_tokens else None,
        "limits": " · ".join(_limits.standing(state)) or None,
        "cancel": (state.cancel_reason or "requested") if state.is_cancel_requested else None,
        "last error": out.style(state.last_error, "red") if state.last_error else None,
    }
    styled = {"status", "last error"}
    for label, text in facts.items():
        if text:
            yield label, text if label in styled else one_line(text)


def status_word(status: str, out: Output) -> str:
    """The status in its colour."""
    return out.style(status, _STATUS_COLOURS.get(status, "dim"))


_STATUS_COLOURS = {
    "queued": "dim",
    "running": "cyan",
    "waiting": "magenta",
    "paused": "magenta",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
}


def _waits(state: RunState) -> str | None:
    if state.waits_for_place:
        return f"for one of the {state.concurrency} places of {state.concurrency_key}"
    if state.waits_for_tenant:
        return "in line, behind others of its tenant" if state.tenant else "in line, behind others with a priority"
    return "behind another run of its session" if state.waits_for_session else None
