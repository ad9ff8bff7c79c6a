"""Whether the process lives, and whether it can do its work: for load balancers and orchestrators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


async def healthz(request: Request) -> Response:
    """The process answers. Asks nobody: a Redis that is away is no reason to restart web processes."""
    return JSONResponse({"status": "ok"})


routes = [Route("/healthz", healthz, name="healthz")]
