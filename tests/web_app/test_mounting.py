"""The app under a prefix of another one: Starlette, FastAPI, Django beside it, Flask through a2wsgi."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest
from a2wsgi import ASGIMiddleware
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client as WsgiClient

from agentq import AgentQ, Settings
from agentq.client import Client
from agentq.web import web_app
from agentq.web.site import link
from tests.web_app.parts import asking, memory_client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

RUNS = "/api/v1/runs"


def under_starlette(app: ASGIApp) -> ASGIApp:
    return Starlette(routes=[Mount("/deep", routes=[Mount("/agents", app)])])


def under_fastapi(app: ASGIApp) -> ASGIApp:
    host = FastAPI()
    host.mount("/deep/agents", app)
    return host


def beside_django(app: ASGIApp) -> ASGIApp:
    """What an asgi.py of Django does: it looks at the path, and says where it cut it."""
    django = PlainTextResponse("django")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith("/deep/agents"):
            await app({**scope, "root_path": "/deep/agents"}, receive, send)
        else:
            await django(scope, receive, send)

    return application


@pytest.mark.parametrize("mounted", [under_starlette, under_fastapi, beside_django])
async def test_it_answers_under_a_prefix_and_knows_its_links(mounted: Any):
    client = memory_client()
    links = []

    def authorize(request, action, run):
        links.append(link(request, "read_run", run_id="r"))
        return True

    run = await client.enqueue("calculator", "7 + 9")
    async with asking(mounted(web_app(client, authorize=authorize))) as http:
        assert (await http.get(f"/deep/agents{RUNS}/{run.id}")).status_code == 200
        assert (await http.get(f"/deep/agents{RUNS}/{run.id}x")).json()["code"] == "run_not_found"
        made = await http.post(f"/deep/agents{RUNS}", json={"agent": "a", "prompt": "x"})
        assert made.headers["location"] == f"/deep/agents{RUNS}/{made.json()['run_id']}"
        assert (await http.get("/deep/agents/openapi.json")).json()["servers"] == [{"url": "/deep/agents"}]
        page = await http.get("/deep/agents/", headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert 'href="/runs' not in page.text
        assert 'href="/deep/agents/' in page.text
    assert set(links) == {"/deep/agents/api/v1/runs/r"}


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own, as the bridge has one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_flask_mounts_it_over_a_real_redis(redis_url: str, loop: asyncio.AbstractEventLoop):
    app = web_app(AgentQ(settings=Settings(redis_url=redis_url)))
    bridge: Any = ASGIMiddleware(cast("Any", app), loop=loop)
    host = WsgiClient(DispatcherMiddleware(Flask("host").wsgi_app, {"/agents": bridge}))
    try:
        made = host.post(f"/agents{RUNS}", json={"agent": "a", "prompt": "x"})
        run_id = made.get_json()["run_id"]
        assert made.headers["Location"] == f"/agents{RUNS}/{run_id}"
        with Client(redis_url) as client:
            assert client.read(run_id).status == "queued"
        # A bridge that ends the input with it does not end the waiting too early, nor for ever.
        waited = host.get(f"/agents{RUNS}/{run_id}/result?wait=0.2")
        assert (waited.status_code, waited.get_json()["status"]) == (202, "queued")
        assert host.get("/agents/healthz").get_json()["status"] == "ok"
        assert host.get("/elsewhere").status_code == 404
    finally:
        asyncio.run_coroutine_threadsafe(app.state.site.client.aclose(), loop).result(timeout=20)


async def test_it_lives_with_its_host_and_is_served_again_after_an_end(redis_url: str):
    app = web_app(AgentQ(settings=Settings(redis_url=redis_url)))
    for _ in range(2):
        async with app.router.lifespan_context(app), asking(app) as http:
            assert (await http.get(RUNS)).json() == {"runs": [], "next_cursor": None}
