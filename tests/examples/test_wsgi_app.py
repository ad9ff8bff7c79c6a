"""The web app of nothing but the standard library, beside a worker, over real HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from agentq.private_redis import free_port
from tests.browser import Browser, ask
from tests.helpers import ROOT, wait_until_sync

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def process(*command: str, **environ: str) -> Iterator[None]:
    child = subprocess.Popen([sys.executable, *command], cwd=ROOT, env={**os.environ, **environ})
    try:
        yield
    finally:
        child.terminate()
        child.wait(timeout=20)


@pytest.fixture
def web(redis_url: str) -> Iterator[str]:
    port = free_port()
    with (
        process("-m", "examples.wsgi_app", REDIS_URL=redis_url, PORT=str(port)),
        process("-m", "agentq", "worker", REDIS_URL=redis_url),
    ):
        url = f"http://127.0.0.1:{port}/runs"
        wait_until_sync(lambda: ask(f"{url}/01JD3ZK8W5Q0X9V7T2M4N6P8RA")[0] == 404, timeout=20)
        yield url


def test_a_prompt_goes_in_and_its_answer_comes_out(web: str) -> None:
    status, text = ask(web, 'call add_numbers {"a": 7, "b": 9}\nsay It is $1.', **{"Idempotency-Key": "k"})
    run_id = json.loads(text)["run_id"]
    assert status == 202
    again = ask(web, 'call add_numbers {"a": 7, "b": 9}\nsay It is $1.', **{"Idempotency-Key": "k"})
    assert json.loads(again[1])["run_id"] == run_id

    with Browser(f"{web}/{run_id}/events") as browser:
        events = browser.read_all()
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert events[-1].type == "run.completed"
    with Browser(f"{web}/{run_id}/events", last_event_id=events[-2].id) as browser:
        assert browser.read_all() == events[-1:]
    assert ask(f"{web}/{run_id}/events?after={events[-1].id}") == (204, "")

    assert json.loads(ask(f"{web}/{run_id}")[1]) == {"status": "completed", "answer": "It is 16.", "error": None}


def test_bad_requests_are_answered_in_words(web: str) -> None:
    assert ask(f"{web}/nonsense")[0] == 404
    assert ask(f"{web}/01JD3ZK8W5Q0X9V7T2M4N6P8RA/events")[0] == 404
    assert ask(web, " ") == (400, '{"error": "prompt is empty; say what the agent should do"}')
    assert ask(web, "x" * 100_001)[0] == 400
    run_id = json.loads(ask(web, "hello", **{"Idempotency-Key": "other"})[1])["run_id"]
    for cursor in ("abc", "-1", "1" * 5000):
        assert ask(f"{web}/{run_id}/events", **{"Last-Event-ID": cursor})[0] == 400
    assert ask(web, "hello again", **{"Idempotency-Key": "other"})[0] == 409
