"""The API: JSON in and out, under /api/v1, beside what operators' tools expect at the root.

The version stands in the path, so that what a new one changes harms no client of the old.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.web.api import archive, health, metrics, openapi, operating, people, runs, schedules, sessions, steering

if TYPE_CHECKING:
    from starlette.routing import Route

    from agentq.web.api.endpoint import Endpoint

_PARTS = (runs, steering, people, sessions, schedules, operating, archive, health, metrics)
endpoints: list[Endpoint] = [endpoint for part in _PARTS for endpoint in part.endpoints]
routes: list[Route] = [*(route for part in _PARTS for route in part.routes), openapi.route(endpoints)]
