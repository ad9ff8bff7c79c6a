"""The vigil: notices that Redis is another server than before, and what it has lost of this worker's commits."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from redis.exceptions import NoPermissionError

from agentq.errors import RunNotFound
from agentq.loop.losses import report_loss

if TYPE_CHECKING:
    from agentq.loop import Outcome
    from agentq.stores.redis import RedisStore

logger = logging.getLogger(__name__)
# Redis writes its file every second, and a replica is seldom further behind; a snapshot may be a minute old.
_REMEMBERED_S = 60.0
_REMEMBERED = 20_000


class Vigil:
    """Remembers the commits of a minute, and looks for them when the server has changed."""

    EVERY_S = 1.0

    def __init__(self, store: RedisStore, *, worker: str) -> None:
        self._store = store
        self._extra = {"worker": worker}
        self._server: str | None = None
        self._may_look = True
        self._committed: deque[tuple[float, Outcome]] = deque(maxlen=_REMEMBERED)

    def saw(self, outcome: Outcome) -> None:
        """Remember a commit."""
        if outcome.kind == "committed":
            self._committed.append((time.monotonic(), outcome))

    async def look(self) -> None:
        """Ask which server this is; after a change, look for what was committed. Raises `StoreUnavailable`."""
        if not self._may_look:
            return
        try:
            epoch = await self._store.look_at_server()
        except NoPermissionError as error:
            self._may_look = False
            logger.warning("a loss of data would not be noticed: %s", error, extra=self._extra)
            return
        if self._server not in (None, epoch.server):
            logger.warning(
                "Redis at %s was restarted or replaced (epoch %d)",
                self._store.connection.where,
                epoch.number,
                extra=self._extra,
            )
            await self._look_for_commits()
        # Only now: should Redis go away meanwhile, all is looked for again.
        self._server = epoch.server
        while self._committed and time.monotonic() - self._committed[0][0] > _REMEMBERED_S:
            self._committed.popleft()

    async def _look_for_commits(self) -> None:
        newest = {outcome.run_id: outcome for _, outcome in self._committed}
        lost = [outcome for outcome in newest.values() if await self._is_lost(outcome)]
        for outcome in lost:
            if outcome.lease is not None:
                unsure = any(each.had_effects for _, each in self._committed if each.run_id == outcome.run_id)
                await report_loss(self._store, outcome.lease, unsure=unsure)
        if not lost:
            logger.info("all %d runs committed lately are there", len(newest), extra=self._extra)

    async def _is_lost(self, outcome: Outcome) -> bool:
        """Whether the store knows less of a run than it has acknowledged."""
        if outcome.lease is None:
            return False
        try:
            run = await self._store.read(outcome.run_id)
        except RunNotFound:
            return True
        return run.committed < outcome.lease.fence
