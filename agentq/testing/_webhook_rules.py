"""The part of `StoreContract` that is about webhooks. A store without `webhooks` tells nobody, and is excused."""
# ruff: noqa: S101

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentq import _json
from agentq._ids import new_token
from agentq.events.model import RunCompleted, RunFailedEvent
from agentq.runs import APPROVAL, INPUT, TIMER, Question, Status
from agentq.stores.base import Rest, Retry, Signal
from agentq.stores.webhooks import LOCK_MS
from agentq.testing._contract import PassTime, batch, claimed, commit_of, new_run, reply_message, running
from agentq.webhooks import KEPT_MS, Webhook, message_id_of

if TYPE_CHECKING:
    from agentq.stores.base import Claim, Store
    from agentq.stores.webhooks import Webhooks
    from agentq.webhooks import Delivery, Taken

# As Standard Webhooks shows one.
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105
ALL = Webhook("https://a.example/hook?key=1", _SECRET, name="all")
FAILURES = Webhook("https://b.example", _SECRET, name="failures", events=["run.failed"])
OTHERS = Webhook("https://c.example", _SECRET, name="others", agents=["somebody"])


def outbox_of(store: Store) -> Webhooks:
    """The outbox of the store."""
    outbox: Webhooks | None = getattr(store, "webhooks", None)
    if outbox is None:
        pytest.skip("this store has no webhooks")
    return outbox


async def told(store: Store, *webhooks: Webhook) -> Webhooks:
    """The outbox, after these webhooks were made known."""
    outbox = outbox_of(store)
    await outbox.publish(webhooks or (ALL,))
    return outbox


async def end(store: Store, claim: Claim, status: Status = Status.COMPLETED) -> None:
    closing = {
        Status.COMPLETED: (RunCompleted(output="16"),),
        Status.FAILED: (RunFailedEvent(reason="broken"),),
    }.get(status, ())
    await store.commit(claim.lease, commit_of(claim, status, reply_message("16"), closing=closing))


async def take(outbox: Webhooks, name: str = "all", *, owner: str = "worker-1", limit: int = 10) -> tuple[Taken, ...]:
    return await outbox.take(name, owner=owner, token=new_token(), limit=limit)


async def only(outbox: Webhooks, name: str = "all") -> Delivery:
    (found,) = await outbox.messages(name)
    return found


def question(number: int = 0, kind: str = APPROVAL, **fields: Any) -> Question:
    return Question(call_id="R.1.0", tool="pay", text="May it?", kind=kind, number=number, **fields)


async def rest(store: Store, claim: Claim, *questions: Question, number: int = 1) -> None:
    resting = Rest(questions, claim.run.signals, within_ms=1_000)
    released = await store.release(claim.lease, batch(number), rest=resting)
    assert released.status is Status.WAITING


@pytest.mark.asyncio
class WebhookRules:
    """What every store does with webhooks."""

    async def test_the_end_of_a_run_leaves_a_message_for_each_webhook_that_wants_it(self, store: Store) -> None:
        outbox = await told(store, ALL, FAILURES, OTHERS)
        claim = await running(store, user_id="ann", session_id="s")
        await end(store, claim)
        run = await store.read(claim.lease.run_id)
        found = await only(outbox)
        assert (found.message_id, found.type) == (message_id_of(run.run_id, run.fence), "run.completed")
        assert (found.run_id, found.agent, found.session_id, found.user_id) == (run.run_id, run.agent, "s", "ann")
        assert (found.seq, found.at_ms, found.state) == (run.seq, run.finished_ms, "pending")
        assert await outbox.messages("failures") == await outbox.messages("others") == ()
        await end(store, await running(store), Status.FAILED)
        assert (await only(outbox, "failures")).type == "run.failed"

    async def test_who_is_not_known_is_not_told(self, store: Store) -> None:
        outbox = outbox_of(store)
        await end(store, await running(store))
        await told(store)
        assert await outbox.messages("all") == ()
        assert [state.name for state in await outbox.known()] == ["all"]

    async def test_a_webhook_is_known_without_its_address_and_its_secret(self, store: Store) -> None:
        outbox = await told(store, FAILURES, ALL)
        first, second = await outbox.known()
        assert (first.name, first.where, first.agents, len(first.events)) == ("all", "https://a.example", (), 4)
        assert (second.name, second.events, second.pending) == ("failures", ("run.failed",), 0)

    async def test_a_commit_sent_again_or_refused_leaves_no_second_message(self, store: Store) -> None:
        outbox = await told(store)
        claim = await running(store)
        commit = commit_of(claim, Status.COMPLETED, reply_message("16"))
        for _ in range(2):
            await store.commit(claim.lease, commit)
        assert (await only(outbox)).attempts == 0

    async def test_an_iteration_that_does_not_end_the_run_leaves_none(self, store: Store) -> None:
        outbox = await told(store)
        claim = await running(store)
        await store.commit(claim.lease, commit_of(claim, Status.QUEUED, reply_message("more")))
        assert await outbox.messages("all") == ()

    async def test_a_run_that_ends_again_after_a_retry_is_told_again(self, store: Store) -> None:
        outbox = await told(store)
        claim = await running(store)
        await end(store, claim, Status.FAILED)
        await store.retry(claim.lease.run_id, Retry(claim.lease.fence))
        await end(store, await claimed(store, claim.lease.run_id))
        assert sorted(each.type for each in await outbox.messages("all")) == ["run.completed", "run.failed"]

    async def test_a_run_that_waits_for_people_is_told_with_what_it_asks(self, store: Store) -> None:
        outbox = await told(store)
        claim = await running(store)
        await rest(store, claim, question(approvers=("ann",), arguments={"card": 1}), question(1, TIMER))
        (taken,) = await take(outbox)
        assert (taken.delivery.type, taken.event) == ("run.waiting", None)
        (asked,) = _json.loads(taken.asks or b"[]")
        expected = {"call_id": "R.1.0", "number": 0, "kind": APPROVAL, "tool": "pay", "text": "May it?"}
        assert asked == expected | {"approvers": ["ann"], "until_ms": None}

    async def test_a_run_that_is_taken_up_again_tells_again_what_it_asks(self, store: Store) -> None:
        """Who was told of its end does not think that it still waits."""
        outbox = await told(store)
        claim = await running(store)
        await rest(store, claim, question())
        await store.signal(claim.lease.run_id, Signal("a", "packed", b"1"))
        claim = await claimed(store, claim.lease.run_id)
        await end(store, claim, Status.FAILED)
        await store.retry(claim.lease.run_id, Retry(claim.lease.fence))
        await rest(store, await claimed(store, claim.lease.run_id), question())
        assert [each.type for each in await outbox.messages("all")] == ["run.waiting", "run.failed", "run.waiting"]

    async def test_a_release_sent_again_leaves_no_second_message(self, store: Store) -> None:
        outbox = await told(store)
        claim = await running(store)
        for _ in range(2):
            await rest(store, claim, question())
        await only(outbox)

    async def test_a_run_that_waits_for_no_person_is_not_told(self, store: Store) -> None:
        outbox = await told(store)
        await rest(store, await running(store), question(kind=TIMER))
        claim = await running(store)
        await store.release(claim.lease, batch(1))
        assert await outbox.messages("all") == ()

    async def test_what_was_asked_before_is_not_told_again_and_what_is_new_is(
        self, store: Store, pass_time: PassTime
    ) -> None:
        outbox = await told(store)
        claim = await running(store)
        run_id = claim.lease.run_id
        await rest(store, claim, question())
        await pass_time(1.1)
        await rest(store, await claimed(store, run_id), question())
        assert len(await outbox.messages("all")) == 1
        await pass_time(1.1)
        await rest(store, await claimed(store, run_id), question(), question(1, INPUT))
        messages = await outbox.messages("all")
        assert len({each.message_id for each in messages}) == 2

    async def test_what_is_taken_is_nobody_elses_until_the_lock_runs_out(
        self, store: Store, pass_time: PassTime
    ) -> None:
        outbox = await told(store)
        await end(store, await running(store))
        (first,) = await take(outbox)
        assert first.delivery.attempts == 1
        assert _json.loads(first.event or b"{}")["output"] == "16"
        assert await take(outbox, owner="worker-2") == ()
        await pass_time(LOCK_MS / 1000 + 1)
        (second,) = await take(outbox, owner="worker-2")
        assert (second.delivery.message_id, second.delivery.attempts) == (first.delivery.message_id, 2)
        assert not await outbox.failed(first, "late", delay_ms=None)
        assert (await only(outbox)).state == "failed"

    async def test_the_same_take_again_answers_with_the_same(self, store: Store) -> None:
        outbox = await told(store)
        for _ in range(3):
            await end(store, await running(store))
        token = new_token()
        first, again = [await outbox.take("all", owner="w", token=token, limit=2) for _ in range(2)]
        assert first == again
        assert [each.delivery.attempts for each in again] == [1, 1]
        (last,) = await take(outbox)
        assert last.delivery.message_id not in {each.delivery.message_id for each in first}

    async def test_what_was_delivered_goes_whoever_has_it(self, store: Store, pass_time: PassTime) -> None:
        outbox = await told(store)
        await end(store, await running(store))
        (first,) = await take(outbox)
        await pass_time(LOCK_MS / 1000 + 1)
        await take(outbox, owner="worker-2")
        for _ in range(2):
            await outbox.delivered(first)
        assert await outbox.messages("all") == ()
        (state,) = await outbox.known()
        assert (state.delivered, state.pending, state.dead) == (1, 0, 0)
        assert state.delivered_ms is not None

    async def test_what_failed_is_due_again_after_a_while(self, store: Store, pass_time: PassTime) -> None:
        outbox = await told(store)
        await end(store, await running(store))
        (first,) = await take(outbox)
        for _ in range(2):
            assert await outbox.failed(first, "answered 500", delay_ms=5_000)
        found = await only(outbox)
        assert (found.state, found.error, found.attempts) == ("failed", "answered 500", 1)
        assert await take(outbox) == ()
        await pass_time(5.1)
        (second,) = await take(outbox)
        assert second.delivery.attempts == 2

    async def test_what_was_given_up_stays_until_somebody_retries_it(self, store: Store, pass_time: PassTime) -> None:
        outbox = await told(store)
        await end(store, await running(store))
        (first,) = await take(outbox)
        await outbox.failed(first, "answered 410", delay_ms=None)
        await pass_time(3_600)
        assert await take(outbox) == ()
        found = await only(outbox)
        assert (found.state, found.next_ms) == ("dead", None)
        (state,) = await outbox.known()
        assert (state.dead, state.pending, state.error) == (1, 0, "answered 410")
        token = new_token()
        assert await outbox.retry("all", [found.message_id, "msg_nowhere_1"], token=token) == 1
        (again,) = await take(outbox)
        assert (again.delivery.message_id, again.delivery.attempts) == (found.message_id, 1)
        # Sent again by now: somebody has it, and keeps it.
        assert await outbox.retry("all", [found.message_id], token=token) == 1
        assert await outbox.retry("all", [found.message_id], token=new_token()) == 0
        assert await take(outbox) == ()

    async def test_messages_can_be_asked_for_by_state_and_by_id(self, store: Store) -> None:
        outbox = await told(store)
        for _ in range(3):
            await end(store, await running(store))
        first, second = await take(outbox, limit=2)
        await outbox.failed(first, "x", delay_ms=60_000)
        await outbox.failed(second, "x", delay_ms=None)
        states = {state: await outbox.messages("all", state=state) for state in ("pending", "failed", "dead")}
        assert [len(found) for found in states.values()] == [1, 1, 1]
        assert states["failed"][0].message_id == first.delivery.message_id
        assert len(await outbox.messages("all")) == 3
        assert len(await outbox.messages("all", limit=2)) == 2
        dead = await outbox.message("all", second.delivery.message_id)
        assert dead is not None
        assert dead.state == "dead"
        assert await outbox.message("all", "msg_nowhere_1") is None

    async def test_nothing_is_kept_for_longer_than_its_time(self, store: Store, pass_time: PassTime) -> None:
        outbox = await told(store)
        await end(store, await running(store))
        await pass_time(KEPT_MS / 1000 + 1)
        assert await take(outbox) == ()
        assert await outbox.messages("all") == ()

    async def test_what_was_given_up_is_kept_for_as_long_again(self, store: Store, pass_time: PassTime) -> None:
        outbox = await told(store)
        await end(store, await running(store))
        await pass_time(KEPT_MS / 1000 - 60)
        await outbox.publish([ALL])
        (taken,) = await take(outbox)
        await outbox.failed(taken, "answered 500", delay_ms=None)
        await pass_time(KEPT_MS / 1000 - 60)
        assert (await only(outbox)).state == "dead"
        await pass_time(120)
        assert await outbox.messages("all") == ()

    async def test_a_webhook_that_is_forgotten_is_told_nothing(self, store: Store) -> None:
        outbox = await told(store)
        await end(store, await running(store))
        for _ in range(2):
            await outbox.forget("all")
        await end(store, await running(store))
        assert await outbox.known() == ()
        assert await outbox.messages("all") == ()
        assert await take(outbox) == ()

    async def test_a_message_outlives_its_run(self, store: Store, pass_time: PassTime) -> None:
        outbox = await told(store)
        claim = await running(store, metadata={"order": 7})
        commit = commit_of(claim, Status.COMPLETED, reply_message("16"), ttl_ms=1_000)
        await store.commit(claim.lease, commit)
        await pass_time(2)
        (taken,) = await take(outbox)
        assert (taken.event, taken.metadata) == (None, None)
        assert taken.delivery.agent == claim.run.agent

    async def test_metadata_comes_along(self, store: Store) -> None:
        outbox = await told(store)
        created = await store.create(new_run(metadata={"order": 7}))
        await end(store, await claimed(store, created.run_id))
        (taken,) = await take(outbox)
        assert _json.loads(taken.metadata or b"{}") == {"order": 7}
