"""The journal as data: which steps of the iteration in flight have started and finished."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter

from agentq import _json
from agentq.errors import StoreCorrupted
from agentq.messages import Data, Message, ToolCallPart, ToolResultPart, decode_message

if TYPE_CHECKING:
    from collections.abc import Mapping

REPLY = "reply"
# What repeating a tool call does.
Effect = Literal["none", "idempotent", "once"]
Verdict = Literal["did_not_happen", "ask"]
# Begins what follows the call id in the names of records that belong to a call but are none of its steps.
PART = "#"


class CallStep(Data):
    """What the journal knows of a tool call. `attempt` counts from 1; `result` is there once it has finished.

    `withdrawn` says that the call was announced but never made: its worker was interrupted before. `asked` counts the
    announcements of one attempt from the second on. `verdict` is about a call that had started when its worker died:
    that it did not happen, or that a person is asked. `child` is the run whose work the call is.
    """

    attempt: int = 1
    effect: Effect = "once"
    arguments_hash: str = ""
    result: ToolResultPart | None = None
    raised: bool = False
    withdrawn: bool = False
    asked: int | None = None
    verdict: Verdict | None = None
    child: str | None = None

    @property
    def may_have_happened(self) -> bool:
        """Whether the call has an effect that may stand although no result says so."""
        was_made = not self.withdrawn or self.attempt > 1
        return self.effect != "none" and self.result is None and was_made and self.verdict != "did_not_happen"


@dataclass(frozen=True, slots=True)
class Steps:
    """The journal of one iteration: the model's reply, and its calls by id."""

    reply: Message | None = None
    calls: Mapping[str, CallStep] = field(default_factory=dict)


_call_step = TypeAdapter(CallStep)


def read_steps(journal: Mapping[str, bytes]) -> Steps:
    """Read what the store holds. Raises `StoreCorrupted`."""
    try:
        reply = decode_message(journal[REPLY]) if REPLY in journal else None
        calls = {
            name: _call_step.validate_json(value)
            for name, value in journal.items()
            if name != REPLY and PART not in name
        }
    except ValueError as error:
        raise StoreCorrupted(f"a journaled step cannot be read: {error}") from error
    return Steps(reply, calls)


def encode_call_step(step: CallStep) -> bytes:
    return _call_step.serializer.to_json(step, exclude_none=True)


def arguments_hash(call: ToolCallPart) -> str:
    """A digest of what the call was asked to do: its name and arguments."""
    return hashlib.sha256(_json.dumps([call.name, call.arguments])).hexdigest()[:16]
