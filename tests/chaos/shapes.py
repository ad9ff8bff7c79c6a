"""The runs of a campaign: shapes of every kind, and what must come of each however often its workers die."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentq.messages import NoteKind, Role
from agentq.runs import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq.messages import Message, ToolCallPart, ToolResultPart
    from agentq.runs import RunState

# Tools with an effect that a crash may leave nobody knowing about, and those among them that somebody has to allow.
ALLOWED = {"grant", "permit"}
ONCE = {"charge", "pay", *ALLOWED}
# What a run is sent that is to be steered. The mock model takes it for its script.
NOTED = "say I have read that."
SAYS = {
    "look_up": "is there",
    "send": "was sent",
    "charge": "was charged",
    "pay": "was paid",
    "move": "was moved",
    "refuse": "is not to be had",
    "tally": "was counted",
    "ask": "was found out",
    "grant": "was granted",
    "permit": "was permitted",
    "count": "counts 7",
    "ship": "was shipped: ship-open, 7, ship-close",
}


@dataclass(frozen=True)
class Shape:
    """A prompt for the mock model, its answer, its calls by tool and name, and how many notes its failures leave."""

    name: str
    prompt: str
    output: str
    calls: tuple[tuple[str, str], ...]
    notes: tuple[NoteKind, ...] = ()
    iterations: int = field(default=0)
    # Whether somebody may send `NOTED` into it: then it goes on with that.
    is_steered: bool = False

    def check(self, run: RunState, messages: Sequence[Message]) -> None:
        """What holds of every run of this shape that has ended."""
        told = f"run {run.run_id} ({self.name})"
        calls = [call for message in messages for call in message.tool_calls]
        results = [result for message in messages for result in message.tool_results]
        assert [call.call_id for call in calls] == [result.call_id for result in results], (
            f"{told}: a call has no result"
        )
        sent = [message.text for message in messages[1:] if message.role is Role.USER]
        assert sent in ([], [NOTED]) if self.is_steered else not sent, f"{told}: was sent {sent}"
        if run.status is Status.CANCELLED or (sent and run.status is Status.COMPLETED):
            made = [(call.name, _name(call)) for call in calls]
            assert not sent or run.status is Status.CANCELLED or f"say {messages[-1].text}" == NOTED, (
                f"{told}: it has not heard what it was sent, and says {messages[-1].text!r}"
            )
            assert made == list(self.calls[: len(made)]), f"{told}: other calls than it was to make: {made}"
        else:
            assert run.status is Status.COMPLETED, f"{told} has {run.status}: {run.last_error}"
            assert [(call.name, _name(call)) for call in calls] == list(self.calls), f"{told}: other calls"
            assert messages[-1].text == self.output, f"{told} says {messages[-1].text!r}"
            notes = tuple(message.note for message in messages if message.role is Role.SYSTEM)
            assert notes == self.notes, f"{told}: other notes: {notes}"
            assert run.iteration == self.iterations, f"{told} used {run.iteration} iterations"
        for call, result in zip(calls, results, strict=True):
            _check_result(told, _name(call), result, is_cancelled=run.status is Status.CANCELLED)


def _name(call: ToolCallPart) -> str:
    """What the call is about; of one that another agent answers, its answer begins with that."""
    return str(call.arguments.get("name") or call.arguments["prompt"].rpartition("say ")[2].split()[0])


def _check_result(told: str, name: str, result: ToolResultPart, *, is_cancelled: bool) -> None:
    if name == "other":
        name = "changed"
    expected = f"{name} {SAYS[result.name]}"
    if result.name in ALLOWED and result.outcome == "error":
        # Whether it was, its events say; see `checks.check_decisions`.
        assert result.content.startswith(f"{result.name} was "), f"{told}: {result}"
        assert name in ("no", "race", "late"), f"{told}: {result}"
    elif result.outcome == "ok":
        assert result.content == expected, f"{told}: {result}"
    elif result.outcome == "error":
        assert (result.name, result.content) == ("refuse", expected), f"{told}: {result}"
    elif result.outcome == "unknown":
        assert result.name in ONCE or is_cancelled, f"{told}: {result}"
    else:
        assert is_cancelled, f"{told}: {result}"


def _call(tool: str, name: str, seconds: float | None = None) -> str:
    arguments = f'{{"name": "{name}"}}' if seconds is None else f'{{"name": "{name}", "seconds": {seconds}}}'
    return f"call {tool} {arguments}"


def _ask(name: str, *turns: str) -> str:
    """A call that another run carries out, turn by turn."""
    return f"call ask {json.dumps({'prompt': chr(10).join((*turns, f'say {name} was found out'))})}"


def _turn(*calls: str) -> str:
    return " & ".join(calls)


CHAIN = Shape(
    "chain",
    "\n".join(
        (
            _call("look_up", "a", 0.01),
            _call("send", "b", 0.01),
            _call("charge", "c", 0.01),
            _call("move", "d"),
            "say Done.",
        )
    ),
    "Done.",
    (("look_up", "a"), ("send", "b"), ("charge", "c"), ("move", "d")),
    iterations=5,
)
PARALLEL = Shape(
    "parallel tools",
    "\n".join(
        (
            _turn(
                _call("look_up", "a", 0.03),
                _call("look_up", "b", 0.01),
                _call("charge", "c", 0.02),
                _call("look_up", "d", 0.0),
            ),
            _turn(_call("pay", "e", 0.01), _call("move", "f"), _call("charge", "g", 0.01)),
            'stream 20 "word " 0.002',
        )
    ),
    "word " * 20,
    (
        ("look_up", "a"), ("look_up", "b"), ("charge", "c"), ("look_up", "d"),
        ("pay", "e"), ("move", "f"), ("charge", "g"),
    ),
    iterations=3,
)  # fmt: skip
ERRORS = Shape(
    "errors",
    "\n".join(("fail 503", _call("refuse", "a"), _call("pay", "b", 0.02), "fail 429", "say It is done.")),
    "It is done.",
    (("refuse", "a"), ("pay", "b")),
    (NoteKind.PROVIDER_ERROR, NoteKind.TOOL_ERROR, NoteKind.PROVIDER_ERROR),
    iterations=2,
)
STREAM = Shape("stream", 'stream 60 "piece " 0.003', "piece " * 60, (), iterations=1)
FAMILY = Shape(
    "a run that starts others",
    "\n".join(
        (
            _turn(
                _ask("a", _call("send", "x", 0.02), _call("tally", "1"), _call("tally", "2")),
                _ask("b", _call("charge", "y", 0.01)),
                _call("look_up", "c", 0.01),
            ),
            _call("tally", "1"),
            _turn(_call("tally", "2"), _ask("d", _call("tally", "1"))),
            "say Done.",
        )
    ),
    "Done.",
    (("ask", "a"), ("ask", "b"), ("look_up", "c"), ("tally", "1"), ("tally", "2"), ("ask", "d")),
    iterations=4,
)
PEOPLE = Shape(
    "people decide",
    "\n".join(
        (
            _turn(_call("grant", "yes"), _call("grant", "race"), _call("look_up", "c", 0.01), _call("grant", "no")),
            _turn(_call("permit", "late"), _call("count", "d"), _call("grant", "other")),
            "say Done.",
        )
    ),
    "Done.",
    (
        ("grant", "yes"), ("grant", "race"), ("look_up", "c"), ("grant", "no"),
        ("permit", "late"), ("count", "d"), ("grant", "other"),
    ),
    iterations=3,
)  # fmt: skip
SIGNALS = Shape(
    "signals and sleeps",
    "\n".join((_turn(_call("ship", "a"), _call("charge", "b", 0.01)), _call("ship", "c"), "say Done.")),
    "Done.",
    (("ship", "a"), ("charge", "b"), ("ship", "c")),
    iterations=3,
)
STEERED = Shape(
    "steered",
    "\n".join((_call("send", "a", 0.02), _call("charge", "b", 0.02), _call("send", "c", 0.02), "say Done.")),
    "Done.",
    (("send", "a"), ("charge", "b"), ("send", "c")),
    iterations=4,
    is_steered=True,
)
SHAPES = (CHAIN, PARALLEL, ERRORS, STREAM, FAMILY, PEOPLE, SIGNALS, STEERED)
