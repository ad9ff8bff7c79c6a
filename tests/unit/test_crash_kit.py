"""Rehearsals: each point is where it says, what happens there happens, and the end is the one that a real crash has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, Reconciled, ToolContext, tool
from agentq.errors import ProviderError
from agentq.runs import Status
from agentq.testing import (
    Point,
    PointNotReached,
    ScriptedModel,
    after_commit,
    after_reply,
    after_result,
    after_tool,
    before_commit,
    before_tool,
    call,
    rehearse,
)

if TYPE_CHECKING:
    from agentq.tools.behaviour import Effect

PAID: list[Any] = [call("charge", amount=5), "Paid."]


class Bank:
    def __init__(self, effect: Effect = "once", **options: Any) -> None:
        self.charges: list[tuple[str, int]] = []
        self.tool = tool(effect=effect, name="charge", **options)(self._charge)
        self.agent = Agent("shop", tools=[self.tool], retry_backoff_s=5)

    async def _charge(self, amount: int, ctx: ToolContext) -> str:
        """Charge a card."""
        self.charges.append((ctx.idempotency_key, amount))
        await asyncio.sleep(0)
        return f"charged {amount}"


async def test_without_a_fault_the_points_are_told_in_order():
    trial = await rehearse(Bank().agent, "Charge.", model=ScriptedModel(PAID))
    assert (trial.status, trial.output, trial.workers) == (Status.COMPLETED, "Paid.", 1)
    assert trial.points == (
        after_reply(),
        before_tool("charge"),
        after_tool("charge"),
        after_result("charge"),
        before_commit(),
        after_commit(),
        before_commit(2),
        after_commit(2),
    )
    assert (trial.entered("charge"), trial.keys("charge")) == (1, (f"{trial.run.run_id}.1.0",))


# Where a worker dies → how often the tool was entered, and the outcome of its call, for each effect.
ENDS: dict[Point, dict[Effect, tuple[int, str]]] = {
    after_reply(): {"once": (1, "ok"), "idempotent": (1, "ok"), "none": (1, "ok")},
    before_tool("charge"): {"once": (0, "unknown"), "idempotent": (1, "ok"), "none": (1, "ok")},
    after_tool("charge"): {"once": (1, "unknown"), "idempotent": (2, "ok"), "none": (2, "ok")},
    # The commit stores the last result of what only reads; until then it is as if the tool had just returned.
    after_result("charge"): {"once": (1, "ok"), "idempotent": (1, "ok")},
    before_commit(): {"once": (1, "ok"), "idempotent": (1, "ok"), "none": (2, "ok")},
    after_commit(): {"once": (1, "ok"), "idempotent": (1, "ok"), "none": (1, "ok")},
    before_commit(2): {"once": (1, "ok"), "idempotent": (1, "ok"), "none": (1, "ok")},
}


@pytest.mark.parametrize(
    ("point", "effect"), [(point, effect) for point, ends in ENDS.items() for effect in ends], ids=str
)
async def test_a_crash_has_the_end_that_the_effect_promises(point: Point, effect: Effect):
    bank = Bank(effect)
    trial = await rehearse(bank.agent, "Charge.", model=ScriptedModel(PAID), crash=point)
    expected = ENDS[point][effect]
    assert (len(bank.charges), trial.result("charge").outcome) == expected, trial
    assert (trial.status, trial.workers) == (Status.COMPLETED, 2)
    assert len({key for key, _ in bank.charges}) <= 1


@pytest.mark.parametrize("point", [point for point in ENDS if "commit" not in point.where or point.nth == 1], ids=str)
async def test_a_worker_that_was_frozen_changes_nothing_when_it_goes_on(point: Point):
    bank = Bank()
    trial = await rehearse(bank.agent, "Charge.", model=ScriptedModel(PAID), freeze=point)
    assert trial.status is Status.COMPLETED
    # Frozen right before the tool it cannot know better than to enter it: the ledger says that it may have.
    assert len(bank.charges) <= 1
    assert "the frozen worker goes on" in trial.trace
    assert trial.output == "Paid."


async def test_a_cancel_at_a_point():
    bank = Bank()
    trial = await rehearse(bank.agent, "Charge.", model=ScriptedModel(PAID), cancel=after_reply())
    assert (trial.status, bank.charges, trial.result("charge").outcome) == (Status.CANCELLED, [], "cancelled")
    trial = await rehearse(bank.agent, "Charge.", model=ScriptedModel(PAID), cancel=after_tool("charge"))
    assert (trial.status, trial.result("charge").outcome) == (Status.CANCELLED, "ok")


async def test_hooks_and_people_are_asked_as_in_life():
    async def look(ctx: ToolContext, arguments: dict[str, Any]) -> Any:
        return "receipt" if bank.charges else Reconciled.DID_NOT_HAPPEN

    bank = Bank(reconcile=look)
    trial = await rehearse(bank.agent, "Charge.", model=ScriptedModel(PAID), crash=after_tool("charge"))
    assert (trial.result("charge").content, len(bank.charges)) == ("receipt", 1)
    bank = Bank(on_unknown="ask")
    trial = await rehearse(bank.agent, "Charge.", model=ScriptedModel(PAID), crash=after_tool("charge"))
    assert (trial.status, trial.results) == (Status.WAITING, ())
    bank = Bank(on_unknown="ask")
    trial = await rehearse(
        bank.agent, "Charge.", model=ScriptedModel(PAID), crash=after_tool("charge"), answer=Reconciled.DID_NOT_HAPPEN
    )
    assert (trial.status, len(bank.charges)) == (Status.COMPLETED, 2)


async def test_the_nth_call_of_a_tool_is_its_own_point():
    bank = Bank()
    model = ScriptedModel([[call("charge", amount=5), call("charge", amount=7)], "Paid."])
    trial = await rehearse(bank.agent, "Charge.", model=model, crash=after_tool("charge", nth=2))
    assert [result.outcome for result in trial.results] == ["ok", "unknown"]
    assert [amount for _, amount in bank.charges] == [5, 7]


async def test_a_synchronous_tool_has_points_too():
    seen: list[int] = []

    @tool(effect="idempotent")
    def put(number: int) -> str:
        """Put."""
        seen.append(number)
        return "put"

    agent = Agent("shop", tools=[put])
    trial = await rehearse(
        agent, "Put.", model=ScriptedModel([call("put", number=1), "Done."]), crash=after_tool("put")
    )
    assert (seen, trial.entered("put"), trial.output) == ([1, 1], 2, "Done.")


async def test_a_point_that_is_never_reached_fails_and_says_which_there_are():
    with pytest.raises(PointNotReached, match=r"never came to after_tool\('refund'\); it came to: after_reply\(\)"):
        await rehearse(Bank().agent, "Charge.", model=ScriptedModel(PAID), crash=after_tool("refund"))


async def test_back_off_takes_no_time():
    bank = Bank()
    model = ScriptedModel([ProviderError("busy", status=503), *PAID])
    trial = await asyncio.wait_for(rehearse(bank.agent, "Charge.", model=model), 2)
    assert trial.status is Status.COMPLETED


async def test_one_fault_at_a_time():
    with pytest.raises(ValueError, match="one fault"):
        await rehearse(Bank().agent, "x", model=ScriptedModel(PAID), crash=after_reply(), freeze=before_commit())


async def test_a_trial_explains_itself():
    bank = Bank()
    trial = await rehearse(bank.agent, "Charge.", model=ScriptedModel(PAID), crash=after_tool("charge"))
    told = str(trial)
    assert told.startswith("completed after 2 workers:")
    assert "charge is entered, attempt 1" in told
    assert "the worker dies" in told
    with pytest.raises(LookupError, match="refund has 0 results"):
        trial.result("refund")


@pytest.mark.parametrize(
    "point", [before_tool("move"), after_tool("move"), after_result("move"), before_commit()], ids=str
)
async def test_in_redis_a_write_that_is_committed_with_its_record_happens_once(redis_url: str, point: Point):
    @tool(effect="idempotent")
    async def move(ctx: ToolContext) -> int:
        """Move."""
        return int(await ctx.commit_with("return redis.call('INCR', KEYS[1])", ["moved"]))

    agent = Agent("shop", tools=[move])
    trial = await rehearse(
        agent, "Move.", model=ScriptedModel([call("move"), "Done."]), crash=point, redis_url=redis_url
    )
    assert trial.result("move").content == "1"
    assert trial.entered("move") == (2 if point == after_tool("move") else 1)
