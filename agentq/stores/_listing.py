"""Listing runs: from the narrowest of the index sets, newest first, and past runs that have expired."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agentq.errors import StoreCorrupted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq.runs import RunState
    from agentq.stores.filters import RunFilter

_PAGE = 200
_AT_ONCE = 50

logger = logging.getLogger(__name__)


async def list_runs(
    pipeline: Pipeline, keys: Keys, find: Callable[[str], Awaitable[RunState | None]], which: RunFilter
) -> tuple[RunState, ...]:
    """The runs that `which` asks for. `find` reads one run; None where it has expired."""
    narrowing = (
        ("asks", "people" if which.asks_people else None),
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
        for start in range(0, len(page), _AT_ONCE):
            states = await asyncio.gather(
                *[_readable(find, run_id.decode()) for run_id in page[start : start + _AT_ONCE]]
            )
            found += [state for state in states if state is not None and which.matches(state)]
            if len(found) >= which.limit:
                return tuple(found[: which.limit])
        if len(page) < _PAGE:
            return tuple(found)
        before = f"({page[-1].decode()}"


async def _readable(find: Callable[[str], Awaitable[RunState | None]], run_id: str) -> RunState | None:
    """The run, or None: one that has expired stands here until the next sweep, one that is broken until its time."""
    try:
        return await find(run_id)
    except StoreCorrupted as error:
        logger.warning("left out of the list: %s", error, extra={"run_id": run_id})
        return None
