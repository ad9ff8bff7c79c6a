"""The app under a prefix of another one."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Mount

from agentq.web import web_app
from agentq.web.site import link
from tests.web_app.parts import asking, memory_client


async def test_it_answers_under_a_prefix_and_knows_its_links():
    client = memory_client()
    links = []

    def authorize(request, action, run):
        links.append(link(request, "read_run", run_id="r"))
        return True

    app = web_app(client, authorize=authorize)
    host = Starlette(routes=[Mount("/deep", routes=[Mount("/agents", app)])])
    run = await client.enqueue("calculator", "7 + 9")
    async with asking(host) as http:
        assert (await http.get(f"/deep/agents/api/v1/runs/{run.id}")).status_code == 200
        assert (await http.get(f"/deep/agents/api/v1/runs/{run.id}x")).json()["code"] == "run_not_found"
    assert links == ["/deep/agents/api/v1/runs/r"]
