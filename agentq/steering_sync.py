"""What a `Client` and its handles do to runs from outside: the calls of steering_async.py, and they block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentq._portal import Portal
    from agentq.runs import Status
    from agentq.steering_async import SteersRuns as Asynchronous


class SteersRuns:
    """The part of `Client` that changes runs which are there."""

    _client: Asynchronous
    _portal: Portal

    def cancel(self, run_id: str, *, reason: str = "", wait: float = 0.0) -> Status:
        """Ask the run to stop and return its status, after up to `wait` seconds in which it may end.

        A run that no worker holds is cancelled when this returns; the one that holds it stops it within moments.
        Raises `RunAlreadyFinished` when the run has completed or failed. Again: no effect.
        """
        return self._portal.call(self._client.cancel, run_id, reason=reason, wait=wait)

    def answer(self, run_id: str, answer: Any, *, call_id: str | None = None, by: str = "") -> Status:
        """Say what became of a call that a `waiting` run asks about, and let the run go on; returns its status.

        `answer` is what the tool would have returned, or `Reconciled.DID_NOT_HAPPEN` (the call is made again) or
        `Reconciled.UNKNOWN` (the model is told so). `by` is who says it, for the run's events. Again with the same
        answer: no effect. Raises `NotWaiting` when the run does not wait for it.
        """
        return self._portal.call(self._client.answer, run_id, answer, call_id=call_id, by=by)

    def retry(self, run_id: str) -> Status:
        """Take up a run again that has failed or was cancelled, from its last commit; its budgets start anew.

        Finished work is not repeated. Raises `NotFinished`, `IllegalTransition` for a run that has completed, and
        `SessionMovedOn` when a later run of its session has started.
        """
        return self._portal.call(self._client.retry, run_id)


class SteersRun:
    """The same, of the handle on one run."""

    __slots__ = ()

    _client: SteersRuns
    id: str

    def cancel(self, *, reason: str = "", wait: float = 0.0) -> Status:
        """See `Client.cancel`."""
        return self._client.cancel(self.id, reason=reason, wait=wait)

    def answer(self, answer: Any, *, call_id: str | None = None, by: str = "") -> Status:
        """See `Client.answer`."""
        return self._client.answer(self.id, answer, call_id=call_id, by=by)

    def retry(self) -> Status:
        """See `Client.retry`."""
        return self._client.retry(self.id)
