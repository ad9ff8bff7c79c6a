"""What a `Client` and its handles do to runs from outside: the calls of steering_async.py, and they block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentq._portal import Portal
    from agentq.attachments import Attachable
    from agentq.deciding import Waiting
    from agentq.limits import RunLimits
    from agentq.runs import Pause, Status
    from agentq.steering_async import SteersRuns as Asynchronous


class SteersRuns:
    """The part of `Client` that changes runs which are there."""

    _client: Asynchronous[Any]
    _portal: Portal

    def cancel(self, run_id: str, *, reason: str = "", wait: float = 0.0, by: str = "") -> Status:
        """Ask the run to stop and return its status, after up to `wait` seconds in which it may end.

        A run that no worker holds is cancelled when this returns; the one that holds it stops it within moments.
        `by` is who, for the run's events.
        Raises `RunAlreadyFinished` when the run has completed or failed. Again: no effect.
        """
        return self._portal.call(self._client.cancel, run_id, reason=reason, wait=wait, by=by)

    def steer(self, run_id: str, text: str, *, files: Sequence[Attachable] = (), by: str = "") -> Status:
        """Send a message into a run that goes on; returns its status. The next iteration reads it.

        An iteration that is under way is not stopped, and an answer that it gives does not end the run: the agent reads
        the message, and answers again. Its iterations count anew. Raises `RunAlreadyFinished`; then `follow_up` helps.
        """
        return self._portal.call(self._client.steer, run_id, text, files=files, by=by)

    def delete_session(self, session_id: str, *, cancel: bool = False) -> None:
        """Delete a session: what its runs said, its files and values, and the runs themselves.

        While one of them goes on, it raises `SessionBusy`; with `cancel` that one is cancelled first, and has ten
        seconds to end. Raises `SessionNotFound`.
        """
        self._portal.call(self._client.delete_session, session_id, cancel=cancel)

    def pause(self, run_id: str, *, reason: str = "", by: str = "") -> Status:
        """Keep the run from starting another iteration until it is resumed; returns its status.

        An iteration that is under way is finished first: the run is `paused` when it has committed, even with its
        answer, and ends when it is resumed. A run that waits stays `waiting`, and is `paused` when it would go on.
        `reason` and `by` stand in the run and its events. Raises `RunAlreadyFinished`. Again: no effect.
        """
        return self._portal.call(self._client.pause, run_id, reason=reason, by=by)

    def resume(self, run_id: str, *, by: str = "") -> Status:
        """Let a paused run go on, next in line; returns its status. One that is not paused stays as it is."""
        return self._portal.call(self._client.resume, run_id, by=by)

    def pause_all(self, *, agent: str | None = None, queue: str | None = None, reason: str = "", by: str = "") -> Pause:
        """Keep the runs of an agent or a queue from going on, without either all runs; returns the pause that stands.

        Iterations that are under way end. Runs stay `queued`, and `why` says who paused what. It holds until
        `resume_all`, whatever restarts. Again: the first pause stands.
        """
        return self._portal.call(self._client.pause_all, agent=agent, queue=queue, reason=reason, by=by)

    def resume_all(self, *, agent: str | None = None, queue: str | None = None) -> None:
        """Let go on what `pause_all` paused. Workers notice within a second. Again: no effect."""
        self._portal.call(self._client.resume_all, agent=agent, queue=queue)

    def pauses(self) -> Mapping[str, Pause]:
        """What is paused as a whole, by scope: `all`, `agent:NAME`, `queue:NAME`."""
        return self._portal.call(self._client.pauses)

    def answer(
        self, run_id: str, answer: Any, *, call_id: str | None = None, number: int | None = None, by: str = ""
    ) -> Status:
        """Answer what a `waiting` run asks, and let the run go on; returns its status.

        Where a tool asks something, `answer` is that, and fits its schema. Where a call's worker died, it is what the
        tool would have returned, or `Reconciled.DID_NOT_HAPPEN` (the call is made again) or
        `Reconciled.UNKNOWN` (the model is told so). `by` is who says it, for the run's events. Again with the same
        answer: no effect. A call may ask several things, one after the other: `number` is the question's, as `inbox`
        gives it, so that no answer goes to the next one. Raises `NotWaiting` when the run does not wait for it.
        """
        return self._portal.call(self._client.answer, run_id, answer, call_id=call_id, number=number, by=by)

    def set_limits(self, run_id: str, limits: RunLimits, *, by: str = "") -> Status:
        """Give the run limits of its own and return its status; what `limits` leaves out stays as it was.

        A run that waits because it had reached a limit goes on and looks at them; one that failed has them when it is
        retried. `by` is who says it, for the run's events. Again with the same limits: no effect.
        """
        return self._portal.call(self._client.set_limits, run_id, limits, by=by)

    def approve(
        self,
        run_id: str,
        call_id: str | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        by: str = "",
        source: str = "",
    ) -> Status:
        """Allow a call that waits for it, as it is or with other `arguments`; see `AsyncClient.approve`."""
        return self._portal.call(self._client.approve, run_id, call_id, arguments=arguments, by=by, source=source)

    def deny(
        self, run_id: str, call_id: str | None = None, *, reason: str = "", by: str = "", source: str = ""
    ) -> Status:
        """Deny a call that waits to be allowed; the model is told the `reason`. See `AsyncClient.deny`."""
        return self._portal.call(self._client.deny, run_id, call_id, reason=reason, by=by, source=source)

    def signal(self, run_id: str, name: str, data: Any = None, *, signal_id: str | None = None, by: str = "") -> Status:
        """Tell a run that `name` has happened, for a tool that waits for it now or later; see `AsyncClient.signal`."""
        return self._portal.call(self._client.signal, run_id, name, data, signal_id=signal_id, by=by)

    def inbox(self, *, limit: int = 50) -> tuple[Waiting, ...]:
        """What runs wait for people to say, of the newest `limit` runs that wait for people."""
        return self._portal.call(self._client.inbox, limit=limit)

    def retry(self, run_id: str, *, by: str = "") -> Status:
        """Take up a run again that has failed or was cancelled, from its last commit; its budgets start anew.

        Finished work is not repeated. Raises `NotFinished`, `IllegalTransition` for a run that has completed, and
        `SessionMovedOn` when a later run of its session has started.
        """
        return self._portal.call(self._client.retry, run_id, by=by)


class SteersRun:
    """The same, of the handle on one run."""

    __slots__ = ()

    _client: SteersRuns
    id: str

    def cancel(self, *, reason: str = "", wait: float = 0.0, by: str = "") -> Status:
        """See `Client.cancel`."""
        return self._client.cancel(self.id, reason=reason, wait=wait, by=by)

    def steer(self, text: str, *, files: Sequence[Attachable] = (), by: str = "") -> Status:
        """See `Client.steer`."""
        return self._client.steer(self.id, text, files=files, by=by)

    def pause(self, *, reason: str = "", by: str = "") -> Status:
        """See `Client.pause`."""
        return self._client.pause(self.id, reason=reason, by=by)

    def resume(self, *, by: str = "") -> Status:
        """See `Client.resume`."""
        return self._client.resume(self.id, by=by)

    def answer(self, answer: Any, *, call_id: str | None = None, number: int | None = None, by: str = "") -> Status:
        """See `Client.answer`."""
        return self._client.answer(self.id, answer, call_id=call_id, number=number, by=by)

    def set_limits(self, limits: RunLimits, *, by: str = "") -> Status:
        """See `Client.set_limits`."""
        return self._client.set_limits(self.id, limits, by=by)

    def approve(
        self,
        call_id: str | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        by: str = "",
        source: str = "",
    ) -> Status:
        """See `Client.approve`."""
        return self._client.approve(self.id, call_id, arguments=arguments, by=by, source=source)

    def deny(self, call_id: str | None = None, *, reason: str = "", by: str = "", source: str = "") -> Status:
        """See `Client.deny`."""
        return self._client.deny(self.id, call_id, reason=reason, by=by, source=source)

    def signal(self, name: str, data: Any = None, *, signal_id: str | None = None, by: str = "") -> Status:
        """See `Client.signal`."""
        return self._client.signal(self.id, name, data, signal_id=signal_id, by=by)

    def retry(self, *, by: str = "") -> Status:
        """See `Client.retry`."""
        return self._client.retry(self.id, by=by)
