"""The journal as data: which steps of the iteration in flight have started and finished."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

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
# Ends the name of the record that says what was decided on a call.
APPROVAL = "#approval"
# Begins what follows the call id in the names of records that belong to a call but are none of its steps.
PART = "#"


class Wait(Data):
    """What a call waits for. `number` is which of its durable steps does, 0 for the call as a whole.

    `kind` is "approval", "input", "timer" or "signal"; `name` the signal's, or the question. `until_ms` is when the
    waiting ends in any case, by the store's clock, 0 for never. `warned`: it was said that this is soon. `destructive`:
    what the tool does cannot be undone.
    """

    kind: Literal["approval", "input", "timer", "signal"]
    number: int = 0
    name: str = ""
    since_ms: int = 0
    until_ms: int = 0
    warned: bool = False
    approvers: tuple[str, ...] = ()
    destructive: bool = False
    answer_schema: dict[str, Any] | None = None


class DurableStep(Data):
    """What a step of a tool came to: `op` and `name` say which it is. `expired`: nothing came in time."""

    op: Literal["step", "input", "timer", "signal"]
    name: str = ""
    value: Any = None
    expired: bool = False


class Approval(Data):
    """What was decided on a call with these arguments. `arguments` are those to call with, where they were changed."""

    decision: Literal["approved", "denied", "expired"]
    arguments_hash: str
    arguments: dict[str, Any] | None = None
    reason: str = ""
    by: str = ""
    source: str = ""


class CallStep(Data):
    """What the journal knows of a tool call. `attempt` counts from 1; `result` is there once it has finished.

    `withdrawn` says that the call was announced but never made: its worker was interrupted before. `asked` counts the
    announcements of one attempt from the second on. `verdict` is about a call that had started when its worker died:
    that it did not happen, or that a person is asked. `child` is the run whose work the call is. `waits` is what a
    call that rests waits for: it is entered again when that has come.
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
    waits: Wait | None = None

    @property
    def rests(self) -> bool:
        """Whether the call waits for something, and holds no worker."""
        return self.result is None and not self.withdrawn and (self.child is not None or self.waits is not None)

    @property
    def may_have_happened(self) -> bool:
        """Whether the call has an effect that may stand although no result says so."""
        was_made = not self.withdrawn or self.attempt > 1
        return (
            self.effect != "none"
            and self.result is None
            and was_made
            and self.waits is None
            and self.verdict != "did_not_happen"
        )


@dataclass(frozen=True, slots=True)
class Steps:
    """The journal of one iteration: the model's reply, and its calls by id."""

    reply: Message | None = None
    calls: Mapping[str, CallStep] = field(default_factory=dict)


T = TypeVar("T")
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


_durable_step = TypeAdapter(DurableStep)
_approval = TypeAdapter(Approval)


def read_call_step(value: bytes) -> CallStep:
    """Raises `StoreCorrupted`."""
    return _read(_call_step, value)


def read_durable_step(value: bytes) -> DurableStep:
    """Raises `StoreCorrupted`."""
    return _read(_durable_step, value)


def read_approval(value: bytes) -> Approval:
    """Raises `StoreCorrupted`."""
    return _read(_approval, value)


def _read(kind: TypeAdapter[T], value: bytes) -> T:
    try:
        return kind.validate_json(value)
    except ValueError as error:
        raise StoreCorrupted(f"a journaled step cannot be read: {error}") from error


def encode_durable_step(step: DurableStep) -> bytes:
    return _durable_step.serializer.to_json(step, exclude_none=True)


def encode_approval(approval: Approval) -> bytes:
    return _approval.serializer.to_json(approval, exclude_none=True)


def encode_call_step(step: CallStep) -> bytes:
    return _call_step.serializer.to_json(step, exclude_none=True)


def arguments_hash(call: ToolCallPart) -> str:
    """A digest of what the call was asked to do: its name and arguments."""
    return hashlib.sha256(_json.dumps([call.name, call.arguments])).hexdigest()[:16]
