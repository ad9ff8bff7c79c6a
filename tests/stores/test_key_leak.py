"""Everything in Redis has a time to live or belongs to a run or session that is alive (promise P11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq._redis.connection import Connection
from agentq.errors import RunNotFound
from agentq.runs import Status
from agentq.stores.base import EventBatch
from agentq.stores.filters import RunFilter, SessionFilter
from agentq.testing._contract import new_run, texts
from agentq.webhooks import Webhook
from tests.receiver import SECRET
from tests.stores.redis_parts import TimedParts
from tests.stores.retention_parts import ENDINGS, FOREIGN, LEASE_MS, SETTINGS, Deployment, every_ending, strays

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DAY_S = 86_400


@pytest.fixture
async def deployment(redis_url: str) -> AsyncIterator[Deployment]:
    parts = TimedParts(Connection(redis_url))
    yield Deployment(parts)
    await parts.aclose()


async def test_a_run_that_has_ended_keeps_at_most_four_keys_and_its_idempotency_key_and_each_has_a_time_to_live(
    deployment: Deployment,
):
    runs = await every_ending(deployment)
    ends = {fate: await deployment.store.read(run_id) for fate, run_id in runs.items()}
    assert {fate: str(run.status) for fate, run in ends.items()} == ENDINGS
    await deployment.drain_queue()
    for fate, run in ends.items():
        keys = await deployment.keys_of(run)
        assert len(keys - {deployment.store.keys.idempotency(run.idempotency_key)}) <= 4, fate
        kept_ms = SETTINGS.ttl_ms(run.status)
        for key in keys:
            assert 0 < await deployment.ttl_ms(key) <= kept_ms, f"{fate}: {key}"


async def test_after_every_ending_nothing_is_kept_for_ever(deployment: Deployment):
    await every_ending(deployment)
    await deployment.drain_queue()
    assert await strays(deployment) == []


async def test_wake_ups_that_were_taken_leave_no_job_behind(deployment: Deployment):
    await every_ending(deployment)
    # Some runs were claimed by name; their wake-ups are still in line.
    await deployment.drain_queue()
    of_rq = {key for key in await deployment.keys() if key.startswith("rq:")}
    assert of_rq == {f"rq:job:{FOREIGN}", f"rq:results:{FOREIGN}", "rq:failed:default"}


async def test_nothing_is_left_when_its_time_has_passed(deployment: Deployment):
    await every_ending(deployment)
    await deployment.publish()
    await deployment.drain_queue()
    # Completed and cancelled runs go first, failed ones a week later, sessions after a month.
    await deployment.parts.pass_time(2 * DAY_S)
    await deployment.sweep()
    left = await deployment.store.list(RunFilter(limit=100))
    assert {run.status for run in left} == {Status.FAILED}
    keys = deployment.store.keys
    for name in (keys.listing(), keys.listing("user", "u1"), keys.listing("status", "failed")):
        assert await deployment.command("ZCARD", name) == len(left)
    await deployment.parts.pass_time(6 * DAY_S)
    await deployment.sweep()
    assert await deployment.store.list(RunFilter()) == ()
    assert {session.session_id for session in await deployment.store.list_sessions(SessionFilter())} == {"s1", "s 2 ü"}
    assert await strays(deployment) == []
    await deployment.parts.pass_time(23 * DAY_S)
    await deployment.sweep()
    # What sweeps and claims note for themselves goes within a day. RQ forgets failed jobs by the real clock.
    for key in await deployment.keys() - {"rq:failed:default"}:
        assert 0 < await deployment.ttl_ms(key) <= DAY_S * 1_000, key
    await deployment.parts.pass_time(DAY_S + 1)
    assert await deployment.keys() == {"rq:failed:default"}


async def test_webhooks_hear_of_every_ending_and_leave_nothing_behind(deployment: Deployment):
    outbox = deployment.store.webhooks
    hooks = [Webhook(f"https://{name}.example", SECRET, name=name) for name in ("all", "away")]
    await outbox.publish(hooks)
    runs = await every_ending(deployment)
    await deployment.drain_queue()
    taken = await outbox.take("all", owner="w", token="t", limit=100)
    assert {each.delivery.run_id: each.delivery.type.partition(".")[2] for each in taken} == {
        run_id: ENDINGS[fate] for fate, run_id in runs.items()
    }
    for number, each in enumerate(taken):
        if number % 3:
            await outbox.failed(each, "answered 500", delay_ms=None if number % 2 else 60_000)
        else:
            await outbox.delivered(each)
    assert await strays(deployment) == []
    # A week, and another one for what was given up; what was counted is told for longer.
    await deployment.parts.pass_time(8 * DAY_S)
    assert not {key for key in await deployment.keys() if key.startswith("agentq:webhooks")} - {
        "agentq:webhooks:counts:all"
    }
    await deployment.parts.pass_time(23 * DAY_S)
    assert not {key for key in await deployment.keys() if key.startswith("agentq:webhooks")}


async def test_a_run_that_is_alive_has_no_time_to_live(deployment: Deployment):
    run_id = await deployment.enqueue("answers", idempotency_key="k", session_id="s1")
    (claim,) = await deployment.claim()
    await deployment.store.journal(claim.lease, [], EventBatch(1, texts("a")))
    run = await deployment.store.read(run_id)
    keys = await deployment.keys_of(run) | {deployment.store.keys.session("s1")}
    assert {await deployment.ttl_ms(key) for key in keys} == {-1}
    assert await strays(deployment) == []


async def test_a_run_that_is_cancelled_where_no_worker_ever_comes_leaves_no_wake_up(deployment: Deployment):
    others = [await deployment.enqueue("answers") for _ in range(3)]
    run_id = await deployment.enqueue("answers")
    later = await deployment.enqueue("answers")
    # A sweep of a worker of another queue wakes it once more between the cancel and its settling.
    await deployment.store.cancel(run_id)
    await deployment.parts.pass_time(3)
    await deployment.store.sweep(lease_ms=LEASE_MS, wake=deployment.executor.wakeup)
    await deployment.cancel_without_worker(run_id)
    in_line = [job.decode().split("-")[0] for job in await deployment.command("LRANGE", "rq:queue:default", 0, -1)]
    assert in_line == [*others, later]
    assert {key for key in await deployment.keys() if key.startswith("rq:job:")} == {
        f"rq:job:{each}-1" for each in in_line
    }


async def test_a_session_that_is_used_again_at_its_last_moment_stays_listed_and_goes_later(deployment: Deployment):
    async def ended() -> None:
        await deployment.enqueue("answers", session_id="s1", user_id="u1")
        await deployment.work()

    await ended()
    key = deployment.store.keys.session("s1")
    await deployment.parts.pass_time(29 * DAY_S)
    await ended()
    await deployment.parts.pass_time(2 * DAY_S)
    await deployment.sweep()
    assert [session.session_id for session in await deployment.store.list_sessions(SessionFilter())] == ["s1"]
    # The note of its end falls due while it is still there, by a moment or because somebody gave it more time.
    await deployment.command("PEXPIRE", key, 40 * DAY_S * 1_000)
    await deployment.parts.pass_time(29 * DAY_S)
    await deployment.sweep()
    assert await strays(deployment) == []
    await deployment.parts.pass_time(20 * DAY_S)
    await deployment.sweep()
    assert await deployment.command("EXISTS", "agentq:sessions", "agentq:sessions:user:u1", key) == 0


async def test_a_run_whose_hash_was_deleted_by_hand_leaves_nothing_and_its_session_goes_on(deployment: Deployment):
    gone = await deployment.enqueue("answers", session_id="s1")
    behind = await deployment.enqueue("answers", session_id="s1")
    last = await deployment.enqueue("answers", session_id="s1")
    await deployment.command("DEL", deployment.store.keys.run(gone), deployment.store.keys.run(behind))
    await deployment.parts.pass_time(3)
    await deployment.sweep()
    assert (await deployment.store.session("s1")).live_run_id == last
    assert (await deployment.store.session("s1")).open_runs == 1
    await deployment.work()
    assert (await deployment.store.read(last)).status is Status.COMPLETED
    assert not {key for key in await deployment.keys() if gone in key}
    with_behind = [stray for stray in await strays(deployment) if behind not in stray]
    assert with_behind == []


async def test_a_wake_up_of_a_run_that_is_gone_brings_nothing_of_it_back(deployment: Deployment):
    new = new_run()
    with pytest.raises(RunNotFound):
        await deployment.store.next_wake(new.run_id)
    assert await deployment.keys() == set()


async def test_an_agent_that_nobody_serves_any_more_is_forgotten(deployment: Deployment):
    old = b'{"name":"old","published_ms":1000000000000}'
    await deployment.command("HSET", deployment.store.keys.agents, "old", old)
    await deployment.publish()
    published = await deployment.command("HKEYS", deployment.store.keys.agents)
    assert {name.decode() for name in published} == set(deployment.agents)


async def test_the_look_at_all_keys_sees_what_is_kept_for_ever(deployment: Deployment):
    await deployment.enqueue("answers", session_id="s1")
    await deployment.work()
    await deployment.drain_queue()
    assert await strays(deployment) == []
    run_id = new_run().run_id
    await deployment.command("ZADD", deployment.store.keys.listing(), 0, run_id)
    await deployment.command("RPUSH", deployment.store.keys.messages(run_id), "{}")
    await deployment.command("PERSIST", deployment.store.keys.session("s1"))
    await deployment.command("SET", "agentq:forgotten", "1")
    assert len(await strays(deployment)) == 4
