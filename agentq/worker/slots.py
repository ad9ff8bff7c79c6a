"""Slots: the iterations in flight, and what is said of each when it ends."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agentq.errors import StoreUnavailable
from agentq.worker.words import counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentq.loop import Iteration, Outcome
    from agentq.runs import RunState
    from agentq.stores.base import Claim, Lease
    from agentq.worker.renewal import LeaseRenewal

logger = logging.getLogger(__name__)


class Begins(Protocol):
    """Makes the iteration of a claim: `agentq.loop.Loop`."""

    def begin(self, claim: Claim) -> Iteration: ...


@dataclass(slots=True)
class Tally:
    """What came of the iterations of one worker. `broken` are those that a bug of agentq ended."""

    committed: int = 0
    released: int = 0
    lost: int = 0
    failed_to_store: int = 0
    broken: int = 0
    tools: int = 0
    busy_ms: int = 0

    @property
    def failed(self) -> int:
        return self.failed_to_store + self.broken

    @property
    def iterations(self) -> int:
        return self.committed + self.released + self.lost + self.failed


@dataclass(frozen=True, slots=True)
class InFlight:
    """An iteration as RQ knows it: the job of its wake-up, its queue, and since when it runs (monotonic seconds)."""

    run_id: str
    job_id: str
    queue: str
    fence: int
    began: float


@dataclass(slots=True)
class _Slot:
    iteration: Iteration
    task: asyncio.Task[None]
    run: RunState
    began: float


class Slots:
    """Runs claimed iterations as tasks, at most `concurrency` at once.

    `on_room` is called when a full house gets a free slot, and at every end once `tells_every_end` is set.
    """

    def __init__(
        self,
        loop: Begins,
        renewal: LeaseRenewal,
        *,
        concurrency: int,
        worker: str,
        max_recoveries: int,
        on_room: Callable[[], None] = lambda: None,
        on_outcome: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        self.tally = Tally()
        self.tells_every_end = False
        self._loop = loop
        self._renewal = renewal
        self.concurrency = concurrency
        self.worker = worker
        self._max_recoveries = max_recoveries
        self._on_room = on_room
        self._on_outcome = on_outcome
        self._slots: dict[Lease, _Slot] = {}
        # A run may be here twice for a moment: when it was taken over by the very worker that had lost it.
        self._newest: dict[str, Lease] = {}

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def free(self) -> int:
        return self.concurrency - len(self._slots)

    @property
    def must_not_repeat(self) -> int:
        """How many iterations run a tool that must not be repeated."""
        return sum(slot.iteration.must_not_repeat for slot in self._slots.values())

    def start(self, claim: Claim) -> None:
        """Begin the iteration of a claim and return."""
        lease = claim.lease
        if claim.run.recoveries:
            self._tell_taken_over(claim)
        older = self._newest.get(lease.run_id)
        if older is not None:
            self._slots[older].iteration.lose()
        try:
            iteration = self._loop.begin(claim)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # one run's data must not harm its neighbours in the batch
            self._broke(lease, error)
            return
        task = asyncio.create_task(self._advance(lease, iteration), name=f"agentq-{lease.run_id}-{lease.fence}")
        self._slots[lease] = _Slot(iteration, task, claim.run, time.monotonic())
        self._newest[lease.run_id] = lease
        self._renewal.add(lease, iteration)
        # Not within the task: one that is cancelled before its first step never runs.
        task.add_done_callback(lambda _: self._end(lease))

    def holds(self, run_id: str) -> bool:
        """Whether an iteration of the run is in flight here."""
        return run_id in self._newest

    def longer_than(self, seconds: float, *, limit: int) -> tuple[InFlight, ...]:
        """The iterations that have run that long, the oldest first, at most `limit`. May be called in any thread."""
        since = time.monotonic() - seconds
        # Slots are in the order in which they began; the copy is made in one go, whatever the event loop does.
        old = itertools.takewhile(lambda slot: slot.began <= since, self._slots.copy().values())
        return tuple(
            InFlight(slot.run.run_id, f"{slot.run.run_id}-{slot.run.wake}", slot.run.queue, slot.run.fence, slot.began)
            for slot in itertools.islice(old, limit)
        )

    def cancel(self, run_id: str) -> None:
        """Tell the iteration of a run that the run was cancelled."""
        lease = self._newest.get(run_id)
        if lease is not None:
            self._slots[lease].iteration.cancel()

    def hand_back(self, *, force: bool) -> None:
        """Ask all iterations to release their runs; with `force` also those in a tool that must not be repeated."""
        for slot in tuple(self._slots.values()):
            slot.iteration.hand_back(force=force)

    async def abandon(self) -> None:
        """End what is left as a crash would: leases expire, and other workers recover the runs."""
        tasks = [slot.task for slot in self._slots.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _advance(self, lease: Lease, iteration: Iteration) -> None:
        try:
            outcome = await iteration.run()
        except StoreUnavailable as error:
            self.tally.failed_to_store += 1
            logger.warning("run %s could not be stored: %s", lease.run_id, error, extra=self._extra(lease))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a bug that one run triggers must not end the others
            self._broke(lease, error)
        else:
            self._tell(outcome)
            self._on_outcome(outcome)

    def _broke(self, lease: Lease, error: BaseException) -> None:
        """Count a bug and log it.

        The lease is left to expire. Releasing the run would bring it back at once, and a bug that it triggers would
        spin; an expired lease is a recovery, and recoveries have a budget.
        """
        self.tally.broken += 1
        logger.error(
            "run %s broke its iteration; it is recovered when its lease has expired",
            lease.run_id,
            extra=self._extra(lease),
            exc_info=error,
        )

    def _tell_taken_over(self, claim: Claim) -> None:
        """Log that a run lost its worker since its last commit. Told again when it was released in between."""
        number, allowed = claim.run.recoveries, self._max_recoveries
        logger.warning(
            "run %s taken over: its worker stopped renewing its lease (recovery %d%s)",
            claim.run.run_id,
            number,
            f" of {allowed}" if number <= allowed else f", more than {allowed}: the run is set aside",
            extra=self._extra(claim.lease),
        )

    def _extra(self, lease: Lease) -> dict[str, str]:
        return {"run_id": lease.run_id, "worker": self.worker}

    def _end(self, lease: Lease) -> None:
        self._renewal.drop(lease)
        del self._slots[lease]
        # An older iteration of the run may end after a newer one: its last call hangs, the newer one's did not.
        if self._newest.get(lease.run_id) == lease:
            del self._newest[lease.run_id]
        if self.free == 1 or self.tells_every_end:
            self._on_room()

    def _tell(self, outcome: Outcome) -> None:
        match outcome.kind:
            case "committed":
                self.tally.committed += 1
            case "released":
                self.tally.released += 1
            case "lost":
                self.tally.lost += 1
            case "failed_to_store":
                self.tally.failed_to_store += 1
        self.tally.tools += outcome.tools
        self.tally.busy_ms += outcome.duration_ms
        ended_well = outcome.kind in ("committed", "released")
        logger.log(
            logging.INFO if ended_well else logging.WARNING,
            "run %s iteration %d %s%s  %s  %d ms%s",
            outcome.run_id,
            outcome.iteration,
            outcome.kind,
            f" → {outcome.status}" if outcome.status is not None else "",
            counted(outcome.tools, "tool"),
            outcome.duration_ms,
            f"  {outcome.error}" if outcome.error else "",
            extra={
                "run_id": outcome.run_id,
                "iteration": outcome.iteration,
                "worker": self.worker,
                "status": outcome.status,
                "tools": outcome.tools,
                "duration_ms": outcome.duration_ms,
            },
        )


async def follow_cancels(cancels: AsyncIterator[str], slots: Slots) -> None:
    """Tell the slots of every cancel that is heard. Renewal tells too, but only with the next beat."""
    async for run_id in cancels:
        slots.cancel(run_id)
