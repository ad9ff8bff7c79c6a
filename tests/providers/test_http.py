"""Calls over HTTP: limits of time, errors of every kind, and connections that never leak."""

from __future__ import annotations

import asyncio
import inspect
import json
import ssl
import threading
import time
import warnings
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest

from agentq.errors import ProviderError
from agentq.providers import _http
from agentq.providers._http import FOREIGN, Answer, Connections, Post, _Patience, unreachable
from tests.helpers import wait_until
from tests.providers.faults import (
    EVENTS,
    FaultServer,
    Wire,
    comments,
    cuts,
    encoded,
    fails,
    hangs,
    says,
    says_then_hangs,
    serving,
    streams,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DATA = encoded(says("Hello"))
FRAMES = DATA.count(b"data: ")


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    made = Connections()
    yield made
    await made.aclose()


def post(url: str, *, idle_s: float = 5, timeout_s: float | None = None, body: bytes = b"{}") -> Post:
    return Post("test", f"{url}/chat", {"X-Mine": "yes"}, body, 5, idle_s, timeout_s)


async def frames(connections: Connections, request: Post) -> list[bytes]:
    async with connections.post(request) as answer, aclosing(answer.frames()) as stream:
        return [frame.data async for frame in stream]


async def failure(connections: Connections, request: Post) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await frames(connections, request)
    assert caught.value.provider == "test"
    return caught.value


class TestAnswers:
    async def test_events_come_as_they_were_sent(self, model_server: FaultServer, connections: Connections):
        model_server.answers(streams(says("Hello")))
        assert len(await frames(connections, post(model_server.url, body=b'{"a": 1}'))) == FRAMES
        (asked,) = model_server.asked
        assert (asked.method, asked.path, asked.body) == ("POST", "/v1/chat", {"a": 1})
        assert asked.headers["x-mine"] == "yes"

    async def test_a_large_body_arrives_whole(self, model_server: FaultServer, connections: Connections):
        """Files make bodies of many megabytes."""
        model_server.answers(streams(says("Hello")))
        text = "".join(f"{number:07}" for number in range(1_000_000))
        await frames(connections, post(model_server.url, body=json.dumps({"text": text}).encode()))
        (asked,) = model_server.asked
        assert asked.body["text"] == text
        assert "transfer-encoding" not in asked.headers

    async def test_one_connection_serves_one_call_after_the_other(
        self, model_server: FaultServer, connections: Connections
    ):
        model_server.answers(streams(says("Hello")))
        for _ in range(5):
            await frames(connections, post(model_server.url))
        assert model_server.connections == 1

    async def test_a_packed_answer_is_unpacked(self, model_server: FaultServer, connections: Connections):
        import gzip

        async def play(wire: Wire) -> None:
            await wire.head(200, {**EVENTS, "Content-Encoding": "gzip"})
            await wire.send(gzip.compress(DATA))
            await wire.end()

        model_server.answers(play)
        assert len(await frames(connections, post(model_server.url))) == FRAMES

    async def test_no_cookie_of_one_call_is_sent_with_the_next(
        self, model_server: FaultServer, connections: Connections
    ):
        model_server.answers(fails(500, {}, Set_Cookie="a=b"), streams(says("Hello")))
        for _ in range(2):
            await frames(connections, post(model_server.url))
        assert "cookie" not in model_server.asked[1].headers

    async def test_a_body_that_is_too_long_is_not_read(
        self, model_server: FaultServer, connections: Connections, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(_http, "MAX_REPLY_BYTES", 1000)
        model_server.answers(fails(200, "x" * 1001))
        with pytest.raises(ProviderError, match="more than 1000 bytes") as caught:
            async with connections.post(post(model_server.url)) as answer:
                await answer.body()
        assert not caught.value.retryable

    async def test_a_frame_that_is_too_long_is_not_read(self, model_server: FaultServer, connections: Connections):
        async def play(wire: Wire) -> None:
            await wire.head()
            while True:
                await wire.send(b"data: " + b"x" * 1_000_000)

        model_server.answers(play)
        error = await failure(connections, post(model_server.url))
        assert "more than 8000000 bytes" in str(error)
        assert not error.retryable
        await model_server.is_quiet()

    async def test_of_an_error_body_64_kib_are_read(self, model_server: FaultServer, connections: Connections):
        async def play(wire: Wire) -> None:
            await wire.head(500)
            while True:
                await wire.send(b"x" * 10_000)

        model_server.answers(play)
        async with connections.post(post(model_server.url)) as answer:
            assert len(await answer.error_body()) == 64 * 1024
        await model_server.is_quiet()

    async def test_an_error_body_that_breaks_off_or_stalls_is_taken_as_far_as_it_came(
        self, model_server: FaultServer, connections: Connections, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(_http, "_ERROR_BODY_S", 0.05)
        for play in (cuts(b"too busy, re", 8), says_then_hangs(b"too busy")):
            model_server.answers(play)
            async with connections.post(post(model_server.url)) as answer:
                assert await answer.error_body() == b"too busy"

    async def test_an_answer_that_comes_before_the_request_was_read(self, connections: Connections):
        """A gateway that refuses a large body closes the door at once; its words are heard, and nothing hangs."""

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large")
            await writer.drain()
            await reader.read(-1)
            writer.close()
            hung_up.set()

        hung_up = asyncio.Event()
        listener = await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1024)
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            async with connections.post(post(url, body=b"x" * 20_000_000)) as answer:
                assert (answer.status, await answer.error_body()) == (413, b"too large")
            await asyncio.wait_for(hung_up.wait(), 10)
        finally:
            listener.close()


class TestTime:
    async def test_a_server_that_takes_the_request_and_is_silent(
        self, model_server: FaultServer, connections: Connections
    ):
        model_server.answers(hangs)
        request = Post("test", f"{model_server.url}/chat", {}, b"{}", 0.05, 0.05)
        error = await failure(connections, request)
        assert str(error) == "test sent nothing for 0.05 s (headers_timeout_s)"
        assert error.retryable
        await model_server.is_quiet()

    async def test_a_stream_that_falls_silent(self, model_server: FaultServer, connections: Connections):
        model_server.answers(says_then_hangs(DATA[:200]))
        error = await failure(connections, post(model_server.url, idle_s=0.05))
        assert "sent nothing for 0.05 s" in str(error)
        await model_server.is_quiet()

    async def test_comments_alone_are_silence(self, model_server: FaultServer, connections: Connections):
        model_server.answers(comments)
        assert "sent nothing for 0.2 s" in str(await failure(connections, post(model_server.url, idle_s=0.2)))
        await model_server.is_quiet()

    async def test_a_server_that_is_slow_but_goes_on_is_waited_for(
        self, model_server: FaultServer, connections: Connections
    ):
        """Each piece is in time, also where it completes no event; all together take several times the limit."""

        async def play(wire: Wire) -> None:
            await wire.head()
            for at in range(0, len(DATA), 40):
                await asyncio.sleep(0.02)
                await wire.send(DATA[at : at + 40])
            await wire.end()

        model_server.answers(play)
        started = time.monotonic()
        assert len(await frames(connections, post(model_server.url, idle_s=0.25))) == FRAMES
        assert time.monotonic() - started > 0.25

    async def test_a_limit_for_all_of_it(self, model_server: FaultServer, connections: Connections):
        async def play(wire: Wire) -> None:
            await wire.head()
            while True:
                await wire.send(b"data: more\n\n")
                await asyncio.sleep(0.01)

        model_server.answers(play)
        error = await failure(connections, post(model_server.url, timeout_s=0.2))
        assert str(error) == "test was not done within 0.2 s (timeout_s)"
        assert error.retryable


class Source(httpx.AsyncByteStream):
    """A body of which the test says when a piece comes."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.asked = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.asked += 1
            yield await self.pieces.get()


class Listener:
    """Reads an answer, and takes its own time over each event."""

    def __init__(self, *, was_cancelled: bool = False) -> None:
        self.source = Source()
        request = post("http://host/v1")
        self.answer = Answer(request, httpx.Response(200, stream=self.source), _Patience(request))
        self.heard = 0
        self.goes_on = asyncio.Event()
        self.task = asyncio.create_task(self._listen())
        self._was_cancelled = was_cancelled

    async def _listen(self) -> None:
        if self._was_cancelled:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        async with aclosing(self.answer.frames()) as stream:
            async for _ in stream:
                self.heard += 1
                await self.goes_on.wait()

    async def waits(self, times: int = 1) -> None:
        await wait_until(lambda: self.source.asked == times)

    def hears(self) -> None:
        self.source.pieces.put_nowait(b"data: x\n\n")

    def runs_out_of_time(self) -> None:
        self.answer.hurry(0)


class TestTheEndOfPatience:
    """The limit cuts off a wait and nothing else, and is no cancellation from outside."""

    async def test_it_is_an_error_of_the_provider_and_the_task_is_not_cancelled(self):
        listener = Listener()
        await listener.waits()
        listener.runs_out_of_time()
        with pytest.raises(ProviderError, match="sent nothing"):
            await listener.task
        assert listener.task.cancelling() == 0

    async def test_a_piece_that_comes_at_the_last_moment(self):
        """Time is up when the piece is there, and who waits for it does not run yet: it is the wait that ends."""
        listener = Listener()
        await listener.waits()
        listener.hears()
        listener.runs_out_of_time()
        with pytest.raises(ProviderError, match="sent nothing"):
            await listener.task
        assert (listener.heard, listener.task.cancelling()) == (0, 0)

    async def test_the_callers_own_time_is_never_cut_off(self):
        listener = Listener()
        await listener.waits()
        listener.hears()
        await wait_until(lambda: listener.heard)
        listener.runs_out_of_time()
        await asyncio.sleep(3 * _http._LOOK_S)  # noqa: SLF001 - that nothing happens cannot be waited for
        assert not listener.task.done()
        listener.goes_on.set()
        with pytest.raises(ProviderError, match="sent nothing"):
            await listener.task

    @pytest.mark.parametrize("is_cancelled_first", [True, False])
    async def test_a_cancellation_in_the_same_moment_stays_one(self, is_cancelled_first: bool):
        listener = Listener()
        await listener.waits()
        ends: list[Callable[[], object]] = [listener.task.cancel, listener.runs_out_of_time]
        for end in ends if is_cancelled_first else reversed(ends):
            end()
        await asyncio.wait({listener.task})
        assert listener.task.cancelled()
        assert listener.task.cancelling() == 1

    async def test_a_cancellation_that_was_dealt_with_before_does_not_count(self):
        """A task may go on after one, as for a clean-up."""
        listener = Listener(was_cancelled=True)
        await listener.waits()
        listener.runs_out_of_time()
        with pytest.raises(ProviderError, match="sent nothing"):
            await listener.task
        assert listener.task.cancelling() == 1

    async def test_each_piece_may_be_waited_for_by_another_task(self):
        """As `asyncio.wait_for` does it in Python 3.11."""
        listener = Listener()
        listener.task.cancel()
        stream = listener.answer.frames()
        listener.hears()
        assert (await asyncio.create_task(anext(stream))).data == b"x"
        last = asyncio.create_task(anext(stream))
        await listener.waits(2)
        listener.runs_out_of_time()
        with pytest.raises(ProviderError, match="sent nothing"):
            await last


class TestTrouble:
    async def test_nobody_listens(self, connections: Connections):
        async with serving() as server:
            url = server.url
        error = await failure(connections, post(url))
        assert str(error) == f"test: {url.split('/')[2]} cannot be reached: Connection refused"
        assert error.retryable

    async def test_a_name_that_does_not_exist(self, connections: Connections, monkeypatch: pytest.MonkeyPatch):
        import socket

        async def getaddrinfo(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        error = await failure(connections, post("http://api.nowhere.test/v1"))
        assert str(error) == "test: api.nowhere.test cannot be reached: Name or service not known"
        assert error.retryable

    @pytest.mark.parametrize("at", [0, 1, 150, len(DATA)])
    async def test_a_connection_that_breaks_off(self, model_server: FaultServer, connections: Connections, at: int):
        model_server.answers(cuts(DATA, at))
        error = await failure(connections, post(model_server.url))
        assert "broke" in str(error)
        assert error.retryable

    @pytest.mark.parametrize(
        "said", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"]
    )
    async def test_what_is_no_http(self, model_server: FaultServer, connections: Connections, said: bytes):
        async def play(wire: Wire) -> None:
            wire.keeps_alive = False
            await wire.raw(said)

        model_server.answers(play)
        error = await failure(connections, post(model_server.url))
        assert "broke" in str(error)
        assert error.retryable

    async def test_a_server_without_tls(self, model_server: FaultServer, connections: Connections):
        model_server.answers(hangs)
        url = model_server.url.replace("http:", "https:")
        error = await failure(connections, Post("test", url, {}, b"{}", connect_s=0.2, idle_s=5))
        assert "cannot be reached" in str(error)
        assert error.retryable

    def test_every_exception_of_the_libraries_becomes_a_provider_error(self):
        """The map is total: what httpx and aiohttp can raise is caught and has words."""
        errors = [kind for kind in vars(httpx).values() if inspect.isclass(kind) and issubclass(kind, Exception)]
        foreign = [kind for kind in vars(aiohttp).values() if inspect.isclass(kind) and issubclass(kind, Exception)]
        foreign += [
            kind
            for kind in vars(aiohttp.http_exceptions).values()
            if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__.startswith("aiohttp")
        ]
        lasting = (
            *(httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError, aiohttp.InvalidURL),
            ssl.SSLCertVerificationError,
        )
        assert len(errors) > 25
        assert len(foreign) > 25
        apart = (aiohttp.WebSocketError, aiohttp.EofStream, Warning)  # of web sockets, inside aiohttp, of multipart
        kinds = {kind for kind in (*errors, *foreign) if not issubclass(kind, apart) and kind.__name__[:2] != "WS"}
        for kind in kinds:
            assert issubclass(kind, FOREIGN), kind
            named = type(kind.__name__, (kind,), {"__init__": lambda self: None, "__str__": lambda self: "words"})
            error = named()
            told = unreachable(post("http://host/v1"), error)
            assert str(told).startswith("test: ")
            assert told.retryable is not issubclass(kind, lasting), kind

    def test_a_certificate_that_cannot_be_verified_stays_so(self):
        reason = ssl.SSLCertVerificationError(1, "verify failed")
        reason.verify_message = "self-signed certificate"
        error = httpx.ConnectError("outer")
        error.__cause__ = reason
        told = unreachable(post("https://host/v1"), error)
        assert str(told) == "test: the certificate of host cannot be verified: self-signed certificate"
        assert not told.retryable


class TestConnections:
    async def test_a_cancelled_call_closes_its_socket(self, model_server: FaultServer, connections: Connections):
        for play in (hangs, says_then_hangs(DATA[:100]), says_then_hangs(DATA)):
            model_server.answers(play)
            task = asyncio.create_task(frames(connections, post(model_server.url)))
            await wait_until(lambda: model_server.asked)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await model_server.is_quiet()

    async def test_a_stream_that_is_left_early_closes_its_socket(
        self, model_server: FaultServer, connections: Connections
    ):
        model_server.answers(says_then_hangs(DATA))
        async with connections.post(post(model_server.url)) as answer, aclosing(answer.frames()) as stream:
            async for _ in stream:
                break
        await model_server.is_quiet()

    async def test_hundreds_at_once_and_no_slot_is_lost(self, model_server: FaultServer):
        """Twenty slots, three hundred calls of which half are cancelled at any moment: afterwards all slots serve."""
        slots = 20

        async def play(wire: Wire) -> None:
            await wire.head()
            for at in range(0, len(DATA), 100):
                await wire.send(DATA[at : at + 100])
                await asyncio.sleep(0)
            await wire.end()

        model_server.answers(play)
        connections = Connections(max_connections=slots)
        tasks = [asyncio.create_task(frames(connections, post(model_server.url, idle_s=30))) for _ in range(300)]
        for number, task in enumerate(tasks):
            if number % 2:
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        whole = [result for result in results if isinstance(result, list)]
        assert {len(result) for result in whole} == {FRAMES}
        assert len(whole) >= 150
        assert all(isinstance(result, list | asyncio.CancelledError) for result in results)

        arrived = asyncio.Event()
        waiting = 0

        async def meet(wire: Wire) -> None:
            nonlocal waiting
            waiting += 1
            if waiting == slots:
                arrived.set()
            await arrived.wait()
            await streams(says("Hello"))(wire)

        model_server.answers(meet)
        await asyncio.gather(*(frames(connections, post(model_server.url)) for _ in range(slots)))
        await connections.aclose()
        await model_server.is_quiet()

    async def test_more_calls_than_aiohttp_would_make_at_once(
        self, model_server: FaultServer, connections: Connections
    ):
        """Its default of 100 connections would let a worker's other iterations wait unseen."""
        arrived = asyncio.Event()

        async def meet(wire: Wire) -> None:
            if model_server.is_open >= 300:
                arrived.set()
            await arrived.wait()
            await streams(says("Hello"))(wire)

        model_server.answers(meet)
        calls = (frames(connections, post(model_server.url, idle_s=30)) for _ in range(300))
        assert {len(got) for got in await asyncio.gather(*calls)} == {FRAMES}

    async def test_connections_that_were_closed_are_opened_anew(
        self, model_server: FaultServer, connections: Connections
    ):
        model_server.answers(streams(says("Hello")))
        for expected in (1, 2):
            await frames(connections, post(model_server.url))
            assert model_server.connections == expected
            await connections.aclose()
            await connections.aclose()
            await model_server.is_quiet()

    async def test_each_event_loop_has_connections_of_its_own_and_closes_them_when_it_ends(
        self, model_server: FaultServer
    ):
        """As `asyncio.run` in one thread after the other does; nothing is left to warn about."""
        model_server.answers(streams(says("Hello")))
        connections = Connections()
        seen: list[int] = []

        def work() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                seen.append(len(asyncio.run(frames(connections, post(model_server.url)))))

        for count in (1, 2, 3):
            thread = threading.Thread(target=work)
            thread.start()
            await asyncio.to_thread(thread.join, 20)
            assert (seen, model_server.connections) == ([FRAMES] * count, count)
            await model_server.is_quiet()

    def test_a_loop_that_is_dropped_is_forgotten(self):
        """Loops that end without a word must not pile up; closing in time is for who runs them."""

        async def call(connections: Connections) -> None:
            async with serving() as server:
                server.answers(streams(says("Hello")))
                await frames(connections, post(server.url))
                await connections.aclose()

        connections = Connections()
        for _ in range(3):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(call(connections))
            loop.close()
        assert connections.loops == 0
