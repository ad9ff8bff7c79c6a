"""`Insight`: the questions of an operator, over whatever store and executor a client has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq import _ids
from agentq._clock import SystemClock
from agentq.errors import InvalidInput, NotFound, RunNotFound
from agentq.insight.facts import QueueFacts, QueueInfo, Snapshot, Stats, WorkerInfo
from agentq.insight.why import explain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentq._clock import Clock
    from agentq.executors.base import Executor
    from agentq.executors.queue import QueueExecutor
    from agentq.executors.quiet import Quiet
    from agentq.insight.reasons import Reason
    from agentq.insight.redis import RedisReader
    from agentq.insight.server import ServerFacts
    from agentq.runs import RunState
    from agentq.stores.base import Store
    from agentq.stores.redis import RedisStore


class Insight:
    """Answers why a run rests, on any store; and over Redis and RQ what workers, queues and figures there are.

    Raises `StoreUnavailable` when the store is away.
    """

    def __init__(self, store: Store, executor: Executor | None, *, clock: Clock | None = None) -> None:
        self._store = store
        self._executor = executor
        self._clock = clock or SystemClock()

    @property
    def where(self) -> str:
        """Host, port and database of Redis. Raises `InvalidInput` where there is no Redis."""
        return self._required().store.connection.where

    @property
    def store(self) -> RedisStore:
        """The store, for whoever reads from it what has no question of its own. Raises `InvalidInput`, as `where`."""
        return self._required().store

    async def why(self, run_id: str) -> Reason:
        """Why the run is not moving, or how it ended. Raises `RunNotFound`.

        What the store and the executor cannot tell is left out: over Redis and RQ everything is known.
        """
        queue = self._queue()
        if queue is None:
            return explain(await self._snapshot(run_id))
        try:
            return explain(await _reader(queue).snapshot(run_id))
        except RunNotFound as error:
            raise await _with_losses(error, queue, run_id) from error

    async def workers(self) -> tuple[WorkerInfo, ...]:
        """The workers that are registered with RQ, by name. Raises `InvalidInput` where there is no RQ."""
        return await _reader(self._required()).workers()

    async def queues(self) -> tuple[QueueInfo, ...]:
        """The queues, by name. Raises `InvalidInput` where there is no RQ."""
        return await _reader(self._required()).queues()

    async def stats(self) -> Stats:
        """One page of figures. Raises `InvalidInput` where there is no RQ."""
        from agentq.insight.figures import read_stats

        queue = self._required()
        return await read_stats(queue.store, _reader(queue))

    @property
    def quiet(self) -> Quiet:
        """What tells workers to take nothing new. Raises `InvalidInput` where there is no RQ."""
        from agentq.executors.quiet import Quiet

        store = self._required().store
        return Quiet(store.pipeline, store.keys)

    async def server(self) -> ServerFacts:
        """What Redis says of itself. Raises `InvalidInput` where there is no Redis."""
        from agentq.insight.server import read_server

        store = self._required().store
        return await read_server(store.pipeline, store.keys.prefix)

    def _queue(self) -> QueueExecutor | None:
        """The executor, if it is RQ's over this very store: then much more can be told."""
        # Here, because a client of another store need not import redis and rq before it asks.
        from agentq.executors.queue import QueueExecutor

        executor = self._executor
        return executor if isinstance(executor, QueueExecutor) and executor.store is self._store else None

    def _required(self) -> QueueExecutor:
        queue = self._queue()
        if queue is None:
            raise InvalidInput("only a client over Redis and RQ can tell that; this one has another store or executor")
        return queue

    async def _snapshot(self, run_id: str) -> Snapshot:
        """As much as the protocols tell."""
        run = await self._store.read(run_id)
        live = await self._live(run) if run.waits_for_session else None
        return Snapshot(
            run=run,
            now_ms=self._clock.now_ms(),
            queue=await self._served(run),
            behind=await self._found(live),
            behind_id=live,
            pauses=await self._store.pauses(),
        )

    async def _live(self, run: RunState) -> str | None:
        try:
            return (await self._store.session(run.session_id or "")).live_run_id
        except NotFound:
            return None

    async def _found(self, run_id: str | None) -> Snapshot | None:
        if run_id is None:
            return None
        try:
            run = await self._store.read(run_id)
        except NotFound:
            return None
        return Snapshot(run, self._clock.now_ms(), await self._served(run), pauses=await self._store.pauses())

    async def _served(self, run: RunState) -> QueueFacts | None:
        """The workers of its queue, where the executor names them."""
        ask: Callable[[str], Awaitable[tuple[str, ...] | None]] | None = getattr(self._executor, "workers", None)
        names = None if ask is None else await ask(run.queue)
        return None if names is None else QueueFacts(tuple(WorkerInfo(name, (run.queue,)) for name in names))


async def _with_losses(error: RunNotFound, queue: QueueExecutor, run_id: str) -> RunNotFound:
    """The error; it says so when Redis has lost data since the run was made."""
    from agentq.stores._epochs import read_losses

    losses = await read_losses(queue.store.pipeline, queue.store.keys)
    if losses.lost_ms <= _ids.made_ms(run_id):
        return error
    return RunNotFound(
        f"{error}; or Redis has lost it: it has lost data since the run was made (epoch {losses.number})"
    )


def _reader(queue: QueueExecutor) -> RedisReader:
    from agentq.insight.redis import RedisReader

    return RedisReader(queue)
