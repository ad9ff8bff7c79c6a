"""Webhooks in a worker: a lane for each, so that a slow one holds up neither the others nor the iterations."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING

from agentq.delivering import Delivering
from agentq.errors import StoreUnavailable
from agentq.runs import Status
from agentq.worker.sweeper import repeat

if TYPE_CHECKING:
    from agentq.app import AgentQ
    from agentq.loop import Outcome
    from agentq.stores.webhooks import Webhooks
    from agentq.worker.outage import Outage

logger = logging.getLogger(__name__)
# What another process has ended, or is due again, is seen within this.
_LOOK_S = 1.0
# What is on its way when the worker stops gets this long; a second signal promises an end within two seconds.
_CLOSE_S = 1.0
# A burst ends; what a webhook that hangs was not told by then is for the next worker.
_BURST_S = 30.0


class Lanes:
    """Delivers the messages of all webhooks of an app, from `run` to its cancellation."""

    def __init__(self, app: AgentQ, outbox: Webhooks, *, owner: str, outage: Outage) -> None:
        self._webhooks = tuple(app.webhooks.values())
        self._outbox = outbox
        self._outage = outage
        self._lanes = [
            _Lane(Delivering(each, outbox, partial(app.webhook_keys, each.name), owner=owner), each.name)
            for each in self._webhooks
        ]

    async def publish(self) -> None:
        """Make the webhooks known. Raises `StoreUnavailable`."""
        await self._outbox.publish(self._webhooks)

    async def publish_first(self, stopping: asyncio.Event) -> None:
        """Make them known before any run can end here, or until the worker is to stop."""
        while not stopping.is_set():
            try:
                await self.publish()
            except StoreUnavailable as error:
                pause_s = self._outage.failed("webhooks", error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), pause_s)
            else:
                self._outage.worked("webhooks")
                return

    def saw(self, outcome: Outcome) -> None:
        """Look at once where an iteration of this worker has left a message."""
        if outcome.status is not None and (outcome.status.is_final or outcome.status is Status.WAITING):
            for lane in self._lanes:
                lane.bell.set()

    async def run(self) -> None:
        tasks = [asyncio.create_task(lane.run(self._outage), name=f"agentq-lane {lane.name}") for lane in self._lanes]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(lane.delivering.aclose(_CLOSE_S) for lane in self._lanes))

    async def finish(self) -> None:
        """Deliver what is due: a burst has no later."""
        try:
            async with asyncio.timeout(_BURST_S):
                await asyncio.gather(*(lane.delivering.finish() for lane in self._lanes))
        except TimeoutError:
            logger.warning("not all webhooks have answered in %.0f s; the rest is for the next worker", _BURST_S)
        except StoreUnavailable as error:
            logger.warning("messages of webhooks are left for the next worker: %s", error)


class _Lane:
    """One webhook, and a bell that says that something may be due."""

    def __init__(self, delivering: Delivering, name: str) -> None:
        self.delivering = delivering
        self.name = name
        self.bell = asyncio.Event()

    async def run(self, outage: Outage) -> None:
        await repeat(self._step, every_s=0, who=f"webhook {self.name}", outage=outage)

    async def _step(self) -> None:
        self.bell.clear()
        await self.delivering.begin()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.bell.wait(), _LOOK_S)
