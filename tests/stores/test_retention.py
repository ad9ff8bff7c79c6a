"""How long a run is kept: its own word, else its agent's, else the settings', however it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agentq._redis.connection import Connection
from agentq.runs import Status
from agentq.settings import Settings
from agentq.stores._retention import Retention
from agentq.stores.base import SESSION_TTL_MS
from agentq.testing._contract import new_run
from agentq.wiring import redis_parts
from tests.stores.redis_parts import TimedParts
from tests.stores.retention_parts import LEASE_MS, SETTINGS, Deployment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

DAY_MS = 86_400_000
OF_SETTINGS = {"completed": 61_000, "failed": 62_000, "cancelled": 63_000}
OF_AGENT = {"completed": 71_000, "failed": 72_000, "cancelled": 73_000}
OF_RUN = {"completed": 81_000, "failed": 82_000, "cancelled": 83_000}


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[TimedParts]:
    made = TimedParts(Connection(redis_url), Retention(failed_ms=OF_SETTINGS["failed"], session_ms=9_000))
    yield made
    await made.aclose()


async def worked(deployment: Deployment, _: str) -> None:
    await deployment.work()


async def cancelled_by_its_worker(deployment: Deployment, run_id: str) -> None:
    (claim,) = await deployment.claim()
    await deployment.store.cancel(run_id)
    await deployment.loops[claim.run.agent].begin(claim).run()
    await deployment.work()


async def cancelled_by_a_client(deployment: Deployment, run_id: str) -> None:
    await deployment.cancel_without_worker(run_id)


async def quarantined(deployment: Deployment, run_id: str) -> None:
    for _ in range(2):
        await deployment.take(run_id)
        await deployment.parts.pass_time(LEASE_MS / 1000)
    await deployment.work()


async def set_aside(deployment: Deployment, run_id: str) -> None:
    await deployment.command("HSET", deployment.store.keys.run(run_id), "metadata", "not JSON")
    assert await deployment.claim() == ()
    await deployment.command("HDEL", deployment.store.keys.run(run_id), "metadata")


# What befalls a run: the script of its model, what happens, how it ends.
ENDINGS: dict[str, tuple[str, Callable[[Deployment, str], Awaitable[None]], str]] = {
    "completed": ("answers", worked, "completed"),
    "completed after failures": ("retries", worked, "completed"),
    "failed for good": ("fails", worked, "failed"),
    "out of retries": ("gives up", worked, "failed"),
    "out of iterations": ("never ends", worked, "failed"),
    "cancelled by its worker": ("answers", cancelled_by_its_worker, "cancelled"),
    "cancelled by a client": ("answers", cancelled_by_a_client, "cancelled"),
    "quarantined": ("answers", quarantined, "failed"),
    "set aside as corrupted": ("answers", set_aside, "failed"),
}
PRECEDENCE: dict[str, tuple[Mapping[str, int], Mapping[str, int], Mapping[str, int]]] = {
    "of the settings": ({}, {}, OF_SETTINGS),
    "of the agent": ({}, OF_AGENT, OF_AGENT),
    "of the run, before that of the agent": (OF_RUN, OF_AGENT, OF_RUN),
    "of the run": (OF_RUN, {}, OF_RUN),
    "of the run by some outcomes only": ({"completed": 5_000}, {"failed": 6_000}, {
        "completed": 5_000, "failed": 6_000, "cancelled": OF_SETTINGS["cancelled"]
    }),
}  # fmt: skip


@pytest.mark.parametrize(("of_run", "of_agent", "kept"), PRECEDENCE.values(), ids=PRECEDENCE)
@pytest.mark.parametrize(("script", "befall", "status"), ENDINGS.values(), ids=ENDINGS)
async def test_a_run_is_kept_for_the_time_to_live(
    parts: TimedParts,
    script: str,
    befall: Callable[[Deployment, str], Awaitable[None]],
    status: str,
    of_run: Mapping[str, int],
    of_agent: Mapping[str, int],
    kept: Mapping[str, int],
):
    settings = replace(
        SETTINGS,
        ttl_completed_ms=OF_SETTINGS["completed"],
        ttl_failed_ms=OF_SETTINGS["failed"],
        ttl_cancelled_ms=OF_SETTINGS["cancelled"],
    )
    agent_ttl_s = {outcome: ttl_ms / 1_000 for outcome, ttl_ms in of_agent.items()} or None
    deployment = Deployment(parts, settings, agent_ttl_s)
    await deployment.publish()
    run_id = await deployment.enqueue(script, ttl_ms=of_run, idempotency_key="k")
    await befall(deployment, run_id)
    run = await deployment.store.read(run_id)
    assert str(run.status) == status
    ttls = [await deployment.ttl_ms(key) for key in await deployment.keys_of(run) if not key.startswith("rq:")]
    assert len(ttls) >= 4
    # The tests' clock jumps a little; so does the real one.
    assert all(kept[status] - 1_000 < ttl_ms <= kept[status] for ttl_ms in ttls), (ttls, kept[status])


async def test_a_session_is_kept_for_thirty_days_after_its_last_run(parts: TimedParts):
    deployment = Deployment(parts)
    await deployment.enqueue("answers", session_id="s1")
    key = deployment.store.keys.session("s1")
    assert await deployment.ttl_ms(key) == -1
    await deployment.work()
    assert SESSION_TTL_MS == 30 * DAY_MS == Settings().session_ttl_ms
    for each in (key, deployment.store.keys.session_messages("s1")):
        assert SESSION_TTL_MS - 1_000 < await deployment.ttl_ms(each) <= SESSION_TTL_MS
    await deployment.parts.pass_time(20 * 86_400)
    await deployment.enqueue("answers", session_id="s1")
    assert await deployment.ttl_ms(key) == -1
    await deployment.work()
    assert SESSION_TTL_MS - 1_000 < await deployment.ttl_ms(key) <= SESSION_TTL_MS


@pytest.mark.parametrize("befall", [worked, cancelled_by_a_client, set_aside], ids=lambda befall: befall.__name__)
async def test_a_session_is_kept_as_long_as_the_settings_say(
    parts: TimedParts, befall: Callable[[Deployment, str], Awaitable[None]]
):
    deployment = Deployment(parts, replace(SETTINGS, session_ttl_ms=9_000))
    run_id = await deployment.enqueue("answers", session_id="s1")
    await befall(deployment, run_id)
    assert 8_000 < await deployment.ttl_ms(deployment.store.keys.session("s1")) <= 9_000


async def test_a_run_that_cannot_be_read_at_all_is_kept_as_the_settings_say(parts: TimedParts):
    deployment = Deployment(parts)
    run_id = await deployment.enqueue("answers", ttl_ms=OF_RUN)
    await deployment.command("HSET", deployment.store.keys.run(run_id), "ttl", "{broken", "agent", "\udcff".encode(
        errors="surrogateescape"
    ))  # fmt: skip
    assert await deployment.claim() == ()
    ttl_ms = await deployment.ttl_ms(deployment.store.keys.run(run_id))
    assert OF_SETTINGS["failed"] - 1_000 < ttl_ms <= OF_SETTINGS["failed"]


async def test_the_parts_over_redis_take_their_times_to_live_from_the_settings(redis_url: str):
    made = redis_parts(Settings(redis_url=redis_url, ttl_failed_ms=5_000))
    new = new_run()
    try:
        await made.store.create(new)
        await made.store.pipeline.execute("HSET", made.store.keys.run(new.run_id), "usage", "not JSON")
        assert await made.store.claim([new.run_id], owner="w", claim_id="c", lease_ms=LEASE_MS) == ()
        assert 0 < await made.store.pipeline.execute("PTTL", made.store.keys.run(new.run_id)) <= 5_000
        assert (
            await made.store.pipeline.execute("HGET", made.store.keys.run(new.run_id), "status")
            == Status.FAILED.encode()
        )
    finally:
        await made.aclose()
