"""kill -9 of workers, again and again: no run is lost, nothing that finished happens twice, no event is missing."""

from __future__ import annotations

import logging
import random
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from agentq import Client, Settings
from tests.chaos.crashes import OUTPUT, TWO_PAYMENTS, Fleet, check, check_sessions
from tests.helpers import wait_until_sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)
RUNS_PER_ROUND = 4


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    with Client(settings=Settings(redis_url=redis_url)) as client:
        yield client


@pytest.fixture
def fleet(redis_url: str, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(redis_url, tmp_path)
    yield fleet
    fleet.end()


@pytest.mark.timeout(0)
def test_killed_workers_lose_nothing_and_repeat_nothing(fleet: Fleet, client: Client, chaos_rounds: int) -> None:
    """Two workers carry runs with payments while one of them is killed in every round. Some runs share sessions."""
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    # Short leases make many recoveries in little time; quarantine has a test of its own.
    fleet.environ = {"AGENTQ_LEASE_MS": "900", "AGENTQ_SWEEP_MS": "100", "AGENTQ_MAX_RECOVERIES": "1000"}
    fleet.start()
    fleet.start()
    run_ids: list[str] = []
    sessions: dict[str, list[str]] = {}
    for number in range(chaos_rounds):
        run_ids += [client.enqueue("shop", TWO_PAYMENTS).id for _ in range(RUNS_PER_ROUND)]
        # A session of few runs, so that its line is not longer than the others need.
        session_id = f"s{number // 10 * 2 + number % 2}"
        sessions.setdefault(session_id, []).append(client.enqueue("shop", TWO_PAYMENTS, session_id=session_id).id)
        time.sleep(dice.uniform(0.05, 0.6))
        fleet.kill(dice.choice(fleet.workers))
        fleet.start()
    run_ids += [run_id for members in sessions.values() for run_id in members]
    outputs = {client.get(run_id).result(timeout=60).output for run_id in run_ids}
    assert outputs == {OUTPUT}, f"seed {seed}: {fleet.log()[-2000:]}"
    check(client, run_ids, fleet.happened())
    check_sessions(client, sessions)
    logger.info("%d kills over %d runs and %d tool calls, seed %d", chaos_rounds, len(run_ids), 6 * len(run_ids), seed)


def test_at_default_settings_another_worker_goes_on_within_a_lease(fleet: Fleet, client: Client) -> None:
    """The worker is killed during the second tool: the first is not run again, the run ends without any help."""
    killed = fleet.start()
    run = client.enqueue(
        "shop",
        'call look_up {"name": "a", "seconds": 0.01}\ncall send {"name": "b", "seconds": 3}\nsay It is done.',
    )
    wait_until_sync(lambda: any(what == "send-start" for what, *_ in fleet.happened()), timeout=30)
    fleet.start()
    fleet.kill(killed)
    assert run.result(timeout=40).output == "It is done."
    happened = [what for what, *_ in fleet.happened()]
    assert happened == ["read", "send-start", "send-start", "send-end"]
    assert [line[3] for line in fleet.happened()] == ["1", "1", "2", "2"]
    assert len({line[2] for line in fleet.happened()}) == 2


def test_a_run_that_kills_its_workers_is_set_aside(fleet: Fleet, client: Client) -> None:
    """After `max_recoveries` crashes without a commit the run has failed, and its reason says so."""
    fleet.environ = {"AGENTQ_LEASE_MS": "900", "AGENTQ_SWEEP_MS": "50", "AGENTQ_MAX_RECOVERIES": "2"}
    run = client.enqueue("shop", 'call send {"name": "bomb", "seconds": 30}\nsay Never.')
    for crashes in range(1, 4):
        worker = fleet.start()
        wait_until_sync(partial(_has_started, fleet, crashes), timeout=30)
        fleet.kill(worker)
    fleet.start()
    wait_until_sync(lambda: run.status() == "failed", timeout=30)
    assert "worker died 3 times" in (run.read().last_error or "")


def _has_started(fleet: Fleet, times: int) -> bool:
    return sum(what == "send-start" for what, *_ in fleet.happened()) == times
