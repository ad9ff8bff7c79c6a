"""How a client finds its store: made for each event loop at the first use, or given."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from agentq import client_async
from agentq.client import AsyncClient
from agentq.errors import InvalidInput, StoreUnavailable
from agentq.settings import Settings
from agentq.stores.memory import MemoryStore
from tests.helpers import ROOT

if TYPE_CHECKING:
    from agentq.stores.base import Created, NewRun, Wakeup


class Waker:
    """An executor that writes down whom it was told to wake."""

    def __init__(self) -> None:
        self.woken: list[tuple[str, float]] = []

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        self.woken.append((run_id, delay))


class Parts:
    """What the wiring makes for one event loop."""

    def __init__(self, executor: Any = None) -> None:
        self.store = MemoryStore()
        self.stream = self.store.stream
        self.executor = executor or Waker()
        self.closed = 0

    async def aclose(self) -> None:
        self.closed += 1


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Parts]:
    made: list[Parts] = []

    def make(settings: Settings, executor: Any) -> Parts:
        made.append(Parts(executor))
        return made[-1]

    monkeypatch.setattr(client_async, "_redis_parts", make)
    return made


def test_importing_the_client_imports_no_redis():
    text = "import agentq.client, sys; print([name for name in ('redis', 'rq', 'click') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"


async def test_nothing_is_made_before_the_first_use(made: list[Parts]):
    async with AsyncClient("redis://127.0.0.1:1/0") as client:
        assert client.settings.redis_url == "redis://127.0.0.1:1/0"
    assert made == []


async def test_an_address_wins_over_settings():
    client = AsyncClient("redis://a", settings=Settings(prefix="p"))
    assert (client.settings.redis_url, client.settings.prefix) == ("redis://a", "p")


async def test_what_was_made_is_closed_once(made: list[Parts]):
    async with AsyncClient() as client:
        await client.enqueue("a", "x")
        await client.list()
    await client.aclose()
    assert [parts.closed for parts in made] == [1]


async def test_a_closed_client_refuses(made: list[Parts]):
    client = AsyncClient()
    await client.aclose()
    with pytest.raises(RuntimeError, match="this client is closed"):
        await client.list()


async def test_an_executor_that_is_given_replaces_the_one_that_is_made(made: list[Parts]):
    waker = Waker()
    client = AsyncClient(executor=waker)
    run = await client.enqueue("a", "x")
    assert waker.woken == [(run.id, 0)]


def test_each_event_loop_has_connections_of_its_own(made: list[Parts]):
    client = AsyncClient()
    for _ in range(3):
        asyncio.run(client.enqueue("a", "x"))
    assert len(made) == 3


async def test_a_store_that_was_given_is_not_closed():
    store = MemoryStore()
    client = AsyncClient(store=store, executor=Waker())
    run = await client.enqueue("a", "x")
    await client.aclose()
    assert (await store.read(run.id)).agent == "a"


def test_a_store_without_a_stream_is_refused():
    with pytest.raises(InvalidInput, match="needs its stream too"):
        AsyncClient(stream=MemoryStore().stream)


async def test_a_store_that_is_away_comes_out_as_it_is():
    class Away(MemoryStore):
        async def create(self, new: NewRun, *, wake: Wakeup | None = None) -> Created:
            raise StoreUnavailable("Redis at x cannot be reached")

    with pytest.raises(StoreUnavailable):
        await AsyncClient(store=Away(), executor=Waker()).enqueue("a", "x")
