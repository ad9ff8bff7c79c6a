"""A worker's first contact with Redis: one that is away is waited for, one that will not have the worker ends it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agentq.errors import AccessRefused, StoreUnavailable

if TYPE_CHECKING:
    from agentq._redis.pipeline import Pipeline
    from agentq.worker.outage import Outage

logger = logging.getLogger(__name__)


async def arrive(pipeline: Pipeline, outage: Outage) -> None:
    """Return when Redis answers.

    Raises `AccessRefused`, and `InvalidInput` for a database that does not exist: who has just started has a wrong URL,
    and nobody would look for that in a worker that waits. Later on a worker sits out a password that is being changed.
    """
    while True:
        try:
            # Our scripts ask for it, so that everybody who can work here may.
            await pipeline.execute("TIME")
        except AccessRefused:
            raise
        except StoreUnavailable as error:
            logger.debug("no Redis yet: %s", error)
            await asyncio.sleep(outage.failed("arrival", error))
        else:
            outage.worked("arrival")
            return
