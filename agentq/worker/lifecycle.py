"""`Worker`: puts its parts together, starts them, and stops them in the order that loses nothing.

Stop claiming → drain → keep renewing leases until the last iteration is done → take the record down → close.
Signals are the command line's business: it calls `stop` and `stop_now`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentq.catalogue import Catalogue
from agentq.errors import InvalidInput
from agentq.executors.quiet import Quiet
from agentq.loop.toolbox import close_sources
from agentq.scheduling import Scheduling
from agentq.settings import Settings, check_name
from agentq.stores.redis import renew_blocking
from agentq.wiring import Parts, redis_parts
from agentq.worker.arrival import arrive
from agentq.worker.burst import Burst
from agentq.worker.claiming import ClaimLoop, StoreTake
from agentq.worker.commands import Commands
from agentq.worker.doorbell import Doorbell, Nudge
from agentq.worker.drain import drain
from agentq.worker.outage import Outage
from agentq.worker.poison import reject_foreign
from agentq.worker.registration import Registration
from agentq.worker.renewal import LeaseRenewal
from agentq.worker.slots import Slots, follow_cancels
from agentq.worker.suspension import Suspension
from agentq.worker.sweeper import Sweeper, repeat
from agentq.worker.vigil import Vigil
from agentq.worker.webhooks import Lanes
from agentq.worker.words import counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from agentq.app import AgentQ
    from agentq.loop import Outcome
    from agentq.stores.base import Lease, Renewal

logger = logging.getLogger(__name__)
_PUBLISH_S = 60.0
# A schedule has minutes; it need not be more exact than a second.
_FIRE_S = 1.0
# A claim that is under way when the worker is stopped may still be answered; its runs are handed back then.
_LAST_CLAIM_S = 2.0
_CLOSE_S = 0.5
# More than an MCP server gets to end by itself.
_CLOSE_SOURCES_S = 15.0


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker did: iterations by how they ended, and the tools that they ran."""

    worker: str
    committed: int
    released: int
    lost: int
    failed: int
    tools: int


class Worker:
    """One asyncio process that advances runs: up to `concurrency` iterations in flight, `queues` in order of urgency.

    Any number of workers may share queues. With `burst` it ends when there is nothing left to do.
    Raises `InvalidInput` when the app has no agents, an agent's model has no provider, or a queue's name is not valid.
    """

    def __init__(
        self,
        app: AgentQ,
        *,
        settings: Settings | None = None,
        queues: Sequence[str] = (),
        concurrency: int | None = None,
        burst: bool = False,
        name: str | None = None,
    ) -> None:
        self.app = app
        self.settings = settings or app.settings
        self.queues = tuple(dict.fromkeys(queues)) or (self.settings.queue,)
        self.concurrency = self.settings.concurrency if concurrency is None else concurrency
        self.name = name or worker_name()
        if not app.agents:
            raise InvalidInput("the app has no agents, so a worker has nothing to do", field="agents")
        if app.store is not None or app.executor is not None:
            raise InvalidInput(
                "this app has a store or an executor of its own, and a worker serves Redis and RQ only; "
                "advance its runs with app.advance(run_id), or leave store= and executor= out",
                field="executor",
            )
        app.check_ready()
        if self.concurrency < 1:
            raise InvalidInput(f"concurrency must be at least 1, not {self.concurrency}", field="concurrency")
        for queue in self.queues:
            check_name(queue, field="queue")
        self._is_burst = burst
        self._has_greeted = False
        self._nudge = Nudge()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()

    def stop(self) -> None:
        """Warm shutdown: claim nothing more, let iterations end or hand them back, then return from `run`."""
        self._stopping.set()
        self._nudge()

    def stop_now(self) -> None:
        """Hand everything back at once and return from `run` within about two seconds."""
        self._hurry.set()
        self.stop()

    async def run(self) -> WorkerReport:
        """Work until stopped. Waits while Redis is away, also when it starts. Runs once.

        Raises `AccessRefused` when Redis refuses its password at the start, and `InvalidInput` when it has no such
        database.
        """
        parts = redis_parts(self.settings)
        outage = Outage(parts.connection.where, worker=self.name)
        try:
            async with (
                _background(arrive(parts.store.pipeline, outage), name="arrival") as arriving,
                _background(self._stopping.wait(), name="stop") as stopping,
            ):
                await asyncio.wait({arriving, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if arriving.done():
                    arriving.result()
            return await self._run(parts, outage)
        finally:
            await _close_sources()
            await _close(parts)

    async def _run(self, parts: Parts, outage: Outage) -> WorkerReport:
        settings = self.settings
        renewal = lease_renewal(parts, settings, outage)
        sweeper = Sweeper(
            parts.store,
            parts.executor,
            wakeup=parts.executor.wakeup,
            lease_ms=settings.lease_ms,
            sweep_ms=settings.sweep_ms,
            agents=tuple(self.app.agents),
            outage=outage,
        )
        burst = Burst(parts.store, sweeper)
        vigil = Vigil(parts.store, worker=self.name)

        lanes = Lanes(self.app, parts.store.webhooks, owner=self.name, outage=outage)

        def saw(outcome: Outcome) -> None:
            burst.saw(outcome)
            vigil.saw(outcome)
            lanes.saw(outcome)

        slots = Slots(
            self.app.loop(parts.store, parts.executor, settings),
            renewal,
            concurrency=self.concurrency,
            worker=self.name,
            max_recoveries=settings.max_recoveries,
            on_room=self._nudge,
            on_outcome=saw,
        )
        slots.tells_every_end = self._is_burst
        quiet = Quiet(parts.store.pipeline, parts.store.keys)
        suspension = Suspension(
            parts.executor.is_suspended, slots, nudge=self._nudge, quiet=lambda: quiet.told(self.name)
        )
        registration = Registration(
            parts.executor.connection.thread_client(),
            self.queues,
            slots=slots,
            suspension=suspension,
            outage=outage,
            agents=tuple(self.app.agents),
        )
        scheduling = Scheduling(parts.store, parts.executor, settings, Catalogue())
        commands = Commands(parts.store, slots, stop=self.stop)
        renewal.start()
        registration.start()
        try:
            await lanes.publish_first(self._stopping)
            async with (
                _background(lanes.run(), name="webhooks"),
                _background(follow_cancels(parts.store.watch_cancels(self.name), slots), name="cancels"),
                _background(commands.follow(parts.store.hub), name="commands"),
                _background(repeat(scheduling.fire, every_s=_FIRE_S, who="schedules", outage=outage), name="schedules"),
                _background(repeat(vigil.look, every_s=Vigil.EVERY_S, who="vigil", outage=outage), name="vigil"),
            ):
                await self._claim(parts, slots, sweeper, burst, suspension, lanes, outage)
                await drain(slots, settings, hurry=self._hurry, nudge=self._nudge)
                if self._is_burst and not self._stopping.is_set():
                    await lanes.finish()
        finally:
            await slots.abandon()
            await asyncio.gather(renewal.stop(), registration.stop())
        return self._farewell(slots)

    async def _claim(
        self,
        parts: Parts,
        slots: Slots,
        sweeper: Sweeper,
        burst: Burst,
        suspension: Suspension,
        lanes: Lanes,
        outage: Outage,
    ) -> None:
        """Claim and sweep until stopped, or until the burst is over."""
        source = parts.executor.source(self.queues)
        queue_connection = parts.executor.connection
        agents = tuple(self.app.agents)

        async def reject(job_ids: Sequence[str]) -> None:
            await reject_foreign(queue_connection, job_ids, worker=self.name)

        async def publish() -> None:
            await parts.store.publish_agents(self.app.manifests())
            await lanes.publish()
            self._greet(parts.connection.where)

        doorbell = Doorbell(queue_connection, source.queue_keys, nudge=self._nudge, outage=outage)
        loop = ClaimLoop(
            StoreTake(parts.store, source, owner=self.name, lease_ms=self.settings.lease_ms, agents=agents),
            reject,
            slots=slots,
            doorbell=doorbell,
            nudge=self._nudge,
            outage=outage,
            suspension=suspension,
            stopping=self._stopping,
            is_over=burst.is_over if self._is_burst else None,
        )
        publishing = repeat(publish, every_s=_PUBLISH_S, who="agents", outage=outage)
        looking = repeat(suspension.look, every_s=Suspension.EVERY_S, who="suspension", outage=outage)
        async with (
            _background(publishing, name="publish"),
            _background(looking, name="suspension"),
            _background(loop.run(), name="claims") as claiming,
        ):
            sweeper.start()
            doorbell.start()
            try:
                await self._until_stopped(claiming)
            finally:
                await sweeper.stop()
                await doorbell.stop()

    async def _until_stopped(self, claiming: asyncio.Task[None]) -> None:
        async with _background(self._stopping.wait(), name="stop") as stopping:
            await asyncio.wait({claiming, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({claiming}, timeout=0 if self._hurry.is_set() else _LAST_CLAIM_S)
        if claiming.done():
            claiming.result()

    def _greet(self, where: str) -> None:
        """Say once what this worker does, when Redis has answered: until then there is only to say that it waits."""
        if self._has_greeted:
            return
        self._has_greeted = True
        extra = {"worker": self.name}
        queues = ", ".join(self.queues)
        logger.info(
            "worker %s: %s, queues: %s, agents: %s, Redis at %s",
            self.name,
            counted(self.concurrency, "slot"),
            queues,
            ", ".join(sorted(self.app.agents)),
            where,
            extra=extra,
        )
        for agent in self.app.agents.values():
            if agent.queue is not None and agent.queue not in self.queues:
                logger.info(
                    "runs of agent %s wait on queue %s, which this worker does not serve",
                    agent.name,
                    agent.queue,
                    extra=extra,
                )

    def _farewell(self, slots: Slots) -> WorkerReport:
        tally = slots.tally
        report = WorkerReport(self.name, tally.committed, tally.released, tally.lost, tally.failed, tally.tools)
        logger.info(
            "worker %s ended: %s committed, %d handed back, %d lost, %d failed",
            self.name,
            counted(report.committed, "iteration"),
            report.released,
            report.lost,
            report.failed,
            extra={"worker": self.name},
        )
        return report


def worker_name() -> str:
    """A name for this start of this process, unique among all workers: `agentq-<host>-<pid>-<8 hex>`."""
    return f"agentq-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def lease_renewal(parts: Parts, settings: Settings, outage: Outage) -> LeaseRenewal:
    """Renewal in Redis, by a thread with a connection of its own."""
    client = parts.connection.thread_client()

    def renew(leases: Sequence[Lease]) -> tuple[Renewal, ...]:
        return renew_blocking(client, settings.prefix, leases, settings.lease_ms)

    return LeaseRenewal(
        renew, lease_ms=settings.lease_ms, stall_limit_ms=settings.stall_limit_ms, outage=outage, close=client.close
    )


async def _close_sources() -> None:
    """End the tool servers that were started for this worker, each of which has some seconds to end by itself."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SOURCES_S):
            await close_sources()


async def _close(parts: Parts) -> None:
    """Close connections, without waiting long for a Redis that hangs."""
    try:
        async with asyncio.timeout(_CLOSE_S):
            await parts.aclose()
    except TimeoutError:
        await parts.connection.aclose()


@contextlib.asynccontextmanager
async def _background(work: Coroutine[Any, Any, Any], *, name: str) -> AsyncIterator[asyncio.Task[Any]]:
    """Run `work` as a task until the block ends."""
    task = asyncio.create_task(work, name=f"agentq-{name}")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
