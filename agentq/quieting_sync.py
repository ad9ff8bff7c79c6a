"""What a `Client` does with workers: the calls of quieting_async.py, and they block."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentq._portal import Portal
    from agentq.quieting_async import QuietsWorkers as Asynchronous


class QuietsWorkers:
    """The part of `Client` that is about workers."""

    _client: Asynchronous
    _portal: Portal

    def quiet_workers(self, *names: str, host: str | None = None, reason: str = "", by: str = "") -> tuple[str, ...]:
        """Tell workers to take no new work and to finish what they have, without ending; returns their names.

        Without names all of agentq's that are there now, or those of a `host`. They notice within a second, and keep to
        it until `resume_workers`; a worker that starts later, or again, takes work. Again: no effect. Raises
        `WorkerNotFound`, and `InvalidInput` for a stock rq worker, which listens to nobody, and where there is no RQ.
        """
        return self._portal.call(self._client.quiet_workers, *names, host=host, reason=reason, by=by)

    def resume_workers(self, *names: str, host: str | None = None) -> tuple[str, ...]:
        """Let workers take work again, as `quiet_workers` names them; returns their names."""
        return self._portal.call(self._client.resume_workers, *names, host=host)
