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


# The parent's client is in use, a stream of it too, in threads that are anywhere when the processes are forked.
_POOL = """
import logging, multiprocessing, sys, threading
from concurrent.futures import ThreadPoolExecutor
from agentq.client import Client

logging.getLogger("agentq").setLevel(logging.ERROR)
client = Client(sys.argv[1])
same = client.enqueue("calculator", "the same", idempotency_key="k").id
stop = threading.Event()

def busy(number):
    while not stop.is_set():
        client.status(same)

def view():
    return [event.seq for event in client.get(same).events()]

def enqueue(number):
    assert client.enqueue("calculator", "the same", idempotency_key="k").id == same
    return client.enqueue("calculator", f"prompt {number}").id

def child(number):
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(enqueue, range(number * 10, number * 10 + 10)))
    seen = [event.type for event in client.get(made[0]).events(live=False)]
    assert seen == ["run.queued"], seen
    results.put(made)

multiprocessing.set_start_method("fork")
results = multiprocessing.SimpleQueue()
with ThreadPoolExecutor(4) as threads:
    viewing = threads.submit(view)
    calls = [threads.submit(busy, number) for number in range(3)]
    children = [multiprocessing.Process(target=child, args=(number,)) for number in range(6)]
    for process in children:
        process.start()
    made = [run_id for _ in children for run_id in results.get()]
    for process in children:
        process.join()
        assert process.exitcode == 0, process.exitcode
    stop.set()
    for call in calls:
        call.result()
    client.cancel(same)
    seen = viewing.result()
assert seen == list(range(1, len(seen) + 1)), seen
print(len(made), len(set(made)), len(client.list(limit=100)))
"""


def test_processes_forked_while_threads_use_the_client_enqueue_with_threads_of_their_own(redis_url: str):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _POOL, redis_url],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "60 60 61\n", "")
