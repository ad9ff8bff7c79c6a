"""The part of `StoreContract` that is about files which tools returned."""
# ruff: noqa: S101

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq.errors import CancelRequested, FileNotStored, LeaseLost, NotFound
from agentq.runs import Status
from agentq.stores.base import StepRecord
from agentq.testing._contract import (
    SHORT_LEASE_S,
    SHORT_MS,
    PassTime,
    batch,
    claimed,
    commit_of,
    queued,
    reply_message,
    running,
)

if TYPE_CHECKING:
    from agentq.stores.base import Store

# Not text, and with the bytes at which protocols stumble.
PICTURE = b"\x89PNG\r\n\x1a\n\x00\xff$"


async def _has(store: Store, run_id: str, digest: str) -> bool:
    try:
        await store.file(run_id, digest)
    except FileNotStored:
        return False
    return True


@pytest.mark.asyncio
class FileRules:
    """What every store does with the files of steps."""

    async def test_files_come_with_the_step_that_refers_to_them(self, store: Store) -> None:
        claim = await running(store, files={"d1": b"attached"})
        run_id = claim.lease.run_id
        records = [
            StepRecord("a", b"1", files={"d2": PICTURE, "d3": b""}),
            StepRecord("b", b"2", files={"d1": b"attached", "d2": PICTURE}),
        ]
        await store.journal(claim.lease, records, batch(1))
        assert [await store.file(run_id, digest) for digest in ("d1", "d2", "d3")] == [b"attached", PICTURE, b""]
        assert not await _has(store, await queued(store), "d2")
        await store.commit(claim.lease, commit_of(claim, Status.QUEUED, reply_message("well")))
        again = await claimed(store, run_id)
        await store.journal(again.lease, [StepRecord("c", b"3", files={"d2": PICTURE})], batch(1))
        assert await store.file(run_id, "d2") == PICTURE

    async def test_a_step_that_is_sent_again_keeps_its_files(self, store: Store) -> None:
        claim = await running(store)
        record = StepRecord("a", b"1", files={"d1": PICTURE})
        assert await store.journal(claim.lease, [record], batch(1)) == await store.journal(
            claim.lease, [record], batch(1)
        )
        assert await store.file(claim.lease.run_id, "d1") == PICTURE

    async def test_a_step_that_is_refused_leaves_no_files(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store, lease_ms=SHORT_MS)
        await pass_time(SHORT_LEASE_S)
        newer = await claimed(store, claim.lease.run_id)
        with pytest.raises(LeaseLost):
            await store.journal(claim.lease, [StepRecord("a", b"1", files={"d1": PICTURE})], batch(1))
        await store.cancel(claim.lease.run_id)
        record = StepRecord("a", b"1", starts_effect=True, files={"d2": PICTURE})
        with pytest.raises(CancelRequested):
            await store.journal(newer.lease, [record], batch(1))
        assert [await _has(store, claim.lease.run_id, digest) for digest in ("d1", "d2")] == [False, False]

    async def test_files_of_steps_live_as_long_as_the_run(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store)
        await store.journal(claim.lease, [StepRecord("a", b"1", files={"d1": PICTURE})], batch(1))
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("16"), ttl_ms=SHORT_MS))
        assert await _has(store, claim.lease.run_id, "d1")
        await pass_time(SHORT_LEASE_S)
        with pytest.raises(NotFound):
            await store.file(claim.lease.run_id, "d1")

    async def test_files_of_steps_are_the_session_s_where_there_is_one(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store, session_id="s1")
        await store.journal(claim.lease, [StepRecord("a", b"1", files={"d1": PICTURE})], batch(1))
        ends = {"ttl_ms": SHORT_MS, "session_ttl_ms": 100 * SHORT_MS}
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("16"), **ends))
        await pass_time(SHORT_LEASE_S)
        assert await store.file(await queued(store, session_id="s1"), "d1") == PICTURE
