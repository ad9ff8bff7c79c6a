"""The examples when Redis is away, and when their server is told to stop with streams open."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.browser import Browser, ask
from tests.examples.conftest import serving
from tests.helpers import wait_until_sync

if TYPE_CHECKING:
    from pathlib import Path

    from tests._redis_server import RedisServer


@pytest.mark.parametrize("name", ["flask, threads", "django, forked", "fastapi"])
def test_redis_may_be_away_at_the_start_and_under_a_stream_and_the_server_stops_at_once(
    name: str, server: RedisServer, tmp_path: Path
):
    server.kill()
    with serving(name, server, tmp_path / "log") as site:
        status, text = ask(site.runs, "say Hello.")
        assert status == 503
        assert "cannot be reached" in json.loads(text)["error"]

        server.start()
        wait_until_sync(lambda: ask(site.runs, "say Hello.")[0] == 202)
        run_id = json.loads(ask(site.runs, "say Hello.")[1])["run_id"]
        url = f"{site.runs}/{run_id}/events"

        with Browser(url) as browser:
            seen = browser.read(1)
            server.restart()
            assert site.client.cancel(run_id) == "cancelled"
            seen += browser.read_all()
        assert [event.id for event in seen] == list(range(1, len(seen) + 1))
        assert seen[-1].type == "run.cancelled"

        run_id = json.loads(ask(site.runs, "say Hello.")[1])["run_id"]
        with Browser(f"{site.runs}/{run_id}/events") as one, Browser(f"{site.runs}/{run_id}/events") as other:
            first = one.read(1)
            assert other.read(1) == first
            site.process.terminate()
            # A server that waited for the streams would wait for ever: nothing will happen in this run.
            site.process.wait(timeout=20)
            assert one.read_all() == other.read_all() == []
