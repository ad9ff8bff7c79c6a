"""What holds for every adapter that speaks HTTP: cut streams, silence, limits of time, connections that are closed."""

from __future__ import annotations

import asyncio
import gzip
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, Settings
from agentq.errors import ProviderError
from agentq.events.model import AttemptReset, Note, TextDelta
from agentq.messages import NoteKind, user_message
from agentq.providers._http import Connections
from agentq.providers.anthropic import Anthropic
from agentq.providers.base import ModelRequest, ReplyEnd, TextChunk
from agentq.providers.google import Google
from agentq.providers.openai import OpenAI
from agentq.providers.openai_chat import OpenAIChat
from tests.helpers import wait_until
from tests.providers import anthropic_parts, faults, gemini, responses
from tests.providers.faults import EVENTS, FaultServer, Wire, comments, hangs, says_then_hangs
from tests.providers.responses import sends

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentq.providers.base import Chunk

WORDS = ("It ", "is ", "16.")
ONCE = {"max_attempts": 1}


@dataclass
class Adapter:
    """One adapter, and what its server sends: `answer` says "It is 16."."""

    make: Callable[..., Any]
    model: str
    answer: bytes

    @property
    def begun(self) -> bytes:
        """The answer up to its number, in whole events."""
        number = re.search(rb'"16\.?"', self.answer)
        assert number is not None
        return b"".join(self.answer[: number.start()].rpartition(b"\n\n")[:2])


ADAPTERS = {
    "anthropic": Adapter(Anthropic, "claude-opus-5-5", anthropic_parts.encoded(anthropic_parts.says(*WORDS))),
    "google": Adapter(Google, "gemini-x", faults.encoded(gemini.says(*WORDS), done=False)),
    "openai": Adapter(OpenAI, "gpt-x", responses.encoded(responses.events(responses.message("It is 16.")))),
    "openai-chat": Adapter(OpenAIChat, "gpt-x", faults.encoded(faults.says(*WORDS))),
}


class Wired:
    """An adapter with connections of its own, and the server that it calls."""

    def __init__(self, name: str, server: FaultServer) -> None:
        self.name, self.server = name, server
        self.adapter = ADAPTERS[name]
        self.answer, self.begun = self.adapter.answer, self.adapter.begun
        self.provider = self.adapter.make(connections=Connections())

    def stream(self, **settings: Any) -> Any:
        given = {"base_url": self.server.url, "api_key": "sk-secret", "retry": ONCE} | settings
        return self.provider.stream(ModelRequest(self.adapter.model, (user_message("Hi"),), settings=given))

    async def reply(self, **settings: Any) -> tuple[str, list[Chunk]]:
        """The text, and all that came."""
        chunks = [chunk async for chunk in self.stream(**settings)]
        return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextChunk)), chunks

    async def failure(self, **settings: Any) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            await self.reply(**settings)
        assert caught.value.provider == self.name
        assert "sk-secret" not in str(caught.value)
        return caught.value

    def app(self) -> AgentQ:
        """With one retry, at once: what is retried matters here, not how long that takes."""
        settings = {"base_url": self.server.url, "api_key": "sk-secret", "retry": ONCE}
        agent = Agent(
            "writer",
            model=f"{self.name}:{self.adapter.model}",
            model_settings=settings,
            max_error_retries=1,
            retry_backoff_s=0,
        )
        return AgentQ([agent], settings=Settings(), models={self.name: self.provider})


@pytest.fixture(params=ADAPTERS)
async def wired(request: pytest.FixtureRequest, model_server: FaultServer) -> AsyncIterator[Wired]:
    made = Wired(request.param, model_server)
    yield made
    await made.provider.aclose()


class TestStreams:
    async def test_a_cut_stream_is_voided_and_the_model_is_asked_again(self, wired: Wired):
        seen = asyncio.Event()
        events: list[Any] = []

        def watch(event: Any) -> None:
            events.append(event)
            if isinstance(event, TextDelta):
                seen.set()

        async def play(wire: Wire) -> None:
            wire.keeps_alive = False
            await wire.head()
            await wire.send(wired.begun)
            await seen.wait()

        wired.server.answers(play, sends(wired.answer))
        assert (await wired.app().run("writer", "7 + 9?", on_event=watch)).output == "It is 16."
        assert [event.reason for event in events if isinstance(event, AttemptReset)] == ["provider_error"]
        assert [event.kind for event in events if isinstance(event, Note)] == [NoteKind.PROVIDER_ERROR]

    @pytest.mark.parametrize("is_packed", [False, True])
    async def test_the_last_event_needs_no_blank_line_and_may_be_packed(self, wired: Wired, is_packed: bool):
        data = b": PROCESSING\n\n" * 50 + wired.answer.rstrip(b"\n")

        async def play(wire: Wire) -> None:
            await wire.head(200, EVENTS | ({"Content-Encoding": "gzip"} if is_packed else {}))
            await wire.send(gzip.compress(data) if is_packed else data)
            await wire.end()

        wired.server.answers(play)
        text, chunks = await wired.reply()
        assert text == "It is 16."
        assert isinstance(chunks[-1], ReplyEnd)


class TestTime:
    @pytest.mark.parametrize("when", ["at once", "before the first event", "in the middle"])
    async def test_a_silent_server_is_given_up(self, wired: Wired, when: str):
        plays = {"at once": hangs, "before the first event": comments, "in the middle": says_then_hangs(wired.begun)}
        wired.server.answers(plays[when])
        error = await wired.failure(headers_timeout_s=0.1, idle_timeout_s=0.1, connect_timeout_s=0.1)
        assert "sent nothing for 0.1 s (" in str(error)
        assert error.retryable
        await wired.server.is_quiet()

    async def test_a_server_that_leaves_the_stream_open_does_not_hold_the_reply_back(self, wired: Wired):
        wired.server.answers(says_then_hangs(wired.answer))
        assert (await wired.reply())[0] == "It is 16."
        await wired.server.is_quiet()

    async def test_the_limit_for_the_whole_call(self, wired: Wired):
        wired.server.answers(hangs)
        assert "was not done within 0.1 s (timeout_s)" in str(await wired.failure(timeout_s=0.1))


class TestConnections:
    async def test_cancelling_a_run_closes_its_connection(self, wired: Wired):
        wired.server.answers(says_then_hangs(wired.begun))
        run = asyncio.create_task(wired.app().run("writer", "7 + 9?"))
        await wait_until(lambda: wired.server.asked)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await wired.server.is_quiet()

    async def test_a_stream_that_is_left_closes_its_connection(self, wired: Wired):
        wired.server.answers(says_then_hangs(wired.begun))
        stream = wired.stream()
        await anext(stream)
        await stream.aclose()
        await wired.server.is_quiet()

    async def test_the_app_closes_what_it_holds_open(self, wired: Wired):
        wired.server.answers(sends(wired.answer))
        app = wired.app()
        for _ in range(2):
            await app.run("writer", "7 + 9?")
        assert (wired.server.connections, wired.server.is_open) == (1, 1)
        await app.aclose()
        await wired.server.is_quiet()
        assert (await app.run("writer", "7 + 9?")).output == "It is 16."
