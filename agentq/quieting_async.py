"""What an `AsyncClient` does with workers: names them, tells them to take nothing new, and to take work again."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from agentq.errors import InvalidInput, WorkerNotFound
from agentq.intake import checked_name, checked_remark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentq.insight.asking import Insight
    from agentq.insight.facts import WorkerInfo


class QuietsWorkers:
    """The part of `AsyncClient` that is about workers."""

    @property
    @abstractmethod
    def insight(self) -> Insight: ...

    @abstractmethod
    def _parts(self) -> Any: ...

    async def workers(self, queue: str) -> tuple[str, ...] | None:
        """The names of the workers that serve the queue now; None where the executor cannot tell."""
        ask: Callable[[str], Awaitable[tuple[str, ...]]] | None = getattr(self._parts().executor, "workers", None)
        queue = checked_name(queue, field="queue")
        return None if ask is None else await ask(queue)

    async def quiet_workers(
        self, *names: str, host: str | None = None, reason: str = "", by: str = ""
    ) -> tuple[str, ...]:
        """Tell workers to take no new work and to finish what they have, without ending; returns their names.

        Without names all of agentq's that are there now, or those of a `host`. They notice within a second, and keep to
        it until `resume_workers`; a worker that starts later, or again, takes work. Again: no effect. Raises
        `WorkerNotFound`, and `InvalidInput` for a stock rq worker, which listens to nobody, and where there is no RQ.
        """
        reason, by = checked_remark(reason, field="reason"), checked_remark(by, field="by")
        meant = await self._meant(names, host)
        for name in meant:
            await self.insight.quiet.tell(name, reason=reason, by=by)
        return meant

    async def resume_workers(self, *names: str, host: str | None = None) -> tuple[str, ...]:
        """Let workers take work again, as `quiet_workers` names them; returns their names."""
        meant = await self._meant(names, host)
        for name in meant:
            await self.insight.quiet.take_back(name)
        return meant

    async def _meant(self, names: tuple[str, ...], host: str | None) -> tuple[str, ...]:
        """The workers that are meant, all of which are there."""
        if names and host is not None:
            raise InvalidInput("name workers or a host, not both", field="host")
        there = {worker.name: worker for worker in await self.insight.workers()}
        if not names:
            return tuple(worker.name for worker in there.values() if worker.is_agentq and host in (None, worker.host))
        for name in names:
            if name not in there:
                raise WorkerNotFound(f"there is no worker {name!r}; `agentq workers` lists them")
            _check_listens(there[name])
        return tuple(dict.fromkeys(names))


def _check_listens(worker: WorkerInfo) -> None:
    if not worker.is_agentq:
        raise InvalidInput(
            f"{worker.name} is a stock rq worker, which cannot be told; `rq suspend` suspends all workers",
            field="names",
        )
