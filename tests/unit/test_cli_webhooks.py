"""`agentq webhooks`, over a store in memory, and its test message over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from agentq import Agent, AgentQ, AsyncClient, Settings, Webhook
from agentq._ids import new_token
from agentq.cli import cli
from agentq.cli._group import Options
from agentq.signing import secret_keys
from agentq.stores.memory import MemoryStore
from agentq.testing import FakeClock
from agentq.testing._contract import running
from agentq.testing._webhook_rules import end
from tests.receiver import SECRET, Receiver, receiving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ORDERS = Webhook("https://orders.example/hook?key=hidden", SECRET, name="orders")
ALARM = Webhook("https://alarm.example", SECRET, name="alarm")


class Desk(Options):
    """Options that lead to one store, and an app with webhooks."""

    def __init__(self, *webhooks: Webhook) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.given = webhooks

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[AsyncClient]:
        async with AsyncClient(settings=Settings(), store=self.store) as client:
            yield client

    def load_app(self) -> AgentQ:
        return AgentQ([Agent("writer", model="mock")], settings=Settings(), webhooks=self.given)

    def invoke(self, *args: str, code: int = 0) -> Result:
        self.json = False
        result = CliRunner().invoke(cli, ["webhooks", *args], obj=self)
        assert result.exit_code == code, result.output
        return result

    def document(self, *args: str, code: int = 0) -> Any:
        return json.loads(self.invoke(*args, "--json", code=code).stdout)


async def _make(desk: Desk) -> None:
    """Two webhooks; three messages for one, of which one has failed and one was given up."""
    outbox = desk.store.webhooks
    await outbox.publish([ORDERS])
    for _ in range(3):
        await end(desk.store, await running(desk.store))
    first, second = await outbox.take("orders", owner="w", token=new_token(), limit=2)
    await outbox.failed(first, "answered 500", delay_ms=300_000)
    await outbox.failed(second, "answered 410", delay_ms=None)
    await outbox.publish([ALARM])


@pytest.fixture
def desk() -> Desk:
    made = Desk(ORDERS, ALARM)
    asyncio.run(_make(made))
    return made


def test_webhooks_are_listed_with_how_they_do(desk: Desk):
    heads, *lines = desk.invoke("ls").stdout.splitlines()
    assert heads.split() == ["WEBHOOK", "SERVER", "WAITING", "DEAD", "DELIVERED", "LAST", "ERROR"]
    assert [line.split() for line in lines] == [
        ["alarm", "https://alarm.example", "0", "0", "0", "-", "-"],
        ["orders", "https://orders.example", "2", "1", "0", "-", "answered", "410"],
    ]
    assert "hidden" not in desk.invoke("ls").output
    states = desk.document("ls")["webhooks"]
    assert [(state["name"], state["pending"], state["dead"]) for state in states] == [("alarm", 0, 0), ("orders", 2, 1)]


def test_where_there_are_none_it_says_so():
    empty = Desk()
    assert empty.invoke("ls").stderr.startswith("no webhooks; AgentQ(webhooks=[...])")
    assert empty.invoke("messages").stderr == "no messages: all were delivered\n"
    assert empty.document("messages") == {"messages": []}


def test_messages_are_listed_the_next_first(desk: Desk):
    heads, *lines = desk.invoke("messages").stdout.splitlines()
    assert heads.split()[0] == "MESSAGE"
    assert [line.split()[0][:4] for line in lines] == ["msg_"] * 3
    assert "answered 410" in lines[-1]
    documents = desk.document("messages", "orders")["messages"]
    assert [each["state"] for each in documents] == ["pending", "failed", "dead"]
    assert documents[1]["error"] == "answered 500"
    (dead,) = desk.document("messages", "--state", "dead")["messages"]
    assert (dead["next_ms"], dead["attempts"]) == (None, 1)
    assert desk.invoke("messages", "alarm").stderr == "no such messages\n"


def test_a_message_is_tried_again(desk: Desk):
    (dead,) = desk.document("messages", "--state", "dead")["messages"]
    assert desk.invoke("retry", dead["message_id"]).stdout == "1 message will be tried again\n"
    assert desk.document("messages", "--state", "dead") == {"messages": []}


def test_all_that_failed_are_tried_again(desk: Desk):
    assert desk.document("retry", "--failed", "--webhook", "orders") == {"retried": 2}
    assert {each["state"] for each in desk.document("messages")["messages"]} == {"pending"}
    assert desk.document("retry", "--failed") == {"retried": 0}


@pytest.mark.parametrize("args", [("retry",), ("retry", "msg_a_1", "--failed")])
def test_it_is_either_some_or_all(desk: Desk, args: tuple[str, ...]):
    assert "name messages, or say --failed" in desk.invoke(*args, code=2).stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("retry", "msg_nowhere_1"), "no message msg_nowhere_1 waits"),
        (("messages", "nowhere"), "no worker has a webhook named 'nowhere'; there are: alarm, orders"),
        (("forget", "nowhere"), "no worker has a webhook named 'nowhere'"),
        (("retry", "--failed", "--webhook", "nowhere"), "no worker has a webhook named 'nowhere'"),
        (("test", "nowhere"), "the app has no webhook 'nowhere'; it has: orders, alarm"),
    ],
)
def test_what_is_not_there_is_named(desk: Desk, args: tuple[str, ...], words: str):
    assert words in desk.invoke(*args, code=3).stderr


def test_a_webhook_is_forgotten(desk: Desk):
    assert desk.invoke("forget", "orders").stdout == "orders: forgotten\n"
    assert [state["name"] for state in desk.document("ls")["webhooks"]] == ["alarm"]
    assert desk.document("forget", "alarm") == {"webhooks": ["alarm"]}


def test_a_secret_is_made():
    made = Desk().invoke("secret").stdout.strip()
    assert len(secret_keys(made)[0]) == 32
    assert secret_keys(Desk().document("secret")["secret"])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver in a thread: the command has an event loop of its own."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    found: list[Receiver] = []
    stop = asyncio.Event()

    async def serve() -> None:
        async with receiving(204, 500) as made:
            found.append(made)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait(10)
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


def test_a_test_message_is_sent_signed(receiver: Receiver):
    desk = Desk(Webhook(receiver.url, SECRET, name="local"))
    assert desk.invoke("test", "local").stdout.startswith("local: answered 204 after ")
    document = desk.document("test", receiver.url, code=1)
    assert (document["webhook"], document["delivered"], document["error"]) == ("local", False, "answered 500")
    message = receiver.got[0].message(tolerance=300)
    assert (message["type"], message["data"]) == ("webhook.test", {"webhook": "local"})
