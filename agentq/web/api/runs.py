"""Runs: read one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse
from starlette.routing import Route

from agentq.web.access import Action
from agentq.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


async def read(request: Request) -> Response:
    site = site_of(request)
    run = await site.client.read(request.path_params["run_id"])
    await site.access.allow(request, Action.READ, run)
    return JSONResponse({"run_id": run.run_id, "status": run.status})


routes = [Route("/api/v1/runs/{run_id}", read, name="run")]
