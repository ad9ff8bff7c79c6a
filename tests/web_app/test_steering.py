"""What is done to runs over HTTP, by whom, and what stands in their events then."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agentq.events.model import CancelRequestedEvent, RunAnswered, RunPaused, RunRetried, RunSteered
from agentq.runs import Status
from tests.helpers import wait_until
from tests.web_app.parts import site, working

if TYPE_CHECKING:
    import pytest

RUNS = "/api/v1/runs"
ASKS = 'call refund {"number": "A-17", "token": "geheim"}\nsay $1'


async def test_who_does_it_stands_in_the_events_and_in_the_log(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "agentq.web.access")
    async with site(authorize=lambda request, action, run: "ann") as (http, client):
        run = await client.enqueue("a", "x")
        path = f"{RUNS}/{run.id}"
        assert (await http.post(f"{path}/steer", json={"text": "and?", "by": "eve"})).json()["status"] == "queued"
        assert (await http.post(f"{path}/pause", json={"reason": "lunch"})).json()["status"] == "paused"
        assert (await http.post(f"{path}/resume")).json()["status"] == "queued"
        assert (await http.post(f"{path}/cancel", json={"reason": "enough"})).json()["status"] == "cancelled"
        assert (await http.post(f"{path}/retry")).json()["status"] == "queued"
        events = [event async for event in client.events(run.id, live=False)]
    by = {type(event): event.by for event in events if hasattr(event, "by")}
    assert {by[kind] for kind in (RunSteered, RunPaused, CancelRequestedEvent, RunRetried)} == {"ann"}
    done = [(record.__dict__["action"], record.__dict__["by"]) for record in caplog.records]
    assert done == [(action, "ann") for action in ("steer", "pause", "resume", "cancel", "retry")]


async def test_where_the_server_knows_nobody_they_may_say_who_they_are():
    async with site() as (http, client):
        run = await client.enqueue("a", "x")
        await http.post(f"{RUNS}/{run.id}/cancel", json={"by": "bob"})
        events = [event async for event in client.events(run.id, live=False)]
    assert [event.by for event in events if isinstance(event, CancelRequestedEvent)] == ["bob"]


async def test_a_run_is_forked_followed_and_limited():
    async with working() as (http, client):
        run = await client.enqueue("clerk", "say one", session_id="s")
        await client.result(run.id, 30)
        following = await http.post(
            f"{RUNS}/{run.id}/follow-up", json={"prompt": "say two"}, headers={"Idempotency-Key": "k"}
        )
        again = await http.post(
            f"{RUNS}/{run.id}/follow-up", json={"prompt": "say two"}, headers={"Idempotency-Key": "k"}
        )
        assert (following.status_code, again.status_code) == (201, 200)
        assert again.json()["run_id"] == following.json()["run_id"]
        fork = await http.post(f"{RUNS}/{run.id}/fork", json={"prompt": "say other"})
        assert fork.status_code == 201
        assert (await client.read(fork.json()["run_id"])).forked_from == run.id
        limits = f"{RUNS}/{fork.json()['run_id']}/limits"
        assert (await http.put(limits, json={"limits": {"tokens": 0}})).status_code == 422
        over = await http.post(f"{RUNS}/{run.id}/steer", json={"text": "x"})
        assert (over.status_code, over.json()["code"]) == (409, "run_already_finished")


def _hide(tool: str, arguments: object) -> dict[str, object]:
    assert isinstance(arguments, dict)
    return {name: "***" if name == "token" else value for name, value in arguments.items()}


async def test_a_person_allows_a_call_that_they_found_in_the_inbox_without_its_secrets():
    async with working(redact_arguments=_hide) as (http, client):
        run = await client.enqueue("clerk", ASKS)
        path = f"{RUNS}/{run.id}"
        found = await wait_until(lambda: _waiting(http), message="it waits")
        (each,) = found
        assert each["question"]["arguments"] == {"number": "A-17", "token": "***"}
        assert each["run"]["questions"][0]["arguments"]["token"] == "***"
        allowed = await http.post(f"{path}/approve", json={"call_id": each["question"]["call_id"], "by": "ann"})
        assert allowed.status_code == 200
        assert (await client.result(run.id, 30)).output == "paid back: A-17"
        calls = [
            part["arguments"]
            for message in (await http.get(f"{path}/messages")).json()["messages"]
            for part in message["parts"]
            if part["type"] == "tool_call"
        ]
        assert calls == [{"number": "A-17", "token": "***"}]
        late = await http.post(f"{path}/deny", json={})
        assert (late.status_code, late.json()["code"]) == (409, "not_waiting")
        answered = [event async for event in client.events(run.id, live=False) if isinstance(event, RunAnswered)]
        assert [(event.answer, event.by, event.source) for event in answered] == [("approved", "ann", "api")]
        exported = await http.get(f"{path}/export")
        assert (exported.status_code, exported.json()["code"]) == (403, "redacted")


async def _waiting(http):
    return (await http.get("/api/v1/inbox")).json()["waiting"]


async def test_an_answer_is_an_answer_or_an_outcome():
    async with site() as (http, client):
        run = await client.enqueue("a", "x")
        path = f"{RUNS}/{run.id}/answer"
        assert (await http.post(path, json={})).json()["field"] == "answer"
        assert (await http.post(path, json={"answer": 1, "outcome": "unknown"})).json()["field"] == "outcome"
        assert (await http.post(path, json={"answer": None})).json()["code"] == "not_waiting"
        assert (await http.post(path, json={"answer": None, "number": -1})).json()["field"] == "number"
        signal = await http.post(f"{RUNS}/{run.id}/signals", json={"name": "paid", "data": {"n": 1}})
        assert signal.json() == {"run_id": run.id, "status": Status.QUEUED}


async def test_a_session_is_listed_read_continued_and_deleted():
    async with working() as (http, client):
        run = await client.enqueue("clerk", "say one", session_id="a/b ü", user_id="ann")
        await client.result(run.id, 30)
        path = "/api/v1/sessions/a%2Fb%20%C3%BC"
        listed = (await http.get("/api/v1/sessions?user_id=ann&limit=1")).json()
        assert [each["session_id"] for each in listed["sessions"]] == ["a/b ü"]
        assert (await http.get(f"/api/v1/sessions?limit=1&cursor={listed['next_cursor']}")).json()["sessions"] == []
        said = await http.post(f"{path}/messages", json={"prompt": "say two"})
        assert said.status_code == 201
        assert (await client.result(said.json()["run_id"], 30)).output == "two"
        texts = [each["parts"][0]["text"] for each in (await http.get(f"{path}/messages?start=1")).json()["messages"]]
        assert texts == ["one", "say two", "two"]
        assert (await http.get(path)).json()["run_count"] == 2
        assert (await http.delete(path)).status_code == 204
        assert (await http.get(path)).json()["code"] == "session_not_found"
