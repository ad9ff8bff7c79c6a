"""docs/guide/retention.md, done: how long things are kept, and a move from one Redis to another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import redis

from agentq import Client, Settings
from agentq._redis.keys import Keys
from tests.guide._pages import block
from tests.helpers import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAGE = ROOT / "docs" / "guide" / "retention.md"
KEYS = Keys()


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as made:
        yield made


def test_the_table_says_what_the_settings_say():
    settings, page = Settings(), PAGE.read_text()
    hour_ms = 3_600_000
    rows = {
        "AGENTQ_TTL_COMPLETED_MS": ("24 hours", settings.ttl_completed_ms == 24 * hour_ms),
        "AGENTQ_TTL_CANCELLED_MS": ("24 hours", settings.ttl_cancelled_ms == 24 * hour_ms),
        "AGENTQ_TTL_FAILED_MS": ("7 days", settings.ttl_failed_ms == 7 * 24 * hour_ms),
        "AGENTQ_SESSION_TTL_MS": ("30 days", settings.session_ttl_ms == 30 * 24 * hour_ms),
    }
    for name, (length, is_so) in rows.items():
        (row,) = [line for line in page.splitlines() if line.startswith("| ") and name in line]
        assert length in row
        assert is_so


def test_the_nearest_word_counts(
    project: Path, work: Callable[[], None], redis_url: str, monkeypatch: pytest.MonkeyPatch, connection: Any
):
    shown = block(PAGE, "keep.py")
    (project / "workers" / "app.py").write_text(shown.text.replace("\nclient = Client()", ""))
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("AGENTQ_TTL_FAILED_MS", "86400000")
    page = shown.executed()
    with page.client as client:
        asked = page.ask("say short").id
        agents = client.enqueue("report", "say long").id
        settings = client.enqueue("report", "fail! 400").id
        work()
        for run_id, seconds in ((asked, 3_600), (agents, 30 * 86_400), (settings, 86_400)):
            assert seconds - 60 < connection.ttl(KEYS.run(run_id)) <= seconds


def test_runs_and_a_session_move_to_another_redis(
    agentq: Callable[..., str], work: Callable[[], None], redis_url: str, project: Path, connection: Any
):
    with Client(redis_url) as client:
        told = client.enqueue("calculator", 'call add_numbers {"a": 7, "b": 9}\nsay $1', session_id="chat").id
        work()
        before = agentq("tail", told, "--json"), agentq("show", told, "--json"), agentq("ls", "--json")
        agentq("export", "-o", "runs.ndjson.gz")
        assert [path.name for path in project.iterdir() if "runs" in path.name] == ["runs.ndjson.gz"]
        connection.flushall()
        assert agentq("import", "runs.ndjson.gz") == "imported 1 run and 1 session\n"
        assert (agentq("tail", told, "--json"), agentq("show", told, "--json"), agentq("ls", "--json")) == before
        assert client.result(told).output == "16"
        asked = client.enqueue("calculator", "What did I ask?", session_id="chat")
        work()
        # The model counts words; it has seen more than the four of the question.
        assert asked.result(5).usage.input_tokens > 4
        said = [json.loads(line) for line in agentq("export", "--session", "chat").splitlines()]
        assert [line["message"]["role"] for line in said if line["type"] == "message" and "session_id" in line] == [
            "user", "assistant", "tool", "assistant", "user", "assistant",
        ]  # fmt: skip
        known = agentq("import", "runs.ndjson.gz")
        assert known == "imported 0 runs and 0 sessions; 1 run and 1 session were here already\n"
