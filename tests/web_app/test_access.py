"""Who may do what: the token, the hook, hosts, pages of other sites, and what every answer carries."""

from __future__ import annotations

import pytest

from agentq.errors import InvalidInput
from agentq.web import web_app
from tests.web_app.parts import memory_client, site

TOKEN = "a-token-of-the-tests"


async def test_a_token_is_wanted_for_all_but_the_health():
    async with site(token=TOKEN) as (http, client):
        run = await client.enqueue("calculator", "7 + 9")
        path = f"/api/v1/runs/{run.id}"
        refused = await http.get(path)
        assert (refused.status_code, refused.json()["code"]) == (401, "not_authenticated")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert (await http.get(path, headers={"Authorization": "Bearer wrong"})).status_code == 401
        assert (await http.get(path, headers={"Authorization": f"Bearer {TOKEN}"})).json()["status"] == "queued"
        assert (await http.get("/healthz")).status_code == 200


async def test_the_hook_is_asked_with_the_run_and_an_error_or_false_refuses():
    asked = []

    def authorize(request, action, run):
        asked.append((action, run.agent))
        if request.headers.get("x-user") == "eve":
            raise PermissionError("not eve")
        return request.headers.get("x-user", False)

    async with site(authorize=authorize) as (http, client):
        run = await client.enqueue("calculator", "7 + 9")
        path = f"/api/v1/runs/{run.id}"
        assert (await http.get(path, headers={"x-user": "ann"})).status_code == 200
        eve = await http.get(path, headers={"x-user": "eve"})
        assert (eve.status_code, eve.json()["detail"], eve.json()["code"]) == (403, "not eve", "not_allowed")
        assert (await http.get(path)).status_code == 403
    assert asked == [("read", "calculator")] * 3


async def test_problems_name_their_code():
    async with site() as (http, _):
        missing = await http.get("/api/v1/runs/01JD3ZK8W5Q0X9V7T2M4N6P8RA")
        assert missing.headers["content-type"] == "application/problem+json"
        assert {**missing.json(), "detail": ""} == {
            "type": "urn:agentq:problem:run_not_found",
            "title": "There is no such run: the id is wrong, or its time to live has passed.",
            "status": 404,
            "detail": "",
            "code": "run_not_found",
        }
        nowhere = await http.get("/nowhere")
        assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not_found")
        assert "frame-ancestors 'none'" in nowhere.headers["content-security-policy"]
        assert nowhere.headers["x-content-type-options"] == "nosniff"


async def test_other_hosts_are_not_answered():
    async with site(allowed_hosts=["localhost", "[::1]"]) as (http, _):
        assert (await http.get("/healthz", headers={"Host": "localhost:8000"})).status_code == 200
        assert (await http.get("/healthz", headers={"Host": "[::1]:8000"})).status_code == 200
        assert (await http.get("/healthz", headers={"Host": "[::1]"})).status_code == 200
        assert (await http.get("/healthz", headers={"Host": "evil.example:8000"})).json()["code"] == "unknown_host"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"token": "short"}, "token"),
        ({"authorize": 1}, "authorize"),
        ({"max_upload_bytes": 0}, "max_upload_bytes"),
        ({"over": "redis://"}, "over"),
    ],
)
def test_a_bad_option_is_refused_when_the_app_is_built(options, field):
    with pytest.raises(InvalidInput) as caught:
        web_app(**{"over": memory_client(), **options})
    assert caught.value.field == field
