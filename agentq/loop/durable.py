"""The durable steps of calls, kept in the journal, and whether what resting calls wait for has come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.errors import StepDiverged, StoreCorrupted, ToolError
from agentq.loop.writer import patiently
from agentq.steps import APPROVAL, PART, DurableStep, Wait, encode_durable_step, read_durable_step
from agentq.stores.base import StepRecord
from agentq.tools.durable import Rested

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.loop.loop import Loop
    from agentq.loop.writer import StepWriter
    from agentq.runs import RunState
    from agentq.steps import CallStep
    from agentq.stores.base import Signal


def part_of(call_id: str, number: int) -> str:
    """The name under which a durable step of a call is journaled."""
    return f"{call_id}{PART}{number}"


class Parts:
    """What the journal of one iteration holds beside the calls themselves, the signals of the run, and the time."""

    def __init__(self, loop: Loop, run: RunState, journal: Mapping[str, bytes], writer: StepWriter) -> None:
        self._loop = loop
        self._run = run
        self._writer = writer
        self._by_name = {name: value for name, value in journal.items() if PART in name}
        self._signals: dict[str, Signal] | None = None
        # Ids of signals that were taken here: the journal may not say so yet.
        self._taken: set[str] = set()
        # Calls of a reply that has not come to its end. It may be void, so nothing of them is kept before it has.
        self._early: dict[str, asyncio.Event] = {}
        self._began = loop.clock.monotonic()

    @property
    def can_be_told(self) -> bool:
        """Whether anybody outside can say something to the run."""
        return self._loop.can_be_told

    @property
    def now_ms(self) -> int:
        """The time by the store's clock: that of the claim, and what has passed since."""
        return self._run.updated_ms + int((self._loop.clock.monotonic() - self._began) * 1000)

    def hold(self, call_id: str) -> None:
        """The durable steps of the call wait until it is let go on."""
        self._early[call_id] = asyncio.Event()

    def let(self, call_id: str) -> None:
        """The reply that asks for the call is journaled."""
        if (held := self._early.pop(call_id, None)) is not None:
            held.set()

    async def may_keep(self, call_id: str) -> None:
        """Return when something of the call may be kept."""
        if (held := self._early.get(call_id)) is not None:
            await held.wait()

    def find(self, name: str) -> bytes | None:
        """A record of the journal."""
        return self._by_name.get(name)

    async def keep(self, record: StepRecord) -> None:
        """Journal a record."""
        await self._writer.write([record])
        self.note(record)

    def note(self, record: StepRecord) -> None:
        """The record has been journaled."""
        self._by_name[record.name] = record.value

    async def read_again(self) -> None:
        """Somebody else may have written to the journal."""
        journal = await self._patiently(lambda: self._loop.store.journaled(self._run.run_id))
        self._by_name = {name: value for name, value in journal.items() if PART in name}

    async def read_signals(self, *, again: bool = False) -> None:
        """Find out which signals there are, once, or `again`."""
        if self._signals is None or again:
            found = await self._patiently(lambda: self._loop.store.signals(self._run.run_id))
            self._signals = {each: found[each] for each in found if each not in self._taken}

    def signal(self, name: str) -> Signal | None:
        """The first signal of that name that nobody has taken."""
        return next((each for each in (self._signals or {}).values() if each.name == name), None)

    def take_signal(self, name: str) -> Signal | None:
        """The first signal of that name, for a call whose next write says that it is taken: no other call gets it."""
        signal = self.signal(name)
        if signal is not None and self._signals is not None:
            del self._signals[signal.signal_id]
            self._taken.add(signal.signal_id)
        return signal

    async def _patiently(self, read: Any) -> Any:
        return await patiently(read, self._loop.clock, lambda: self._writer.closed)

    # --- resting calls

    def is_ready(self, call_id: str, step: CallStep) -> bool:
        """Whether what the call waits for has come, or will not."""
        wait = step.waits
        if wait is None:
            return False
        if wait.kind == "approval":
            return self.find(call_id + APPROVAL) is not None
        if wait.kind == "input":
            return self.find(part_of(call_id, wait.number)) is not None
        if wait.kind == "signal" and self.signal(wait.name) is not None:
            return True
        return self.has_expired(wait)

    def has_expired(self, wait: Wait) -> bool:
        """Whether its time is over."""
        return 0 < wait.until_ms <= self.now_ms

    async def resolution(self, call_id: str, wait: Wait) -> list[StepRecord] | None:
        """What is journaled when the tool is entered again; None where somebody else took what it waited for."""
        if wait.kind == "approval" or self.find(part_of(call_id, wait.number)) is not None:
            return []
        if wait.kind == "timer":
            return [step_record(call_id, wait.number, DurableStep(op="timer"))]
        has_expired, came = self.has_expired(wait), None
        if wait.kind == "signal":
            # One that came in time counts, however late the run looks.
            await self.read_signals(again=has_expired)
            came = self.take_signal(wait.name)
        if came is not None:
            return [_taken(call_id, wait.number, came)]
        if not has_expired:
            return None
        return [step_record(call_id, wait.number, expired(wait))]


def expired(wait: Wait) -> DurableStep:
    """What a step comes to for which nothing came in time."""
    return DurableStep(op=wait.kind, name=wait.name, expired=True)  # type: ignore[arg-type]  # never an approval


def step_record(call_id: str, number: int, step: DurableStep) -> StepRecord:
    """The record of a durable step."""
    return StepRecord(part_of(call_id, number), encode_durable_step(step))


def _taken(call_id: str, number: int, signal: Signal) -> StepRecord:
    step = DurableStep(op="signal", name=signal.name, value=_json.loads(signal.data))
    return StepRecord(part_of(call_id, number), encode_durable_step(step), takes=(signal.signal_id,))


class DurableSteps:
    """The durable steps of one call; see `Durable`."""

    def __init__(self, parts: Parts, call_id: str) -> None:
        self._parts = parts
        self._call_id = call_id

    async def earlier(self, number: int, op: str, name: str) -> DurableStep | None:
        await self._parts.may_keep(self._call_id)
        value = self._parts.find(part_of(self._call_id, number))
        if value is None:
            return None
        try:
            step = read_durable_step(value)
        except StoreCorrupted:
            step = None
        if step is None or (step.op, step.name) != (op, name):
            was = "a write to Redis" if step is None else f"{step.op} {step.name}".strip()
            raise StepDiverged(
                f"step {number} is {op} {name}".strip() + f", and was {was} when the tool was entered before"
            )
        return step

    async def keep(self, number: int, name: str, value: Any) -> None:
        await self._parts.keep(step_record(self._call_id, number, DurableStep(op="step", name=name, value=value)))

    async def rest(
        self,
        number: int,
        kind: Any,
        name: str,
        *,
        within_s: float | None = None,
        until_s: float | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> DurableStep:
        now = self._parts.now_ms
        until_ms = 0
        if within_s is not None:
            until_ms = now + max(int(within_s * 1000), 1)
        elif until_s is not None:
            until_ms = max(int(until_s * 1000), 1)
        wait = Wait(
            kind=kind,
            number=number,
            name=name,
            since_ms=now,
            until_ms=until_ms,
            answer_schema=None if schema is None else dict(schema),
        )
        if kind == "signal":
            await self._parts.read_signals()
        record = None
        if kind == "timer" and self._parts.has_expired(wait):
            record = step_record(self._call_id, number, DurableStep(op="timer"))
        elif kind == "signal" and (came := self._parts.take_signal(name)) is not None:
            record = _taken(self._call_id, number, came)
        if record is None:
            if kind != "timer" and not until_ms and not self._parts.can_be_told:
                raise ToolError(f"nobody can be asked, and no signal can come, in a run of app.run(): {name}")
            raise Rested(wait)
        await self._parts.keep(record)
        return read_durable_step(record.value)
