"""The page without a browser: what it shows, what its forms do, and what it never does."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from agentq.web import web_app
from tests.web_app.parts import asking, memory_client, site

if TYPE_CHECKING:
    import httpx

HTML = {"Accept": "text/html"}
EVIL = "<script>alert('pwned')</script> & \"quotes\""
NO_RUN = "01JD3ZK8W5Q0X9V7T2M4N6P8RA"


class Links(HTMLParser):
    """Where a page leads to, and what stands in its tags that a strict policy forbids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.forms: list[str] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        for name in ("href", "src", "action", "hx-get", "hx-sse:connect"):
            if given.get(name):
                self.addresses.append(str(given[name]))
        if tag == "form" and given.get("method") == "post":
            self.forms.append(str(given["action"]))
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)
        self.inline += [name for name in given if name == "style" or name.startswith("on")]


async def token_of(http: httpx.AsyncClient, path: str) -> str:
    """The token that a page puts into its forms."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', (await http.get(path, headers=HTML)).text)
    assert found is not None
    return found.group(1)


async def test_an_empty_list_says_how_to_begin():
    async with site() as (http, _):
        answer = await http.get("/", headers=HTML)
        assert answer.status_code == 200
        assert "No runs yet" in answer.text
        assert "agentq enqueue" in answer.text


async def test_nothing_that_users_say_is_markup():
    async with site() as (http, client):
        run = await client.enqueue("clerk", EVIL, session_id="<b>s</b>", user_id="<i>u</i>", metadata={"<u>": "<u>"})
        for path in ("/", f"/runs/{run.id}", "/sessions", "/sessions/<b>s</b>", "/?q=<script>", "/?agent=<script>"):
            text = (await http.get(path, headers=HTML)).text
            assert "<script>" not in text, path
            assert re.search("<[bui]>", text) is None, path
        assert "&lt;script&gt;alert(&#39;pwned&#39;)&lt;/script&gt;" in (await http.get(f"/runs/{run.id}")).text


async def test_ids_may_hold_what_addresses_are_made_of():
    async with site() as (http, client):
        odd = "a?b#c%64 e/f&g"
        await client.enqueue("clerk", "hi", session_id=odd, user_id="u&v=w")
        listed = Links((await http.get("/sessions", headers=HTML)).text)
        address = next(each for each in listed.addresses if each.startswith("/sessions/"))
        shown = await http.get(address, headers=HTML)
        assert shown.status_code == 200
        token = await token_of(http, address)
        said = await http.post(address, data={"csrf_token": token, "agent": "clerk", "text": "and then?"})
        assert (await http.get(said.headers["location"], headers=HTML)).status_code == 200
        assert (await client.session(odd)).run_count == 2


async def test_pages_have_nothing_that_the_policy_forbids():
    async with site() as (http, client):
        run = await client.enqueue("clerk", "hi", session_id="s")
        for path in ("/", "/new", "/inbox", "/sessions", "/sessions/s", "/workers", f"/runs/{run.id}", "/nowhere"):
            answer = await http.get(path, headers=HTML)
            assert Links(answer.text).inline == [], path
            assert "default-src 'self'" in answer.headers["content-security-policy"]
            assert "unsafe" not in answer.headers["content-security-policy"]


async def test_the_list_is_paged_by_cursor_and_misses_none():
    async with site() as (http, client):
        ids = [(await client.enqueue("clerk", f"number {number}")).id for number in range(120)]
        path, seen = "/", []
        for _ in range(4):
            text = (await http.get(path, headers=HTML)).text
            seen += re.findall(r'id="r-(\w+)"', text)
            older = re.search(r'href="([^"]+)" rel="next"', text)
            if older is None:
                break
            path = older.group(1).replace("&amp;", "&")
        assert seen == sorted(ids, reverse=True)


async def test_filters_and_search_find_runs():
    async with site() as (http, client):
        lamp = await client.enqueue("clerk", "A broken LAMP", user_id="ann")
        other = await client.enqueue("cook", "A soup", session_id="kitchen")
        await client.cancel(other.id)

        async def shown(query: str) -> list[str]:
            return re.findall(r'id="r-(\w+)"', (await http.get(f"/?{query}", headers=HTML)).text)

        assert await shown("q=lamp") == [lamp.id]
        assert await shown("q=kitchen") == [other.id]
        assert await shown("agent=cook") == [other.id]
        assert await shown("user_id=ann") == [lamp.id]
        assert await shown("status=cancelled") == [other.id]
        assert await shown("q=nothing") == []
        odd = await http.get("/?status=odd", headers=HTML)
        assert odd.status_code == 422
        assert "does not exist" in odd.text
        pasted = await http.get(f"/?q={lamp.id.lower()}.1.0", headers=HTML)
        assert (pasted.status_code, pasted.headers["location"]) == (303, f"/runs/{lamp.id}")


async def test_errors_are_pages_for_people_and_problems_for_programs():
    async with site() as (http, _):
        for path in (f"/runs/{NO_RUN}", "/nowhere", "/sessions/none"):
            page = await http.get(path, headers=HTML)
            assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
            assert "<h1>" in page.text
            assert (await http.get(path)).headers["content-type"] == "application/problem+json"
        api = await http.get(f"/api/v1/runs/{NO_RUN}", headers=HTML)
        assert api.headers["content-type"] == "application/problem+json"


async def test_forms_need_the_token_of_their_page_and_a_page_of_ours():
    async with site() as (http, client):
        run = await client.enqueue("clerk", "hi")
        path = f"/runs/{run.id}"
        assert (await http.post(f"{path}/cancel", headers=HTML)).status_code == 403
        token = await token_of(http, path)
        assert (await http.post(f"{path}/cancel", data={"csrf_token": "x" + token})).status_code == 403
        foreign = {"sec-fetch-site": "cross-site"}
        assert (await http.post(f"{path}/cancel", data={"csrf_token": token}, headers=foreign)).status_code == 403
        assert await client.status(run.id) == "queued"
        done = await http.post(f"{path}/cancel", data={"csrf_token": token}, headers={"sec-fetch-site": "same-origin"})
        assert (done.status_code, done.headers["location"]) == (303, path)
        assert await client.status(run.id) == "cancelled"
        again = await http.post(f"{path}/steer", data={"csrf_token": token, "text": "late"}, headers=HTML)
        assert again.status_code == 409
        assert path in again.text


async def test_runs_are_started_steered_paused_and_retried():
    async with site() as (http, client):
        token = await token_of(http, "/new")
        given = {"csrf_token": token, "agent": "clerk", "prompt": "hello", "session_id": "s", "key": "k-1"}
        first = await http.post("/new", data=given)
        assert first.status_code == 303
        # The browser sent the form twice.
        assert (await http.post("/new", data=given)).headers["location"] == first.headers["location"]
        path = first.headers["location"]
        run_id = path.rpartition("/")[2]
        empty = await http.post("/new", data={**given, "prompt": " ", "key": ""})
        assert empty.status_code == 422
        assert "prompt" in empty.text

        async def act(name: str, **fields: str) -> None:
            answer = await http.post(f"{path}/{name}", data={"csrf_token": token, **fields})
            assert answer.status_code == 303, answer.text

        await act("steer", text="be quick")
        await act("pause", reason="lunch")
        assert (await client.read(run_id)).status == "paused"
        await act("resume")
        assert (await client.read(run_id)).status == "queued"
        await act("cancel", reason="enough")
        assert (await client.read(run_id)).cancel_reason == "enough"
        await act("retry")
        assert (await client.read(run_id)).status == "queued"
        text = (await http.get(path, headers=HTML)).text
        assert all(word in text for word in ("be quick", "Paused", "Resumed", "enough", "Taken up again"))


async def test_what_is_read_only_has_no_buttons():
    async with site(read_only=True) as (http, client):
        run = await client.enqueue("clerk", "hi", session_id="s")
        for path in ("/", "/inbox", "/sessions/s", "/workers", f"/runs/{run.id}"):
            text = (await http.get(path, headers=HTML)).text
            assert Links(text).forms == [], path
            assert "read-only" in text
        assert (await http.post(f"/runs/{run.id}/cancel", headers=HTML)).status_code == 403
        assert await client.status(run.id) == "queued"


async def test_buttons_are_shown_to_those_who_may_and_runs_to_those_who_may_read_them():
    def authorize(request, action, run):
        if run is not None and run.user_id == "secret":
            return False
        return action in ("read", "list", "pause")

    async with site(authorize=authorize) as (http, client):
        hidden = await client.enqueue("clerk", "hidden words", user_id="secret")
        run = await client.enqueue("clerk", "hi")
        listed = (await http.get("/", headers=HTML)).text
        assert run.id in listed
        assert hidden.id not in listed
        assert "hidden words" not in listed
        assert (await http.get(f"/runs/{hidden.id}", headers=HTML)).status_code == 403
        assert Links((await http.get(f"/runs/{run.id}", headers=HTML)).text).forms == [f"/runs/{run.id}/pause"]


async def test_the_token_is_given_once():
    token = "a-token-of-the-tests"
    async with site(token=token) as (http, _):
        sent = await http.get("/", headers=HTML)
        assert (sent.status_code, sent.headers["location"]) == (303, "/login")
        csrf = await token_of(http, "/login")
        wrong = await http.post("/login", data={"csrf_token": csrf, "token": "a-wrong-token-of-the-tests"})
        assert wrong.status_code == 403
        assert "not the token" in wrong.text
        assert token not in wrong.text
        right = await http.post("/login", data={"csrf_token": csrf, "token": token})
        assert (right.status_code, right.headers["location"]) == (303, "/")
        listed = await http.get("/", headers=HTML)
        assert listed.status_code == 200
        assert "Sign out" in listed.text
        await http.post("/logout", data={"csrf_token": csrf})
        assert (await http.get("/", headers=HTML)).headers["location"] == "/login"


@pytest.mark.parametrize("prefix", ["/deep/agents"])
async def test_all_addresses_are_under_the_prefix(prefix: str):
    client = memory_client()
    host = Starlette(routes=[Mount("/deep", routes=[Mount("/agents", web_app(client))])])
    run = await client.enqueue("clerk", "hi", session_id="s", user_id="u")
    async with asking(host, follow_redirects=True) as http:
        paths = ["", "/", "/new", "/inbox", "/sessions", "/sessions/s", "/workers", f"/runs/{run.id}", "/nowhere"]
        found: list[str] = []
        for path in paths:
            text = (await http.get(prefix + path, headers=HTML)).text
            found = [address for address in Links(text).addresses if address != "#main"]
            assert len(found) > 5
            assert all(address.startswith(prefix + "/") for address in found), path
        assert f'{prefix}/inbox" aria-current="page"' in (await http.get(f"{prefix}/inbox", headers=HTML)).text
        sheet = next(address for address in found if ".css" in address)
        assert (await http.get(sheet)).headers["content-type"] == "text/css; charset=utf-8"
        token = await token_of(http, f"{prefix}/runs/{run.id}")
        done = await http.post(f"{prefix}/runs/{run.id}/pause", data={"csrf_token": token}, follow_redirects=False)
        assert done.headers["location"] == f"{prefix}/runs/{run.id}"


async def test_browsers_keep_files_for_as_long_as_they_stay_the_same():
    async with site() as (http, _):
        sheet = next(address for address in Links((await http.get("/")).text).addresses if "page.css" in address)
        file = await http.get(sheet)
        assert "immutable" in file.headers["cache-control"]
        assert (await http.get("/static/page.css")).headers["cache-control"] == "no-cache"
        known = await http.get(sheet, headers={"If-None-Match": file.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        for path in ("../rendering.py", "..%2f__init__.py", "nothing.css", "vendor/README.md"):
            assert (await http.get(f"/static/{path}")).status_code == 404


async def test_of_a_run_that_did_very_much_the_end_is_shown():
    async with site() as (http, client):
        run = await client.enqueue("clerk", "the first thing")
        for number in range(255):
            await client.pause(run.id, reason=f"thing {number} of many")
            await client.resume(run.id)
        text = (await http.get(f"/runs/{run.id}", headers=HTML)).text
        assert text.count('<li class="entry') == 500
        assert "thing 254 of many" in text
        assert "thing 4 of many" not in text
        whole = (await http.get(f"/runs/{run.id}?all", headers=HTML)).text
        assert whole.count('<li class="entry') == 511
