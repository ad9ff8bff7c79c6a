"""The part of `StoreContract` that is about values, which tools keep beside the transcript."""
# ruff: noqa: S101

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentq.errors import LeaseLost
from agentq.runs import Status
from agentq.stores.base import StepRecord
from agentq.stores.values import SCOPES, Change
from agentq.testing._contract import (
    SHORT_LEASE_S,
    SHORT_MS,
    PassTime,
    batch,
    claimed,
    commit_of,
    reply_message,
    running,
)

if TYPE_CHECKING:
    from agentq.stores.base import Store

OWNERS: dict[str, Any] = {"session_id": "s1", "user_id": "u1"}
KEPT = tuple(Change(scope, "cart", f'["{scope}"]'.encode()) for scope in SCOPES)


async def _values(store: Store, run_id: str) -> list[dict[str, bytes]]:
    return [dict(await store.values(scope, of)) for scope, of in zip(SCOPES, (run_id, "s1", "u1"), strict=True)]


@pytest.mark.asyncio
class ValueRules:
    """What every store does with values."""

    async def test_values_come_with_the_step_that_brings_them(self, store: Store) -> None:
        claim = await running(store, **OWNERS)
        run_id = claim.lease.run_id
        assert await _values(store, run_id) == [{}, {}, {}]
        await store.journal(claim.lease, [StepRecord("a", b"1", changes=KEPT), StepRecord("b", b"2")], batch(1))
        assert await _values(store, run_id) == [{"cart": f'["{scope}"]'.encode()} for scope in SCOPES]
        changes = (Change("run", "cart", None), Change("run", "ü b", b"0"), Change("user", "cart", b"2"))
        await store.journal(claim.lease, [StepRecord("c", b"3", changes=changes)], batch(2))
        assert await _values(store, run_id) == [{"ü b": b"0"}, {"cart": b'["session"]'}, {"cart": b"2"}]

    async def test_a_step_that_is_sent_again_changes_nothing(self, store: Store) -> None:
        claim = await running(store, **OWNERS)
        first = [StepRecord("a", b"1", changes=(Change("run", "n", b"1"),))]
        await store.journal(claim.lease, first, batch(1))
        await store.journal(claim.lease, [StepRecord("b", b"1", changes=(Change("run", "n", b"2"),))], batch(2))
        await store.journal(claim.lease, first, batch(1))
        assert await store.values("run", claim.lease.run_id) == {"n": b"2"}

    async def test_a_stale_lease_changes_nothing(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store, lease_ms=SHORT_MS, **OWNERS)
        await pass_time(SHORT_LEASE_S)
        newer = await claimed(store, claim.lease.run_id)
        with pytest.raises(LeaseLost):
            await store.journal(claim.lease, [StepRecord("a", b"1", changes=KEPT)], batch(1))
        with pytest.raises(LeaseLost):
            await store.commit(claim.lease, commit_of(claim, changes=KEPT))
        assert await _values(store, newer.lease.run_id) == [{}, {}, {}]

    async def test_values_come_with_a_commit(self, store: Store) -> None:
        claim = await running(store, **OWNERS)
        commit = commit_of(claim, Status.QUEUED, reply_message("well"), changes=KEPT)
        await store.commit(claim.lease, commit)
        await store.commit(claim.lease, commit)
        again = await claimed(store, claim.lease.run_id)
        await store.commit(again.lease, commit_of(again, changes=(Change("session", "cart", None),)))
        values = await _values(store, claim.lease.run_id)
        assert values == [{"cart": b'["run"]'}, {}, {"cart": b'["user"]'}]

    async def test_a_scope_that_the_run_does_not_have_is_left_out(self, store: Store) -> None:
        claim = await running(store)
        await store.journal(claim.lease, [StepRecord("a", b"1", changes=KEPT)], batch(1))
        assert await _values(store, claim.lease.run_id) == [{"cart": b'["run"]'}, {}, {}]

    async def test_values_live_as_long_as_what_they_belong_to(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store, **OWNERS)
        run_id = claim.lease.run_id
        ends = {"ttl_ms": SHORT_MS, "session_ttl_ms": 2 * SHORT_MS}
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("16"), changes=KEPT, **ends))
        assert all(await _values(store, run_id))
        await pass_time(SHORT_MS / 1000 + 0.01)
        assert [bool(values) for values in await _values(store, run_id)] == [False, True, True]
        await pass_time(SHORT_MS / 1000 + 0.01)
        assert await _values(store, run_id) == [{}, {}, {}]
