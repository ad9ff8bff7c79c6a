"""Shows what happens in all runs of a Redis, those that come later too."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from itertools import cycle
from typing import TYPE_CHECKING

from agentq.cli._mock import MockRemark
from agentq.cli._output import OutputClosed, count, remark
from agentq.cli._render import Renderer
from agentq.errors import AgentQError, NotFound, StoreUnavailable

if TYPE_CHECKING:
    from agentq.cli._output import Output
    from agentq.cli._watch import Look
    from agentq.client_async import AsyncClient
    from agentq.runs import RunState

_LOOK_S = 0.2
# A Redis that does not answer must not keep the workers from starting.
_LOOK_BACK_S = 2.0
# Each look reads the newest runs whole; so it reads few, and now and then more.
_FEW = 20
_PAGE = 100
_WIDE_EVERY = 10
# More at the same time nobody can read.
_MOST = 30
_LABEL = 6
_COLOURS = ("cyan", "magenta", "yellow", "blue", "green")


class Everything:
    """Follows runs until cancelled: those that had not ended at the first look, and all new ones.

    What is new is told by what was there before, not by ids or times: those come from the clocks of clients.
    """

    def __init__(self, client: AsyncClient, out: Output, look: Look) -> None:
        self._client = client
        self._out = out
        self._look = look
        self._mock = MockRemark()
        self._colours = cycle(_COLOURS)
        # The runs that had ended before, or were shown; what sorts before `_floor` is older than the first look saw.
        self._known: set[str] = set()
        self._floor: str | None = None
        self._looks = 0
        self._shown: dict[str, tuple[asyncio.Task[None], Renderer | None]] = {}
        self._is_away = False

    async def look_back(self) -> None:
        """Note what is there before anything happens; without it, the first look of `follow` does so."""
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(_LOOK_BACK_S):
                await self._look_first()

    async def follow(self) -> None:
        """Raises what drawing a run raises, `OutputClosed` among it."""
        try:
            while True:
                await self._look_for_new()
                await asyncio.sleep(_LOOK_S)
        finally:
            tasks = [task for task, _ in self._shown.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(OutputClosed):
                self.close()

    def close(self) -> None:
        """End open lines, so that something else can be printed."""
        for _, renderer in self._shown.values():
            if renderer is not None:
                renderer.close()

    async def _look_for_new(self) -> None:
        self._forget_ended()
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
        left = max(len(self._shown) + len(runs) - _MOST, 0)
        for run in runs[: len(runs) - left]:
            self._show(run)
        if left:
            self.close()
            remark("more", f"{count(left, 'more run')} not shown; see: agentq ls", as_json=self._look.json)

    def _forget_ended(self) -> None:
        ended = [run_id for run_id, (task, _) in self._shown.items() if task.done()]
        for run_id in ended:
            task, _ = self._shown.pop(run_id)
            try:
                task.result()
            except AgentQError as error:  # one odd run; the others go on
                remark("run", f"run {run_id} cannot be shown: {error}", as_json=self._look.json)

    async def _look_first(self) -> None:
        page = await self._client.list(limit=_PAGE)
        self._known = {run.run_id for run in page if run.status.is_final}
        self._floor = page[-1].run_id if len(page) == _PAGE else ""

    async def _new_runs(self) -> list[RunState]:
        """Runs that are not known, oldest first; from now on they are."""
        if self._floor is None:
            await self._look_first()
        floor = self._floor or ""
        limit = _FEW if self._looks % _WIDE_EVERY else _PAGE
        self._looks += 1
        found: list[RunState] = []
        before: str | None = None
        while True:
            page = await self._client.list(limit=limit, before=before)
            fresh = [run for run in page if run.run_id not in self._known and run.run_id >= floor]
            found += fresh
            # Only where all of a page is new, more may be.
            if len(fresh) < limit:
                break
            before, limit = page[-1].run_id, _PAGE
        self._known.update(run.run_id for run in found)
        return found[::-1]

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
                with suppress(OutputClosed):  # whoever shows the next event says so
                    renderer.close()
