"""The blocking client over a real Redis: what only real connections can show."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agentq.client import Client
from agentq.errors import IdempotencyConflict, ResultTimeout, RunCancelled, StoreUnavailable
from agentq.runs import Status
from tests.helpers import ROOT


def test_a_run_without_a_worker_can_be_enqueued_watched_and_cancelled(redis_url: str):
    with Client(redis_url) as client:
        run = client.enqueue("calculator", "7 + 9", metadata={"a": 1}, idempotency_key="k")
        assert client.enqueue("calculator", "7 + 9", metadata={"a": 1}, idempotency_key="k").id == run.id
        with pytest.raises(IdempotencyConflict):
            client.enqueue("calculator", "7 + 8", idempotency_key="k")
        with pytest.raises(ResultTimeout):
            run.result(0.05)
        events = run.events()
        assert next(iter(events)).type == "run.queued"
        assert run.cancel(reason="enough") is Status.CANCELLED
        assert [event.type for event in events][-1] == "run.cancelled"
        with pytest.raises(RunCancelled, match="enough"):
            run.result()
        assert [state.run_id for state in client.list()] == [run.id]


def test_a_redis_that_is_away_is_said_to_be():
    with Client("redis://127.0.0.1:1/0") as client, pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1"):
        client.enqueue("calculator", "7 + 9")


_FORK = """
import os, sys
from agentq.client import Client

client = Client(sys.argv[1])
run = client.enqueue("calculator", "7 + 9")
events = run.events()
next(events)
child = os.fork()
if child == 0:
    mine = client.enqueue("calculator", "7 + 8")
    assert [event.type for event in mine.events(live=False)] == ["run.queued"]
    assert mine.cancel().is_final
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert run.cancel().is_final
print([event.type for event in events][-1], len(client.list()))
suspended = client.enqueue("calculator", "7 + 7").events()
next(suspended)
"""


def test_a_subscription_lives_through_a_fork_and_the_end_of_the_child(redis_url: str):
    """And the process ends silently with another subscription open."""
    done = subprocess.run(
        [sys.executable, "-c", _FORK, redis_url], capture_output=True, text=True, timeout=50, cwd=ROOT, check=False
    )
    silent = [line for line in done.stderr.splitlines() if "is accepted unseen" not in line]
    assert (done.returncode, done.stdout, silent) == (0, "run.cancelled 2\n", [])
