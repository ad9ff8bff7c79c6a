"""agentq's web app under a prefix of another one, under real servers and beside a real worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.browser import Browser, ask
from tests.examples.conftest import MOUNTED, Site, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests._redis_server import RedisServer

PROMPT = 'call add_numbers {"a": 7, "b": 9}\nsay It is $1.'


@pytest.fixture(scope="module", params=MOUNTED)
def mounted(
    request: pytest.FixtureRequest, redis: RedisServer, working: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with serving(request.param, redis, tmp_path_factory.mktemp("mounted") / "log", MOUNTED) as site:
        yield site


def test_a_run_goes_through_the_prefix_from_its_prompt_to_its_events(mounted: Site):
    host = f"http://127.0.0.1:{mounted.port}"
    assert json.loads(ask(f"{host}/")[1]) == {"agents": "/agents/"}
    asked = json.dumps({"agent": "calculator", "prompt": PROMPT})
    status, text = ask(f"{host}/agents/api/v1/runs", asked, **{"Content-Type": "application/json"})
    assert status == 201, text
    run = f"{host}/agents/api/v1/runs/{json.loads(text)['run_id']}"
    status, text = ask(f"{run}/result?wait=20")
    assert (status, json.loads(text)["output"]) == (200, "It is 16.")
    with Browser(f"{run}/events") as browser:
        events = browser.read_all()
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert events[-1].type == "run.completed"


def test_the_page_knows_where_it_is(mounted: Site):
    status, page = ask(f"http://127.0.0.1:{mounted.port}/agents/", Accept="text/html")
    assert status == 200
    assert 'href="/agents/inbox' in page
    assert 'href="/inbox' not in page
