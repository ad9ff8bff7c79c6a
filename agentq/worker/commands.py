"""The commands that RQ sends to a worker by its name (`rq.command`): shut down, stop a job, kill the horse.

What they mean here: `shutdown` is a SIGTERM. `stop-job` cancels the run of the job, for a run is not one job: stopping
one iteration would only have it tried again. `kill-horse` is refused: there is no process that runs one job alone.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from rq.command import PUBSUB_CHANNEL_TEMPLATE

from agentq.errors import Conflict, NotFound, StoreUnavailable
from agentq.executors.queue import run_of_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq._redis.hub import Hub
    from agentq.stores.base import Store
    from agentq.worker.slots import Slots

logger = logging.getLogger(__name__)
STOP_REASON = "stopped by rq stop-job"
_LISTEN_S = 60.0
# What cannot be followed is said once for each kind, and for no more kinds than this.
_COMPLAINTS = 20
_SHOWN = 60


class Commands:
    """Follows the commands to one worker. A command is pub/sub: one that is sent while Redis is away is lost."""

    def __init__(self, store: Store, slots: Slots, *, stop: Callable[[], None]) -> None:
        self._store = store
        self._slots = slots
        self._stop = stop
        self._complaints: set[str] = set()
        self._extra = {"worker": slots.worker}

    async def follow(self, hub: Hub) -> None:
        """Follow what comes until cancelled. Whatever comes, the worker goes on."""
        async with hub.listen(PUBSUB_CHANNEL_TEMPLATE % self._slots.worker) as inbox:
            while True:
                message = await inbox.get(_LISTEN_S)
                if not isinstance(message, bytes):
                    continue
                try:
                    await self.obey(message)
                except StoreUnavailable as error:
                    logger.warning("a command of RQ was not carried out, send it again: %s", error, extra=self._extra)
                except Exception:  # the next command must be heard
                    logger.exception("a command of RQ could not be carried out: %.200r", message)

    async def obey(self, message: bytes) -> None:
        """Carry out one command. Raises `StoreUnavailable`."""
        payload = _payload(message)
        match payload:
            case {"command": "shutdown"}:
                logger.info("shutdown command: stopping", extra=self._extra)
                self._stop()
            case {"command": "stop-job", "job_id": str(job_id)}:
                await self._stop_job(job_id)
            case {"command": "kill-horse"}:
                self._complain(
                    "kill-horse command ignored: this worker runs many runs in one process and has no work-horse; "
                    "cancel a run with `agentq cancel RUN`, or stop the worker with a shutdown command"
                )
            case {"command": str(command)}:
                self._complain(f"unknown or incomplete command {command[:_SHOWN]!r} ignored")
            case _:
                self._complain("a message on the command channel that is no command was ignored")

    async def _stop_job(self, job_id: str) -> None:
        run_id = run_of_job(job_id)
        if run_id is None or not self._slots.holds(run_id):
            logger.info("stop-job command ignored: job %.100s is not in flight here", job_id, extra=self._extra)
            return
        try:
            await self._store.cancel(run_id, reason=STOP_REASON)
        except (NotFound, Conflict) as error:
            logger.info("stop-job command ignored: %s", error, extra=self._extra)
            return
        logger.info("run %s cancelled by a stop-job command", run_id, extra={**self._extra, "run_id": run_id})
        self._slots.cancel(run_id)

    def _complain(self, what: str) -> None:
        if what not in self._complaints and len(self._complaints) < _COMPLAINTS:
            self._complaints.add(what)
            logger.warning("%s (said once)", what, extra=self._extra)


def _payload(message: bytes) -> Any:
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return None
