"""What an `AsyncClient` and its handles do to runs from outside. The work itself is `Steering`'s."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agentq.errors import InvalidInput
from agentq.intake import checked_meter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import date

    from agentq.attachments import Attachable
    from agentq.deciding import Deciding, Waiting
    from agentq.limits import RunLimits, Spent, Window
    from agentq.runs import Pause, RunState, Status
    from agentq.steering import Steering

# The handle that enqueueing gives.
R = TypeVar("R")


class SteersRuns(Generic[R]):
    """The part of `AsyncClient` that changes runs which are there."""

    enqueue: Callable[..., Awaitable[R]]

    @abstractmethod
    async def get(self, run_id: str) -> R: ...

    @abstractmethod
    async def read(self, run_id: str) -> RunState: ...

    @abstractmethod
    def _steering(self) -> Steering: ...

    async def cancel(self, run_id: str, *, reason: str = "", wait: float = 0.0, by: str = "") -> Status:
        """Ask the run to stop and return its status, after up to `wait` seconds in which it may end.

        A run that no worker holds is cancelled when this returns; the one that holds it stops it within moments.
        `by` is who, for the run's events.
        Raises `RunAlreadyFinished` when the run has completed or failed. Again: no effect.
        """
        return await self._steering().cancel(run_id, reason=reason, wait=wait, by=by)

    async def steer(self, run_id: str, text: str, *, files: Sequence[Attachable] = (), by: str = "") -> Status:
        """Send a message into a run that goes on; returns its status. The next iteration reads it.

        An iteration that is under way is not stopped, and an answer that it gives does not end the run: the agent reads
        the message, and answers again. Its iterations count anew. Raises `RunAlreadyFinished`; then `follow_up` helps.
        """
        return await self._steering().steer(run_id, text, files, by=by)

    async def follow_up(
        self, run_id: str, text: str, *, files: Sequence[Attachable] = (), idempotency_key: str | None = None
    ) -> R:
        """Enqueue the next run of a run's session, of the same agent, user and model; it sees what was said.

        Raises `InvalidInput` for a run without a session.
        """
        run = await self.read(run_id)
        if run.session_id is None:
            raise InvalidInput(f"run {run_id} has no session to go on with; enqueue it with session_id", field="run_id")
        return await self.enqueue(
            run.agent,
            text,
            session_id=run.session_id,
            concurrency_key=run.concurrency_key,
            concurrency=run.concurrency or None,
            user_id=run.user_id,
            queue=run.queue,
            model=run.model,
            tenant=run.tenant,
            priority=run.priority,
            files=files,
            idempotency_key=idempotency_key,
        )

    async def fork(
        self,
        run_id: str,
        *,
        iteration: int | None = None,
        prompt: str | None = None,
        session_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> R:
        """Enqueue a new run that begins with this one's transcript, or its part up to the end of `iteration`.

        0 is the prompt alone. `prompt` is added. The fork has the agent, user, model and metadata of the old run, which
        stays as it is, whatever became of it; `forked_from` links the two. It belongs to no session but a new one that
        is named. What tools keep in `ctx.state` is not taken along. Raises `InvalidInput`, also where the part ends
        with an answer and there is no prompt.
        """
        forked = await self._steering().fork(
            run_id,
            iteration=iteration,
            prompt=prompt,
            session_id=session_id,
            idempotency_key=idempotency_key,
        )
        return await self.get(forked)

    async def delete_session(self, session_id: str, *, cancel: bool = False) -> None:
        """Delete a session: what its runs said, its files and values, and the runs themselves.

        While one of them goes on, it raises `SessionBusy`; with `cancel` that one is cancelled first, and has ten
        seconds to end. Raises `SessionNotFound`.
        """
        await self._steering().delete_session(session_id, cancel=cancel)

    async def pause(self, run_id: str, *, reason: str = "", by: str = "") -> Status:
        """Keep the run from starting another iteration until it is resumed; returns its status.

        An iteration that is under way is finished first: the run is `paused` when it has committed, even with its
        answer, and ends when it is resumed. A run that waits stays `waiting`, and is `paused` when it would go on.
        `reason` and `by` stand in the run and its events. Raises `RunAlreadyFinished`. Again: no effect.
        """
        return await self._steering().pause(run_id, reason=reason, by=by)

    async def resume(self, run_id: str, *, by: str = "") -> Status:
        """Let a paused run go on, next in line; returns its status. One that is not paused stays as it is."""
        return await self._steering().resume(run_id, by=by)

    async def pause_all(
        self, *, agent: str | None = None, queue: str | None = None, reason: str = "", by: str = ""
    ) -> Pause:
        """Keep the runs of an agent or a queue from going on, without either all runs; returns the pause that stands.

        Iterations that are under way end. Runs stay `queued`, and `why` says who paused what. It holds until
        `resume_all`, whatever restarts. Again: the first pause stands.
        """
        return await self._steering().pause_all(agent, queue, reason=reason, by=by)

    async def resume_all(self, *, agent: str | None = None, queue: str | None = None) -> None:
        """Let go on what `pause_all` paused. Workers notice within a second. Again: no effect."""
        await self._steering().resume_all(agent, queue)

    async def pauses(self) -> Mapping[str, Pause]:
        """What is paused as a whole, by scope: `all`, `agent:NAME`, `queue:NAME`."""
        return await self._steering().pauses()

    async def answer(
        self, run_id: str, answer: Any, *, call_id: str | None = None, number: int | None = None, by: str = ""
    ) -> Status:
        """Answer what a `waiting` run asks, and let the run go on; returns its status.

        Where a tool asks something, `answer` is that, and fits its schema. Where a call's worker died, it is what the
        tool would have returned, or `Reconciled.DID_NOT_HAPPEN` (the call is made again) or
        `Reconciled.UNKNOWN` (the model is told so). `by` is who says it, for the run's events. Again with the same
        answer: no effect. A call may ask several things, one after the other: `number` is the question's, as `inbox`
        gives it, so that no answer goes to the next one. Raises `NotWaiting` when the run does not wait for it.
        """
        return await self._steering().answer(run_id, answer, call_id=call_id, number=number, by=by)

    async def set_limits(self, run_id: str, limits: RunLimits, *, by: str = "") -> Status:
        """Give the run limits of its own and return its status; what `limits` leaves out stays as it was.

        A run that waits because it had reached a limit goes on and looks at them; one that failed has them when it is
        retried. `by` is who says it, for the run's events. Again with the same limits: no effect.
        """
        return await self._steering().set_limits(run_id, limits, by=by)

    async def spent(
        self,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        agent: str | None = None,
        window: Window = "day",
        day: date | None = None,
    ) -> Spent:
        """What runs have used together so far, of one user, one session, one agent, or all.

        Only runs of agents with a `SpendLimit` for that are counted, from then on. `window` is "day" (that of UTC which
        it is now, or `day`), "hour" or "total".
        """
        meter = checked_meter(user_id=user_id, session_id=session_id, agent=agent, window=window, day=day)
        return await self._steering().spent(meter)

    @abstractmethod
    def _deciding(self) -> Deciding: ...

    async def approve(
        self,
        run_id: str,
        call_id: str | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        by: str = "",
        source: str = "",
    ) -> Status:
        """Allow a call that waits for it, as it is or with other `arguments`; returns the run's status.

        `call_id` may be left out where one call waits. `by` is who allows it and `source` from where, for the run's
        events. It holds for this one call with these arguments. Again with the same words: no effect. Raises
        `NotWaiting`, `AlreadyDecided` when somebody was faster, `DecisionRefused`, and `InvalidInput` for arguments
        that do not fit.
        """
        return await self._deciding().approve(run_id, call_id=call_id, arguments=arguments, by=by, source=source)

    async def deny(
        self, run_id: str, call_id: str | None = None, *, reason: str = "", by: str = "", source: str = ""
    ) -> Status:
        """Deny a call that waits to be allowed; the model is told the `reason`. See `approve`."""
        return await self._deciding().deny(run_id, call_id=call_id, reason=reason, by=by, source=source)

    async def signal(
        self, run_id: str, name: str, data: Any = None, *, signal_id: str | None = None, by: str = ""
    ) -> Status:
        """Tell a run that `name` has happened, for a tool that waits for it now or later; returns the run's status.

        `data` has a JSON form. A `signal_id` that was sent before has no effect. Raises `RunAlreadyFinished`, and
        `InboxFull` when a thousand wait that nobody has taken.
        """
        return await self._deciding().signal(run_id, name, data, signal_id=signal_id, by=by)

    async def inbox(self, *, limit: int = 50) -> tuple[Waiting, ...]:
        """What runs wait for people to say, of the newest `limit` runs that wait for people."""
        return await self._deciding().inbox(limit)

    async def retry(self, run_id: str, *, by: str = "") -> Status:
        """Take up a run again that has failed or was cancelled, from its last commit; its budgets start anew.

        Finished work is not repeated. `by` is who, for the run's events. Raises `NotFinished`, `IllegalTransition` for
        a run that has completed, and `SessionMovedOn` when a later run of its session has started.
        """
        return await self._steering().retry(run_id, by=by)


class SteersRun:
    """The same, of the handle on one run."""

    __slots__ = ()

    _client: SteersRuns[Any]
    id: str

    async def cancel(self, *, reason: str = "", wait: float = 0.0, by: str = "") -> Status:
        """See `AsyncClient.cancel`."""
        return await self._client.cancel(self.id, reason=reason, wait=wait, by=by)

    async def steer(self, text: str, *, files: Sequence[Attachable] = (), by: str = "") -> Status:
        """See `AsyncClient.steer`."""
        return await self._client.steer(self.id, text, files=files, by=by)

    async def pause(self, *, reason: str = "", by: str = "") -> Status:
        """See `AsyncClient.pause`."""
        return await self._client.pause(self.id, reason=reason, by=by)

    async def resume(self, *, by: str = "") -> Status:
        """See `AsyncClient.resume`."""
        return await self._client.resume(self.id, by=by)

    async def answer(
        self, answer: Any, *, call_id: str | None = None, number: int | None = None, by: str = ""
    ) -> Status:
        """See `AsyncClient.answer`."""
        return await self._client.answer(self.id, answer, call_id=call_id, number=number, by=by)

    async def set_limits(self, limits: RunLimits, *, by: str = "") -> Status:
        """See `AsyncClient.set_limits`."""
        return await self._client.set_limits(self.id, limits, by=by)

    async def approve(
        self,
        call_id: str | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        by: str = "",
        source: str = "",
    ) -> Status:
        """See `AsyncClient.approve`."""
        return await self._client.approve(self.id, call_id, arguments=arguments, by=by, source=source)

    async def deny(self, call_id: str | None = None, *, reason: str = "", by: str = "", source: str = "") -> Status:
        """See `AsyncClient.deny`."""
        return await self._client.deny(self.id, call_id, reason=reason, by=by, source=source)

    async def signal(self, name: str, data: Any = None, *, signal_id: str | None = None, by: str = "") -> Status:
        """See `AsyncClient.signal`."""
        return await self._client.signal(self.id, name, data, signal_id=signal_id, by=by)

    async def retry(self, *, by: str = "") -> Status:
        """See `AsyncClient.retry`."""
        return await self._client.retry(self.id, by=by)
