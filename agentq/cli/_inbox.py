"""What waits for people: which of it is meant, and how it is told. The screen of `agentq inbox` is not here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from agentq.cli import _complete

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agentq.client import AsyncClient
    from agentq.deciding import Waiting
    from agentq.runs import Question

# So many runs that wait for people are read; who has more of them needs other means than a list.
MOST = 1000
_SHORT_CALL = re.compile(r"\d+\.\d+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the inbox is meant; what is None does not narrow it down."""

    agent: str | None = None
    tool: str | None = None
    session: str | None = None
    user: str | None = None

    @property
    def narrows(self) -> bool:
        return any(each is not None for each in (self.agent, self.tool, self.session, self.user))

    def matches(self, waits: Waiting) -> bool:
        pairs = (
            (self.agent, waits.run.agent),
            (self.tool, waits.question.tool),
            (self.session, waits.run.session_id),
            (self.user, waits.run.user_id),
        )
        return all(wanted is None or wanted == given for wanted, given in pairs)

    async def read(self, client: AsyncClient, *kinds: str) -> list[Waiting]:
        """What waits, the longest first; only these `kinds` of questions, if any are named."""
        found = [each for each in await client.inbox(limit=MOST) if self.matches(each)]
        found = [each for each in found if not kinds or each.question.kind in kinds]
        return sorted(found, key=lambda each: (since_ms(each), each.run.run_id, call_order(each.question.call_id)))


def narrowing(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that narrow the inbox down."""
    for option in (
        click.option("--user", metavar="ID", help="Only what runs for this user wait for."),
        click.option("--session", metavar="ID", shell_complete=_complete.sessions, help="Only runs of this session."),
        click.option("--tool", metavar="NAME", help="Only calls of this tool."),
        click.option("--agent", metavar="NAME", shell_complete=_complete.agents, help="Only runs of this agent."),
    ):
        function = option(function)
    return function


def since_ms(waits: Waiting) -> int:
    """When it began to wait."""
    return waits.question.since_ms or waits.run.updated_ms


def call_order(call_id: str) -> tuple[int, ...]:
    """Calls in the order in which the model asked for them."""
    return tuple(int(part) for part in call_id.split(".")[1:] if part.isdigit())


def split_call(run: str, calls: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The run and the full ids of the calls that are named. A call's id begins with its run's, which may be left out.

    Raises `RunNotFound` for what cannot be a run's id.
    """
    from agentq.cli._watch import checked_run_id

    run, dot, rest = run.partition(".")
    run_id = checked_run_id(run)
    named = ((rest,) if dot else ()) + tuple(calls)
    return run_id, tuple(full_call(run_id, call) for call in named)


def full_call(run_id: str, call: str) -> str:
    """`2.0` and the like are what follows the run's id in a call's."""
    return f"{run_id}.{call}" if _SHORT_CALL.fullmatch(call) else call.upper()


def answer_of(text: str, question: Question) -> Any:
    """What somebody typed, as the question wants it: the text, or where its schema takes none, what it is as JSON."""
    if question.schema is None:
        return text
    import json

    from agentq.tools.answers import misfit

    if misfit(text, question.schema, field="answer") is None:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text  # and whoever checks it says what is wrong


@dataclass(frozen=True, slots=True)
class Told:
    """One thing of the inbox in words: what it would do, and what else a list has columns for."""

    call_id: str
    what: str
    age: str
    left: str
    for_whom: str
    agent: str
    style: str = field(default="")


def told(waits: Waiting, now_ms: float) -> Told:
    """What waits, in words that fit a list."""
    from agentq.cli._output import age, one_line

    question = waits.question
    return Told(
        call_id=question.call_id,
        what=what(question),
        age=age(now_ms - since_ms(waits)),
        left=left(question, now_ms),
        for_whom=one_line(", ".join(question.approvers)) or "-",
        agent=one_line(waits.run.agent),
        style="red" if is_urgent(question, now_ms) else "",
    )


def what(question: Question) -> str:
    """The call that is to be allowed, the question that is asked, or the call that nobody knows the outcome of."""
    from agentq.cli import _words
    from agentq.cli._output import one_line

    match question.kind:
        case "approval":
            return _words.call(question.tool, question.arguments)
        case "input":
            return f"? {one_line(question.name)}"
        case _:
            return f"what became of {_words.call(question.tool, question.arguments)}"


def left(question: Question, now_ms: float) -> str:
    """How long it still waits."""
    from agentq.cli._output import age

    return age(max(question.until_ms - now_ms, 0)) if question.until_ms else "-"


def is_urgent(question: Question, now_ms: float) -> bool:
    """Whether four fifths of its time are over: then viewers are warned, too."""
    if not question.until_ms:
        return False
    return now_ms >= question.since_ms + (question.until_ms - question.since_ms) * 0.8


def document(waits: Waiting) -> Mapping[str, Any]:
    """One thing of the inbox as JSON."""
    from dataclasses import asdict

    run, question = waits.run, asdict(waits.question)
    return {
        "run_id": run.run_id,
        "agent": run.agent,
        "session_id": run.session_id,
        "user_id": run.user_id,
        "prompt": run.prompt,
        **{name: question[name] for name in ("call_id", "kind", "tool", "arguments", "text", "approvers")},
        "schema": question["schema"],
        "since_ms": since_ms(waits),
        "until_ms": question["until_ms"] or None,
    }
