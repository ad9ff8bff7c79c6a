"""What operators look at, over a real Redis with a worker: figures, metrics, exports, schedules, health."""

from __future__ import annotations

import json
import re

from agentq import AsyncClient
from agentq.archive.records import Trailer
from agentq.web import web_app
from agentq.web.api.metrics import Metric, render
from tests.helpers import wait_until
from tests.web_app.parts import asking, site
from tests.web_app.serving import house

API = "/api/v1"
# The text format: a comment, or a name, labels in braces, and a number.
LABEL = r'[a-z_]+="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
LINE = re.compile(
    rf"# (HELP [a-z_]+ .+|TYPE [a-z_]+ (counter|gauge|summary))|[a-z_]+(\{{{LABEL}(,{LABEL})*\}})? [0-9.e+-]+"
)


async def test_figures_and_metrics_tell_of_runs_queues_workers_and_people(redis_url: str):
    async with house(redis_url) as here:
        client, http = here.client, here.http
        done = await client.enqueue("clerk", 'call add {"a": 1, "b": 2}\nsay $1')
        await client.result(done.id, 30)
        failed = await client.enqueue("clerk", "fail! 400")
        await wait_until(lambda: _status(client, failed.id, "failed"), message="it fails")
        asks = await client.enqueue("clerk", 'call pay {"amount": 5}')
        await wait_until(lambda: _status(client, asks.id, "waiting"), message="it waits")
        stats = (await http.get(f"{API}/stats")).json()
        assert (stats["runs"]["completed"], stats["runs"]["waiting"], len(stats["workers"])) == (1, 1, 1)
        assert [queue["name"] for queue in (await http.get(f"{API}/queues")).json()["queues"]] == ["default"]
        assert (await http.get(f"{API}/workers")).json()["workers"][0]["agents"] == ["clerk"]
        assert "clerk" in (await http.get(f"{API}/agents")).json()["agents"]
        answer = await http.get("/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        lines = answer.text.split("\n")
        assert lines.pop() == ""
        assert [line for line in lines if not LINE.fullmatch(line)] == []
        for line in (
            'agentq_runs_ended_total{agent="clerk",status="completed"} 1',
            'agentq_runs_ended_total{agent="clerk",status="failed"} 1',
            'agentq_run_seconds_count{agent="clerk"} 2',
            'agentq_iterations_total{agent="clerk"} 2',
            'agentq_runs{status="waiting"} 1',
            'agentq_waiting_for_people{kind="approval"} 1',
            'agentq_workers{state="alive"} 1',
            'agentq_queue_depth{queue="default"} 0',
        ):
            assert line in lines, answer.text
        assert (await http.get("/readyz")).json() == {"status": "ok", "checks": {"redis": "ok", "workers": "1 alive"}}
        wrong = await http.post(f"{API}/runs/{asks.id}/approve", json={"arguments": {"betrag": 1}})
        assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_input")


async def _status(client, run_id, status):
    return await client.status(run_id) == status


async def test_what_has_ended_is_exported_and_what_is_alive_is_not(redis_url: str):
    async with house(redis_url) as here:
        done = await here.client.enqueue("clerk", "say ü", session_id="s")
        await here.client.result(done.id, 30)
        alive = await here.client.enqueue("clerk", "say x", delay=600)
        one = await here.http.get(f"{API}/runs/{done.id}/export")
        assert one.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in one.text.splitlines()]
        assert lines[-1] == json.loads(Trailer(runs=1, sessions=1).model_dump_json())
        every = await here.http.get(f"{API}/export?agent=clerk&since=2026-01-01T00:00:00Z")
        assert json.loads(every.text.splitlines()[-1])["runs"] == 1
        assert alive.id not in every.text
        assert (await here.http.get(f"{API}/runs/{alive.id}/export")).json()["code"] == "conflict"
        assert (await here.http.get(f"{API}/export?session_id=x")).json()["code"] == "session_not_found"
        assert (await here.http.get(f"{API}/export?since=5")).json()["field"] == "since"


async def test_a_schedule_is_put_paused_resumed_run_and_forgotten(redis_url: str):
    async with house(redis_url) as here:
        path = f"{API}/schedules/daily"
        asked = {"agent": "clerk", "prompt": "say hi", "cron": "0 9 * * *", "options": {"user_id": "ann"}}
        put = await here.http.put(path, json=asked)
        assert (put.status_code, put.json()["options"]) == (200, {"user_id": "ann"})
        assert (await here.http.put(path, json={**asked, "options": {"delay": 1}})).json()["field"] == "options"
        assert (await here.http.put(path, json={**asked, "cron": "x"})).json()["field"] == "cron"
        assert (await here.http.post(f"{path}/pause")).json()["next_ms"] is None
        assert (await here.http.post(f"{path}/resume")).json()["next_ms"] == put.json()["next_ms"]
        made = await here.http.post(f"{path}/run")
        assert made.status_code == 201
        assert (await here.client.read(made.json()["run_id"])).user_id == "ann"
        assert [each["name"] for each in (await here.http.get(f"{API}/schedules")).json()["schedules"]] == ["daily"]
        assert (await here.http.delete(path)).status_code == 204
        assert (await here.http.delete(path)).json()["code"] == "schedule_not_found"


async def test_everything_can_be_paused_as_a_whole():
    async with site(authorize=lambda *_: "ann") as (http, _):
        paused = await http.post(f"{API}/pauses", json={"agent": "clerk", "reason": "look"})
        assert (paused.json()["by"], paused.json()["reason"]) == ("ann", "look")
        assert list((await http.get(f"{API}/pauses")).json()["pauses"]) == ["agent:clerk"]
        assert (await http.delete(f"{API}/pauses?agent=clerk")).status_code == 204
        assert (await http.get(f"{API}/pauses")).json()["pauses"] == {}
        assert (await http.post(f"{API}/pauses", json={"agent": "a", "queue": "b"})).json()["field"] == "queue"


async def test_a_site_over_another_store_says_what_it_cannot_tell():
    async with site() as (http, client):
        run = await client.enqueue("a", "x")
        await client.cancel(run.id)
        for path in ("/metrics", f"{API}/stats", f"{API}/workers", f"{API}/queues", f"{API}/export"):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()["code"]) == (501, "not_available")
        assert (await http.get(f"{API}/agents")).json() == {"agents": {}}
        assert (await http.get("/readyz")).json()["checks"]["workers"] == "not known here"


async def test_a_site_whose_redis_is_away_lives_but_is_not_ready():
    async with AsyncClient("redis://127.0.0.1:1/0") as client, asking(web_app(client)) as http:
        assert (await http.get("/healthz")).status_code == 200
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
        assert "127.0.0.1:1" not in ready.text
        away = await http.get(f"{API}/runs")
        assert (away.status_code, away.json()["code"], away.headers["retry-after"]) == (503, "store_unavailable", "2")


def test_what_is_no_plain_text_is_escaped():
    metric = Metric("agentq_x", "gauge", "A \\ and\nmore.")
    metric.add(1.5, agent='a"b\\c\nd')
    assert render([metric, Metric("agentq_y", "gauge", "Nothing.")]) == (
        '# HELP agentq_x A \\\\ and\\nmore.\n# TYPE agentq_x gauge\nagentq_x{agent="a\\"b\\\\c\\nd"} 1.5\n'
    )
