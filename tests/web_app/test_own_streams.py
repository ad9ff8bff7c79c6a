"""Our own events over HTTP: live, from a cursor on, in both forms, and at no cost for who has gone."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import redis.asyncio
from a2wsgi import ASGIMiddleware

from agentq import AsyncClient
from agentq.web import web_app
from agentq.web.streams.serving import Stream
from tests.helpers import wait_until
from tests.web_app.parts import site
from tests.web_app.serving import house, loop_in_thread, served, wsgi_served

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable

TALK = 'call add {"a": 7, "b": 9}\nstream 20 "token " 0.001'


def events_in(body: str) -> list[dict[str, str]]:
    """The server-sent events of a body, but for comments."""
    blocks = [block for block in body.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


async def test_events_come_live_and_again_from_every_cursor(redis_url: str):
    async with house(redis_url) as here:
        run = await here.client.enqueue("clerk", TALK)
        answer = await here.http.get(f"/api/v1/runs/{run.id}/events")
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache, no-transform"
        retry, *events = events_in(answer.text)
        assert retry == {"retry": "1000"}
        assert [int(event["id"]) for event in events] == list(range(1, len(events) + 1))
        assert events[-1]["event"] == "run.completed"
        assert all(json.loads(event["data"])["type"] == event["event"] for event in events)
        lines = (await here.http.get(f"/api/v1/runs/{run.id}/events.ndjson?after=2")).text.splitlines()
        assert [json.loads(line)["seq"] for line in lines if line] == list(range(3, len(events) + 1))
        for name, headers in (("?lastEventId=5", {}), ("", {"Last-Event-ID": "5"}), ("?after=5", {})):
            again = await here.http.get(f"/api/v1/runs/{run.id}/events{name}", headers=headers)
            assert events_in(again.text)[1:] == events[5:]
        accepting = await here.http.get(f"/api/v1/runs/{run.id}/events", headers={"Accept": "application/x-ndjson"})
        assert accepting.headers["content-type"].startswith("application/x-ndjson")
        assert (await here.http.get(f"/api/v1/runs/{run.id}/events?after={len(events)}")).status_code == 204


async def test_a_cursor_that_cannot_be_is_refused_before_there_is_a_body():
    async with site() as (http, client):
        run = await client.enqueue("clerk", "hi")
        beyond = await http.get(f"/api/v1/runs/{run.id}/events?after=99")
        assert (beyond.status_code, beyond.json()["field"]) == (422, "after")
        assert (await http.get(f"/api/v1/runs/{run.id}/events?after=x")).status_code == 422
        assert (await http.get("/api/v1/runs/01JD3ZK8W5Q0X9V7T2M4N6P8RA/events")).status_code == 404


async def test_the_hook_decides_who_watches_and_arguments_are_redacted(redis_url: str):
    def authorize(request: Any, action: str, run: Any) -> bool:
        return bool(request.headers.get("x-user") == "ann")

    async with house(redis_url, authorize=authorize, redact_arguments=lambda tool, given: {"a": "…"}) as here:
        run = await here.client.enqueue("clerk", TALK)
        path = f"/api/v1/runs/{run.id}/events.ndjson"
        assert (await here.http.get(path)).status_code == 403
        lines = (await here.http.get(path, headers={"x-user": "ann"})).text.splitlines()
        events = [json.loads(line) for line in lines if line]
        assert [event["arguments"] for event in events if event["type"] == "tool.called"] == [{"a": "…"}]


async def test_viewers_share_one_subscribing_connection(redis_url: str):
    async with house(redis_url) as here, redis.asyncio.from_url(redis_url) as asking:
        runs = [await here.client.enqueue("clerk", 'sleep 0.5\nstream 5 "token " 0.01') for _ in range(3)]
        before = {each["id"] for each in await asking.client_list()}
        paths = [f"/api/v1/runs/{run.id}/events" for run in runs for _ in range(10)]
        views = [asyncio.create_task(here.http.get(path)) for path in paths]
        hub: Any = here.client._parts().stream._hub  # type: ignore[attr-defined]  # noqa: SLF001
        await wait_until(lambda: sum(map(len, hub._inboxes.values())) == 30, message="viewers")  # noqa: SLF001

        async def subscriptions() -> list[int]:
            connections = [each for each in await asking.client_list() if each["id"] not in before]
            assert len(connections) <= 3
            return [int(each["sub"]) for each in connections if int(each["sub"])]

        # Three runs, and the hub's own channel.
        await wait_until(lambda: _is(subscriptions(), [4]), message="one connection with all subscriptions")
        for view in views:
            assert events_in((await view).text)[-1]["event"] == "run.completed"


async def _is(found: Awaitable[Any], wanted: Any) -> bool:
    return bool(await found == wanted)


async def test_who_leaves_costs_nothing_any_more_and_the_run_goes_on(redis_url: str):
    async with house(redis_url) as here:
        run = await here.client.enqueue("clerk", "sleep 1.0")
        hub: Any = here.client._parts().stream._hub  # type: ignore[attr-defined]  # noqa: SLF001
        async with asyncio.TaskGroup() as viewers:
            gates = [asyncio.Event() for _ in range(5)]

            async def view(gate: asyncio.Event) -> None:
                async with here.http.stream("GET", f"/api/v1/runs/{run.id}/events") as answer:
                    async for _ in answer.aiter_lines():
                        gate.set()
                        return

            for gate in gates:
                viewers.create_task(view(gate))
        await wait_until(lambda: not hub._inboxes, message="the subscription to end")  # noqa: SLF001
        assert (await run.result(timeout=20)).output


async def test_a_client_behind_a_real_server_that_reads_nothing_is_cut_off():
    closed = asyncio.Event()

    async def chunks() -> AsyncGenerator[str, None]:
        try:
            while True:
                yield "x" * 100_000
        finally:
            closed.set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await Stream(chunks(), beat_s=10, send_s=0.2)(scope, receive, send)

    async with served(app) as address:
        where = urlsplit(address)
        reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=1_000)
        writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(closed.wait(), 20)
        # What was under way comes, and then an end that says that something is missing.
        rest = await asyncio.wait_for(reader.read(-1), 20)
        assert b"200 OK" in rest
        assert not rest.endswith(b"0\r\n\r\n")
        writer.close()


async def test_streams_under_wsgi_come_as_they_happen_and_end(redis_url: str):
    async with house(redis_url) as here:
        client = AsyncClient(redis_url)
        app: Any = web_app(client)
        with loop_in_thread() as loop, wsgi_served(ASGIMiddleware(app, loop=loop)) as address:
            run = await here.client.enqueue("clerk", 'sleep 0.3\nstream 20 "token " 0.01')
            url = f"{address}/api/v1/runs/{run.id}/events"
            body = await asyncio.to_thread(_read, url)
            assert events_in(body.decode())[-1]["event"] == "run.completed"
            # Its connections are of the event loop that serves.
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(client.aclose(), loop))


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310
        body: bytes = answer.read()
        return body


class TestStream:
    """The answer itself, to a server that is slow, or whose client is gone."""

    async def test_a_client_that_takes_nothing_is_cut_off(self, caplog: pytest.LogCaptureFixture):
        closed = asyncio.Event()

        async def chunks() -> AsyncGenerator[str, None]:
            try:
                while True:
                    yield "x"
            finally:
                closed.set()

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) > 3:
                await asyncio.Event().wait()

        async def receive() -> Any:
            await asyncio.Event().wait()

        stream = Stream(chunks(), beat_s=10, send_s=0.05)
        with caplog.at_level("INFO"):
            await stream({"type": "http", "method": "GET", "path": "/x"}, receive, send)
        assert closed.is_set()
        # So that the server closes the connection: the client sees that something is missing.
        assert all(message.get("more_body", True) for message in sent)
        assert "a client that took nothing for 0.05 s was cut off: /x" in caplog.text

    async def test_a_client_that_has_gone_ends_it_at_once(self):
        closed = asyncio.Event()

        async def chunks() -> AsyncGenerator[str, None]:
            try:
                yield "x"
                await asyncio.Event().wait()
            finally:
                closed.set()

        sent: list[Any] = []
        first = asyncio.Event()

        async def send(message: Any) -> None:
            sent.append(message)
            if message.get("body") == b"x":
                first.set()

        async def receive() -> Any:
            await first.wait()
            return {"type": "http.disconnect"}

        await Stream(chunks(), beat_s=10)({"type": "http", "method": "GET", "path": "/x"}, receive, send)
        await asyncio.wait_for(closed.wait(), 5)
        assert [message.get("body") for message in sent] == [None, b":\n\n", b"x"]

    async def test_what_fails_on_the_way_comes_out(self):
        async def chunks() -> AsyncGenerator[str, None]:
            yield "x"
            raise ValueError("a bug")

        async def send(message: Any) -> None:
            pass

        async def receive() -> Any:
            await asyncio.Event().wait()

        with pytest.raises(ValueError, match="a bug"):
            await Stream(chunks(), beat_s=10)({"type": "http", "method": "GET", "path": "/x"}, receive, send)
