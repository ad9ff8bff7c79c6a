"""Who may do what: the token, the hook, hosts, pages of other sites, and what every answer carries."""

from __future__ import annotations

import logging
import time

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.routing import Mount

from agentq.errors import InvalidInput
from agentq.web import web_app
from agentq.web.access import CSRF_COOKIE, SESSION_COOKIE, SESSION_S, Access
from agentq.web.api import endpoints
from agentq.web.api.endpoint import Endpoint, Nothing
from tests.web_app.parts import asking, memory_client, site

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
        assert (nowhere.status_code, nowhere.json()["code"]) == (404, "no_such_address")
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


FORM = {"agent": "a", "prompt": "x"}
NO_FILES = {"files": ("a.txt", b"x", "text/plain")}


async def test_a_page_of_another_site_changes_nothing():
    async with site() as (http, client):
        for headers in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
        ):
            refused = await http.post("/api/v1/runs", json=FORM, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (403, "cross_site"), headers
            assert (await http.get("/api/v1/runs", headers=headers)).status_code == 200
        assert await client.list() == ()
        for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://testserver"}, {}):
            assert (await http.post("/api/v1/runs", json=FORM, headers=headers)).status_code == 201


async def test_a_page_of_an_origin_that_is_allowed_may_and_a_bearer_may_from_anywhere():
    async with site(allowed_origins=["https://shop.example/"]) as (http, _):
        cross = {"Origin": "https://shop.example", "Sec-Fetch-Site": "cross-site"}
        assert (await http.post("/api/v1/runs", json=FORM, headers=cross)).status_code == 201
    async with site(token=TOKEN) as (http, _):
        bearer = {"Origin": "https://any.example", "Authorization": f"bearer {TOKEN}"}
        assert (await http.post("/api/v1/runs", json=FORM, headers=bearer)).status_code == 201
        made = await http.post("/api/v1/runs", data=FORM, files=NO_FILES, headers=bearer)
        assert made.status_code == 201


async def test_a_page_of_an_origin_that_is_allowed_may_read_answers_and_no_other_may():
    async with site(allowed_origins=["https://shop.example/"], token=TOKEN) as (http, _):
        wish = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
        asked = await http.options("/api/v1/runs", headers={"Origin": "https://shop.example", **wish})
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "https://shop.example")
        other = await http.options("/api/v1/runs", headers={"Origin": "https://evil.example", **wish})
        assert (other.status_code, "access-control-allow-origin" in other.headers) == (400, False)
        bearer = {"Authorization": f"Bearer {TOKEN}", "Origin": "https://shop.example"}
        made = await http.post("/api/v1/runs", json=FORM, headers=bearer)
        assert (made.status_code, made.headers["access-control-allow-origin"]) == (201, "https://shop.example")


async def test_a_form_of_a_browser_needs_the_value_of_the_cookie():
    async with site() as (http, client):
        same = {"Origin": "http://testserver"}
        refused = await http.post("/api/v1/runs", data=FORM, files=NO_FILES, headers=same)
        assert (refused.status_code, refused.json()["code"]) == (403, "csrf")
        cookie = {**same, "Cookie": f"{CSRF_COOKIE}=abc"}
        wrong = await http.post("/api/v1/runs", data={**FORM, "csrf_token": "abd"}, files=NO_FILES, headers=cookie)
        assert wrong.json()["code"] == "csrf"
        made = await http.post("/api/v1/runs", data={**FORM, "csrf_token": "abc"}, files=NO_FILES, headers=cookie)
        assert made.status_code == 201
        assert len(await client.list()) == 1


def test_a_session_of_a_browser_begins_with_the_token_runs_out_and_cannot_be_made_up(monkeypatch: pytest.MonkeyPatch):
    access, other = Access(token=TOKEN), Access(token=TOKEN + "2")
    now = time.time()

    def signed_in(cookie: str, of: Access = access) -> bool:
        headers = [(b"cookie", f"{SESSION_COOKIE}={cookie}".encode())]
        return of.is_signed_in(HTTPConnection({"type": "http", "headers": headers}))

    session = access.new_session()
    assert signed_in(session)
    assert signed_in(session, Access(token=TOKEN))
    assert not signed_in(session, other)
    until, _, mark = session.partition(".")
    assert not any(
        map(signed_in, ("", ".", until, f"{int(until) + 1}.{mark}", f"{until}.{mark[:-1]}", f"x.{mark}", "é.é"))
    )
    monkeypatch.setattr(time, "time", lambda: now + SESSION_S + 2)
    assert not signed_in(session)


@pytest.mark.parametrize("endpoint", [each for each in endpoints if each.method != "GET"], ids=lambda each: each.called)
async def test_a_read_only_site_changes_nothing(endpoint: Endpoint):
    async with site(read_only=True) as (http, client):
        run = await client.enqueue("calculator", "7 + 9", session_id="s")
        await client.pause_all(reason="before")
        path = endpoint.path.replace(":path}", "}").format(run_id=run.id, name="daily", session_id="s")
        body = {
            "agent": "a", "prompt": "x", "cron": "@daily", "text": "x", "limits": {"tokens": 5},
            "name": "x", "answer": 1,
        }  # fmt: skip
        takes = {name: value for name, value in body.items() if name in endpoint.body.model_fields}
        refused = await http.request(endpoint.method, path, json=takes if endpoint.body is not Nothing else None)
        assert (refused.status_code, refused.json()["code"]) == (403, "read_only"), refused.text
        assert (await client.read(run.id)).seq == 1


async def test_no_answer_and_no_log_tells_the_token(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    async with site(token=TOKEN) as (http, _):
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": "Bearer wrong-one"}):
            for path in ("/openapi.json", "/api/v1/runs", "/healthz", "/readyz"):
                answer = await http.get(path, headers=headers)
                assert TOKEN not in answer.text + str(answer.headers)
                assert "wrong-one" not in answer.text
        await http.post("/api/v1/runs", json=FORM, headers={"Authorization": f"Bearer {TOKEN}"})
    assert TOKEN not in caplog.text


async def test_what_a_handler_did_not_expect_is_not_told(caplog: pytest.LogCaptureFixture):
    def authorize(request, action, run):
        raise RuntimeError("the password is geheim")

    async with site(authorize=authorize) as (http, _):
        broken = await http.get("/api/v1/runs")
        assert (broken.status_code, broken.json()["code"]) == (500, "internal")
        assert "geheim" not in broken.text
        assert broken.headers["x-content-type-options"] == "nosniff"


async def test_a_hook_may_be_async_and_may_refuse_with_a_status_of_its_own():
    async def authorize(request, action, run):
        raise HTTPException(401, "sign in first", {"WWW-Authenticate": "Basic"})

    async with site(authorize=authorize) as (http, _):
        refused = await http.get("/api/v1/runs")
        assert (refused.status_code, refused.json()["code"]) == (401, "not_authenticated")
        assert (refused.json()["detail"], refused.headers["www-authenticate"]) == ("sign in first", "Basic")


async def test_people_give_the_token_once_and_a_cookie_stands_for_it_then():
    html = {"Accept": "text/html", "Origin": "http://testserver"}
    async with site(token=TOKEN) as (http, _):
        sent = await http.get("/runs", headers=html)
        assert (sent.status_code, sent.headers["location"]) == (303, "/login")
        form = await http.get("/login", headers=html)
        csrf = form.cookies[CSRF_COOKIE]
        assert csrf in form.text
        wrong = await http.post("/login", data={"token": "wrong", "csrf_token": csrf}, headers=html)
        assert (wrong.status_code, SESSION_COOKIE in wrong.cookies) == (403, False)
        assert (await http.post("/login", data={"token": TOKEN}, headers=html)).status_code == 403
        given = await http.post("/login", data={"token": TOKEN, "csrf_token": csrf}, headers=html)
        assert (given.status_code, given.headers["location"]) == (303, "/")
        for word in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="):
            assert word in given.headers["set-cookie"]
        assert TOKEN not in given.headers["set-cookie"]
        assert (await http.get("/api/v1/runs")).status_code == 200
        left = await http.post("/logout", data={"csrf_token": csrf}, headers=html)
        assert left.headers["location"] == "/login"
        assert (await http.get("/api/v1/runs")).status_code == 401
        assert (await http.get("/loginx")).status_code == 401


async def test_a_cookie_is_for_our_part_of_the_host_and_for_tls_where_there_is_tls():
    app = Starlette(routes=[Mount("/agents", web_app(memory_client(), token=TOKEN))])
    async with asking(app) as http:
        form = await http.get("https://testserver/agents/login")
        assert "Path=/agents" in form.headers["set-cookie"]
        assert "Secure" in form.headers["set-cookie"]
        sent = await http.get("/agents/runs", headers={"Accept": "text/html"})
        assert sent.headers["location"] == "/agents/login"
