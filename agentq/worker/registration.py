"""RQ's record of this worker, so that `rq info` and dashboards show it: name, queues, state, heartbeat, counts.

The record is cosmetic: nothing here decides about runs.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from importlib import metadata
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker, WorkerStatus

from agentq.worker.executing import Executing
from agentq.worker.pulse import Pulse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis

    from agentq.worker.outage import Outage
    from agentq.worker.slots import Slots
    from agentq.worker.suspension import Suspension

logger = logging.getLogger(__name__)
_BEAT_S = 1.0
_HEARTBEAT_S = 30.0
# RQ adds a minute, so the record of a worker that was killed is gone after 90 s.
_WORKER_TTL_S = 30
# The thread may hang in a socket; the process ends without it.
_STOP_PATIENCE_S = 1.0


class _Record(BaseWorker):
    """The part of an RQ worker that stands in Redis. `about` are fields of ours; RQ takes no notice of them."""

    about: Mapping[str, str]

    def serialize(self) -> dict[str, Any]:
        return {**super().serialize(), **self.about}

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        # RQ lengthens the socket's time limit for its blocking reads; there are none here.
        return connection


class Registration:
    """Keeps RQ's record up to date from a thread of its own, from `start` to `stop`. Redis may be away meanwhile."""

    def __init__(
        self,
        client: redis.Redis,
        queues: Sequence[str],
        *,
        slots: Slots,
        suspension: Suspension,
        outage: Outage,
        agents: Sequence[str] = (),
    ) -> None:
        self._client = client
        self._about = {
            "agentq_version": _version(),
            "agentq_concurrency": str(slots.concurrency),
            "agentq_agents": ",".join(sorted(agents)),
        }
        self._name = slots.worker
        self._queues = list(queues)
        self._slots = slots
        self._suspension = suspension
        self._outage = outage
        self._pulse = Pulse("agentq-registration", self._beat, last=self._leave)
        self._executing = Executing(slots)
        self._record: _Record | None = None
        self._heartbeat_at = 0.0
        self._state = ""
        self._in_flight = -1
        self._is_quiet = False
        self._succeeded = self._failed = self._worked_ms = 0

    def start(self) -> None:
        self._pulse.start()

    async def stop(self) -> None:
        """Take the record down."""
        await self._pulse.stop(_STOP_PATIENCE_S)

    def _beat(self) -> float:
        try:
            self._report()
        except (RedisError, OSError) as error:
            return self._outage.failed("registration", error)
        self._outage.worked("registration")
        return _BEAT_S

    def _leave(self) -> None:
        try:
            if self._record is not None:
                with self._client.pipeline(transaction=False) as pipeline:
                    self._executing.hide_all(pipeline)
                    pipeline.execute()
                self._report()
                self._record.register_death()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            logger.debug("RQ's record of %s is left to expire: %s", self._name, error)
        finally:
            self._client.close()

    def _report(self) -> None:
        record = self._record or self._register()
        in_flight = len(self._slots)
        state = self._state_now()
        tally = self._slots.tally
        succeeded, failed, worked_ms = tally.committed + tally.released, tally.failed, tally.busy_ms
        with self._client.pipeline(transaction=False) as pipeline:
            is_due = time.monotonic() - self._heartbeat_at >= _HEARTBEAT_S
            if is_due:
                record.heartbeat(pipeline=pipeline)
                for queue in self._queues:
                    # Foreign jobs that were refused: RQ itself forgets them only when somebody looks.
                    pipeline.zremrangebyscore(FailedJobRegistry.key_template.format(queue), 0, time.time())
            if state != self._state:
                record.set_state(state.value, pipeline=pipeline)
            if in_flight != self._in_flight:
                pipeline.hset(record.key, "agentq_in_flight", in_flight)
            if (is_quiet := self._suspension.is_quiet) != self._is_quiet:
                pipeline.hset(record.key, "agentq_quiet", int(is_quiet))
            if succeeded > self._succeeded:
                # RQ's own method for this counts one at a time.
                pipeline.hincrby(record.key, "successful_job_count", succeeded - self._succeeded)
            if failed > self._failed:
                pipeline.hincrby(record.key, "failed_job_count", failed - self._failed)
            if worked_ms > self._worked_ms:
                record.increment_total_working_time(timedelta(milliseconds=worked_ms - self._worked_ms), pipeline)
            shown = self._executing.write(pipeline, refresh=is_due)
            if not len(pipeline):
                return
            replies = pipeline.execute()
        self._executing.confirm(shown)
        self._state, self._in_flight, self._is_quiet = state.value, in_flight, is_quiet
        self._succeeded, self._failed, self._worked_ms = succeeded, failed, worked_ms
        if is_due:
            self._executing.forget_dead(self._client, self._queues)
            self._heartbeat_at = time.monotonic()
            if replies[0] == 1:
                # The heartbeat made a new field: Redis had lost the record.
                self._record = None
                self._executing.confirm({})

    def _state_now(self) -> WorkerStatus:
        """As RQ has it: a suspended worker is busy until what it had begun is done."""
        if len(self._slots):
            return WorkerStatus.BUSY
        return WorkerStatus.SUSPENDED if self._suspension.is_on else WorkerStatus.IDLE

    def _register(self) -> _Record:
        record = _Record(
            self._queues,
            name=self._name,
            connection=self._client,
            worker_ttl=_WORKER_TTL_S,
            serializer=JSONSerializer,
        )
        record.about = self._about
        # Our own, if a reply was lost, or what a heartbeat left behind: names are not used twice.
        self._client.delete(record.key)
        record.register_birth()  # type: ignore[no-untyped-call]
        self._record, self._state, self._heartbeat_at = record, "", time.monotonic()
        self._in_flight, self._is_quiet = -1, False
        return record


def _version() -> str:
    try:
        return metadata.version("agentq-redis")
    except metadata.PackageNotFoundError:
        return "checkout"
