"""The API: JSON in and out, under /api/v1, beside what operators' tools expect at the root.

The version stands in the path, so that what a new one changes harms no client of the old.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.web.api import health, runs

if TYPE_CHECKING:
    from starlette.routing import Route

routes: list[Route] = [*health.routes, *runs.routes]
