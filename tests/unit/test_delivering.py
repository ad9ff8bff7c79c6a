"""Messages of webhooks on their way: signed, tried again, given up; over the store in memory, its clock, real HTTP."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Webhook, delivering
from agentq.delivering import AT_ONCE, Attempt, Delivering, delay_after, post_over_http
from agentq.errors import InvalidInput, StoreUnavailable
from agentq.signing import secret_keys
from agentq.stores.memory import MemoryStore
from agentq.stores.webhooks import LOCK_MS
from agentq.testing import FakeClock
from agentq.testing._contract import running
from agentq.testing._webhook_rules import end
from agentq.webhooks import RETRY_S, WebhookState
from tests.helpers import wait_until
from tests.receiver import OTHER_SECRET, SECRET, Receiver, receiving

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.webhooks import Delivery

# Beyond what jitter adds.
LATER = 1.11


class Desk:
    """A store with a webhook, runs that end, and a worker that delivers."""

    def __init__(self, url: str = "http://127.0.0.1:9/", *, secret: Any = SECRET, **fields: Any) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.webhook = Webhook(url, secret, name="orders", **fields)
        self.posted: list[tuple[Mapping[str, str], bytes]] = []
        self.answers: list[Attempt] = [Attempt(204)]

    async def publish(self) -> Desk:
        await self.store.webhooks.publish([self.webhook])
        return self

    async def end_run(self, **fields: Any) -> str:
        claim = await running(self.store, **fields)
        await end(self.store, claim)
        return claim.lease.run_id

    def worker(self, owner: str = "w", **parts: Any) -> Delivering:
        keys = secret_keys(self.webhook.secret)
        return Delivering(self.webhook, self.store.webhooks, lambda: keys, owner=owner, clock=self.clock, **parts)

    async def work(self) -> None:
        """A worker delivers what is due, to `answers`."""
        await self.worker(post=self.post).finish()

    async def post(self, webhook: Webhook, headers: Mapping[str, str], body: bytes) -> Attempt:
        self.posted.append((headers, body))
        return self.answers[min(len(self.posted), len(self.answers)) - 1]

    async def left(self) -> list[Delivery]:
        return list(await self.store.webhooks.messages("orders"))

    async def state(self) -> WebhookState:
        (state,) = await self.store.webhooks.known()
        return state


@pytest.fixture
async def desk() -> Desk:
    return await Desk().publish()


# --- over real HTTP


async def test_a_run_that_ends_is_told_signed(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    async with receiving() as receiver:
        desk = await Desk(receiver.url).publish()
        run_id = await desk.end_run(session_id="s")
        await desk.worker().finish()
        (got,) = receiver.got
    message = got.message()
    assert (got.method, got.path) == ("POST", "/hook?key=hidden")
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["Webhook-Timestamp"] == str(desk.clock.now_ms() // 1000)
    assert (message["type"], message["id"], got.id) == ("run.completed", f"msg_{run_id}_1", f"msg_{run_id}_1")
    assert message["data"]["output"] == "16"
    assert await desk.left() == []
    assert (await desk.state()).delivered == 1
    assert "hidden" not in caplog.text
    assert SECRET[6:] not in caplog.text


async def test_while_secrets_are_rotated_both_sign():
    async with receiving() as receiver:
        desk = await Desk(receiver.url, secret=[SECRET, OTHER_SECRET]).publish()
        await desk.end_run()
        await desk.worker().finish()
        (got,) = receiver.got
    assert got.message(SECRET) == got.message(OTHER_SECRET)


@pytest.mark.parametrize(
    ("play", "error"),
    [
        (500, "answered 500"),
        (404, "answered 404"),
        ((302, {"Location": "/elsewhere"}), "answered 302"),
        ((307, {"Location": "/elsewhere"}), "answered 307"),
        ("close", "the connection to 127.0.0.1"),
    ],
)
async def test_what_is_no_success_is_tried_again(play: Any, error: str):
    async with receiving(play, 200) as receiver:
        desk = await Desk(receiver.url).publish()
        await desk.end_run()
        await desk.worker().finish()
        (failed,) = await desk.left()
        assert failed.error.startswith(error)
        assert "hidden" not in failed.error
        assert failed.state == "failed"
        desk.clock.advance(RETRY_S[0] * LATER)
        await desk.worker().finish()
        assert await desk.left() == []
        # The same message, signed for the time of the attempt; and nobody followed the redirect.
        assert [each.path for each in receiver.got] == ["/hook?key=hidden"] * 2
    first, second = receiver.got
    assert (first.id, first.body) == (second.id, second.body)
    assert first.headers["Webhook-Timestamp"] != second.headers["Webhook-Timestamp"]
    assert first.message() == second.message()


async def test_a_server_that_hangs_is_given_its_time_and_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(delivering, "TIMEOUT_S", 0.05)
    async with receiving("hang") as receiver:
        attempt = await post_over_http(Webhook(receiver.url, SECRET), {}, b"{}")
        assert attempt == Attempt(error="no answer within 0.05 s")
        await wait_until(lambda: receiver.got)


async def test_an_answer_whose_body_breaks_off_has_come(monkeypatch: pytest.MonkeyPatch):
    async with receiving("half") as receiver:
        assert (await post_over_http(Webhook(receiver.url, SECRET), {}, b"{}")).is_delivered


async def test_a_server_that_is_not_there():
    async with receiving() as receiver:
        url = receiver.url
    attempt = await post_over_http(Webhook(url, SECRET), {}, b"{}")
    assert attempt.status is None
    assert "cannot be reached: Connection refused" in attempt.error
    assert "hidden" not in attempt.error


async def test_connections_are_used_again():
    async with receiving() as receiver:
        for _ in range(3):
            assert (await post_over_http(Webhook(receiver.url, SECRET), {}, b"{}")).is_delivered
        assert receiver.connections == 1


async def test_a_server_says_how_long_to_wait():
    async with receiving((429, {"Retry-After": "120"}), (503, {"Retry-After": "99999999"})) as receiver:
        webhook = Webhook(receiver.url, SECRET)
        assert (await post_over_http(webhook, {}, b"{}")).retry_after_s == 120
        assert (await post_over_http(webhook, {}, b"{}")).retry_after_s == 86_400


# --- attempts


async def test_attempts_are_made_for_three_days_and_then_no_more(desk: Desk, caplog: pytest.LogCaptureFixture):
    desk.answers = [Attempt(500, "answered 500")]
    await desk.end_run()
    for number, wait_s in enumerate(RETRY_S, start=1):
        await desk.work()
        assert len(desk.posted) == number
        desk.clock.advance(wait_s * 0.99)
        await desk.work()
        assert len(desk.posted) == number
        desk.clock.advance(wait_s * (LATER - 0.99))
    await desk.work()
    (dead,) = await desk.left()
    assert (dead.state, dead.attempts, dead.error) == ("dead", 10, "answered 500")
    assert len({headers["webhook-id"] for headers, _ in desk.posted}) == 1
    assert f"agentq webhooks retry {dead.message_id}" in caplog.text
    assert (await desk.state()).dead == 1


async def test_one_that_is_gone_is_given_up_at_once(desk: Desk):
    desk.answers = [Attempt(410, "answered 410")]
    await desk.end_run()
    await desk.work()
    (dead,) = await desk.left()
    assert (dead.state, dead.attempts) == ("dead", 1)


def test_waits_are_spread_and_never_shorter_than_asked_for():
    waits = {delay_after(1) for _ in range(50)}
    assert len(waits) > 10
    assert all(5_000 <= (wait or 0) <= 5_500 for wait in waits)
    assert delay_after(1, 120.0) == 120_000
    assert delay_after(1, 1e9) == 86_400_000
    assert delay_after(len(RETRY_S)) is not None
    assert delay_after(len(RETRY_S) + 1) is None


async def test_a_worker_that_dies_after_it_took_a_message_loses_none(desk: Desk):
    await desk.end_run()
    (taken,) = await desk.store.webhooks.take("orders", owner="dead", token="t", limit=1)
    await desk.work()
    assert desk.posted == []
    desk.clock.advance(LOCK_MS / 1000 + 1)
    await desk.work()
    ((headers, _),) = desk.posted
    assert headers["webhook-id"] == taken.delivery.message_id
    assert await desk.left() == []


async def test_a_worker_that_dies_before_it_said_so_sends_the_same_message_again(desk: Desk):
    """At least once: the receiver knows the second by its id."""
    await desk.end_run()

    async def say_nothing(taken: Any) -> None:
        raise StoreUnavailable

    delivered = desk.store.webhooks.delivered
    desk.store.webhooks.delivered = say_nothing  # type: ignore[method-assign]
    await desk.work()
    desk.store.webhooks.delivered = delivered  # type: ignore[method-assign]
    desk.clock.advance(LOCK_MS / 1000 + 1)
    await desk.work()
    (first, body), (second, again) = desk.posted
    assert first["webhook-id"] == second["webhook-id"]
    assert body == again
    assert await desk.left() == []


async def test_a_secret_that_is_not_to_be_had_is_a_failed_attempt(desk: Desk):
    def no_keys() -> tuple[bytes, ...]:
        raise InvalidInput("the secret HOOK cannot be had")

    await desk.end_run()
    await Delivering(desk.webhook, desk.store.webhooks, no_keys, owner="w", clock=desk.clock, post=desk.post).finish()
    (failed,) = await desk.left()
    assert failed.error == "it cannot be signed: the secret HOOK cannot be had"
    assert desk.posted == []


async def test_a_bug_in_one_message_does_not_end_the_others(desk: Desk, caplog: pytest.LogCaptureFixture):
    await desk.end_run()
    await desk.end_run()
    asked = 0

    async def post(webhook: Webhook, headers: Mapping[str, str], body: bytes) -> Attempt:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ZeroDivisionError
        return Attempt(204)

    await desk.worker(post=post).finish()
    assert len(await desk.left()) == 1
    assert "ZeroDivisionError" in caplog.text


# --- many


async def test_only_so_many_are_on_their_way_at_once(desk: Desk):
    for _ in range(3 * AT_ONCE):
        await desk.end_run()
    gate, now, most = asyncio.Event(), 0, 0

    async def post(webhook: Webhook, headers: Mapping[str, str], body: bytes) -> Attempt:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await gate.wait()
        now -= 1
        return Attempt(204)

    worker = desk.worker(post=post)
    finishing = [asyncio.create_task(worker.finish()) for _ in range(2)]
    await wait_until(lambda: now == AT_ONCE)
    gate.set()
    await asyncio.gather(*finishing)
    assert most == AT_ONCE
    assert await desk.left() == []


async def test_workers_deliver_each_message_once_between_them(desk: Desk):
    for _ in range(50):
        await desk.end_run()
    workers = [desk.worker(f"w{number}", post=desk.post) for number in range(4)]
    await asyncio.gather(*(worker.finish() for worker in workers))
    ids = [headers["webhook-id"] for headers, _ in desk.posted]
    assert len(ids) == len(set(ids)) == 50


async def test_what_is_on_its_way_when_a_worker_stops_is_waited_for_a_moment_and_then_left(desk: Desk):
    await desk.end_run()
    await desk.end_run()
    gate, entered = asyncio.Event(), 0

    async def post(webhook: Webhook, headers: Mapping[str, str], body: bytes) -> Attempt:
        nonlocal entered
        entered += 1
        if entered == 1:
            await gate.wait()
        else:
            await asyncio.Event().wait()
        return Attempt(204)

    worker = desk.worker(post=post)
    await worker.begin()
    await wait_until(lambda: entered == 2)
    gate.set()
    await worker.aclose(0.05)
    (left,) = await desk.left()
    assert left.state == "failed"  # it counts as an attempt: perhaps it has come
    desk.clock.advance(LOCK_MS / 1000 + 1)
    await desk.work()
    assert await desk.left() == []


async def test_a_receiver_hears_of_every_run_whatever_fails(monkeypatch: pytest.MonkeyPatch):
    """Twenty runs, a server that fails in every way: each message comes through, and is verified."""
    monkeypatch.setattr(delivering, "TIMEOUT_S", 0.2)
    receiver: Receiver
    async with receiving(500, "close", 429, "hang", 302, 200, 503, 204) as receiver:
        desk = await Desk(receiver.url).publish()
        runs = {await desk.end_run() for _ in range(20)}
        for wait_s in RETRY_S[:3]:
            await desk.worker().finish()
            desk.clock.advance(wait_s * LATER)
        await desk.worker().finish()
        assert await desk.left() == []
        assert {got.message()["data"]["run_id"] for got in receiver.got} == runs
