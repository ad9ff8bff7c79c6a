"""Streams: what happens in a run, live and replayed, in the words of the front ends there are.

Each protocol is a fold in a file of its own, which does no I/O and knows no web framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.routing import Route

routes: list[Route] = []
