"""What each simulated run is going to do: its model's turns, the calls in them, the transcript that follows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from agentq.errors import ProviderError
from agentq.messages import Message, NoteKind, Role, StopReason, TextPart
from agentq.providers.mock import since_prompt
from agentq.runs import Status
from agentq.testing.models import Reply, ScriptedModel, call

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Sequence

    from agentq.messages import ToolCallPart
    from agentq.providers.base import Chunk, ModelRequest
    from agentq.steps import Effect
    from agentq.testing.simulation.effects import Effects

EFFECTS: dict[str, Effect] = {
    "look": "none",
    "book": "idempotent",
    "charge": "once",
    "wire": "once",
    "sign": "once",
    "grant": "once",
    "quiz": "none",
    "post": "idempotent",
    "sell": "once",
}
# Tools that wait: for a person who allows the call where its number is even, for an answer, for signals and timers.
GRANTED, ASKED, RESTING = "grant", "quiz", ("post", "sell")
WAITS = (GRANTED, ASKED, *RESTING)
# A person may change the number of a call by this.
CHANGED_BY = 1000
# What the model says to messages that were sent into a run which had come to its end.
NOTED = "I have read that."
_MOST_NOTED = 20
# A name that the model makes up.
_UNKNOWN = "dream"
# A tool that counts how often it was made, in what its run and its session keep.
COUNTS = "book"
# Another agent, whose run has a plan of its own; how likely it is for a call of a run that has so many above it.
ASK, HELPER = "ask", "helper"
_ASKS_FOR_HELP = (0.1, 0.35)
# Waiting takes long, and most of it is drawn less often.
_WEIGHTS = {COUNTS: 4, GRANTED: 2, ASKED: 1, **dict.fromkeys(RESTING, 1)}
_DRAWN = tuple(name for name in EFFECTS for _ in range(_WEIGHTS.get(name, 2)))
_FAILURES = ("busy", "cut", "refused")

Failure = Literal["busy", "cut", "refused", "dead"]
Line = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call; its number is unique in its run and stands in its arguments. `asks` is the plan of what it starts."""

    name: str
    number: int
    raises: bool = False
    asks: Plan | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        return {"number": self.number} if self.asks is None else {"prompt": self.asks.prompt}

    @property
    def said(self) -> int | str:
        """What tells the call from others of its run."""
        return self.number if self.asks is None else self.asks.prompt


@dataclass(frozen=True, slots=True)
class PlannedTurn:
    """One reply, or how the model fails to give one: before or amid its text, by refusing, or for good ("dead")."""

    text: str
    calls: tuple[PlannedCall, ...] = ()
    fails: Failure | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The turns of one run, the last of which ends it."""

    number: int | str
    turns: tuple[PlannedTurn, ...]

    @property
    def prompt(self) -> str:
        return f"plan {self.number}"

    @property
    def below(self) -> tuple[Plan, ...]:
        """The plans of runs that this one starts."""
        return tuple(call.asks for turn in self.turns for call in turn.calls if call.asks is not None)

    @property
    def all(self) -> tuple[Plan, ...]:
        """This one, and all that are below it."""
        return (self, *(plan for child in self.below for plan in child.all))

    @property
    def ends(self) -> Status:
        return Status.FAILED if self.turns[-1].fails == "dead" else Status.COMPLETED

    def lines(self, outcomes: dict[int | str, str]) -> list[Line]:
        """The transcript that the run has in the end, without results; `outcomes` says how each call came out."""
        lines: list[Line] = [("user", self.prompt)]
        for turn in self.turns:
            if turn.fails is not None:
                if turn.fails != "dead":
                    lines.append(("note", NoteKind.REFUSED if turn.fails == "refused" else NoteKind.PROVIDER_ERROR))
                continue
            lines.append(("assistant", turn.text, tuple((call.name, call.said) for call in turn.calls)))
            if turn.calls:
                lines.append(("results", tuple(call.name for call in turn.calls)))
            if any((call.raises or call.asks) and outcomes.get(call.said) == "error" for call in turn.calls):
                lines.append(("note", NoteKind.TOOL_ERROR))
        return lines

    def replies(self) -> list[Reply]:
        return [*(_reply(turn) for turn in self.turns), *[NOTED] * _MOST_NOTED]


def line_of(message: Message) -> Line:
    """A message of a transcript, in the form of `Plan.lines`."""
    match message.role:
        case Role.USER:
            return ("user", message.text)
        case Role.ASSISTANT:
            calls = tuple((part.name, said_by(part)) for part in message.tool_calls)
            return ("assistant", message.text, calls)
        case Role.TOOL:
            return ("results", tuple(result.name for result in message.tool_results))
        case Role.SYSTEM:
            return ("note", message.note)


def said_by(part: ToolCallPart) -> int | str:
    """See `PlannedCall.said`."""
    said: int | str = part.arguments.get("number") or part.arguments.get("prompt") or 0
    return said


def draw_plan(number: int | str, numbers: random.Random, depth: int = 0) -> Plan:
    """A plan of up to six turns, and of the runs that it starts."""
    turns: list[PlannedTurn] = []
    calls = 0
    for index in range(numbers.randint(0, 4)):
        text = _text(number, index, numbers)
        if numbers.random() < 0.2:
            turns.append(PlannedTurn(text, fails=numbers.choice(_FAILURES)))  # type: ignore[arg-type]
            continue
        planned = []
        for _ in range(numbers.choice((1, 1, 2, 3, 5))):
            calls += 1
            if depth < len(_ASKS_FOR_HELP) and numbers.random() < _ASKS_FOR_HELP[depth]:
                asks = draw_plan(f"{number}-{calls}", numbers, depth + 1)
                planned.append(PlannedCall(ASK, calls, asks=asks))
                continue
            name = _UNKNOWN if numbers.random() < 0.03 else numbers.choice(_DRAWN)
            raises = name != _UNKNOWN and name not in WAITS and numbers.random() < 0.1
            planned.append(PlannedCall(name, calls, raises=raises))
        turns.append(PlannedTurn(text if numbers.random() < 0.6 else "", tuple(planned)))
    last = _text(number, len(turns), numbers)
    turns.append(PlannedTurn(last, fails="dead" if numbers.random() < 0.1 else None))
    return Plan(number, tuple(turns))


def _text(number: int | str, turn: int, numbers: random.Random) -> str:
    return "".join(f"{number}.{turn}.{word} " for word in range(numbers.randint(1, 8)))


def _reply(turn: PlannedTurn) -> Reply:
    match turn.fails:
        case "busy":
            return ProviderError("busy", status=503)
        case "cut":
            return [turn.text, ProviderError("cut off")]
        case "dead":
            return [turn.text, ProviderError("no such model", status=404, retryable=False)]
        case "refused":
            return Message(role=Role.ASSISTANT, parts=(TextPart(text=turn.text),), stop_reason=StopReason.REFUSAL)
        case None:
            calls = [call(planned.name, **planned.arguments) for planned in turn.calls]
            return [turn.text, *calls] if turn.text else calls


class SimulatedModel:
    """A provider that follows the plan of each run, and takes its time between two pieces."""

    name = "simulated"

    def __init__(self, plans: Sequence[Plan], effects: Effects, numbers: random.Random, *, longest_s: float) -> None:
        self._models = {plan.prompt: ScriptedModel(plan.replies()) for plan in plans}
        self._effects = effects
        self._numbers = numbers
        self._longest_s = longest_s

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        self._effects.asked(request.run_id or "")
        # What was sent into the run is no prompt.
        planned = [m for m in request.messages if m.role is not Role.USER or m.text in self._models]
        request = replace(request, messages=tuple(planned))
        prompt, _ = since_prompt(request.messages)
        await asyncio.sleep(self._numbers.uniform(0, self._longest_s))
        async for chunk in self._models[prompt].stream(request):
            yield chunk
            # Some pieces come at once, some after the writer has lost patience.
            await asyncio.sleep(self._numbers.choice((0.0, 0.01, 0.08)))
