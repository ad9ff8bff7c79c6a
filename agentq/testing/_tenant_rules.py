"""The part of `StoreContract` that is about tenants and priorities, whatever becomes of them in a queue."""
# ruff: noqa: S101

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.runs import PRIORITIES, Status
from agentq.testing._contract import GRACE_S, SHORT_MS, PassTime, claimed, commit_of, queued, reply_message, try_claim

if TYPE_CHECKING:
    from agentq.stores.base import Store


class TenantRules:
    """They belong to a run, and keep nobody from taking it."""

    async def test_a_run_has_its_tenant_and_its_priority(self, store: Store) -> None:
        for tenant in ("acme", "a}:line", "ü: 1"):
            for priority in (None, *PRIORITIES):
                run = await store.read(await queued(store, tenant=tenant, priority=priority))
                assert (run.tenant, run.priority, run.waits_for_tenant) == (tenant, priority, False)

    async def test_a_priority_needs_no_tenant(self, store: Store) -> None:
        for priority in PRIORITIES:
            run = await store.read(await queued(store, priority=priority))
            assert (run.tenant, run.priority) == (None, priority)

    async def test_a_run_that_names_neither_has_neither(self, store: Store) -> None:
        run = await store.read(await queued(store))
        assert (run.tenant, run.priority, run.waits_for_tenant) == (None, None, False)

    async def test_whoever_names_a_run_takes_it(self, store: Store) -> None:
        runs = [await queued(store, tenant="acme", priority=priority) for priority in ("low", "normal", "high")]
        assert [claim.lease.run_id for claim in await try_claim(store, *runs)] == runs

    async def test_all_runs_of_a_tenant_come_to_their_end(self, store: Store, pass_time: PassTime) -> None:
        runs = [await queued(store, tenant="acme", priority=PRIORITIES[number % 3]) for number in range(7)]
        ended: list[str] = []
        while len(ended) < len(runs):
            await pass_time(GRACE_S)
            swept = await store.sweep(lease_ms=SHORT_MS)
            assert swept.to_wake, f"only {len(ended)} have ended"
            for run_id in swept.to_wake:
                claim = await claimed(store, run_id)
                await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("b")))
                ended.append(run_id)
        assert sorted(ended) == sorted(runs)
