"""A campaign: real workers that carry runs of every shape while they, Redis and the connections are killed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis.asyncio

from agentq import AsyncClient, Settings, StoreUnavailable
from agentq.errors import RunAlreadyFinished
from agentq.runs import PRIORITIES
from tests._redis_server import RedisServer
from tests.chaos.checks import Found, Ledger, Planned, check_all, check_keys, check_moves, check_registries, until_final
from tests.chaos.forge import Forge, wait_gone
from tests.chaos.office import Office
from tests.chaos.shapes import CHAIN, ERRORS, FAMILY, PARALLEL, PEOPLE, SHAPES, SIGNALS, STEERED, STREAM
from tests.helpers import ROOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

LEASE_MS = 500
# Short leases make many recoveries in little time; a run may meet more crashes here than in a year. Quarantine has a
# test of its own.
ENVIRON = {
    "AGENTQ_LEASE_MS": str(LEASE_MS),
    "AGENTQ_SWEEP_MS": "60",
    "AGENTQ_MAX_RECOVERIES": "100000",
    "AGENTQ_HANDOVER_MS": "50",
    "AGENTQ_TENANT_WAKEUPS": "2",
}
_SESSIONS = 6
# Most runs are one tenant's, so that they wait in line.
_TENANTS = ("acme", "acme", "bee", None)
# How much more often than the others a shape is drawn.
_WEIGHTS = {CHAIN: 3, PARALLEL: 3, FAMILY: 2, PEOPLE: 2}
# Not in sessions: whoever waits there holds up those behind it, or they are so many that they take long.
_ALONE = (STREAM, PEOPLE, SIGNALS, STEERED)
_DRAIN_S = 120.0
# Faults go on all the same.
_NOTHING_ENDS_S = 1.0


@dataclass(frozen=True)
class Plan:
    """How much a slice does. `open_runs` are kept in flight; `pause_s` is the mean time between two faults."""

    kills: int = 200
    workers: int = 4
    open_runs: int = 60
    least_runs: int = 200
    pause_s: float = 0.09
    faults: tuple[tuple[str, int], ...] = (
        ("kill", 78), ("stop", 6), ("term", 6), ("cut", 7), ("cut viewers", 2), ("redis", 1),
    )  # fmt: skip


@dataclass(kw_only=True)
class Report(Found):
    """What a slice did and found."""

    seed: int
    seconds: float
    faults: dict[str, int]
    moves: int = 0
    viewers: int = 0
    returns: int = 0
    holds: int = 0

    @property
    def kills(self) -> int:
        return self.faults.get("kill", 0)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Slice:
    """One slice of a campaign, in a folder of its own, on a Redis of its own."""

    def __init__(
        self, folder: Path, seed: int, plan: Plan | None = None, *, environ: dict[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.seed = seed
        self.plan = plan or Plan()
        self._dice = random.Random(seed)
        self._environ = environ or {}
        (folder / "redis").mkdir(parents=True)
        self._server = RedisServer(folder / "redis", durable=True)
        self.planned: list[Planned] = []
        self._open: set[str] = set()
        self._one_ended = asyncio.Event()
        self._counts: Counter[str] = Counter()
        self._frozen: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> Report:
        """Raises AssertionError when something that was promised does not hold."""
        began = time.monotonic()
        self._server.start()
        environ = {
            **ENVIRON, **self._environ, "REDIS_URL": self._server.url, "CHAOS_LEDGER": str(self.folder / "ledger"),
        }  # fmt: skip
        self._forge = Forge(self.folder / "workers.log", environ)
        try:
            return await self._run(began)
        finally:
            for thaw in self._frozen.values():
                thaw.cancel()
            self._forge.close()
            self._server.kill()

    async def _run(self, began: float) -> Report:
        for _ in range(self.plan.workers):
            self._forge.start()
        async with AsyncClient(settings=Settings(redis_url=self._server.url)) as client:
            self._client = client
            self._office = Office(client, random.Random(self.seed), self.planned, self._insist)
            working = asyncio.create_task(self._office.work())
            try:
                with self._watching() as viewers:
                    await self._fault_until_enough(viewers)
                    await self._mend()
                    await until_final(client, self.planned, _DRAIN_S)
                    seen = await asyncio.to_thread(_told, viewers)
                if working.done():
                    working.result()
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
            return await self._judge(seen, began)

    # --- the work

    async def _fault_until_enough(self, viewers: subprocess.Popen[str]) -> None:
        feeding = asyncio.create_task(self._feed(viewers))
        names = [name for name, _ in self.plan.faults]
        weights = [weight for _, weight in self.plan.faults]
        faults: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "kill": self._kill, "stop": self._stop, "term": self._terminate,
            "cut": self._cut, "cut viewers": self._cut_viewers, "redis": self._restart_redis,
        }  # fmt: skip
        try:
            while self._counts["kill"] < self.plan.kills or len(self.planned) < self.plan.least_runs:
                await self._let_one_end()
                await asyncio.sleep(self._dice.uniform(0.3, 1.7) * self.plan.pause_s)
                if feeding.done():
                    feeding.result()
                (name,) = self._dice.choices(names, weights)
                await faults[name]()
                self._counts[name] += 1
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def _let_one_end(self) -> None:
        """Return once a run has ended since this returned last. On a slow machine workers would be killed before they
        get anything done, again and again.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_NOTHING_ENDS_S):
                await self._one_ended.wait()
        self._one_ended.clear()

    async def _feed(self, viewers: subprocess.Popen[str]) -> None:
        """Keep so many runs open, and watch a fifth of them."""
        assert viewers.stdin is not None
        number = 0
        while True:
            for _ in range(self.plan.open_runs - len(self._open)):
                planned = await self._enqueue(number)
                number += 1
                self.planned.append(planned)
                self._open.add(planned.run_id)
                if number % 5 == 0:
                    viewers.stdin.write(f"{planned.run_id}\n")
                    viewers.stdin.flush()
                if planned.session_id is None and self._dice.random() < 0.06:
                    await self._cancel(self._dice.choice([each for each in self.planned[-40:] if not each.session_id]))
            states = await self._insist(
                lambda: asyncio.gather(*(self._client.read(run_id) for run_id in sorted(self._open)))
            )
            if ended := {state.run_id for state in states if state.status.is_final}:
                self._open -= ended
                self._one_ended.set()
            await asyncio.sleep(0.02)

    async def _enqueue(self, number: int) -> Planned:
        shape = self._dice.choices(SHAPES, weights=[_WEIGHTS.get(each, 1) for each in SHAPES])[0]
        # The line of a session must not be longer than the others need.
        session_id = (
            f"s{self.seed}-{number // 40}-{number % _SESSIONS}" if number % 6 == 0 and shape not in _ALONE else None
        )
        delay = self._dice.choice((0.0, 0.0, 0.0, 0.4)) if shape is ERRORS and session_id is None else 0.0
        run = await self._insist(
            lambda: self._client.enqueue(
                "shop",
                shape.prompt,
                session_id=session_id,
                delay=delay,
                idempotency_key=f"{self.seed}-{number}",
                tenant=_TENANTS[number % len(_TENANTS)],
                priority=PRIORITIES[number % len(PRIORITIES)] if number % 5 == 0 else None,
            )
        )
        return Planned(run.id, shape, session_id)

    async def _cancel(self, planned: Planned) -> None:
        with contextlib.suppress(RunAlreadyFinished):
            await self._insist(lambda: self._client.cancel(planned.run_id, reason="chaos"))

    async def _insist(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Call again while Redis is away, as any caller has to."""
        until = time.monotonic() + 30
        while True:
            try:
                return await call()
            except StoreUnavailable:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.05)

    # --- the faults

    def _worker(self) -> int:
        return self._dice.choice([pid for pid in self._forge.alive if pid not in self._frozen])

    async def _kill(self) -> None:
        self._forge.kill(self._worker())
        await asyncio.to_thread(self._forge.start)

    async def _terminate(self) -> None:
        self._forge.terminate(self._worker())
        await asyncio.to_thread(self._forge.start)

    async def _stop(self) -> None:
        """Freeze a worker until its leases are long over; then it goes on, believing that it holds them."""
        if len(self._frozen) < self.plan.workers - 2:
            pid = self._worker()
            self._forge.signal(pid, signal.SIGSTOP)
            self._frozen[pid] = asyncio.create_task(self._thaw(pid, self._dice.uniform(1.2, 4) * LEASE_MS / 1000))

    async def _thaw(self, pid: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._forge.signal(pid, signal.SIGCONT)
        del self._frozen[pid]

    async def _cut(self) -> None:
        await asyncio.to_thread(self._server.command, "CLIENT KILL TYPE normal SKIPME yes")

    async def _cut_viewers(self) -> None:
        await asyncio.to_thread(self._server.command, "CLIENT KILL TYPE pubsub")

    async def _restart_redis(self) -> None:
        await asyncio.to_thread(self._server.restart)

    async def _mend(self) -> None:
        """Nothing is broken any more."""
        await asyncio.gather(*self._frozen.values())
        await self._office.close()

    # --- the viewers

    @contextlib.contextmanager
    def _watching(self) -> Any:
        with (self.folder / "viewers.log").open("ab") as log:
            viewers = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.viewers", self._server.url, str(self.seed)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        try:
            yield viewers
        finally:
            viewers.kill()
            for pipe in (viewers.stdin, viewers.stdout):
                if pipe is not None:
                    pipe.close()
            viewers.wait()

    # --- the judgement

    async def _judge(self, seen: list[dict[str, Any]], began: float) -> Report:
        client = self._client
        found = await check_all(client, self.planned, Ledger.read(self.folder / "ledger"))
        for each in seen:
            await self._check_view(each)
        connection = redis.asyncio.Redis.from_url(self._server.url)
        try:
            await check_registries(connection)
            for pid in tuple(self._forge.alive):
                self._forge.terminate(pid)
                await asyncio.to_thread(wait_gone, pid)
            moves = await check_moves(connection, client, self.planned)
            await check_keys(connection)
        finally:
            await connection.aclose()
        return Report(
            seed=self.seed,
            seconds=round(time.monotonic() - began, 1),
            faults=dict(self._counts),
            moves=moves,
            viewers=len(seen),
            returns=sum(each["returns"] for each in seen),
            holds=self._office.holds,
            **dataclasses.asdict(found),
        )

    async def _check_view(self, seen: dict[str, Any]) -> None:
        """A viewer saw every number once and in order, but for pieces that were voided before it came to them."""
        run_id = seen["run_id"]
        assert "error" not in seen, f"the viewer of run {run_id}: {seen['error']}"
        numbers = seen["numbers"]
        run = await self._client.read(run_id)
        assert numbers == sorted(set(numbers)), f"the viewer of run {run_id} saw events twice or out of order"
        missing = set(range(1, run.seq + 1)) - set(numbers) - set(seen["voided"])
        assert not missing, f"the viewer of run {run_id} missed events {sorted(missing)[:5]}"
        assert seen["gaps"] == 0, f"the viewer of run {run_id} was told of a gap"
        assert seen["final"] == [f"run.{run.status}"], f"the viewer of run {run_id} saw it end as {seen['final']}"


def _told(viewers: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """What the viewers saw."""
    output, _ = viewers.communicate(timeout=150)
    if viewers.returncode != 0:
        raise AssertionError(f"the viewers failed with {viewers.returncode}; viewers.log says why")
    return [json.loads(line) for line in output.splitlines()]
