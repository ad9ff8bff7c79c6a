"""What runs may use together: of one user, one session, one agent, in an hour, a day or in total."""

from __future__ import annotations

import asyncio
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, AsyncClient, SpendLimit
from agentq._clock import SystemClock
from agentq.errors import InvalidInput, RunFailed
from agentq.intake import checked_meter
from agentq.limits import Meter
from agentq.runs import Status
from agentq.stores.memory import MemoryStore
from tests.unit._loop import Stage
from tests.unit.test_run_limits import Caller, asked, limit_events, look, steering

if TYPE_CHECKING:
    from agentq.runs import RunState

DAY_S = 86_400


def stage_with(*spend: SpendLimit) -> Stage:
    return Stage(Caller(), look, spend=spend)


async def advance(stage: Stage, run_id: str) -> RunState:
    """The run after one more iteration."""
    stage.run_id = run_id
    await stage.advance()
    return await stage.read()


class TestTogether:
    async def test_runs_of_a_user_share_a_limit(self):
        stage = stage_with(SpendLimit(per="user", tokens=150))
        mine, also_mine, theirs = [await stage.enqueue(user_id=user) for user in ("ann", "ann", "bob")]
        assert (await advance(stage, mine)).status is Status.QUEUED
        assert (await advance(stage, also_mine)).status is Status.QUEUED
        run = await advance(stage, mine)
        assert run.status is Status.FAILED
        assert run.last_error == "user ann has reached its limit tokens=150 a day: 200 used"
        assert (await advance(stage, theirs)).status is Status.QUEUED
        stage.run_id = mine
        (told,) = limit_events(await stage.events())
        assert (told.limit, told.of, told.used, told.allowed, told.window) == ("tokens", "user ann", 200, 150, "day")

    @pytest.mark.parametrize(
        ("limit", "fields", "words"),
        [
            (SpendLimit(per="session", window="total", cost_usd=0.1), {"session_id": "s"}, "session s"),
            (SpendLimit(per="agent", window="hour", iterations=1), {}, "agent calculator"),
            (SpendLimit(per="all", tokens=1), {}, "all runs together"),
        ],
    )
    async def test_whose_runs_are_counted(self, limit: SpendLimit, fields: dict[str, Any], words: str):
        stage = stage_with(limit)
        await stage.enqueue(**fields)
        await stage.advance()
        await stage.advance()
        assert ((await stage.read()).last_error or "").startswith(f"{words} has reached its limit")

    async def test_a_run_without_a_user_is_not_counted_for_one(self):
        stage = stage_with(SpendLimit(per="user", tokens=1))
        for _ in range(3):
            await stage.advance()
        assert (await stage.read()).status is Status.QUEUED

    async def test_without_a_limit_it_is_only_counted(self):
        stage = stage_with(SpendLimit(per="user"))
        await stage.enqueue(user_id="ann")
        for _ in range(3):
            await stage.advance()
        (spent,) = await stage.store.spent([Meter("user", "ann", "day")])
        assert (spent.tokens, spent.cost_nanousd, spent.iterations) == (300, 600_000_000, 3)

    async def test_limits_of_one_meter_count_once(self):
        stage = stage_with(SpendLimit(tokens=1000), SpendLimit(cost_usd=9, on_reached="wait"))
        await stage.enqueue(user_id="ann")
        await stage.advance()
        assert (await stage.store.spent([Meter("user", "ann", "day")]))[0].tokens == 100

    async def test_a_run_that_waits_goes_on_when_the_day_is_over(self):
        stage = stage_with(SpendLimit(tokens=50, on_reached="wait"))
        await stage.enqueue(user_id="ann")
        await stage.advance()
        await stage.advance()
        run = await stage.read()
        assert run.status is Status.WAITING
        left_s = run.not_before_ms / 1000 - stage.now_s()
        assert 0 < left_s <= DAY_S + 60
        stage.pass_time(left_s)
        await stage.advance()
        assert asked(stage) == 2

    async def test_a_run_that_waits_for_the_end_of_no_window_waits_for_somebody(self):
        stage = stage_with(SpendLimit(window="total", tokens=50, on_reached="wait"))
        await stage.enqueue(user_id="ann")
        await stage.advance()
        await stage.advance()
        run = await stage.read()
        assert (run.status, run.not_before_ms) == (Status.WAITING, 0)

    async def test_it_is_passed_by_no_more_than_the_replies_under_way(self):
        stage = stage_with(SpendLimit(tokens=1000))
        runs = [await stage.enqueue(user_id="ann") for _ in range(5)]
        for _ in range(50):
            stage_runs = [run_id for run_id in runs if not (await stage.store.read(run_id)).status.is_final]
            claims = []
            for run_id in stage_runs:
                stage.run_id = run_id
                claims.append(await stage.claim())
            await asyncio.gather(*[stage.loop.begin(claim).run() for claim in claims])
        assert 1000 <= (await stage.store.spent([Meter("user", "ann", "day")]))[0].tokens <= 1000 + 4 * 100

    async def test_a_retry_meets_the_same_limit(self):
        stage = stage_with(SpendLimit(tokens=50))
        await stage.enqueue(user_id="ann")
        await stage.play()
        await steering(stage).retry(stage.run_id)
        await stage.play()
        assert asked(stage) == 1

    async def test_runs_in_process_share_it_too(self):
        app = AgentQ(agents=[Agent("a", model="mock", tools=[look], spend=[SpendLimit(iterations=2)])])
        await app.run("a", "call look {}\nsay done", user_id="ann")
        with pytest.raises(RunFailed, match="user ann has reached its limit iterations=2 a day"):
            await app.run("a", "say hello", user_id="ann")


class TestClient:
    async def test_it_tells_what_was_used(self):
        store = MemoryStore(SystemClock())
        app = AgentQ(agents=[Agent("a", model="mock", spend=[SpendLimit(), SpendLimit(per="agent")])], store=store)
        await app.run("a", "say hello", user_id="ann")
        client = AsyncClient(store=store, stream=store.stream)
        assert (await client.spent(user_id="ann")).iterations == 1
        assert (await client.spent(agent="a")).iterations == 1
        assert not await client.spent(user_id="bob")
        assert not await client.spent(user_id="ann", day=date(2020, 1, 1))
        assert not await client.spent()

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"user_id": "a", "agent": "b"}, "user_id"),
            ({"user_id": 5}, "user_id"),
            ({"agent": 5}, "agent"),
            ({"window": "week"}, "window"),
            ({"day": "2026-01-01"}, "day"),
            ({"day": datetime(2026, 1, 1)}, "day"),  # noqa: DTZ001 - refused
            ({"day": date(2026, 1, 1), "window": "hour"}, "day"),
        ],
    )
    def test_what_nobody_counts_is_refused(self, wrong: dict[str, Any], field: str):
        whole: dict[str, Any] = {"user_id": None, "session_id": None, "agent": None, "window": "day", "day": None}
        with pytest.raises(InvalidInput) as caught:
            checked_meter(**whole | wrong)
        assert caught.value.field == field

    def test_a_day_is_a_number(self):
        meter = checked_meter(user_id="a", session_id=None, agent=None, window="day", day=date(1970, 1, 3))
        assert meter == Meter("user", "a", "day", 2)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"per": "team"}, "per"),
        ({"window": "month"}, "window"),
        ({"tokens": 0}, "tokens"),
        ({"cost_usd": -1}, "cost_usd"),
        ({"on_reached": None}, "on_reached"),
    ],
)
def test_what_limits_nothing_is_refused(wrong: dict[str, Any], field: str):
    with pytest.raises(InvalidInput) as caught:
        SpendLimit(**wrong)
    assert caught.value.field == field


@pytest.mark.parametrize("wrong", [SpendLimit(), "user", [{"per": "user"}], 5])
def test_an_agent_takes_a_list_of_them(wrong: Any):
    with pytest.raises(InvalidInput, match=r"SpendLimit\(...\)"):
        Agent("a", spend=wrong)


def test_the_manifest_tells_clients_what_is_counted():
    agent = Agent("a", spend=[SpendLimit(per="all", cost_usd=5)])
    assert [SpendLimit(**each) for each in agent.manifest()["spend"]] == [SpendLimit(per="all", cost_usd=5)]
