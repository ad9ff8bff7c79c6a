"""A simulated worker: the parts of a real one, put together as `agentq.worker.lifecycle` does it, without Redis.

The claim loop, the slots, the sweeper, the drain and the outages are the real ones. Renewal is a thread with blocking
calls in a real worker; here it is a simulated thread of the same process, which dies and stands still with it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from agentq.errors import StoreUnavailable
from agentq.loop import Loop
from agentq.stores._claims import ClaimedWakeups
from agentq.worker.claiming import ClaimLoop
from agentq.worker.doorbell import Nudge
from agentq.worker.drain import drain
from agentq.worker.outage import Outage
from agentq.worker.slots import Slots, follow_cancels
from agentq.worker.suspension import Suspension
from agentq.worker.sweeper import Sweeper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agentq.loop import Agent
    from agentq.providers.base import Provider
    from agentq.settings import Settings
    from agentq.stores.base import Lease, Store
    from agentq.testing.simulation.network import Network, Remote
    from agentq.testing.simulation.scheduling import Process
    from agentq.testing.simulation.seeding import VirtualClock
    from agentq.testing.simulation.server import Server
    from agentq.worker.renewal import Holder

# As in agentq.worker.lifecycle.
_LAST_CLAIM_S = 2.0


@dataclass(frozen=True, slots=True)
class Crew:
    """What all workers of a world have in common."""

    agents: Mapping[str, Agent]
    provider: Provider
    settings: Settings
    concurrency: int


class SimulatedExecutor:
    """Puts wake-ups on the simulated queue. A delay is for the sweeper, as with RQ."""

    def __init__(self, network: Network, remote: Remote) -> None:
        self._wakeups = network.server.wakeups
        self._remote = remote

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        if delay > 0:
            return
        await self._remote.ask("wake", lambda: self._wakeups.put(run_id))


@dataclass(frozen=True, slots=True)
class _Take:
    """`agentq.worker.claiming.StoreTake`, from the simulated queue."""

    server: Server
    remote: Remote
    owner: str
    lease_ms: int
    agents: tuple[str, ...]

    async def wakeups(self, claim_id: str, count: int, *, is_idle: bool) -> ClaimedWakeups:
        return await self.remote.ask(
            "take",
            lambda: self.server.take(self.owner, claim_id, count, self.lease_ms, self.agents, is_idle=is_idle),
        )

    async def named(self, claim_id: str, run_id: str) -> ClaimedWakeups:
        claims = await self.remote.claim(
            [run_id], owner=self.owner, claim_id=claim_id, lease_ms=self.lease_ms, agents=self.agents
        )
        return ClaimedWakeups(claims, 0, ())


class SimulatedRenewal:
    """`agentq.worker.renewal.LeaseRenewal`, with a simulated thread in place of a real one."""

    def __init__(self, network: Network, process: Process, *, lease_ms: int, outage: Outage) -> None:
        self._process = process
        self._thread = process.add_thread()
        self._remote = network.connect(self._thread)
        self._lease_ms = lease_ms
        self._outage = outage
        self._held: dict[Lease, Holder] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._thread.start(self._beat_for_ever())

    def stop(self) -> None:
        if self._task is not None:
            self._thread.call(self._task.cancel)

    def add(self, lease: Lease, holder: Holder) -> None:
        self._held[lease] = holder

    def drop(self, lease: Lease) -> None:
        self._held.pop(lease, None)

    async def _beat_for_ever(self) -> None:
        while True:
            pause_s = await self._beat()
            await asyncio.sleep(pause_s)

    async def _beat(self) -> float:
        interval_s = self._lease_ms / 3000
        leases = tuple(self._held)
        if not leases:
            return interval_s
        try:
            answers = await self._remote.renew(leases, lease_ms=self._lease_ms)
        except StoreUnavailable as error:
            return min(self._outage.failed("renewal", error), interval_s)
        self._outage.worked("renewal")
        for lease, answer in zip(leases, answers, strict=True):
            if not answer.held:
                self._process.main.call(self._lost, lease)
            elif answer.cancel_requested:
                self._process.main.call(self._cancelled, lease)
        return interval_s

    def _lost(self, lease: Lease) -> None:
        holder = self._held.pop(lease, None)
        if holder is not None:
            holder.lose()

    def _cancelled(self, lease: Lease) -> None:
        holder = self._held.get(lease)
        if holder is not None:
            holder.cancel()


class SimulatedWorker:
    """One worker, from its start to its end by `stop`, or by whatever befalls its process."""

    def __init__(
        self, network: Network, process: Process, crew: Crew, clock: VirtualClock, blame: Callable[[str], None]
    ) -> None:
        self.process = process
        self._network = network
        self._crew = crew
        self._clock = clock
        self._blame = blame
        self._nudge = Nudge()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self.ended: asyncio.Task[None]

    def start(self) -> None:
        self.ended = self.process.main.start(self._run())

    def stop(self, *, now: bool = False) -> None:
        """What SIGTERM does, and a second one."""
        self.process.main.call(self._stop, now)

    def _stop(self, now: bool) -> None:
        if now:
            self._hurry.set()
        self._stopping.set()
        self._nudge()

    async def _run(self) -> None:
        network, crew, name = self._network, self._crew, self.process.name
        settings, remote = crew.settings, network.connect(self.process.main)
        outage = Outage("the simulation", worker=name)
        executor = SimulatedExecutor(network, remote)
        renewal = SimulatedRenewal(network, self.process, lease_ms=settings.lease_ms, outage=outage)
        slots = Slots(
            Loop(
                crew.agents,
                cast("Store", remote),
                executor,
                settings,
                clock=self._clock,
                resolve_model=lambda model: (crew.provider, model),
            ),
            cast("Any", renewal),
            concurrency=crew.concurrency,
            worker=name,
            max_recoveries=settings.max_recoveries,
            on_room=self._nudge,
        )
        sweeper = Sweeper(
            cast("Store", remote),
            executor,
            wakeup=None,
            lease_ms=settings.lease_ms,
            sweep_ms=settings.sweep_ms,
            agents=tuple(crew.agents),
            outage=outage,
        )
        claims = await self._claim_loop(remote, slots, outage)
        renewal.start()
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(follow_cancels(remote.watch_cancels(name), slots))
            claiming = group.create_task(claims.run())
            sweeper.start()
            await self._stopping.wait()
            await asyncio.wait({claiming}, timeout=0 if self._hurry.is_set() else _LAST_CLAIM_S)
            claiming.cancel()
            await sweeper.stop()
            await drain(slots, settings, hurry=self._hurry, nudge=self._nudge)
            listening.cancel()
        renewal.stop()
        if slots.tally.broken:
            self._blame(f"{name} had {slots.tally.broken} iterations that a bug ended")

    async def _claim_loop(self, remote: Remote, slots: Slots, outage: Outage) -> ClaimLoop:
        crew, server = self._crew, self._network.server
        owner, lease_ms = self.process.name, crew.settings.lease_ms

        async def reject(job_ids: Sequence[str]) -> None:
            self._blame(f"{owner} was told to reject {job_ids}")

        async def is_suspended() -> bool:
            return False

        suspension = Suspension(is_suspended, slots, nudge=self._nudge)
        await suspension.look()
        return ClaimLoop(
            _Take(self._network.server, remote, owner, lease_ms, tuple(crew.agents)),
            reject,
            slots=slots,
            doorbell=cast("Any", server.wakeups.bell(self.process.main, self._nudge)),
            nudge=self._nudge,
            outage=outage,
            suspension=suspension,
            stopping=self._stopping,
        )
