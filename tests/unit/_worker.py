"""Fakes for the parts of a worker: iterations that end when the test says so, leases, claims."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from agentq.loop import Iteration, Outcome
from agentq.runs import RunState, Status
from agentq.stores.base import Claim, Lease
from agentq.worker.outage import Outage
from agentq.worker.renewal import LeaseRenewal
from agentq.worker.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq.stores.base import Renewal
    from agentq.worker.slots import Begins


def claim(run_id: str = "R1", fence: int = 1, *, recoveries: int = 0) -> Claim:
    state = RunState(run_id, "echo", Status.RUNNING, fence=fence, recoveries=recoveries)
    return Claim(Lease(run_id, fence, "w1"), state, (), {})


def outcome(run_id: str = "R1", status: Status | None = Status.QUEUED, **changes: object) -> Outcome:
    values = {"agent": "echo", "kind": "committed", "iteration": 2, "duration_ms": 41, "tools": 3} | changes
    return Outcome(run_id, status=status, **values)  # type: ignore[arg-type]


class ScriptedIteration:
    """Ends with what the test puts into `end`; notes what it is told in between."""

    def __init__(self, claimed: Claim) -> None:
        self.claim = claimed
        self.end: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.told: list[str] = []
        self.must_not_repeat = False
        self.releases = True

    async def run(self) -> Outcome:
        return await self.end

    def finish(self, status: Status = Status.QUEUED) -> None:
        if not self.end.done():
            self.end.set_result(outcome(self.claim.run.run_id, status))

    def lose(self) -> None:
        self.told.append("lose")

    def cancel(self) -> None:
        self.told.append("cancel")

    def hand_back(self, *, force: bool = False) -> None:
        self.told.append("hand back now" if force else "hand back")
        if self.releases and (force or not self.must_not_repeat) and not self.end.done():
            self.end.set_result(outcome(self.claim.run.run_id, Status.QUEUED, kind="released"))


class ScriptedLoop:
    """Begins scripted iterations; those of runs in `broken` cannot be begun."""

    def __init__(self, broken: Sequence[str] = ()) -> None:
        self.begun: list[ScriptedIteration] = []
        self._broken = broken

    def begin(self, claimed: Claim) -> Iteration:
        if claimed.run.run_id in self._broken:
            raise ValueError("the journal cannot be read")
        self.begun.append(ScriptedIteration(claimed))
        return cast("Iteration", self.begun[-1])


def renewal(
    renew: Callable[[Sequence[Lease]], tuple[Renewal, ...]] = lambda _: (), *, stall_limit_ms: int = 60_000
) -> LeaseRenewal:
    return LeaseRenewal(renew, lease_ms=300, stall_limit_ms=stall_limit_ms, outage=Outage("test"))


def slots(loop: Begins, *, concurrency: int = 2, **more: Callable[..., None]) -> Slots:
    return Slots(loop, renewal(), concurrency=concurrency, worker="w1", max_recoveries=5, **more)
