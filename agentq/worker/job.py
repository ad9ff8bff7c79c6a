"""The job function of our wake-ups, for stock RQ workers: `rq worker` runs one iteration per job with it.

agentq's own worker never calls it. It is the fast path, and it has a sweeper: a fleet needs at least one of them, or
runs whose worker was killed wait.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, cast

from agentq import _ids
from agentq.errors import ForeignJob, StoreUnavailable
from agentq.loading import load_app
from agentq.settings import Settings
from agentq.wiring import Parts, redis_parts
from agentq.worker.lifecycle import lease_renewal, worker_name
from agentq.worker.outage import Outage

if TYPE_CHECKING:
    from agentq.app import AgentQ
    from agentq.loop import Iteration, Outcome
    from agentq.stores.base import Claim

logger = logging.getLogger(__name__)


async def continue_run(run_id: str, action: str = "continue") -> None:
    """Advance a run by one iteration, if it can be advanced now. The app is the one that AGENTQ_APP names.

    RQ runs every coroutine in an event loop of its own, so connections live as long as one call.
    """
    if action != "continue":
        raise ForeignJob(f"a wake-up of agentq says 'continue', not {action!r}")
    if not _ids.is_run_id(run_id):
        raise ForeignJob(f"{run_id!r} is not the id of a run")
    app = _app(Settings.load().app)
    settings = app.settings
    owner = worker_name()
    parts = redis_parts(settings)
    try:
        claims = await parts.store.claim(
            [run_id], owner=owner, claim_id=_ids.new_token(), lease_ms=settings.lease_ms, agents=tuple(app.agents)
        )
        if not claims:
            logger.info("run %s is not to be advanced now", run_id, extra={"run_id": run_id, "worker": owner})
        for claim in claims:
            await _advance(app, parts, claim)
    finally:
        try:
            await app.aclose()  # RQ drops its event loop as it is
        finally:
            await parts.aclose()


async def _advance(app: AgentQ, parts: Parts, claim: Claim) -> None:
    """Run the iteration of a claim under a renewed lease. Raises what RQ is to show as the job's failure."""
    iteration = app.loop(parts.store, parts.executor).begin(claim)
    renewal = lease_renewal(parts, app.settings, Outage(parts.connection.where, worker=claim.lease.owner))
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


@functools.cache
def _app(spec: str) -> AgentQ:
    return cast("AgentQ", load_app(spec))
