"""Shows what happens in all runs of a Redis, those that come later too."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from itertools import cycle
from typing import TYPE_CHECKING

from agentq.cli._mock import MockRemark
from agentq.cli._output import count, remark
from agentq.cli._render import Renderer
from agentq.errors import NotFound, StoreUnavailable

if TYPE_CHECKING:
    from agentq.cli._output import Output
    from agentq.cli._watch import Look
    from agentq.client_async import AsyncClient
    from agentq.runs import RunState

_LOOK_S = 0.2
_PAGE = 100
# More at the same time nobody can read.
_MOST = 30
_LABEL = 6
_COLOURS = ("cyan", "magenta", "yellow", "blue", "green")


class Everything:
    """Follows runs until cancelled: those that have not ended, and all new ones. `say` is for remarks beside them."""

    def __init__(self, client: AsyncClient, out: Output, look: Look) -> None:
        self._client = client
        self._out = out
        self._look = look
        self._mock = MockRemark()
        self._colours = cycle(_COLOURS)
        self._newest = ""
        self._shown: dict[str, tuple[asyncio.Task[None], Renderer | None]] = {}
        self._is_away = False
        self._began_ms = time.time() * 1000

    async def follow(self) -> None:
        try:
            while True:
                await self._look_for_new()
                await asyncio.sleep(_LOOK_S)
        finally:
            tasks = [task for task, _ in self._shown.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.close()

    def close(self) -> None:
        """End open lines, so that something else can be printed."""
        for _, renderer in self._shown.values():
            if renderer is not None:
                renderer.close()

    async def _look_for_new(self) -> None:
        try:
            runs = await self._new_runs()
        except StoreUnavailable as error:
            if not self._is_away:
                remark("redis", f"Redis is away; waiting ({error})", as_json=self._look.json)
            self._is_away = True
            return
        if self._is_away:
            self._is_away = False
            remark("redis", "Redis is back", as_json=self._look.json)
        self._shown = {run_id: entry for run_id, entry in self._shown.items() if not entry[0].done()}
        left = 0
        for run in runs:
            if len(self._shown) < _MOST:
                self._show(run)
            else:
                left += 1
        if left:
            self.close()
            remark("more", f"{count(left, 'more run')} not shown; see: agentq ls", as_json=self._look.json)

    async def _new_runs(self) -> list[RunState]:
        """Runs that were not seen, oldest first; of those from before the start only what has not ended."""
        found: list[RunState] = []
        before: str | None = None
        while True:
            page = await self._client.list(limit=_PAGE, before=before)
            fresh = [run for run in page if run.run_id > self._newest]
            found += [run for run in fresh if run.created_ms >= self._began_ms or not run.status.is_final]
            if len(fresh) < _PAGE or not self._newest:
                break
            before = page[-1].run_id
        found.reverse()
        self._newest = max([self._newest, *(run.run_id for run in found)])
        return found

    def _show(self, run: RunState) -> None:
        renderer = None
        if not self._look.json:
            renderer = Renderer(
                self._out,
                label=run.run_id[-_LABEL:],
                colour=next(self._colours),
                timestamps=self._look.timestamps,
                full=self._look.full,
                created_ms=run.created_ms,
            )
        task = asyncio.create_task(self._one(run.run_id, renderer), name=f"agentq-dev-{run.run_id}")
        self._shown[run.run_id] = (task, renderer)

    async def _one(self, run_id: str, renderer: Renderer | None) -> None:
        try:
            async with aclosing(self._client.events(run_id)) as events:
                async for event in events:
                    if renderer is None:
                        self._out.line(event.model_dump_json(exclude_none=True))
                        continue
                    renderer.show(event)
                    self._mock.take(event)
        except NotFound:  # its time to live has passed, or somebody deleted it
            return
        finally:
            if renderer is not None:
                renderer.close()
