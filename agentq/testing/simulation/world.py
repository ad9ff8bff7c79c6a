"""One world: N workers, clients and viewers on one store, faults for a while, then calm, and the checks at its end."""

from __future__ import annotations

import asyncio
import gc
import zlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentq.errors import StoreUnavailable
from agentq.loop import Agent
from agentq.settings import Settings
from agentq.stores.memory import MemoryStore
from agentq.testing.simulation.checks import left_over, wrong_at_the_end
from agentq.testing.simulation.crowd import Crowd
from agentq.testing.simulation.effects import Effects
from agentq.testing.simulation.faults import Chances, Fates, Figures
from agentq.testing.simulation.ledger import Ledger
from agentq.testing.simulation.network import Network
from agentq.testing.simulation.people import SimulatedClient, Viewer
from agentq.testing.simulation.plans import ASK, HELPER, SimulatedModel, draw_plan
from agentq.testing.simulation.scheduling import Process, SimulatedLoop, SimulationStuck
from agentq.testing.simulation.seeding import VirtualClock, heard_errors, numbers_of, seeded
from agentq.testing.simulation.server import Server, Wakeups
from agentq.testing.simulation.tools import Patience, SimulatedTools
from agentq.testing.simulation.workers import Crew, SimulatedWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq._clock import Clock
    from agentq.testing.simulation.plans import Plan

# Many times what a world takes.
_MAX_STEPS = 1_000_000
_TRACE_LINES = 30
# Once nothing fails any more, everything ends well within this.
_CALM_S = 900.0
_LOOK_S = 0.5
_TTL_MS = 3_600_000
# How often it is asked anew when something befalls anybody: the chance of it may change.
_STEPS = 2_000


@dataclass(frozen=True, slots=True)
class Played:
    """How the world of a seed came out. `digest` is the same whenever that world is played again.

    `steps` counts the callbacks that simulated processes ran, and the calls to the store.
    `violations` are the promises that were broken; `trace` is what happened last before the first of them.
    """

    seed: int
    steps: int
    digest: str
    figures: Figures
    violations: tuple[str, ...]
    trace: tuple[str, ...]


def play(
    seed: int, *, chances: Chances | None = None, make_store: Callable[[Clock], MemoryStore] = MemoryStore
) -> Played:
    """Play the world of a seed to its end, at most to its first violation. Takes some tens of milliseconds.

    The same seed gives the same world, bit for bit, on the same version of agentq. `chances` are those of the seed
    unless they are given; `make_store` gives the store, such as one with a planted fault. Not from within an event
    loop: it brings its own.
    """
    loop = SimulatedLoop(numbers_of(seed, "scheduler").random, max_steps=_MAX_STEPS)
    # Collecting garbage runs code at moments that no seed decides.
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        with seeded(loop, seed):
            world = World(loop, seed, chances, make_store)
            with heard_errors(world.blame, expected=StoreUnavailable):
                try:
                    world.live()
                    played = world.told(seed)
                finally:
                    world.end()
    finally:
        loop.close()
        if was_collecting:
            gc.enable()
    return played


class World:
    """Draws its shape from the seed: how many of everyone, how long a lease, how much goes wrong."""

    def __init__(
        self, loop: SimulatedLoop, seed: int, chances: Chances | None, make_store: Callable[[Clock], MemoryStore]
    ) -> None:
        self.loop = loop
        self.figures = Figures(worlds=1)
        self.violations: list[str] = []
        self.trace: deque[str] = deque(maxlen=_TRACE_LINES)
        self.digest = 0
        numbers = self._numbers = numbers_of(seed, "world")
        loop.complain = self.blame
        self._first_violation: asyncio.Future[None] = loop.create_future()
        self._clock = VirtualClock(loop)
        self._store = make_store(self._clock)
        self._ledger = Ledger(self._clock.now_ms, self.figures, self.blame)
        if chances is None:
            chances = Chances().times(numbers.choice((0.0, 0.5, 1.0, 2.0, 4.0)))
        self._fates = Fates(chances, numbers_of(seed, "fates"))
        self._settings = Settings(
            lease_ms=numbers.choice((600, 1_500, 3_000, 10_000)),
            coalesce_ms=numbers.choice((0, 30)),
            max_recoveries=numbers.choice((1, 5, 5, 20)),
            handover_ms=numbers.choice((0, 300)),
            drain_ms=numbers.choice((500, 5_000)),
            ttl_completed_ms=_TTL_MS,
            ttl_failed_ms=_TTL_MS,
            ttl_cancelled_ms=_TTL_MS,
            session_ttl_ms=_TTL_MS,
        )
        lease_s = self._settings.lease_ms / 1000
        server = Server(self._store, self._ledger, Wakeups(loop, self._fates, self.figures, self._ledger))
        self._network = Network(loop, server, self._fates, self.figures, self.note, longest_pause_s=3 * lease_s)
        plans = [draw_plan(number, numbers) for number in range(1, numbers.randint(10, 24))]
        self._asked = plans
        plans = [each for plan in plans for each in plan.all]
        self._plans = {plan.prompt: plan for plan in plans}
        self._chaos_s = numbers.uniform(10, 40)
        self._effects = Effects(self._ledger)
        patience = Patience(*(numbers.choice((None, 2.0, 10.0)) for _ in range(3)))
        tools = SimulatedTools(
            plans, self._ledger, self._effects, numbers_of(seed, "tools"), patience, longest_s=1.5 * lease_s
        ).all()
        model = SimulatedModel(plans, self._effects, numbers_of(seed, "model"), longest_s=0.5 * lease_s)
        helper = Agent(HELPER, tools=tools, retry_backoff_s=0.5)
        tools = [*tools, helper.as_tool(ASK, description="Ask for help.")]
        agents = {name: Agent(name, tools=tools, retry_backoff_s=0.5) for name in ("agent", HELPER)}
        self._crew = Crew(agents, model, self._settings, numbers.choice((1, 4, 100)))
        self._workers: list[SimulatedWorker] = []
        self._workers_made = 0
        self._is_closing = False
        self._viewers: list[Viewer] = []
        self._clients = self._make_clients()
        self._crowd = Crowd(self._clients, self._ledger, numbers, self._watch_over)
        self._ledger.on_created = self._created
        # Who answers what nobody else has answered, once nothing fails any more.
        self._operator = self._make_client("operator", [], [])
        loop.interfere = self._interfere

    def _make_clients(self) -> list[SimulatedClient]:
        numbers, count = self._numbers, self._numbers.randint(1, 3)
        sessions = [f"session-{number}" for number in range(numbers.randint(1, 4))]
        plans = self._asked
        return [self._make_client(f"client-{index + 1}", plans[index::count], sessions) for index in range(count)]

    def _make_client(self, name: str, plans: Sequence[Plan], sessions: Sequence[str]) -> SimulatedClient:
        return SimulatedClient(
            self._network,
            Process(self.loop, name),
            self._settings,
            self._effects,
            plans,
            sessions,
            self._numbers,
            within_s=self._chaos_s / 2,
            blame=self.blame,
        )

    # --- what happened

    def note(self, who: str, what: str) -> None:
        if not self.violations:
            line = f"{self.loop.time():12.6f}  {who}: {what}"
            self.trace.append(line)
            self.digest = zlib.crc32(line.encode(), self.digest)

    def blame(self, what: str) -> None:
        """Note a violation; the world ends with the first one."""
        if self.loop.is_over:
            return
        self.note("VIOLATION", what)
        self.violations.append(what)
        if not self._first_violation.done():
            self._first_violation.set_result(None)

    def told(self, seed: int) -> Played:
        digest = f"{self.loop.digest:012x}{self.digest:08x}"
        violations, trace = tuple(self.violations), tuple(self.trace)
        return Played(seed, self.figures.steps, digest, self.figures, violations, trace)

    # --- the course of the world

    def live(self) -> None:
        try:
            self.loop.run_until_complete(self.loop.director.main.start(self._until_over()))
        except SimulationStuck as error:
            self.blame(str(error))
        self.figures.steps = self.loop.steps + self.figures.calls
        self.figures.virtual_s = self.loop.time()
        self.figures.events_seen = sum(len(viewer.seen) for viewer in self._viewers)
        self.figures.violations = len(self.violations)

    def end(self) -> None:
        """Close all coroutines, those of dead processes too."""
        self.loop.bury()

        async def close() -> None:
            while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks, timeout=1)

        self.loop.run_until_complete(close())

    def _interfere(self, process: Process) -> int:
        """Crash, pause or stall whoever took the last step; after how many more steps it is somebody's turn again."""
        fates = self._fates
        steps = fates.steps_between(fates.chances.anywhere, at_most=_STEPS)
        if steps < _STEPS and process is not self.loop.director and not process.is_dead:
            self._network.befall(process)
        return steps

    async def _until_over(self) -> None:
        story = asyncio.ensure_future(self._story())
        await asyncio.wait({story, self._first_violation}, return_when=asyncio.FIRST_COMPLETED)
        if story.done():
            story.result()

    async def _story(self) -> None:
        for _ in range(self._numbers.randint(2, 5)):
            self._start_worker()
        for client in self._clients:
            client.start()
            self._watch_over(client.ended, client.process)
        await self._chaos()
        self._fates.calm()
        self.note("world", "nothing fails any more")
        if not self._workers:
            self._start_worker()
        await self._until(
            lambda: all(client.process.is_dead or client.ended.done() for client in self._clients), "clients"
        )
        await self._until(self._all_have_ended, "open runs", self._open_runs)
        await self._until(lambda: all(each.is_done for each in self._viewers), "viewers", self._waiting_viewers)
        for what in await wrong_at_the_end(
            self._store,
            self._ledger,
            self._plans,
            self._viewers,
            max_recoveries=self._settings.max_recoveries,
        ):
            self.blame(what)
        await self._stop_workers()
        self._count_unknown()
        self._clock.passed_ms += _TTL_MS + 1
        for what in await left_over(self._store, lease_ms=self._settings.lease_ms):
            self.blame(what)

    async def _chaos(self) -> None:
        """The time in which things fail: workers come and go besides."""
        until_s = self.loop.time() + self._chaos_s
        while (left_s := until_s - self.loop.time()) > 0:
            await asyncio.sleep(min(left_s, self._numbers.uniform(1, 15)))
            if self._workers and self._numbers.random() < 0.5:
                leaving = self._numbers.choice(self._workers)
                self.note("world", f"{leaving.process.name} is asked to stop")
                leaving.stop(now=self._numbers.random() < 0.3)
                self._replace_later(leaving)

    async def _stop_workers(self) -> None:
        """Workers that are asked to stop end: nothing is left for them to do."""
        workers = list(self._workers)
        for worker in workers:
            worker.stop()
        self._is_closing = True
        await self._until(lambda: all(worker.ended.done() for worker in workers), "workers")

    async def _until(self, is_so: Callable[[], bool], what: str, left: Callable[[], str] = str) -> None:
        until_s = self.loop.time() + _CALM_S
        while not is_so():
            if self.loop.time() > until_s:
                self.blame(f"{what} are left {_CALM_S:.0f} s after the last fault: {left()}")
                return
            await asyncio.sleep(_LOOK_S)

    def _all_have_ended(self) -> bool:
        self._crowd.do_what_is_left(self._operator)
        return not self._ledger.open_runs

    def _open_runs(self) -> str:
        return ", ".join(f"{known.run_id} is {known.status}" for known in self._ledger.open_runs)

    def _waiting_viewers(self) -> str:
        return ", ".join(f"{viewer.process.name} of {viewer.run_id}" for viewer in self._viewers if not viewer.is_done)

    def _count_unknown(self) -> None:
        for known in self._ledger.runs.values():
            self.figures.unknown_outcomes += sum(
                step.result is not None and step.result.outcome == "unknown" for step in known.finished.values()
            )

    # --- who lives in it

    def _start_worker(self) -> None:
        if self._is_closing or self.loop.is_over:
            return
        self._workers_made += 1
        process = Process(self.loop, f"worker-{self._workers_made}")
        # Clocks of workers may be wrong: only the store's decides.
        clock = VirtualClock(self.loop, wrong_ms=self._numbers.choice((0, 0, -86_400_000, 86_400_000)))
        worker = SimulatedWorker(self._network, process, self._crew, clock, self.blame)
        self._workers.append(worker)
        process.on_death = lambda: self._replace_later(worker)
        worker.start()
        self._watch_over(worker.ended, process)

    def _replace_later(self, worker: SimulatedWorker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
            self._network.server.wakeups.forget(worker.process.main)
            delay_s = self._numbers.uniform(0.1, 5)
            self.loop.director.main.call(self.loop.call_later, delay_s, self._start_worker)

    def _watch_over(self, task: asyncio.Task[None], process: Process) -> None:
        """A task that ends by an exception is a bug."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.blame(f"{process.name} ended by {error!r}")

        task.add_done_callback(ended)

    def _created(self, run_id: str) -> None:
        self._send_viewers(run_id)
        self._crowd.sees_new(run_id)

    def _send_viewers(self, run_id: str) -> None:
        for _ in range(self._numbers.choice((0, 1, 1, 2))):
            process = Process(self.loop, f"viewer-{len(self._viewers) + 1}")
            viewer = Viewer(self._network, process, run_id, self._numbers)
            self._viewers.append(viewer)
            self._watch_over(process.main.start(viewer.watch()), process)
