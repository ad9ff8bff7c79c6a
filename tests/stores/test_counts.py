"""What metrics are made of is counted once, by the write that makes it so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agentq._redis.connection import Connection
from agentq.insight.counters import read_counters
from agentq.runs import Status
from agentq.stores.base import Retry
from agentq.testing._contract import LEASE_MS, claimed, commit_of, reply_message, running
from tests.stores.redis_parts import TimedParts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DAY_S = 86_400


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[TimedParts]:
    parts = TimedParts(Connection(redis_url))
    yield parts
    await parts.aclose()


async def test_a_commit_that_is_sent_again_counts_once(parts: TimedParts):
    claim = await running(parts.store)
    agent = claim.run.agent
    on = replace(commit_of(claim, Status.QUEUED, reply_message("one")), iteration=1)
    for _ in range(3):
        await parts.store.commit(claim.lease, on)
    claim = await claimed(parts.store, claim.lease.run_id)
    usage = {"input_tokens": 7, "output_tokens": 5, "cost_nanousd": 3_000_000_000_000}
    end = replace(commit_of(claim, Status.COMPLETED, reply_message("two")), iteration=2, usage=usage)
    for _ in range(3):
        await parts.store.commit(claim.lease, end)
    counts = (await read_counters(parts.store)).counts
    took = counts.pop("took_ms")  # type: ignore[attr-defined]
    assert took[agent] >= 0
    assert counts == {
        "iterations": {agent: 2},
        "completed": {agent: 1},
        "input_tokens": {agent: 7},
        "output_tokens": {agent: 5},
        "cost_nanousd": {agent: 3_000_000_000_000},
    }


async def test_a_run_that_is_taken_up_again_counts_what_it_used_since(parts: TimedParts):
    claim = await running(parts.store)
    run_id, agent = claim.lease.run_id, claim.run.agent
    await parts.store.commit(claim.lease, replace(commit_of(claim, Status.FAILED), usage={"input_tokens": 7}))
    await parts.store.retry(run_id, Retry((await parts.store.read(run_id)).fence, (), ()))
    claim = await claimed(parts.store, run_id)
    end = replace(commit_of(claim, Status.COMPLETED, reply_message("one")), usage={"input_tokens": 10})
    await parts.store.commit(claim.lease, end)
    counts = (await read_counters(parts.store)).counts
    assert counts["input_tokens"] == {agent: 10}
    assert (counts["failed"], counts["completed"]) == ({agent: 1}, {agent: 1})


async def test_a_run_that_lost_its_worker_is_counted_when_another_takes_it(parts: TimedParts):
    claim = await running(parts.store)
    await parts.pass_time(LEASE_MS / 1000 + 1)
    await claimed(parts.store, claim.lease.run_id)
    assert (await read_counters(parts.store)).counts["lease_expiries"] == {claim.run.agent: 1}


async def test_counts_are_kept_while_runs_end_and_are_gone_a_month_later(parts: TimedParts):
    for _ in range(3):
        claim = await running(parts.store, agent="clerk")
        await parts.store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("one")))
        await parts.pass_time(20 * DAY_S)
    assert (await read_counters(parts.store)).counts["completed"] == {"clerk": 3}
    await parts.pass_time(11 * DAY_S)
    assert (await read_counters(parts.store)).counts == {}
