"""A run that kills its workers takes no neighbours along: after two crashes it is claimed alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agentq._ids import new_token
from agentq.runs import SUSPECT_RECOVERIES, Status, is_suspect
from agentq.settings import Settings
from agentq.testing._contract import batch, claimed, commit_of, new_run, reply_message
from agentq.wiring import Parts, redis_parts
from tests.helpers import LUA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.stores._claims import ClaimedWakeups

LEASE_MS = 300


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[Parts]:
    parts = redis_parts(Settings(redis_url=redis_url, lease_ms=LEASE_MS))
    yield parts
    await parts.aclose()


async def enqueue(parts: Parts, name: str) -> str:
    created = await parts.store.create(new_run(name), wake=parts.executor.wakeup)
    return created.run_id


async def take(parts: Parts, *, is_idle: bool, owner: str = "w1") -> ClaimedWakeups:
    return await parts.store.claim_wakeups(
        parts.executor.source(),
        owner=owner,
        claim_id=new_token(),
        lease_ms=LEASE_MS,
        count=10,
        is_idle=is_idle,
    )


async def crash(parts: Parts, times: int, *run_ids: str) -> None:
    """Workers take the runs and die, that many times and once more with their wake-ups; then a sweep wakes the runs."""
    for _ in range(times):
        for run_id in run_ids:
            await claimed(parts.store, run_id, lease_ms=LEASE_MS)
        await asyncio.sleep(LEASE_MS / 1000 + 0.02)
    await take(parts, is_idle=True)
    await asyncio.sleep(LEASE_MS / 1000 + 0.02)
    woken: set[str] = set()
    while not woken.issuperset(run_ids):
        woken.update((await parts.store.sweep(lease_ms=LEASE_MS, wake=parts.executor.wakeup)).woken)
        await asyncio.sleep(0.02)


def test_the_script_knows_the_same_number():
    assert f"local SUSPECT = {SUSPECT_RECOVERIES}\n" in (LUA / "claim.lua").read_text()


async def test_a_suspect_is_taken_alone_by_an_idle_worker(parts: Parts):
    bad = await enqueue(parts, "bad")
    await crash(parts, 1, bad)
    good = await enqueue(parts, "good")
    taken = await take(parts, is_idle=True)
    assert [claim.run.run_id for claim in taken.claims] == [bad]
    assert is_suspect(taken.claims[0].run)
    assert taken.suspect is None
    assert [claim.run.run_id for claim in (await take(parts, is_idle=False, owner="w2")).claims] == [good]


async def test_a_busy_worker_is_told_to_make_room_and_nobody_else_is(parts: Parts):
    bad = await enqueue(parts, "bad")
    await crash(parts, 1, bad)
    good = await enqueue(parts, "good")
    taken = await take(parts, is_idle=False)
    assert (taken.claims, taken.suspect) == ((), bad)
    other = await take(parts, is_idle=True, owner="w2")
    assert [claim.run.run_id for claim in other.claims] == [good]
    claim = await claimed(parts.store, bad, lease_ms=LEASE_MS)
    assert is_suspect(claim.run)


async def test_a_worker_that_dies_before_it_made_room_does_not_lose_the_suspect(parts: Parts):
    bad = await enqueue(parts, "bad")
    await crash(parts, 1, bad)
    assert (await take(parts, is_idle=False)).suspect == bad
    for _ in range(200):
        if (await parts.store.sweep(lease_ms=LEASE_MS, wake=parts.executor.wakeup)).woken == (bad,):
            break
        await asyncio.sleep(0.02)
    assert [claim.run.run_id for claim in (await take(parts, is_idle=True, owner="w2")).claims] == [bad]


async def test_the_neighbours_of_a_suspect_are_suspects_only_until_they_commit(parts: Parts):
    bad, good = await enqueue(parts, "bad"), await enqueue(parts, "good")
    await crash(parts, 1, bad, good)
    first = await take(parts, is_idle=True)
    assert len(first.claims) == 1
    second = await take(parts, is_idle=True, owner="w2")
    assert len(second.claims) == 1
    for claim in (*first.claims, *second.claims):
        if claim.run.run_id == good:
            await parts.store.commit(claim.lease, commit_of(claim, Status.QUEUED, reply_message("x"), batch=batch(1)))
    assert (await parts.store.read(good)).recoveries == 0
    assert (await parts.store.read(bad)).recoveries == 2


async def test_one_crash_makes_no_suspect(parts: Parts):
    one, other = await enqueue(parts, "one"), await enqueue(parts, "other")
    await crash(parts, 0, one, other)
    taken = await take(parts, is_idle=False)
    assert {claim.run.run_id for claim in taken.claims} == {one, other}
    assert [claim.run.recoveries for claim in taken.claims] == [1, 1]


async def test_a_cancelled_suspect_is_ended_by_anybody(parts: Parts):
    bad = await enqueue(parts, "bad")
    await crash(parts, 1, bad)
    await parts.store.cancel(bad)
    taken = await take(parts, is_idle=False)
    assert [claim.run.run_id for claim in taken.claims] == [bad]
