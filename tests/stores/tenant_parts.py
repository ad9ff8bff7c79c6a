"""A queue with tenants: its store, what clients and workers do with it, and scripts that know no tenants."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from agentq._ids import new_token
from agentq._redis.scripts import Script, load
from agentq.executors.queue import QueueExecutor
from agentq.runs import Status
from agentq.testing._contract import GRACE_S, commit_of, new_run, reply_message
from tests.stores.redis_parts import CLOCK, TimedParts

if TYPE_CHECKING:
    from agentq.stores.base import Claim, Created

LEASE_MS = 60_000
# Past the time after which sweeps look after a tenant.
CHECK_S = 11
QUEUE = "rq:queue:default"
# What the scripts of a version did that knew no tenants.
OLD = """
local function tenants()
  local function wake(prefix, template, shape, run, run_id, queue, tenant, now, front)
    push(shape, run, run_id, queue, now, front)
  end
  local function nothing() end
  return {wake = wake, leave = nothing, check = nothing}
end
"""


@cache
def old_script(name: str) -> Script:
    return load(name, {"clock": CLOCK, "tenants": OLD})


class House:
    """A store, its queue, and what clients and workers do with them."""

    def __init__(self, parts: TimedParts, per_tenant: int = 2) -> None:
        self.parts = parts
        self.store = parts.store
        self.executor = QueueExecutor(self.store, tenant_wakeups=per_tenant)

    @property
    def wake(self) -> Any:
        return self.executor.wakeup

    async def create(self, tenant: str | None = "acme", **fields: Any) -> str:
        created: Created = await self.store.create(new_run(tenant=tenant, **fields), wake=self.wake)
        assert created.woken
        return created.run_id

    async def queue(self) -> list[str]:
        """The runs whose wake-ups stand in the queue, in order."""
        jobs = await self.store.pipeline.execute("LRANGE", QUEUE, 0, -1)
        return [job.decode().partition("-")[0] for job in jobs]

    async def take(self, count: int = 1, **options: Any) -> list[Claim]:
        """What a worker of agentq takes off the queue."""
        claimed = await self.store.claim_wakeups(
            self.executor.source(), owner="w1", claim_id=new_token(), lease_ms=LEASE_MS, count=count, **options
        )
        return list(claimed.claims)

    async def commit(self, claim: Claim, status: Status = Status.COMPLETED, **fields: Any) -> None:
        commit = commit_of(claim, status, reply_message("a"), signals_seen=99, **fields)
        await self.store.commit(claim.lease, commit, wake=self.wake)

    async def let_in(self) -> list[str]:
        """Take and end all, one after the other: the order in which they came to be taken."""
        order = []
        while await self.queue():
            for claim in await self.take():
                order.append(claim.lease.run_id)
                await self.commit(claim, Status.CANCELLED if claim.run.is_cancel_requested else Status.COMPLETED)
        return order

    async def in_line(self, *runs: str) -> list[bool]:
        return [(await self.store.read(run_id)).waits_for_tenant for run_id in runs]

    async def sweep(self, seconds: float = GRACE_S) -> None:
        await self.parts.pass_time(seconds)
        await self.store.sweep(lease_ms=LEASE_MS, wake=self.wake)

    async def keys(self) -> list[str]:
        return sorted(key.decode() for key in await self.store.pipeline.execute("KEYS", "agentq:tenant*"))
