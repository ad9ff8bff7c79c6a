"""Reads what the others judge by, from Redis and from RQ's keys in it. Writes nothing.

No read grows with the length of a queue or the number of runs: of a long list the beginning is looked at.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from redis.exceptions import NoPermissionError
from rq import Queue
from rq.registry import FailedJobRegistry
from rq.suspension import WORKERS_SUSPENDED
from rq.worker import BaseWorker
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from agentq import _ids
from agentq._redis.pipeline import Pipeline
from agentq.errors import RunNotFound, StoreCorrupted
from agentq.insight.facts import (
    Place,
    PlacesFacts,
    QueueFacts,
    QueueInfo,
    ServerHistory,
    Snapshot,
    SweepFacts,
    WorkerInfo,
)
from agentq.insight.tenants import read_lines, read_tenant
from agentq.runs import EVERYTHING, queue_scope
from agentq.stores._epochs import read_losses

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping, Sequence

    from agentq.executors.queue import QueueExecutor
    from agentq.runs import Pause, RunState

T = TypeVar("T")

# So many wake-ups are compared to find one: well under a millisecond of Redis's time.
_LOOKED_AT = 10_000
# So many failed jobs are looked at to tell ours from others.
_FAILED_LOOKED_AT = 1000
# The records of our workers live 90 s and are renewed every 30 s; one with less than this left has missed a beat.
_SILENT_BELOW_MS = 50_000
# A run that moves on while it is looked at is looked at again, so often.
_TRIES = 3


class RedisReader:
    """Reads runs' surroundings, workers and queues, over the store and the queue of one executor.

    Raises `StoreUnavailable` when Redis is away.
    """

    def __init__(self, executor: QueueExecutor) -> None:
        self._store = executor.store
        self._keys = self._store.keys
        self._runs = self._store.pipeline
        shares_redis = executor.connection is self._store.connection
        self._rq = self._runs if shares_redis else Pipeline(executor.connection)

    async def snapshot(self, run_id: str) -> Snapshot:
        """Everything that tells why a run rests, and the run before it in its session. Raises `RunNotFound`."""
        seen = await self._settled(run_id)
        for _ in range(_TRIES):
            if seen.behind_id is None or seen.behind_id == run_id:
                return seen
            try:
                before = await self._settled(seen.behind_id)
            except (RunNotFound, StoreCorrupted):
                return seen
            if not before.run.status.is_final:
                return replace(seen, behind=before)
            # It has ended meanwhile, and another has gone live.
            seen = await self._settled(run_id)
        return seen

    async def _settled(self, run_id: str) -> Snapshot:
        """A look at a run that has not moved on meanwhile: a new wake-up is not where the old one was."""
        state = await self._store.read(run_id)
        seen = await self._look(state)
        for _ in range(_TRIES):
            if (seen.run.wake, seen.run.fence) == (state.wake, state.fence):
                break
            state = seen.run
            seen = await self._look(state)
        return seen

    async def _look(self, run: RunState) -> Snapshot:
        """The surroundings of a run whose state was read before, with its state now."""
        refused: list[str] = []
        # One write to Redis for all: what is read fits together but for what happens within a moment.
        state, now, ttl, losses, pauses, queue, sweep, session = await asyncio.gather(
            self._store.read(run.run_id),
            self._runs.execute("TIME"),
            self._runs.execute("PTTL", self._keys.run(run.run_id)),
            read_losses(self._runs, self._keys),
            self._store.pauses(),
            _allowed(self._queue_facts(run), refused),
            _allowed(self._sweep_facts(run), refused),
            _allowed(self._session(run), refused),
        )
        now_ms = milliseconds(now)
        live, line_ahead = session or (None, None)
        return Snapshot(
            run=state,
            now_ms=now_ms,
            queue=queue,
            sweep=sweep,
            behind_id=live if state.waits_for_session else None,
            line_ahead=line_ahead,
            places=await self._places(state) if state.waits_for_place else None,
            tenant=await read_tenant(self._runs, self._keys, state) if state.waits_for_tenant else None,
            expires_ms=now_ms + ttl if ttl > 0 else None,
            pauses=pauses,
            history=ServerHistory(losses.number, losses.since_ms, losses.lost_ms),
            refused=tuple(refused),
        )

    async def _queue_facts(self, run: RunState) -> QueueFacts:
        line = queue_key(run.queue)
        waiting, ahead, suspended, registered, workers = await asyncio.gather(
            self._rq.execute("LLEN", line),
            self._rq.execute("LPOS", line, f"{run.run_id}-{run.wake}", "MAXLEN", _LOOKED_AT),
            self._rq.execute("EXISTS", WORKERS_SUSPENDED),
            self._is_registered(run.owner),
            self.workers(run.queue),
        )
        return QueueFacts(workers, Place(waiting, ahead, _LOOKED_AT), bool(suspended), registered)

    async def _is_registered(self, owner: str | None) -> bool:
        if owner is None:
            return True
        key = f"{BaseWorker.redis_worker_namespace_prefix}{owner}"
        exists, is_dead = await asyncio.gather(
            self._rq.execute("EXISTS", key), self._rq.execute("HEXISTS", key, "death")
        )
        return bool(exists) and not is_dead

    async def _sweep_facts(self, run: RunState) -> SweepFacts:
        woken, due, parked, last = await asyncio.gather(
            self._runs.execute("HGET", self._keys.run(run.run_id), "woken"),
            self._runs.execute("ZSCORE", self._keys.due, run.run_id),
            self._runs.execute("ZSCORE", self._keys.unserved(run.agent), run.run_id),
            self._runs.execute("GET", self._keys.sweep),
        )
        swept_ms, recovers_from_ms = sweep_times(last)
        return SweepFacts(
            None if due is None else int(due), int(woken or 0), swept_ms, recovers_from_ms, parked is not None
        )

    async def _places(self, run: RunState) -> PlacesFacts:
        key = self._keys.places(run.concurrency_key or "")
        taken, ahead = await asyncio.gather(
            self._runs.execute("SCARD", key),
            self._runs.execute("LPOS", f"{key}:line", run.run_id, "MAXLEN", _LOOKED_AT),
        )
        return PlacesFacts(taken, ahead)

    async def _session(self, run: RunState) -> tuple[str | None, int | None]:
        """The live run of its session, and how many wait before it in line."""
        if run.session_id is None:
            return None, None
        live, ahead = await asyncio.gather(
            self._runs.execute("HGET", self._keys.session(run.session_id), "live"),
            self._runs.execute("LPOS", self._keys.session_line(run.session_id), run.run_id, "MAXLEN", _LOOKED_AT),
        )
        return live and live.decode(), ahead

    async def workers(self, queue: str | None = None) -> tuple[WorkerInfo, ...]:
        """The workers that are registered, of one queue or all, by name. A killed one is there for up to 90 s."""
        members: Iterable[bytes] = await self._rq.execute(
            "SMEMBERS", REDIS_WORKER_KEYS if queue is None else WORKERS_BY_QUEUE_KEY % queue
        )
        keys = sorted(member.decode() for member in members)
        found = await asyncio.gather(*[self._worker(key) for key in keys])
        return tuple(worker for worker in found if worker is not None)

    async def _worker(self, key: str) -> WorkerInfo | None:
        raw, ttl = await asyncio.gather(self._rq.execute("HGETALL", key), self._rq.execute("PTTL", key))
        name = key.removeprefix(BaseWorker.redis_worker_namespace_prefix)
        # A killed worker stays in the set when its record has run out; one that ended leaves its record for a minute.
        return None if not raw or b"death" in raw else _worker(name, raw, ttl)

    async def queues(self) -> tuple[QueueInfo, ...]:
        """The queues that something was put on, and those that a worker serves, by name."""
        known, workers, pauses, lines = await asyncio.gather(
            self._rq.execute("SMEMBERS", Queue.redis_queues_keys),
            self.workers(),
            self._store.pauses(),
            read_lines(self._runs, self._keys),
        )
        names = {key.decode().removeprefix(Queue.redis_queue_namespace_prefix) for key in known}
        names |= {queue for worker in workers for queue in worker.queues}
        found = await asyncio.gather(*[self._queue(name, workers, pauses) for name in sorted(names)])
        return tuple(replace(queue, in_line=lines.get(queue.name, 0)) for queue in found)

    async def _queue(self, name: str, workers: Iterable[WorkerInfo], pauses: Mapping[str, Pause]) -> QueueInfo:
        failed_key = FailedJobRegistry.key_template.format(name)
        # RQ takes expired ones out only when somebody looks.
        now: bytes = (await self._rq.execute("TIME"))[0]
        waiting, head, failed, latest = await asyncio.gather(
            self._rq.execute("LLEN", queue_key(name)),
            self._rq.execute("LINDEX", queue_key(name), 0),
            self._rq.execute("ZCOUNT", failed_key, now, "+inf"),
            self._rq.execute("ZREVRANGEBYSCORE", failed_key, "+inf", now, "LIMIT", 0, _FAILED_LOOKED_AT),
        )
        return QueueInfo(
            name=name,
            waiting=waiting,
            oldest_ms=None if head is None else await self._made_ms(head.decode(errors="replace")),
            workers=tuple(worker.name for worker in workers if name in worker.queues),
            failed=failed,
            foreign=sum(_ids.run_of_job(job_id.decode(errors="replace")) is None for job_id in latest),
            pause=pauses.get(EVERYTHING) or pauses.get(queue_scope(name)),
        )

    async def _made_ms(self, job_id: str) -> int | None:
        """When a wake-up was made: by the run if it is its newest, else as RQ's job says."""
        run_id = _ids.run_of_job(job_id)
        if run_id is not None:
            wake, woken = await self._runs.execute("HMGET", self._keys.run(run_id), "wake", "woken")
            if wake is not None and woken and job_id == f"{run_id}-{wake.decode()}":
                return int(woken) or None
        job_key = f"{Queue.job_class.redis_job_namespace_prefix}{job_id}"
        kind: bytes = await self._rq.execute("TYPE", job_key)
        made = await self._rq.execute("HGET", job_key, "enqueued_at") if kind == b"hash" else None
        return None if made is None else _moment(made.decode())


def queue_key(queue: str) -> str:
    """RQ's list of the queue."""
    return f"{Queue.redis_queue_namespace_prefix}{queue}"


def milliseconds(time: Sequence[bytes]) -> int:
    """What TIME answers, seconds and microseconds, in milliseconds since 1970."""
    return int(time[0]) * 1000 + int(time[1]) // 1000


def parsed_info(raw: bytes) -> dict[str, str]:
    """What INFO answers, by name."""
    lines = (line.partition(":") for line in raw.decode(errors="replace").splitlines() if not line.startswith("#"))
    return {name: value for name, colon, value in lines if colon}


def sweep_times(stored: bytes | None) -> tuple[int | None, int]:
    """When the last sweep was, and from when on leases are recovered, as `sweep.lua` keeps them."""
    swept, _, recovers_from = (stored or b"").decode().partition(" ")
    if not (swept.isdigit() and recovers_from.isdigit()):
        return None, 0
    return int(swept), int(recovers_from)


async def _allowed(reads: Awaitable[T], refused: list[str]) -> T | None:
    """What was read, or None where this user of Redis may not: then `refused` says so."""
    try:
        return await reads
    except NoPermissionError as error:
        refused.append(_command_of(error))
        return None


def _command_of(error: NoPermissionError) -> str:
    """The command that was refused. Redis writes: … has no permissions to run the 'lpos' command."""
    named = re.search(r"run the '([\w|]+)'", str(error))
    return named[1].upper() if named else "some keys"


def _worker(name: str, raw: dict[bytes, bytes], ttl_ms: int) -> WorkerInfo:
    def text(field: bytes) -> str | None:
        value = raw.get(field)
        return None if value is None else value.decode(errors="replace")

    def number(field: bytes) -> int | None:
        value = raw.get(field, b"")
        return int(value) if value.isdigit() else None

    version, agents = text(b"agentq_version"), text(b"agentq_agents")
    return WorkerInfo(
        name=name,
        queues=tuple(filter(None, (text(b"queues") or "").split(","))),
        state=text(b"state") or "starting",
        host=text(b"hostname") or "",
        pid=number(b"pid") or 0,
        started_ms=_moment(text(b"birth") or "") or 0,
        done=number(b"successful_job_count") or 0,
        failed=number(b"failed_job_count") or 0,
        in_flight=number(b"agentq_in_flight"),
        concurrency=number(b"agentq_concurrency"),
        agents=None if agents is None else tuple(filter(None, agents.split(","))),
        version=version,
        is_silent=version is not None and 0 <= ttl_ms < _SILENT_BELOW_MS,
        is_quiet=text(b"agentq_quiet") == "1",
    )


def _moment(text: str) -> int | None:
    """A time as RQ writes it, in milliseconds since 1970."""
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        return None
