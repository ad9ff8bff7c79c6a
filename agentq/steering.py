"""What somebody outside does to a run: cancel it, pause it, answer it, take it up again. Knows protocols only."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentq import _ids, results
from agentq.attachments import read_files
from agentq.errors import (
    CancelRequested,
    IllegalTransition,
    InvalidInput,
    LeaseLost,
    NotWaiting,
    RunAlreadyFinished,
    RunNotFound,
    StoreCorrupted,
    StoreUnavailable,
    ToolError,
)
from agentq.events.limits import LimitsChanged
from agentq.events.model import RunRetried, RunSteered
from agentq.forking import digests_in, first_part, fork_of
from agentq.intake import NOTHING, check_texts, check_words, checked_id, checked_name, checked_offset, checked_remark
from agentq.limits import Meter, RunLimits, Spent
from agentq.messages import Message, NoteKind, Role, note_message, user_message
from agentq.runs import CALL_OUTCOME, EVERYTHING, INPUT, RunState, Status, agent_scope, queue_scope
from agentq.settings import check_name
from agentq.stores.base import Retry, Steer, Store
from agentq.stores.filters import RunFilter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agentq.attachments import Attachable
    from agentq.catalogue import Catalogue
    from agentq.deciding import Deciding
    from agentq.events.stream import EventStream
    from agentq.executors.base import Executor
    from agentq.runs import Pause
    from agentq.settings import Settings
    from agentq.stores.base import Released, Wakeup

# How long a run has to end whose session is to be deleted, and how many there may be.
_TO_END_S = 10.0
_MANY = 1000
# So often they are looked for: a run can hide by a change of its status, or be new.
_LOOKS = 5
_log = logging.getLogger(__name__)
_RETRIED = "The run had stopped ({why}) and was taken up again. Go on from where you were."


class Steering:
    """Steers the runs of one store, for a client."""

    def __init__(
        self,
        store: Store,
        stream: EventStream,
        executor: Executor | None,
        settings: Settings,
        catalogue: Catalogue,
        deciding: Deciding,
    ) -> None:
        self._store = store
        self._stream = stream
        self._executor = executor
        self._settings = settings
        self._catalogue = catalogue
        self._deciding = deciding

    async def cancel(self, run_id: str, *, reason: str, wait: float, by: str = "") -> Status:
        """See `AsyncClient.cancel`."""
        if isinstance(wait, bool) or not isinstance(wait, int | float) or not wait >= 0:
            raise InvalidInput(f"wait must be 0 or more seconds, not {wait}", field="wait")
        reason, by = checked_remark(reason, field="reason"), checked_remark(by, field="by")
        signalled = await self._store.cancel(checked_id(run_id), reason=reason, by=by)
        if not signalled.held and not signalled.status.is_final:
            await self._settle(run_id)
        state = await self._store.read(run_id)
        return await self._end_of(state, wait) if wait and not state.status.is_final else state.status

    async def answer(self, run_id: str, given: Any, *, call_id: str | None, number: int | None, by: str) -> Status:
        """See `AsyncClient.answer`."""
        # Here, because it brings the tools along, which only this needs.
        from agentq.loop.answering import answer_to

        run = await self._store.read(checked_id(run_id))
        number = None if number is None else checked_offset(number, field="number")
        question = run.question
        if question is None:
            raise NotWaiting(f"run {run_id} is {run.status} and does not wait for an answer")
        if any(each.kind == INPUT for each in run.questions):
            return await self._deciding.answer(run, given, call_id=call_id, number=number, by=by, source="")
        if question.kind != CALL_OUTCOME:
            raise NotWaiting(f"run {run_id} waits for no answer: {question.text}")
        if call_id not in (None, question.call_id):
            raise NotWaiting(f"run {run_id} waits for an answer about call {question.call_id}, not {call_id}")
        try:
            answer = answer_to(run, question, given, by=checked_remark(by, field="by"))
        except ToolError as error:
            raise InvalidInput(f"answer cannot be stored: {error}", field="answer") from error
        if (size := len(answer.record.value)) > self._settings.max_value_bytes:
            raise InvalidInput(
                f"answer is {size} bytes, more than max_value_bytes={self._settings.max_value_bytes}", field="answer"
            )
        released = await self._store.answer(run_id, answer, wake=self._wakeup)
        return await self._woken(run_id, released)

    async def set_limits(self, run_id: str, limits: RunLimits, *, by: str) -> Status:
        """See `AsyncClient.set_limits`."""
        run = await self._store.read(checked_id(run_id))
        if not isinstance(limits, RunLimits):
            raise InvalidInput(f"limits must be RunLimits(...), not {limits!r}", field="limits")
        own = limits.over(run.limits)
        told = LimitsChanged(limits=own.given(), by=checked_remark(by, field="by"))
        return await self._woken(run_id, await self._store.set_limits(run_id, own, (told,), wake=self._wakeup))

    async def retry(self, run_id: str, *, by: str = "") -> Status:
        """See `AsyncClient.retry`."""
        by = checked_remark(by, field="by")
        run = await self._store.read(checked_id(run_id))
        if run.status is Status.COMPLETED:
            raise IllegalTransition(f"run {run_id} has completed; enqueue its prompt again instead")
        messages = await self._store.messages(run_id)
        retry = Retry(run.fence, _note_for(run, messages), (RunRetried(retries=run.retries + 1, by=by),))
        return await self._woken(run_id, await self._store.retry(run_id, retry, wake=self._wakeup))

    async def steer(self, run_id: str, text: str, files: Sequence[Attachable], *, by: str) -> Status:
        """See `AsyncClient.steer`."""
        run_id, by = checked_id(run_id), checked_remark(by, field="by")
        check_words(text, self._settings.max_value_bytes, field="text")
        attached = await asyncio.to_thread(read_files, files, self._settings) if files else NOTHING
        message = user_message(text, attached.parts)
        steer = Steer(_ids.new_token(), message, (RunSteered(text=text, by=by),), attached.contents)
        try:
            return await self._store.steer(run_id, steer)
        except (RunAlreadyFinished, CancelRequested) as error:
            run = await self._store.read(run_id)
            what = f"has {run.status}" if run.status.is_final else "was cancelled, and is about to end"
            hint = "follow_up starts the next run of its session" if run.session_id else "enqueue another run"
            raise RunAlreadyFinished(f"run {run_id} {what}, so it reads no more; {hint}") from error

    async def fork(
        self,
        run_id: str,
        *,
        iteration: int | None,
        prompt: str | None,
        session_id: str | None,
        idempotency_key: str | None,
    ) -> str:
        """See `AsyncClient.fork`; returns the id of the new run."""
        if prompt is not None:
            check_words(prompt, self._settings.max_value_bytes)
        check_texts(session_id=session_id, idempotency_key=idempotency_key)
        store, run = self._store, await self._store.read(checked_id(run_id))
        if session_id is not None and session_id == run.session_id:
            raise InvalidInput(
                "a fork cannot enter the session of its run, which holds it; name a new session", field="session_id"
            )
        own = first_part(await store.messages(run_id), iteration)
        earlier: tuple[Message, ...] = ()
        if run.session_id is not None and run.history_length:
            earlier = (await store.session_messages(run.session_id))[: run.history_length]
        new = fork_of(
            run,
            (*earlier, *own),
            iteration=iteration,
            prompt=prompt,
            session_id=session_id,
            idempotency_key=idempotency_key,
        )
        files = {digest: await store.file(run_id, digest) for digest in digests_in(new.messages)}
        created = await store.create(replace(new, files=files), wake=self._wakeup)
        if created.run_id == new.run_id and not created.woken and self._executor is not None:
            await self._executor.schedule_next_iteration(created.run_id)
        return created.run_id

    async def delete_session(self, session_id: str, *, cancel: bool) -> None:
        """See `AsyncClient.delete_session`."""
        session = await self._store.session(checked_name(session_id, field="session_id"))
        if cancel and session.open_runs:
            await self._cancel_all(session_id)
        await self._store.delete_session(session_id)

    async def _cancel_all(self, session_id: str) -> None:
        """Cancel the runs of a session. One may get another status while they are looked for: so again."""
        tried: set[str] = set()
        for _ in range(_LOOKS):
            found: list[RunState] = []
            for status in (status for status in Status if not status.is_final):
                which = RunFilter(status=status, session_id=session_id, limit=_MANY)
                found += [run for run in await self._store.list(which) if run.run_id not in tried]
            for run in found:
                tried.add(run.run_id)
                with suppress(RunAlreadyFinished, RunNotFound):
                    await self.cancel(run.run_id, reason="its session is deleted", wait=_TO_END_S)
            if not found and not (await self._store.session(session_id)).open_runs:
                return

    async def spent(self, meter: Meter) -> Spent:
        """What runs have used together."""
        (spent,) = await self._store.spent([meter])
        return spent

    async def pause(self, run_id: str, *, reason: str, by: str) -> Status:
        """See `AsyncClient.pause`."""
        run_id, reason = checked_id(run_id), checked_remark(reason, field="reason")
        try:
            return (await self._store.pause(run_id, reason=reason, by=checked_remark(by, field="by"))).status
        except CancelRequested as error:
            raise RunAlreadyFinished(f"run {run_id} was cancelled, and is about to end") from error

    async def resume(self, run_id: str, *, by: str) -> Status:
        """See `AsyncClient.resume`."""
        by = checked_remark(by, field="by")
        return await self._woken(run_id, await self._store.resume(checked_id(run_id), by=by, wake=self._wakeup))

    async def pause_all(self, agent: str | None, queue: str | None, *, reason: str, by: str) -> Pause:
        """See `AsyncClient.pause_all`."""
        scope, reason = _scope(agent, queue), checked_remark(reason, field="reason")
        return await self._store.pause_all(scope, reason=reason, by=checked_remark(by, field="by"))

    async def resume_all(self, agent: str | None, queue: str | None) -> None:
        """See `AsyncClient.resume_all`."""
        await self._store.resume_all(_scope(agent, queue))

    async def pauses(self) -> Mapping[str, Pause]:
        """See `AsyncClient.pauses`."""
        return await self._store.pauses()

    @property
    def _wakeup(self) -> Wakeup | None:
        return getattr(self._executor, "wakeup", None)

    async def _woken(self, run_id: str, released: Released) -> Status:
        if not released.woken and self._executor is not None:
            await self._executor.schedule_next_iteration(run_id)
        return released.status

    async def _end_of(self, state: RunState, wait: float) -> Status:
        """The status of a run that is to end, after up to `wait` seconds."""
        limit = asyncio.timeout(wait)
        try:
            async with limit:
                state = await results.ended(self._store, self._stream, state)
        except TimeoutError:
            if not limit.expired():
                raise
            state = await self._store.read(state.run_id)
        return state.status

    async def settle(self, run_ids: Iterable[str]) -> None:
        """End cancelled runs that nobody holds. Where that cannot be done, a worker does it."""
        for run_id in run_ids:
            try:
                await self._settle(run_id)
            except (StoreUnavailable, StoreCorrupted) as error:
                _log.warning("a worker is to end run %s: %s", run_id, error, extra={"run_id": run_id})

    async def _settle(self, run_id: str) -> None:
        """End a cancelled run that nobody holds. A worker that was faster does it in our place."""
        # Here, because the loop brings the tools and the providers along, which only this needs.
        from agentq.loop import settle_cancelled

        owner = f"client-{_ids.new_token()}"
        for claim in await self._store.claim(
            [run_id], owner=owner, claim_id=_ids.new_token(), lease_ms=self._settings.lease_ms
        ):
            try:
                to_wake = await settle_cancelled(
                    self._store,
                    claim,
                    self._settings,
                    agent_ttl_ms=await self._catalogue.times_to_live(self._store, claim.run.agent),
                    spend=await self._catalogue.spend(self._store, claim.run.agent),
                    wake=self._wakeup,
                )
                if self._executor is not None:
                    for other in to_wake:
                        await self._executor.schedule_next_iteration(other)
            except LeaseLost:
                _log.info("another worker took the cancelled run over and ends it", extra={"run_id": run_id})


def _scope(agent: str | None, queue: str | None) -> str:
    if agent is not None and queue is not None:
        raise InvalidInput("name an agent or a queue, not both", field="queue")
    if agent is not None:
        check_name(agent, field="agent")
        return agent_scope(agent)
    if queue is not None:
        check_name(queue, field="queue")
        return queue_scope(queue)
    return EVERYTHING


def _note_for(run: RunState, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """What the model is told of the break, where its last word would pass for an answer."""
    last = messages[-1] if messages else None
    if last is None or last.role is not Role.ASSISTANT or last.tool_calls:
        return ()
    why = run.last_error if run.status is Status.FAILED else run.cancel_reason
    return (note_message(_RETRIED.format(why=why or run.status), NoteKind.RETRIED),)
