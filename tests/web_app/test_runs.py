"""Runs over HTTP: start, read, list, wait."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from agentq.web import web_app
from tests.helpers import wait_until
from tests.web_app.parts import memory_client, site, working

RUNS = "/api/v1/runs"
PNG = b"\x89PNG\r\n\x1a\n..."
NOBODY = f"{RUNS}/01JD3ZK8W5Q0X9V7T2M4N6P8RA"


async def test_a_run_is_started_once_with_a_key_and_its_place_is_told():
    async with site() as (http, client):
        asked = {"agent": "calculator", "prompt": "7 + 9", "metadata": {"a": [1]}, "limits": {"tokens": 5}}
        asked |= {"tenant": "acme", "priority": "high"}
        first = await http.post(RUNS, json=asked, headers={"Idempotency-Key": "k"})
        run_id = first.json()["run_id"]
        assert (first.status_code, first.json()["is_new"]) == (201, True)
        assert first.headers["location"] == f"{RUNS}/{run_id}"
        again = await http.post(RUNS, json=asked, headers={"Idempotency-Key": "k"})
        assert (again.status_code, again.json()["run_id"], again.json()["is_new"]) == (200, run_id, False)
        other = await http.post(RUNS, json={**asked, "prompt": "7 + 8"}, headers={"Idempotency-Key": "k"})
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
        run = (await http.get(first.headers["location"])).json()
        assert (run["metadata"], run["limits"]["tokens"], run["status"]) == ({"a": [1]}, 5, "queued")
        assert (run["tenant"], run["priority"], run["waits_for_tenant"]) == ("acme", "high", False)
        assert len(await client.list()) == 1


async def test_keys_and_users_are_those_of_whoever_asks():
    def authorize(request, action, run):
        return request.headers["x-user"]

    async with site(authorize=authorize) as (http, client):
        ids = {}
        for user in ("ann", "bob", "ann"):
            headers = {"Idempotency-Key": "k", "x-user": user}
            made = await http.post(RUNS, json={"agent": "a", "prompt": "x"}, headers=headers)
            ids[made.json()["run_id"]] = user
        assert sorted(ids.values()) == ["ann", "bob"]
        assert {run.run_id: run.user_id for run in await client.list()} == ids


async def test_files_come_with_a_form_and_are_read_back_as_what_does_no_harm():
    async with site() as (http, client):
        made = await http.post(
            RUNS,
            data={"agent": "a", "prompt": "look", "metadata": '{"n": 1}'},
            files=[("files", ("a.png", PNG, "image/png")), ("files", ("b.html", b"<script>", "text/html"))],
        )
        run_id = made.json()["run_id"]
        (message,) = (await http.get(f"{RUNS}/{run_id}/messages")).json()["messages"]
        files = {part["name"]: part for part in message["parts"] if part["type"] == "file"}
        assert [part["media_type"] for part in files.values()] == ["image/png", "text/html"]
        assert (await client.read(run_id)).metadata == {"n": 1}
        image, page = [
            await http.get(f"{RUNS}/{run_id}/files/{hashlib.sha256(content).hexdigest()}")
            for content in (PNG, b"<script>")
        ]
        assert (image.content, image.headers["content-type"]) == (PNG, "image/png")
        assert (page.headers["content-type"], page.headers["content-disposition"]) == (
            "application/octet-stream",
            "attachment",
        )
        assert "sandbox" in page.headers["content-security-policy"]
        in_json = [{"data": "aGk=", "name": "a.txt"}, {"url": "file:///etc/passwd"}]
        refused = await http.post(RUNS, json={"agent": "a", "prompt": "x", "files": in_json})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")


async def test_what_is_too_large_is_refused_whether_it_says_so_or_not():
    async def endless():
        while True:
            yield b"x" * 1000

    async with site(max_upload_bytes=5_000) as (http, client):
        big = {"agent": "a", "prompt": "x" * 5_000}
        json = {"Content-Type": "application/json"}
        for answer in (await http.post(RUNS, json=big), await http.post(RUNS, content=endless(), headers=json)):
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert await client.list() == ()


@pytest.mark.parametrize(
    ("asked", "status", "code", "field"),
    [
        ({"json": {"prompt": "x"}}, 422, "invalid_input", "agent"),
        ({"json": {"agent": "a", "prompt": "x", "sesion_id": "s"}}, 422, "invalid_input", "sesion_id"),
        ({"json": {"agent": "a", "prompt": "x", "limits": {"tokens": -1}}}, 422, "invalid_input", "tokens"),
        ({"json": {"agent": "a", "prompt": "x", "delay_s": "1"}}, 422, "invalid_input", "delay_s"),
        ({"json": {"agent": "a", "prompt": "x", "at": "2026-01-31T18:00:00"}}, 422, "invalid_input", "at"),
        ({"json": {"agent": "a", "prompt": "x", "at": 5}}, 422, "invalid_input", "at"),
        ({"json": {"agent": "a", "prompt": "x", "tenant": ""}}, 422, "invalid_input", "tenant"),
        ({"json": {"agent": "a", "prompt": "x", "priority": "urgent"}}, 422, "invalid_input", "priority"),
        ({"json": {"agent": "a", "prompt": "x", "concurrency": 2}}, 422, "invalid_input", "concurrency"),
        ({"json": {"agent": "a", "prompt": "x", "files": [{"data": "%"}]}}, 422, "invalid_input", "files[0]"),
        ({"content": "{", "headers": {"Content-Type": "application/json"}}, 400, "malformed", None),
        ({"content": "[]", "headers": {"Content-Type": "application/json"}}, 422, "invalid_input", None),
        ({"data": {"agent": "a", "prompt": "x"}}, 415, "unsupported_media_type", None),
        ({"content": "x", "headers": {"Content-Type": "text/plain"}}, 415, "unsupported_media_type", None),
        ({"files": {"other": b"x"}, "data": {"agent": "a", "prompt": "x"}}, 422, "invalid_input", "other"),
        (
            {"files": {"files": b"x"}, "data": {"agent": "a", "prompt": "x", "tools": "{"}},
            422,
            "invalid_input",
            "tools",
        ),
    ],
)
async def test_bad_input_is_named(asked: dict[str, Any], status: int, code: str, field: str | None):
    async with site() as (http, client):
        answer = await http.post(RUNS, **asked)
        assert (answer.status_code, answer.json()["code"], answer.json().get("field")) == (status, code, field)
        assert answer.headers["content-type"] == "application/problem+json"
        assert await client.list() == ()


async def test_lists_are_paged_and_filtered_and_leave_out_what_one_may_not_read():
    def authorize(request, action, run):
        return run is None or run.user_id == request.headers.get("x-user")

    async with site(authorize=authorize) as (http, client):
        made = [await client.enqueue("a" if i % 2 else "b", "x", user_id=("ann", "bob")[i % 2]) for i in range(10)]
        seen, cursor = [], ""
        for _ in range(5):
            page = (await http.get(f"{RUNS}?limit=2{cursor}", headers={"x-user": "ann"})).json()
            seen += [run["run_id"] for run in page["runs"]]
            cursor = f"&cursor={page['next_cursor']}"
        assert seen == sorted((run.id for run in made[::2]), reverse=True)
        assert (await http.get(f"{RUNS}?limit=2{cursor}", headers={"x-user": "ann"})).json() == {
            "runs": [],
            "next_cursor": None,
        }
        of_a = (await http.get(f"{RUNS}?agent=a&status=queued", headers={"x-user": "bob"})).json()["runs"]
        assert [run["run_id"] for run in of_a] == sorted((run.id for run in made[1::2]), reverse=True)
        assert (await http.get(f"{RUNS}?staus=queued", headers={"x-user": "bob"})).json()["field"] == "staus"
        assert (await http.get(f"{RUNS}?limit=0", headers={"x-user": "bob"})).json()["field"] == "limit"
        assert (await http.get(f"{RUNS}?agent=a&agent=b", headers={"x-user": "bob"})).json()["field"] == "agent"


async def test_a_result_can_be_waited_for():
    async with working() as (http, client):
        run_id = (await http.post(RUNS, json={"agent": "clerk", "prompt": "sleep 0.1\nsay done"})).json()["run_id"]
        assert (await http.get(f"{RUNS}/{run_id}/result")).status_code == 202
        result = await http.get(f"{RUNS}/{run_id}/result?wait=30")
        assert (result.status_code, result.json()["output"], result.json()["status"]) == (200, "done", "completed")
        failed = await client.enqueue("clerk", "fail! 400")
        result = await http.get(f"{RUNS}/{failed.id}/result?wait=30")
        assert (result.status_code, result.json()["status"], result.json()["output"]) == (200, "failed", None)
        assert "400" in result.json()["error"]


async def test_whoever_leaves_while_they_wait_costs_nothing_any_more():
    client = memory_client()
    run = await client.enqueue("a", "x")
    leave = asyncio.Event()
    sent: list[Any] = []
    first = True

    async def receive() -> dict[str, Any]:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": f"{RUNS}/{run.id}/result", "query_string": b"wait=60", "headers": [],
        "scheme": "http", "server": ("testserver", 80), "root_path": "", "http_version": "1.1",
    }  # fmt: skip
    before = len(asyncio.all_tasks())
    asking = asyncio.create_task(web_app(client)(scope, receive, send))
    await wait_until(lambda: len(asyncio.all_tasks()) > before + 2, message="it waits")
    leave.set()
    await asking
    assert len(asyncio.all_tasks()) == before
    assert (await client.status(run.id)) == "queued"


async def test_a_run_that_is_not_there_is_not_found_wherever_it_is_asked_for():
    async with site() as (http, _):
        for path in ("", "/messages", "/result", "/why", "/files/00", "/export"):
            assert (await http.get(NOBODY + path)).json()["code"] == "run_not_found"
        for path in ("cancel", "pause", "resume", "retry", "fork", "steer", "follow-up", "approve", "deny", "answer"):
            body = {"steer": {"text": "x"}, "follow-up": {"prompt": "x"}}.get(path, {})
            assert (await http.post(f"{NOBODY}/{path}", json=body)).json()["code"] == "run_not_found"


async def test_an_address_says_what_it_takes():
    async with site() as (http, client):
        run = await client.enqueue("a", "x")
        refused = await http.delete(f"{RUNS}/{run.id}")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
        assert (await http.head(f"{RUNS}/{run.id}")).status_code == 200
        assert (await http.delete("/api/v1/sessions/a/messages")).headers["allow"] == "GET, POST, HEAD"
