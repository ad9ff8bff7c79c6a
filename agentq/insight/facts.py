"""What can be known of runs, queues and workers at one moment, as data. None stands for what cannot be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.limits import Spent
    from agentq.runs import Pause, RunState
    from agentq.webhooks import WebhookState


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as RQ has it registered. Times are milliseconds since 1970 by the worker's own clock.

    Only workers of agentq say how many iterations are `in_flight`, their `concurrency`, their `agents` and the
    `version` of agentq; of a stock rq worker those are None, and `state` is RQ's. `is_silent`: by Redis's clock, its
    heartbeat is late. `is_quiet`: it was told to take nothing new, and has heard it. `done` and `failed` count
    iterations (jobs of a stock worker) since it started.
    """

    name: str
    queues: tuple[str, ...] = ()
    state: str = "idle"
    host: str = ""
    pid: int = 0
    started_ms: int = 0
    done: int = 0
    failed: int = 0
    in_flight: int | None = None
    concurrency: int | None = None
    agents: tuple[str, ...] | None = None
    version: str | None = None
    is_silent: bool = False
    is_quiet: bool = False

    @property
    def is_agentq(self) -> bool:
        return self.version is not None

    @property
    def is_full(self) -> bool:
        """Whether it takes nothing more before something of its own ends."""
        if self.in_flight is None or not self.concurrency:
            return self.state == "busy"
        return self.in_flight >= self.concurrency


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """One queue. `oldest_ms` is when the wake-up at its head was made, None when it is empty or cannot be told.

    `failed` counts RQ's failed jobs of the queue; of those, `foreign` are no wake-ups of agentq (at most 1000 are
    looked at). `pause`: nothing is taken from it, since it, or everything, is paused. `in_line` are runs that have no
    wake-up yet, since as many of their tenant wait in the queue as may.
    """

    name: str
    waiting: int
    oldest_ms: int | None = None
    workers: tuple[str, ...] = ()
    failed: int = 0
    foreign: int = 0
    pause: Pause | None = None
    in_line: int = 0


@dataclass(frozen=True, slots=True)
class MemoryInfo:
    """Redis's memory in bytes. `limit` is `maxmemory`, 0 for none."""

    used: int
    limit: int
    policy: str


@dataclass(frozen=True, slots=True)
class Stats:
    """One page of figures. Runs that have expired are still counted until a sweep takes them out of the listings.

    `due` is how many runs a sweeper watches, `oldest_queued` the queued run that was created first, with the time.
    `spent` is what all runs used today (UTC) whose agents have a `SpendLimit(per="all")`; None where there are none.
    `kept_bytes` is what one ended run takes in Redis, the mean of the `kept_of` latest that completed. None: Redis
    refused to tell.
    """

    now_ms: int
    runs: Mapping[str, int]
    sessions: int
    due: int
    oldest_queued: tuple[str, int] | None
    swept_ms: int | None
    workers: tuple[WorkerInfo, ...]
    queues: tuple[QueueInfo, ...]
    memory: MemoryInfo | None = None
    kept_bytes: int | None = None
    kept_of: int = 0
    pauses: Mapping[str, Pause] = field(default_factory=dict)
    webhooks: tuple[WebhookState, ...] = ()
    spent: Spent | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run's wake-up is in its queue: `ahead` others stand before it.

    `ahead` is None when it is not among the first `looked_at` of the `waiting` wake-ups.
    """

    waiting: int
    ahead: int | None
    looked_at: int

    @property
    def is_gone(self) -> bool:
        """Whether the whole queue was looked at and the wake-up is not there."""
        return self.ahead is None and self.waiting <= self.looked_at


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """What the queue knows of a run: the workers that serve it, the run's place, whether its owner is registered.

    `place` is None where the executor names workers but no places.
    """

    workers: tuple[WorkerInfo, ...]
    place: Place | None = None
    is_suspended: bool = False
    is_owner_registered: bool = True


@dataclass(frozen=True, slots=True)
class SweepFacts:
    """What the safety net knows of a run. Times are milliseconds by Redis's clock.

    `due_ms` is when a sweep looks at the run, None if never; `woken_ms` when it was woken last, 0 if it must be woken
    anew; `swept_ms` the last sweep of all workers, None if there was none for a day; before `recovers_from_ms` no
    lease is recovered. `is_parked`: it waits for a worker that has its agent.
    """

    due_ms: int | None
    woken_ms: int
    swept_ms: int | None
    recovers_from_ms: int = 0
    is_parked: bool = False


@dataclass(frozen=True, slots=True)
class PlacesFacts:
    """Of a run's concurrency key: how many runs go on, and how many stand before it in line; None: too many to tell."""

    taken: int
    ahead: int | None = None


@dataclass(frozen=True, slots=True)
class TenantFacts:
    """Of a run's tenant: how many of its runs stand in the queue, and how many come before the run in line.

    `is_lost`: the run waits, and its line does not know it.
    """

    standing: int
    ahead: int
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class ServerHistory:
    """What is remembered of this Redis: how many servers it was (`epoch`), since when the last one, in milliseconds.

    `lost_ms` is when somebody last noticed that it had lost data, 0 for never.
    """

    epoch: int = 0
    since_ms: int = 0
    lost_ms: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that `explain` judges by. `queue` and `sweep` are None where the executor or the store cannot tell.

    `behind` is the live run of the session where the run waits for it, `line_ahead` how many wait before it in line;
    `behind_id` is there too when that run is gone. `places` and `tenant` are told where it waits for that.
    `pauses` is what is paused as a whole. `refused` are commands that Redis did not allow.
    """

    run: RunState
    now_ms: int
    queue: QueueFacts | None = None
    sweep: SweepFacts | None = None
    behind: Snapshot | None = None
    behind_id: str | None = None
    line_ahead: int | None = None
    places: PlacesFacts | None = None
    tenant: TenantFacts | None = None
    expires_ms: int | None = None
    pauses: Mapping[str, Pause] = field(default_factory=dict)
    history: ServerHistory = ServerHistory()
    refused: tuple[str, ...] = ()
