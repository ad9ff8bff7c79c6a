"""The part of `StoreContract` that is about messages that are sent into a run."""
# ruff: noqa: S101

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq._ids import new_token
from agentq.errors import CancelRequested, InboxFull, RunAlreadyFinished, RunNotFound
from agentq.events.model import RunSteered
from agentq.messages import user_message
from agentq.runs import Status
from agentq.stores.base import Retry, Steer, StepRecord, Store
from agentq.testing._contract import (
    answers_message,
    batch,
    calls_message,
    claimed,
    commit_of,
    events_of,
    queued,
    reply_message,
    running,
    stored,
    types_of,
)
from agentq.testing._steering_rules import ended

if TYPE_CHECKING:
    from agentq.events.stream import EventStream
    from agentq.stores.base import Claim


def steer(text: str, token: str = "") -> Steer:
    return Steer(token or new_token(), user_message(text), (RunSteered(text=text, by="ada"),))


def said(claim: Claim) -> list[str]:
    return [message.text for message in claim.messages]


@pytest.mark.asyncio
class InboxRules:
    """What every store does with messages for a run that goes on."""

    async def test_the_next_claim_has_the_message_at_the_end(self, store: Store, stream: EventStream) -> None:
        run_id = await queued(store, prompt="Price?")
        assert await store.steer(run_id, steer("In euros.")) is Status.QUEUED
        assert types_of(await events_of(stream, run_id))[-1] == "run.steered"
        assert (await store.read(run_id)).signals == 1
        claim = await claimed(store, run_id)
        assert said(claim) == ["Price?", "In euros."]
        assert claim.run.message_count == 2
        assert [message.text for message in await store.messages(run_id)] == said(claim)

    async def test_messages_come_in_order_and_once(self, store: Store) -> None:
        claim = await running(store, prompt="Price?")
        run_id = claim.lease.run_id
        for word in ("one", "two"):
            await store.steer(run_id, steer(word))
        await store.commit(claim.lease, commit_of(claim, Status.QUEUED, reply_message("5")))
        await store.steer(run_id, steer("three"))
        for owner in ("worker-1", "worker-2"):
            claim = await claimed(store, run_id, owner=owner)
            assert said(claim)[:5] == ["Price?", "5", "one", "two", "three"]
            await store.commit(claim.lease, commit_of(claim, Status.QUEUED, reply_message("more")))
        await store.steer(run_id, steer("four"))
        assert said(await claimed(store, run_id)) == ["Price?", "5", "one", "two", "three", "more", "more", "four"]

    async def test_the_same_message_again_has_no_effect(self, store: Store, stream: EventStream) -> None:
        run_id = await queued(store, prompt="Price?")
        await store.steer(run_id, steer("x", "t1"))
        before = await stored(store, stream, run_id)
        assert await store.steer(run_id, steer("x", "t1")) is Status.QUEUED
        assert await stored(store, stream, run_id) == before
        await claimed(store, run_id)
        assert await store.steer(run_id, steer("x", "t1")) is Status.RUNNING
        assert [message.text for message in await store.messages(run_id)] == ["Price?", "x"]

    async def test_an_answer_that_has_not_seen_the_message_does_not_end_the_run(self, store: Store) -> None:
        claim = await running(store, prompt="Price?")
        await store.steer(claim.lease.run_id, steer("In euros."))
        commit = commit_of(claim, Status.COMPLETED, reply_message("5 dollars"))
        committed = await store.commit(claim.lease, commit)
        assert committed.status is Status.QUEUED
        assert await store.commit(claim.lease, commit) == committed
        claim = await claimed(store, claim.lease.run_id)
        assert said(claim) == ["Price?", "5 dollars", "In euros."]
        # It may use all its iterations again, and no more than its limits give it.
        assert claim.run.heard_at == claim.run.iteration == 1
        assert claim.run.retried_at == 0
        done = await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("4 euros")))
        assert done.status is Status.COMPLETED

    async def test_no_message_comes_between_a_call_and_its_result(self, store: Store) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        reply = calls_message(run_id, "add")
        await store.journal(claim.lease, [StepRecord("reply", b"1")], batch(1))
        await store.steer(run_id, steer("In euros."))
        await store.release(claim.lease, batch(2))
        claim = await claimed(store, run_id)
        assert len(claim.messages) == 1
        await store.commit(claim.lease, commit_of(claim, Status.QUEUED, reply, answers_message(reply)))
        assert said(await claimed(store, run_id))[-1] == "In euros."

    async def test_a_message_that_no_claim_could_append_keeps_the_run_from_completing(self, store: Store) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        await store.journal(claim.lease, [StepRecord("reply", b"1")], batch(1))
        await store.steer(run_id, steer("In euros."))
        await store.release(claim.lease, batch(2))
        claim = await claimed(store, run_id)
        committed = await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("5")))
        assert committed.status is Status.QUEUED

    async def test_a_run_that_ends_keeps_what_it_has_not_seen_for_a_retry(self, store: Store) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        await store.steer(run_id, steer("In euros."))
        await store.cancel(run_id)
        await store.commit(claim.lease, commit_of(claim, Status.CANCELLED, signals_seen=9))
        await store.retry(run_id, Retry(claim.lease.fence))
        assert said(await claimed(store, run_id))[-1] == "In euros."

    async def test_a_run_that_is_over_reads_nothing_more(self, store: Store) -> None:
        done = await ended(store, Status.COMPLETED)
        with pytest.raises(RunAlreadyFinished):
            await store.steer(done.lease.run_id, steer("x"))
        claim = await running(store)
        await store.cancel(claim.lease.run_id)
        with pytest.raises(CancelRequested):
            await store.steer(claim.lease.run_id, steer("x"))
        with pytest.raises(RunNotFound):
            await store.steer("01JD3ZK8W5Q0X9V7T2M4N6P8RA", steer("x"))

    async def test_an_inbox_has_an_end(self, store: Store) -> None:
        run_id = await queued(store)
        for number in range(100):
            await store.steer(run_id, steer(f"message {number}"))
        with pytest.raises(InboxFull):
            await store.steer(run_id, steer("one more"))
        assert len((await claimed(store, run_id)).messages) == 101
        await store.steer(run_id, steer("one more"))
