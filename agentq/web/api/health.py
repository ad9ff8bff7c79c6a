"""Whether the process lives, and whether it can do its work: for load balancers and orchestrators."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agentq.errors import AgentQError, InvalidInput
from agentq.web.api.documents import Health
from agentq.web.api.endpoint import Endpoint, reply, routes_of

if TYPE_CHECKING:
    from starlette.responses import Response

    from agentq.web.api.endpoint import Asked, Nothing

_log = logging.getLogger(__name__)
# Whoever asks for readiness asks again soon, and waits no longer than this.
_PATIENCE_S = 3.0


async def healthz(asked: Asked[Nothing, Nothing]) -> Health:
    """Say that the process answers. Asks nobody: a Redis that is away is no reason to restart web processes."""
    return Health(status="ok")


async def readyz(asked: Asked[Nothing, Nothing]) -> Response:
    """Say whether runs can be taken in: whether Redis answers; and, for people, whether workers are alive.

    A site without workers is ready all the same: what it takes in waits for them.
    """
    checks: dict[str, str] = {}
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await asked.client.pauses()
            checks["redis"] = "ok"
            checks["workers"] = await _workers(asked)
    except (AgentQError, TimeoutError) as error:
        # Where Redis is, is for the log.
        _log.warning("not ready: %s: %s", type(error).__name__, error)
        checks.setdefault("redis", "it does not answer")
        return reply(Health(status="unavailable", checks=checks), 503)
    return reply(Health(status="ok", checks=checks))


async def _workers(asked: Asked[Nothing, Nothing]) -> str:
    try:
        workers = await asked.client.insight.workers()
    except InvalidInput:
        return "not known here"
    alive = sum(worker.is_agentq and not worker.is_silent for worker in workers)
    return f"{alive} alive" if alive else "none is alive: runs wait for one"


endpoints = [
    Endpoint("GET", "/healthz", healthz, "health", {200: Health}),
    Endpoint("GET", "/readyz", readyz, "health", {200: Health, 503: Health}),
]
routes = routes_of(endpoints)
