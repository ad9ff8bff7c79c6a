"""What is sent into a run from outside: a cancel, a pause, an answer, a retry, other limits."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from agentq import _json
from agentq.events.model import CancelRequestedEvent, RunPaused, RunResumed
from agentq.messages import encode_message
from agentq.runs import Status
from agentq.stores import _arguments
from agentq.stores.base import Answer, Decision, Released, Retry, Signal, Signalled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq._redis.scripts import Script
    from agentq.events.model import Event
    from agentq.limits import RunLimits
    from agentq.stores.base import Steer, StepRecord, Wakeup


class Signals:
    """Writes signals; see `Store` for what each does."""

    def __init__(self, pipeline: Pipeline, keys: Keys, scripts: Callable[[str], Script]) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._script = scripts

    async def cancel(self, run_id: str, reason: str, by: str) -> Signalled:
        status, held = await self._pipeline.run(
            self._script("cancel"),
            about=f"run {run_id}",
            run=self._keys.run(run_id),
            prefix=self._keys.prefix,
            run_id=run_id,
            reason=reason,
            items=_arguments.items((CancelRequestedEvent(reason=reason, by=by),)),
        )
        return Signalled(Status(status.decode()), held=bool(held))

    async def steer(self, run_id: str, steer: Steer) -> Status:
        session: bytes | None = None
        if steer.files:
            session = await self._pipeline.execute("HGET", self._keys.run(run_id), "session")
        (status,) = await self._pipeline.run(
            self._script("steer"),
            about=f"run {run_id}",
            run=self._keys.run(run_id),
            inbox=self._keys.inbox(run_id),
            events=self._keys.events(run_id),
            files=self._keys.files(run_id, session.decode() if session else None),
            token=steer.token,
            content=encode_message(steer.message),
            items=_arguments.items(steer.events),
            blobs=[item for pair in steer.files.items() for item in pair],
        )
        return Status(status.decode())

    async def pause(self, run_id: str, reason: str, by: str) -> Signalled:
        status, held = await self._pipeline.run(
            self._script("pause"),
            about=f"run {run_id}",
            run=self._keys.run(run_id),
            prefix=self._keys.prefix,
            run_id=run_id,
            reason=reason,
            by=by,
            items=_arguments.items((RunPaused(reason=reason, by=by),)),
        )
        return Signalled(Status(status.decode()), held=bool(held))

    async def resume(self, run_id: str, by: str, wake: Wakeup | None) -> Released:
        status, woken = await self._pipeline.run(
            self._script("resume"),
            about=f"run {run_id}",
            run=self._keys.run(run_id),
            prefix=self._keys.prefix,
            run_id=run_id,
            wakeup=_arguments.template(wake),
            items=_arguments.items((RunResumed(by=by),)),
        )
        return Released(Status(status.decode()), bool(woken))

    async def retry(self, run_id: str, retry: Retry, wake: Wakeup | None) -> Released:
        status, woken = await self._pipeline.run(
            self._script("retry"),
            about=f"run {run_id}",
            run=self._keys.run(run_id),
            messages=self._keys.messages(run_id),
            events=self._keys.events(run_id),
            prefix=self._keys.prefix,
            run_id=run_id,
            fence=retry.fence,
            wakeup=_arguments.template(wake),
            contents=[encode_message(message) for message in retry.messages],
            items=_arguments.items(retry.events),
        )
        return Released(Status(status.decode()), bool(woken))

    async def limit(self, run_id: str, limits: RunLimits, events: Sequence[Event], wake: Wakeup | None) -> Released:
        status, woken = await self._pipeline.run(
            self._script("limit"),
            about=f"run {run_id}",
            run=self._keys.run(run_id),
            events=self._keys.events(run_id),
            prefix=self._keys.prefix,
            run_id=run_id,
            limits=_json.dumps(limits.given()),
            wakeup=_arguments.template(wake),
            items=_arguments.items(tuple(events)),
        )
        return Released(Status(status.decode()), bool(woken))

    async def answer(self, run_id: str, answer: Answer, wake: Wakeup | None) -> Released:
        status, woken = await self._pipeline.run(
            self._script("answer"),
            about=f"run {run_id}",
            run=self._keys.run(run_id),
            journal=self._keys.journal(run_id),
            events=self._keys.events(run_id),
            prefix=self._keys.prefix,
            run_id=run_id,
            fence=answer.fence,
            name=answer.record.name,
            value=answer.record.value,
            digest=_digest(answer.record),
            wakeup=_arguments.template(wake),
            items=_arguments.items(answer.events),
        )
        return Released(Status(status.decode()), bool(woken))

    async def decide(self, run_id: str, decision: Decision, wake: Wakeup | None) -> Released:
        status, woken = await self._pipeline.run(
            self._script("decide"),
            about=f"run {run_id}",
            run=self._keys.run(run_id),
            journal=self._keys.journal(run_id),
            events=self._keys.events(run_id),
            prefix=self._keys.prefix,
            run_id=run_id,
            call_id=decision.call_id,
            seen=decision.seen,
            name=decision.record.name,
            value=decision.record.value,
            digest=_digest(decision.record),
            wakeup=_arguments.template(wake),
            items=_arguments.items(decision.events),
        )
        return Released(Status(status.decode()), bool(woken))

    async def signal(self, run_id: str, signal: Signal, wake: Wakeup | None) -> Released:
        status, woken = await self._pipeline.run(
            self._script("signal"),
            about=f"run {run_id}",
            run=self._keys.run(run_id),
            signals=self._keys.signals(run_id),
            events=self._keys.events(run_id),
            prefix=self._keys.prefix,
            run_id=run_id,
            signal_id=signal.signal_id,
            value=_json.dumps({"name": signal.name, "data": _json.loads(signal.data)}),
            wakeup=_arguments.template(wake),
            items=_arguments.items(signal.events),
        )
        return Released(Status(status.decode()), bool(woken))

    async def kept(self, run_id: str) -> dict[str, Signal]:
        stored: dict[bytes, bytes] = await self._pipeline.execute("HGETALL", self._keys.signals(run_id))
        found: list[tuple[int, Signal]] = []
        for signal_id, value in stored.items():
            number, _, document = value.partition(b" ")
            if document:
                read = _json.loads(document)
                found.append((int(number), Signal(signal_id.decode(), read["name"], _json.dumps(read["data"]))))
        return {signal.signal_id: signal for _, signal in sorted(found, key=lambda pair: pair[0])}


def _digest(record: StepRecord) -> str:
    return hashlib.sha256(f"{record.name} ".encode() + record.value).hexdigest()[:16]
