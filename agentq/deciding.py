"""What people decide on calls that wait for them, and what happens outside: allow, deny, answer, signal."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentq import _ids, _json
from agentq.errors import DecisionRefused, InvalidArguments, InvalidInput, NotWaiting
from agentq.events.model import RunAnswered
from agentq.intake import check_texts, checked_id, checked_limit, checked_remark
from agentq.messages import ToolCallPart, decode_message
from agentq.runs import FOR_PEOPLE, Question, RunState, Status
from agentq.steps import (
    APPROVAL,
    PART,
    REPLY,
    Approval,
    CallStep,
    DurableStep,
    encode_approval,
    encode_durable_step,
    read_call_step,
)
from agentq.stores.base import Decision, Signal, StepRecord
from agentq.stores.filters import RunFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Literal

    from agentq.catalogue import Catalogue
    from agentq.executors.base import Executor
    from agentq.stores.base import Released, Store

_MAX_SIGNAL_NAME = 200


@dataclass(frozen=True, slots=True)
class Waiting:
    """One thing that a run waits for a person to say."""

    run: RunState
    question: Question


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """What somebody wants to decide: for a hook that says whether they may.

    `action` is "approve", "deny", "answer" or "signal". `by` is who, `source` from where, as far as they said.
    """

    action: str
    run: RunState
    call: ToolCallPart | None
    approvers: tuple[str, ...]
    by: str
    source: str


@dataclass(frozen=True, slots=True)
class _Open:
    """A call that waits, and the line that the journal has for it."""

    call: ToolCallPart
    step: CallStep
    seen: bytes


class Deciding:
    """Decides for a client. `authorize` says whether somebody may: True, or False, or a text that says why not."""

    def __init__(
        self,
        store: Store,
        executor: Executor | None,
        catalogue: Catalogue,
        *,
        max_value_bytes: int,
        authorize: Callable[[DecisionRequest], Any] | None = None,
    ) -> None:
        self._store = store
        self._executor = executor
        self._catalogue = catalogue
        self._max_value_bytes = max_value_bytes
        self._authorize = authorize

    async def approve(
        self, run_id: str, *, call_id: str | None, arguments: Mapping[str, Any] | None, by: str, source: str
    ) -> Status:
        """See `AsyncClient.approve`."""
        run = await self._store.read(checked_id(run_id))
        waits = await self._open(run_id, "approval", call_id)
        changed = None if arguments is None else await self._checked_arguments(run, waits.call, arguments)
        return await self._decide(run, waits, "approved", by=by, source=source, arguments=changed)

    async def deny(self, run_id: str, *, call_id: str | None, reason: str, by: str, source: str) -> Status:
        """See `AsyncClient.deny`."""
        run = await self._store.read(checked_id(run_id))
        waits = await self._open(run_id, "approval", call_id)
        return await self._decide(
            run, waits, "denied", by=by, source=source, reason=checked_remark(reason, field="reason")
        )

    async def answer(
        self, run: RunState, value: Any, *, call_id: str | None, number: int | None, by: str, source: str
    ) -> Status:
        """Answer what a tool asks."""
        waits = await self._open(run.run_id, "input", call_id, number)
        wait = waits.step.waits
        if wait is None:
            raise NotWaiting
        checked = _checked_answer(value, wait.answer_schema, self._max_value_bytes)
        by, source = checked_remark(by, field="by"), checked_remark(source, field="source")
        await self._check_allowed("answer", run, waits, by, source)
        step = DurableStep(op="input", name=wait.name, value=checked)
        record = StepRecord(f"{waits.call.call_id}{PART}{wait.number}", encode_durable_step(step))
        told = RunAnswered(call_id=waits.call.call_id, name=waits.call.name, answer="input", by=by, source=source)
        return await self._said(run.run_id, waits, record, told)

    async def signal(self, run_id: str, name: str, data: Any, *, signal_id: str | None, by: str) -> Status:
        """See `AsyncClient.signal`."""
        run = await self._store.read(checked_id(run_id))
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_SIGNAL_NAME or name != _json.storable(name):
            raise InvalidInput(f"name must have 1 to {_MAX_SIGNAL_NAME} characters, not {name!r}", field="name")
        encoded = _json.dumps(_json.checked(data, field="data"))
        _check_size(encoded, self._max_value_bytes, "data")
        check_texts(signal_id=signal_id)
        by = checked_remark(by, field="by")
        await self._check_allowed("signal", run, None, by, "")
        told = RunAnswered(call_id="", name=name, answer="signal", by=by)
        signal = Signal(signal_id or _ids.new_token(), name, encoded, (told,))
        return await self._woken(run_id, await self._store.signal(run_id, signal, wake=self._wakeup))

    async def inbox(self, limit: int) -> tuple[Waiting, ...]:
        """See `AsyncClient.inbox`."""
        found = await self._store.list(RunFilter(asks_people=True, limit=checked_limit(limit)))
        return tuple(
            Waiting(run, question) for run in found[:limit] for question in run.questions if question.kind in FOR_PEOPLE
        )

    async def _decide(
        self,
        run: RunState,
        waits: _Open,
        word: Literal["approved", "denied"],
        *,
        by: str,
        source: str,
        arguments: dict[str, Any] | None = None,
        reason: str = "",
    ) -> Status:
        by, source = checked_remark(by, field="by"), checked_remark(source, field="source")
        await self._check_allowed("approve" if word == "approved" else "deny", run, waits, by, source)
        approval = Approval(
            decision=word,
            arguments_hash=waits.step.arguments_hash,
            arguments=arguments,
            reason=reason,
            by=by,
            source=source,
        )
        record = StepRecord(waits.call.call_id + APPROVAL, encode_approval(approval))
        told = RunAnswered(
            call_id=waits.call.call_id,
            name=waits.call.name,
            answer=word,
            by=by,
            source=source,
            reason=reason,
            arguments=arguments,
        )
        return await self._said(run.run_id, waits, record, told)

    async def _said(self, run_id: str, waits: _Open, record: StepRecord, told: RunAnswered) -> Status:
        """Store what was said; once more where people were warned meanwhile, for that changes the line of the call."""
        decision = Decision(waits.call.call_id, waits.seen, record, (told,))
        try:
            released = await self._store.decide(run_id, decision, wake=self._wakeup)
        except NotWaiting:
            seen = (await self._store.journaled(run_id)).get(waits.call.call_id)
            if seen is None or seen == waits.seen or not _waits_alike(read_call_step(seen), waits.step):
                raise
            released = await self._store.decide(run_id, replace(decision, seen=seen), wake=self._wakeup)
        return await self._woken(run_id, released)

    async def _open(self, run_id: str, kind: str, call_id: str | None, number: int | None = None) -> _Open:
        """The call that waits for this. Raises `NotWaiting` for none, and for several where none is named.

        `number` says which of its questions a call is thought to wait with.
        """
        journal = await self._store.journaled(run_id)
        reply = decode_message(journal[REPLY]) if REPLY in journal else None
        found = []
        for call in reply.tool_calls if reply is not None else ():
            seen = journal.get(call.call_id)
            step = None if seen is None else read_call_step(seen)
            if seen is not None and step is not None and step.rests and step.waits and step.waits.kind == kind:
                found.append(_Open(call, step, seen))
        if call_id is not None:
            found = [each for each in found if each.call.call_id == call_id]
        if not found:
            of = f"call {call_id} of run {run_id}" if call_id else f"run {run_id}"
            raise NotWaiting(f"{of} does not wait for {_NAMES[kind]}: it may have been given, or the run has moved on")
        if number is not None:
            found = [each for each in found if each.step.waits and each.step.waits.number == number]
        if not found:
            raise NotWaiting(f"run {run_id} asks another thing by now: that was answered, or its time is over")
        if len(found) > 1:
            names = ", ".join(f"{each.call.call_id} ({each.call.name})" for each in found)
            raise NotWaiting(
                f"run {run_id} has several calls that wait for {_NAMES[kind]}: {names}; name one: call_id="
            )
        return found[0]

    async def _checked_arguments(
        self, run: RunState, call: ToolCallPart, arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Other arguments for a call, as far as its schema is known here; the worker checks them in full."""
        # Here, because it brings the tools along, which only this needs.
        from agentq.tools.schema import raw_arguments

        if not isinstance(arguments, dict):
            raise InvalidInput(f"arguments must be a dict, not {type(arguments).__name__}", field="arguments")
        checked: dict[str, Any] = _json.checked(arguments, field="arguments")
        _check_size(_json.dumps(checked), self._max_value_bytes, "arguments")
        manifest = await self._catalogue.manifest(self._store, run.agent)
        for tool in manifest.get("tools", ()):
            if tool["name"] == call.name:
                try:
                    raw_arguments(tool["parameters"], _takes_anything).bind(checked)
                except InvalidArguments as error:
                    raise InvalidInput(f"arguments do not fit {call.name}: {error}", field="arguments") from error
        return checked

    async def _check_allowed(self, action: str, run: RunState, waits: _Open | None, by: str, source: str) -> None:
        if self._authorize is None:
            return
        wait = waits.step.waits if waits is not None else None
        call = waits.call if waits is not None else None
        request = DecisionRequest(action, run, call, wait.approvers if wait is not None else (), by, source)
        said = self._authorize(request)
        if inspect.isawaitable(said):
            said = await said
        if said is not True:
            why = said if isinstance(said, str) else f"{by or 'whoever this is'} may not {action}"
            raise DecisionRefused(f"run {run.run_id}: {why}")

    @property
    def _wakeup(self) -> Any:
        return getattr(self._executor, "wakeup", None)

    async def _woken(self, run_id: str, released: Released) -> Status:
        if not released.woken and self._executor is not None:
            await self._executor.schedule_next_iteration(run_id)
        return released.status


_NAMES = {"approval": "an approval", "input": "an answer"}


def _waits_alike(step: CallStep, before: CallStep) -> bool:
    """Whether a call waits for the same as before; that people were warned is no difference."""
    warned = before.waits and before.waits.model_copy(update={"warned": True})
    return step == before.model_copy(update={"waits": warned})


def _takes_anything(**_: Any) -> None:
    """Stands for a function whose code is not here."""


def _check_size(encoded: bytes, most: int, field: str) -> None:
    if len(encoded) > most:
        raise InvalidInput(f"{field} is {len(encoded)} bytes, more than max_value_bytes={most}", field=field)


def _checked_answer(value: Any, schema: Mapping[str, Any] | None, most: int) -> Any:
    checked = _json.checked(value, field="answer")
    _check_size(_json.dumps(checked), most, "answer")
    if schema is None:
        return checked
    # Here, because it brings the tools along, which only this needs.
    from agentq.tools.answers import misfit

    if (problem := misfit(checked, schema, field="answer")) is not None:
        raise InvalidInput(f"answer does not fit what is asked for: {problem}", field="answer")
    return checked
