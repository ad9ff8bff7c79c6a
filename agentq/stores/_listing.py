"""Listing runs: from the narrowest of the index sets, newest first, and past runs that have expired."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq.runs import RunState
    from agentq.stores.base import RunFilter

_PAGE = 200


async def list_runs(
    pipeline: Pipeline, keys: Keys, find: Callable[[str], Awaitable[RunState | None]], which: RunFilter
) -> tuple[RunState, ...]:
    """The runs that `which` asks for. `find` reads one run; None where it has expired."""
    narrowing = (
        ("session", which.session_id),
        ("user", which.user_id),
        ("agent", which.agent),
        ("status", which.status),
    )
    listing = next((keys.listing(kind, value) for kind, value in narrowing if value), keys.listing())
    found: list[RunState] = []
    before = f"({which.before}" if which.before else "+"
    while True:
        page: list[bytes] = await pipeline.execute("ZREVRANGEBYLEX", listing, before, "-", "LIMIT", 0, _PAGE)
        for run_id in page:
            # Runs whose time to live has passed stand in the listings until the next sweep.
            state = await find(run_id.decode())
            if state is not None and which.matches(state):
                found.append(state)
            if len(found) == which.limit:
                return tuple(found)
        if len(page) < _PAGE:
            return tuple(found)
        before = f"({page[-1].decode()}"
