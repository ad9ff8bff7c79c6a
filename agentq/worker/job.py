"""The job function of our wake-ups, for stock RQ workers: `rq worker` runs one iteration per job with it.

agentq's own worker never calls it: it is the fast path, and it sweeps all the time. See docs/guide/rq.md.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from typing import TYPE_CHECKING, cast

from rq import get_current_job

from agentq import _ids
from agentq._redis.connection import place
from agentq.errors import AppNotFound, ForeignJob, InvalidInput, RunNotFound, StoreUnavailable
from agentq.loading import load_app
from agentq.settings import Settings
from agentq.wiring import Parts, redis_parts
from agentq.worker.lifecycle import lease_renewal, worker_name
from agentq.worker.lookout import Lookout, StockWorker
from agentq.worker.outage import Outage
from agentq.worker.sweeper import Sweeper

if TYPE_CHECKING:
    from agentq.app import AgentQ
    from agentq.loop import Iteration, Outcome
    from agentq.stores.base import Claim

logger = logging.getLogger(__name__)
_PUBLISH_S = 60.0


async def continue_run(run_id: str, action: str = "continue") -> None:
    """Advance a run by one iteration, if it can be advanced now. The app is the one that AGENTQ_APP names.

    Then it sweeps, and stays while it is needed for that. RQ runs every coroutine in an event loop of its own, so
    connections live as long as one call. Raises `ForeignJob` for arguments that are not those of a wake-up.
    """
    _check(run_id, action)
    app = _app(Settings.load().app)
    settings = app.settings
    owner = worker_name()
    # Before there is a lease that nobody would work under.
    app.check_ready()
    parts = redis_parts(settings)
    outage = Outage(parts.connection.where, worker=owner)
    try:
        # What may fail comes first: once there is a lease, nothing but the iteration may.
        worker, _ = await asyncio.gather(StockWorker.current(parts), _published.renew(app, parts, owner))
        claims = await parts.store.claim(
            [run_id], owner=owner, claim_id=_ids.new_token(), lease_ms=settings.lease_ms, agents=tuple(app.agents)
        )
        if not claims:
            await _tell_unclaimed(run_id, owner, parts)
        for claim in claims:
            await _advance(app, parts, claim, outage)
        sweeper = Sweeper(
            parts.store,
            parts.executor,
            wakeup=parts.executor.wakeup,
            lease_ms=settings.lease_ms,
            sweep_ms=settings.sweep_ms,
            agents=tuple(app.agents),
            outage=outage,
        )
        await Lookout(parts, sweeper, worker).keep()
    finally:
        try:
            await app.aclose()  # RQ drops its event loop as it is
        finally:
            await parts.aclose()


def _check(run_id: object, action: object) -> None:
    if action != "continue":
        raise ForeignJob(f"a wake-up of agentq says 'continue', not {action!r}")
    if not isinstance(run_id, str) or not _ids.is_run_id(run_id):
        raise ForeignJob(f"{run_id!r:.100} is not the id of a run")


async def _advance(app: AgentQ, parts: Parts, claim: Claim, outage: Outage) -> None:
    """Run the iteration of a claim under a renewed lease. Raises what RQ is to show as the job's failure."""
    iteration = app.loop(parts.store, parts.executor).begin(claim)
    renewal = lease_renewal(parts, app.settings, outage)
    renewal.add(claim.lease, iteration)
    renewal.start()
    cancels = asyncio.create_task(_follow_cancels(parts, claim, iteration), name="agentq-cancels")
    try:
        outcome = await iteration.run()
    finally:
        cancels.cancel()
        await asyncio.gather(cancels, return_exceptions=True)
        await renewal.stop()
    _tell(outcome, claim.lease.owner)


async def _follow_cancels(parts: Parts, claim: Claim, iteration: Iteration) -> None:
    async for _ in parts.store.watch_cancels(claim.lease.owner):
        iteration.cancel()


async def _tell_unclaimed(run_id: str, owner: str, parts: Parts) -> None:
    """Say that a run was not advanced. Raises `InvalidInput` when it was looked for in another Redis than RQ's."""
    try:
        run = await parts.store.read(run_id)
    except RunNotFound:
        job = get_current_job()
        there = place(job.connection.connection_pool.connection_kwargs) if job is not None else ""
        if there and there != parts.connection.where:
            raise InvalidInput(
                f"run {run_id} is not in the Redis at {parts.connection.where}, and its job came from {there}; "
                "set REDIS_URL to the Redis that `rq worker` works on",
                field="redis_url",
            ) from None
        status = "gone"
    else:
        status = run.status.value
    logger.info("run %s is %s and not to be advanced now", run_id, status, extra={"run_id": run_id, "worker": owner})


def _tell(outcome: Outcome, owner: str) -> None:
    logger.info(
        "run %s iteration %d %s",
        outcome.run_id,
        outcome.iteration,
        outcome.kind,
        extra={"run_id": outcome.run_id, "iteration": outcome.iteration, "worker": owner},
    )
    if outcome.kind == "failed_to_store":
        raise StoreUnavailable(outcome.error)


class _Published:
    """When this process last said which agents it serves. A forked work-horse does so with each job."""

    def __init__(self) -> None:
        self._at: float | None = None

    async def renew(self, app: AgentQ, parts: Parts, owner: str) -> None:
        """Publish if it is time to. A failure is logged: runs can go on without."""
        if self._at is not None and time.monotonic() - self._at <= _PUBLISH_S:
            return
        try:
            await parts.store.publish_agents(app.manifests())
            self._at = time.monotonic()
        except StoreUnavailable as error:
            logger.warning("agents are not published: %s", error, extra={"worker": owner})
        except Exception:  # the run matters more than what clients know of its agent
            logger.exception("agents are not published", extra={"worker": owner})


_published = _Published()


@functools.cache
def _app(spec: str) -> AgentQ:
    try:
        return cast("AgentQ", load_app(spec))
    except AppNotFound as error:
        raise AppNotFound(f"{error} (an `rq worker` takes the app from AGENTQ_APP only)", field="app") from error
