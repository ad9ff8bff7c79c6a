"""Streams: what happens in a run, live and replayed, in the words of the front ends there are.

Each protocol is a fold in a file of its own, which does no I/O and knows no web framework; `projecting` and `serving`
bring it to a client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.routing import Route

    routes: list[Route]


def __getattr__(name: str) -> Any:
    # Only when they are asked for: the folds work where no web framework is installed.
    if name != "routes":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agentq.web.streams import ag_ui_routes, ai_sdk_routes, lines_routes, own

    return [*own.routes, *ai_sdk_routes.routes, *ag_ui_routes.routes, *lines_routes.routes]
