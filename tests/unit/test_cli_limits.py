"""Limits on the command line: given with a run, changed while it waits, and told by `show`, `stats` and `why`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, RunLimits, Settings, SpendLimit, tool
from agentq.cli._limits import OPTIONS, standing
from tests.unit._cli import T0, run_state
from tests.unit._desk import Desk

if TYPE_CHECKING:
    from collections.abc import Mapping

CHAIN = "call look {}\ncall look {}\nsay done"


@tool(effect="none")
async def look() -> str:
    """Look."""
    return "nothing"


@pytest.fixture
def desk(redis_url: str) -> Desk:
    made = Desk(redis_url)
    spend = [SpendLimit(per="user"), SpendLimit(per="all")]
    made.app = AgentQ([Agent("clerk", model="mock", tools=[look], spend=spend)], settings=Settings(redis_url=redis_url))
    return made


def test_a_run_waits_at_its_limit_until_it_is_given_more(desk: Desk):
    enqueued = desk.say("enqueue", "clerk", CHAIN, "--max-iterations", "1", "--on-limit", "wait", "--user", "ann")
    run_id = enqueued.stdout.strip()
    desk.work()
    shown = desk.say("show", run_id).stdout
    assert "limits     1 of 1 iteration · then it waits" in shown
    why = " ".join(desk.say("why", run_id).stdout.split())
    assert f"agentq limit {run_id} --max-iterations N gives it more" in why
    result = desk.say("limit", run_id, "--max-iterations", "9", "--as", "ada")
    assert (result.exit_code, result.stdout) == (0, f"{run_id} queued: iterations=9, on_reached=wait\n")
    desk.work()
    assert desk.output(run_id) == "done"
    told = desk.say("tail", run_id).stdout
    assert "↻ limits given by ada: iterations=9, on_reached=wait" in told
    shown = desk.say("show", run_id).stdout
    assert "limits     3 of 9 iterations" in shown
    assert "3 iterations by user ann today" in shown
    assert "3 iterations today, by all runs" in " ".join(desk.say("stats").stdout.split())
    assert json.loads(desk.say("stats", "--json").stdout)["spent"]["iterations"] == 3


def test_as_json(desk: Desk):
    run_id = desk.say("enqueue", "clerk", CHAIN, "--max-cost", "2").stdout.strip()
    (document,) = json.loads(desk.say("limit", run_id, "--max-time", "60", "--json").stdout)["runs"]
    assert document == {"run_id": run_id, "status": "queued", "limits": {"cost_usd": 2.0, "wall_s": 60.0}}


def test_every_limit_has_its_option(desk: Desk):
    options = [word for name, word in OPTIONS.items() if name != "on_reached" for word in (word, "7")]
    run_id = desk.say("enqueue", "clerk", CHAIN, *options, "--on-limit", "fail").stdout.strip()
    limits = json.loads(desk.say("show", run_id, "--json").stdout)["run"]["limits"]
    assert set(limits) == set(OPTIONS)
    assert all(limits.values())


def test_a_concurrency_key(desk: Desk):
    given = ("--concurrency-key", "tenant-7", "--concurrency", "5")
    run_id = desk.say("enqueue", "clerk", CHAIN, *given).stdout.strip()
    run = json.loads(desk.say("show", run_id, "--json").stdout)["run"]
    assert (run["concurrency_key"], run["concurrency"]) == ("tenant-7", 5)


@pytest.mark.parametrize(
    ("limits", "fields", "words"),
    [
        (None, {}, []),
        (RunLimits(tokens=5000), {"usage": {"input_tokens": 900, "output_tokens": 100}}, ["1,000 of 5,000 tokens"]),
        (
            RunLimits(tokens=500, cost_usd=0.5),
            {
                "usage": {"input_tokens": 900, "cost_nanousd": 300_000_000},
                "retried_usage": {"input_tokens": 600, "cost_nanousd": 100_000_000},
            },
            ["300 of 500 tokens", "$0.2000 of $0.5000"],
        ),
        (RunLimits(iterations=9), {"iteration": 7, "retried_at": 4}, ["3 of 9 iterations"]),
        (RunLimits(wall_s=60), {"started_ms": T0, "finished_ms": T0 + 30_000}, ["30.0 s of 1 m 00 s"]),
        (RunLimits(wall_s=60), {}, ["0 ms of 1 m 00 s"]),
        (RunLimits(no_progress_s=5, on_reached="wait"), {}, ["5.0 s at a stretch", "then it waits"]),
    ],
)
def test_how_a_run_stands(limits: RunLimits | None, fields: Mapping[str, Any], words: list[str]):
    assert list(standing(run_state(limits=limits, **fields))) == words
