"""The examples under the servers that people use, beside a real worker: what their users see over HTTP."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.browser import Browser, ask
from tests.examples.conftest import NOWHERE, SERVERS
from tests.helpers import ROOT, wait_until_sync

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.examples.conftest import Site

ADD = 'call add_numbers {"a": 7, "b": 9}\nsay It is $1.'
# Streams for a while, so that a viewer can be cut off in the middle.
LONG = 'stream 30 "token " 0.02\ncall add_numbers {"a": 7, "b": 9}\nsay It is $1.'
# Says nothing for longer than any test lasts.
QUIET = "sleep 600\nsay Done."


def start(site: Site, prompt: str, **headers: str) -> str:
    status, text = ask(site.runs, prompt, **headers)
    assert status == 202, text
    return str(json.loads(text)["run_id"])


@pytest.fixture
def quiet_run(site: Site) -> Iterator[str]:
    """A run that works and says nothing."""
    run_id = start(site, QUIET)
    wait_until_sync(lambda: site.client.read(run_id).seq >= 3)
    yield run_id
    site.client.cancel(run_id)


@pytest.mark.parametrize("name", ["flask_app", "django_app", "fastapi_app"])
def test_an_example_is_short(name: str):
    assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) < 60


def test_a_prompt_goes_in_and_its_answer_comes_out(site: Site):
    run_id = start(site, ADD)
    with Browser(f"{site.runs}/{run_id}/events") as browser:
        assert browser.headers.get_content_type() == "text/event-stream"
        assert (browser.headers["Cache-Control"], browser.headers["X-Accel-Buffering"]) == ("no-cache", "no")
        events = browser.read_all()
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events] == [event.data["type"] for event in events]
    assert events[-1].type == "run.completed"
    assert json.loads(ask(f"{site.runs}/{run_id}")[1]) == {"status": "completed", "answer": "It is 16.", "error": None}


def test_many_enqueues_at_once_are_as_many_runs_and_one_key_is_one_run(site: Site):
    with ThreadPoolExecutor(8) as threads:
        runs = set(threads.map(lambda number: start(site, f"say {site.name} {number}."), range(32)))
        same = set(threads.map(lambda _: start(site, ADD, **{"Idempotency-Key": site.name}), range(16)))
    assert len(runs) == 32
    assert len(same) == 1
    answers = {site.client.result(run_id, timeout=30).output for run_id in runs}
    assert answers == {f"{site.name} {number}." for number in range(32)}
    assert site.client.result(same.pop(), timeout=30).output == "It is 16."


def test_a_viewer_that_is_cut_off_comes_back_and_misses_nothing(site: Site):
    """Two at once; one of them is cut off twice and goes on with the last id that it has."""
    run_id = start(site, LONG)
    url = f"{site.runs}/{run_id}/events"
    with ThreadPoolExecutor(1) as other, Browser(url) as steady:
        everything = other.submit(steady.read_all)
        with Browser(f"{url}?after=0") as browser:
            seen = browser.read(5)
        with Browser(url, last_event_id=seen[-1].id) as browser:
            seen += browser.read(4)
        # The header is younger than what stands in the address.
        with Browser(f"{url}?after=1", last_event_id=seen[-1].id) as browser:
            seen += browser.read_all()
        assert seen == everything.result(30)
    assert [event.id for event in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].type == "run.completed"
    assert sum(event.type == "text.delta" for event in seen) > 3
    # An EventSource comes back once more after the end, and this ends it.
    with Browser(url, last_event_id=seen[-1].id) as browser:
        assert (browser.status, browser.read_all()) == (204, [])
    with Browser(f"{url}?after={seen[-2].id}") as browser:
        assert browser.read_all() == seen[-1:]


def test_a_browser_that_goes_away_is_noticed_though_nothing_happens(site: Site, quiet_run: str):
    browser = Browser(f"{site.runs}/{quiet_run}/events")
    browser.read(3)
    browser.wait_for_beats(browser.beats + 2)
    assert site.listeners(quiet_run) == 1
    browser.close()
    wait_until_sync(lambda: site.listeners(quiet_run) == 0)
    # The server answers the next request, and had nothing to complain about.
    assert ask(f"{site.runs}/{quiet_run}")[0] == 200
    assert "Traceback" not in site.log.read_text()


def test_what_is_wrong_is_said_with_its_status(site: Site):
    def refused(path: str = "", body: str | None = None, **headers: str) -> tuple[int, str]:
        status, text = ask(site.runs + path, body, **headers)
        return status, json.loads(text)["error"]

    run_id = start(site, "say Hello.", **{"Idempotency-Key": f"{site.name} once"})
    assert site.client.result(run_id, timeout=30).output == "Hello."
    assert refused(body=" ") == (400, "prompt is empty; say what the agent should do")
    assert refused(body="say Hello.", **{"Idempotency-Key": "k" * 300})[0] == 400
    assert refused(body="say Other.", **{"Idempotency-Key": f"{site.name} once"})[0] == 409
    for path in ("/nonsense", f"/{NOWHERE}", f"/{NOWHERE}/events", "/nonsense/events"):
        assert refused(path)[0] == 404
    for cursor in ("abc", "-1", "99", "1" * 500):
        assert refused(f"/{run_id}/events?after={cursor}")[0] == 400
        assert refused(f"/{run_id}/events", **{"Last-Event-ID": cursor})[0] == 400
    assert ask(f"{site.runs}/{run_id}/else")[0] == 404


@pytest.mark.parametrize("site", ["flask, forked", "django, forked"], indirect=True, scope="module")
def test_both_processes_of_a_forked_server_answer(site: Site):
    """Though the client had been used before the fork: each process connects anew."""
    pids: set[str] = set()

    def seen() -> bool:
        with ThreadPoolExecutor(4) as threads:
            pids.update(threads.map(lambda _: pid_of(f"{site.runs}/{NOWHERE}"), range(8)))
        return pids == set(map(str, site.forked()))

    wait_until_sync(seen)
    assert len(pids) == 2


def pid_of(url: str) -> str:
    with Browser(url) as browser:
        browser.read_all()
        return browser.headers["X-Pid"]


@pytest.mark.parametrize("site", [name for name in SERVERS if name != "fastapi"], indirect=True, scope="module")
def test_a_server_process_that_is_killed_is_replaced_and_viewers_go_on(site: Site):
    run_id = start(site, LONG)
    url = f"{site.runs}/{run_id}/events"
    before = set(site.forked())
    with Browser(url) as browser:
        seen = browser.read(4)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        seen += browser.read_all()
    assert seen[-1].type != "run.completed"
    wait_until_sync(lambda: not before & set(site.forked()))
    with Browser(url, last_event_id=seen[-1].id) as browser:
        seen += browser.read_all()
    assert [event.id for event in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].type == "run.completed"
    assert site.client.result(start(site, ADD), timeout=30).output == "It is 16."
