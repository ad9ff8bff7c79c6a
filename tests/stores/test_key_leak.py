"""Everything in Redis has a time to live or belongs to a run that is alive (promise P11)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from agentq._ids import new_token
from agentq._redis.connection import Connection
from agentq.errors import ProviderError, ToolError
from agentq.executors.queue import QueueExecutor
from agentq.loop import Agent, Loop, settle_cancelled
from agentq.messages import user_message
from agentq.runs import RunState, Status
from agentq.settings import Settings
from agentq.stores.base import EventBatch, NewRun, RunFilter
from agentq.testing import ScriptedModel, call
from agentq.testing._contract import new_run, texts
from agentq.tools.function import tool
from tests.stores.redis_parts import TimedParts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.stores.base import Claim

LEASE_MS = 3_000
SETTINGS = Settings(lease_ms=LEASE_MS, coalesce_ms=0, max_recoveries=1)
DAY_S = 86_400
OWNERS = ("worker-1", "worker-2")


@tool(effect="once")
async def charge(fail: bool) -> str:
    """Charge."""
    if fail:
        raise ToolError("out of money")
    return "charged"


SCRIPTS: dict[str, list[Any]] = {
    "answers": [call("charge", fail=False), "Done."],
    "fails": [ProviderError("no such model", retryable=False)],
    "retries": [ProviderError("busy"), ProviderError("busy"), ProviderError("busy"), "Done."],
    "gives up": [ProviderError("busy")] * 9,
    "breaks": [call("charge", fail=True)] * 9,
    "never ends": [call("charge", fail=False)] * 9,
}


def _resolve(model: ScriptedModel, name: str) -> tuple[ScriptedModel, str]:
    return model, name


class Deployment:
    """A store and a queue on one Redis, and workers that take wake-ups off the queue."""

    def __init__(self, parts: TimedParts) -> None:
        self.parts = parts
        self.store = parts.store
        self.executor = QueueExecutor(parts.store)
        self.source = self.executor.source()
        agents = {
            name: Agent(name, tools=[charge], model="mock", max_iterations=4, max_error_retries=3, retry_backoff_s=0.5)
            for name in (script.replace(" ", "-") for script in SCRIPTS)
        }
        models = {name.replace(" ", "-"): ScriptedModel(script) for name, script in SCRIPTS.items()}
        self.loops = {
            name: Loop(agents, self.store, self.executor, SETTINGS, resolve_model=partial(_resolve, model))
            for name, model in models.items()
        }
        self.count = 0

    async def enqueue(self, script: str, **fields: Any) -> str:
        new = new_run(agent=script.replace(" ", "-"), user_id="u1", **fields)
        await self.store.create(new, wake=self.executor.wakeup)
        return new.run_id

    async def claim(self) -> tuple[Claim, ...]:
        self.count += 1
        claimed = await self.store.claim_wakeups(
            self.source, owner=OWNERS[self.count % 2], claim_id=new_token(), lease_ms=LEASE_MS, count=3
        )
        return claimed.claims

    async def work(self) -> None:
        """Take wake-ups and sweep until every run has ended."""
        while any(not run.status.is_final for run in await self.store.list(RunFilter(limit=1_000))):
            for claim in await self.claim():
                await self.loops[claim.run.agent].begin(claim).run()
            await self.parts.pass_time(0.4)
            await self.store.sweep(lease_ms=LEASE_MS, wake=self.executor.wakeup)

    async def keys(self) -> set[str]:
        """All keys but the clock of the tests and what RQ keeps of the names of its queues."""
        keys: list[bytes] = await self.parts.store.pipeline.execute("KEYS", "*")
        return {key.decode() for key in keys} - {"test:clock", "rq:queues"}

    async def ttl_ms(self, key: str) -> int:
        return int(await self.parts.store.pipeline.execute("PTTL", key))

    async def keys_of(self, run: RunState) -> set[str]:
        keys = {key for key in await self.keys() if run.run_id in key}
        return keys | ({self.store.keys.idempotency(run.idempotency_key)} if run.idempotency_key else set())


@pytest.fixture
async def deployment(redis_url: str) -> AsyncIterator[Deployment]:
    parts = TimedParts(Connection(redis_url))
    yield Deployment(parts)
    await parts.aclose()


async def every_ending(deployment: Deployment) -> dict[str, str]:
    """Runs of every ending, by what befell them."""
    store = deployment.store
    runs = {script: await deployment.enqueue(script, idempotency_key=f"key {script}") for script in SCRIPTS}
    runs["delayed"] = await deployment.enqueue("answers", delay_ms=2_000)
    runs["cancelled while queued"] = await deployment.enqueue("answers", delay_ms=60_000)
    await store.cancel(runs["cancelled while queued"])
    runs["settled by a client"] = await deployment.enqueue("answers")
    await store.cancel(runs["settled by a client"])
    await store.create(NewRun("01" + "A" * 24, "answers", (user_message("x"),), idempotency_key="key answers"))
    for fate in ("handed back", "cancelled while running", "lost", "kills its workers"):
        runs[fate] = await deployment.enqueue("answers")
    (claim,) = await store.claim([runs["settled by a client"]], owner="client", claim_id="c", lease_ms=LEASE_MS)
    await settle_cancelled(store, claim, SETTINGS)

    async def hold(fate: str) -> Claim:
        (claim,) = await store.claim([runs[fate]], owner="worker-1", claim_id=new_token(), lease_ms=LEASE_MS)
        await store.journal(claim.lease, [], EventBatch(1, texts("a", "b")))
        return claim

    await store.release((await hold("handed back")).lease, EventBatch(2), wake=deployment.executor.wakeup)
    await hold("cancelled while running")
    await store.cancel(runs["cancelled while running"])
    await hold("lost")
    for _ in range(3):
        await hold("kills its workers")
        await deployment.parts.pass_time(LEASE_MS / 1000)
    await deployment.work()
    return runs


async def test_a_run_that_has_ended_keeps_at_most_four_keys_and_each_has_a_time_to_live(deployment: Deployment):
    runs = await every_ending(deployment)
    ends = {fate: await deployment.store.read(run_id) for fate, run_id in runs.items()}
    assert {fate: str(run.status) for fate, run in ends.items()} == {
        "answers": "completed",
        "fails": "failed",
        "retries": "completed",
        "gives up": "failed",
        "breaks": "failed",
        "never ends": "failed",
        "delayed": "completed",
        "cancelled while queued": "cancelled",
        "settled by a client": "cancelled",
        "handed back": "completed",
        "cancelled while running": "cancelled",
        "lost": "completed",
        "kills its workers": "failed",
    }
    for fate, run in ends.items():
        keys = await deployment.keys_of(run)
        assert len(keys) <= 4, fate
        kept_ms = SETTINGS.ttl_ms(run.status)
        for key in keys:
            assert 0 < await deployment.ttl_ms(key) <= kept_ms, f"{fate}: {key}"


async def test_wake_ups_that_were_taken_leave_no_job_behind(deployment: Deployment):
    await every_ending(deployment)
    # Some runs were claimed by name; their wake-ups are still in line.
    while await deployment.parts.store.pipeline.execute("EXISTS", "rq:queue:default"):
        assert await deployment.claim() == ()
    assert {key for key in await deployment.keys() if key.startswith("rq:")} == set()


async def test_nothing_is_left_when_its_time_has_passed(deployment: Deployment):
    await every_ending(deployment)
    await deployment.store.publish_agents({"answers": {"name": "answers"}})
    while await deployment.parts.store.pipeline.execute("EXISTS", "rq:queue:default"):
        await deployment.claim()
    # Completed and cancelled runs go first, failed ones a week later.
    await deployment.parts.pass_time(2 * DAY_S)
    await deployment.store.sweep(lease_ms=LEASE_MS)
    left = await deployment.store.list(RunFilter(limit=100))
    assert {run.status for run in left} == {Status.FAILED}
    assert await _sizes(deployment) == {len(left)}
    await deployment.parts.pass_time(6 * DAY_S)
    await deployment.store.sweep(lease_ms=LEASE_MS)
    assert await deployment.store.list(RunFilter()) == ()
    # What sweeps and claims note for themselves goes within a day.
    for key in await deployment.keys():
        assert 0 < await deployment.ttl_ms(key) <= DAY_S * 1_000, key
    await deployment.parts.pass_time(DAY_S + 1)
    assert await deployment.keys() == set()


async def test_a_run_that_is_alive_has_no_time_to_live(deployment: Deployment):
    run_id = await deployment.enqueue("answers", idempotency_key="k")
    (claim,) = await deployment.claim()
    await deployment.store.journal(claim.lease, [], EventBatch(1, texts("a")))
    run = await deployment.store.read(run_id)
    assert {await deployment.ttl_ms(key) for key in await deployment.keys_of(run)} == {-1}


async def _sizes(deployment: Deployment) -> set[int]:
    """How many runs stand in each of the listings that are not split by agent."""
    keys = deployment.store.keys
    names = [
        keys.listing(),
        keys.listing("user", "u1"),
        keys.listing("status", "failed"),
    ]
    sizes = await asyncio.gather(*(deployment.store.pipeline.execute("ZCARD", name) for name in names))
    return set(sizes)
