"""The part of `StoreContract` that is about words of people that meet others, or a run that moves on."""
# ruff: noqa: S101

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest

from agentq.errors import AgentQError, AlreadyDecided, LeaseLost, NotWaiting
from agentq.events.model import RunAnswered
from agentq.runs import APPROVAL, Question, Status
from agentq.stores.base import Decision, Rest, Signal, StepRecord, Store
from agentq.testing._contract import (
    GRACE_S,
    PassTime,
    batch,
    claimed,
    commit_of,
    reply_message,
    running,
    stored,
    try_claim,
)

if TYPE_CHECKING:
    from agentq.events.stream import EventStream
    from agentq.stores.base import Claim

CALL = "R.1.0"
WAITS = b'{"waits":{"kind":"approval"}}'
WORDS = ("approved", "denied", "expired")


def decision(word: Any, *, seen: bytes = WAITS, call_id: str = CALL) -> Decision:
    record = StepRecord(f"{call_id}#approval", b'{"decision":"%s"}' % word.encode())
    return Decision(call_id, seen, record, (RunAnswered(call_id=call_id, name="charge", answer=word, by="ann"),))


def signal(signal_id: str, name: str = "packed", data: bytes = b"1") -> Signal:
    told = RunAnswered(call_id="", name=name, answer="signal", by="ann")
    return Signal(signal_id, name, data, (told,))


def rest(claim: Claim, *, within_ms: int = 0) -> Rest:
    asked = Question(call_id=CALL, tool="charge", text="charge has to be allowed", kind=APPROVAL)
    return Rest((asked,), claim.run.signals, within_ms=within_ms)


async def deciding(store: Store) -> Claim:
    """A run that is held, one of whose calls waits to be allowed."""
    claim = await running(store)
    await store.journal(claim.lease, [StepRecord("reply", b"1"), StepRecord(CALL, WAITS)], batch(1))
    return claim


async def resting(store: Store) -> Claim:
    """The same, and nobody holds it."""
    claim = await deciding(store)
    assert (await store.release(claim.lease, batch(2), rest=rest(claim))).status is Status.WAITING
    return claim


@pytest.mark.asyncio
class RaceRules:
    """What every store does where two say something at once, or what they speak of is over."""

    @pytest.mark.parametrize("given", list(permutations((*WORDS, "cancel"), 2)), ids="-".join)
    async def test_of_two_words_the_first_one_counts(
        self, store: Store, stream: EventStream, given: tuple[str, str]
    ) -> None:
        """Whoever it is: two people, one of them and the end of the time for it, or somebody who cancels the run."""
        for make in (resting, deciding):
            run_id = (await make(store)).lease.run_id
            first, second = given
            await self._say(store, run_id, first)
            before = await stored(store, stream, run_id), await store.journaled(run_id)
            if second == "cancel":
                await self._say(store, run_id, second)
                assert (await store.read(run_id)).is_cancel_requested
                assert await store.journaled(run_id) == before[1]
                continue
            with pytest.raises(NotWaiting if first == "cancel" else AlreadyDecided):
                await self._say(store, run_id, second)
            assert (await stored(store, stream, run_id), await store.journaled(run_id)) == before

    @staticmethod
    async def _say(store: Store, run_id: str, word: str) -> None:
        await (store.cancel(run_id) if word == "cancel" else store.decide(run_id, decision(word)))

    async def test_the_call_may_not_exist_any_more(self, store: Store, stream: EventStream) -> None:
        """Its iteration has been committed, or the run has ended."""
        claim = await deciding(store)
        run_id = claim.lease.run_id
        await store.commit(claim.lease, commit_of(claim, Status.QUEUED, reply_message("5"), batch=batch(2)))
        for status in (Status.COMPLETED, None):
            before = await stored(store, stream, run_id)
            with pytest.raises(NotWaiting):
                await store.decide(run_id, decision("approved"))
            assert await stored(store, stream, run_id) == before
            if status is not None:
                claim = await claimed(store, run_id)
                await store.commit(claim.lease, commit_of(claim, status, reply_message("Done.")))

    async def test_a_word_that_comes_before_the_run_rests_keeps_it_from_that(self, store: Store) -> None:
        claim = await deciding(store)
        assert (await store.decide(claim.lease.run_id, decision("approved"))).status is Status.RUNNING
        assert (await store.release(claim.lease, batch(2), rest=rest(claim))).status is Status.QUEUED

    async def test_a_paused_run_takes_a_word_and_stays_paused(self, store: Store, pass_time: PassTime) -> None:
        run_id = (await resting(store)).lease.run_id
        await store.pause(run_id)
        assert (await store.decide(run_id, decision("approved"))).status is Status.PAUSED
        await pass_time(2 * GRACE_S)
        assert await try_claim(store, run_id) == ()
        assert (await store.resume(run_id)).status is Status.QUEUED
        assert f"{CALL}#approval" in (await claimed(store, run_id)).journal

    async def test_a_signal_wakes_a_run_that_waits_and_keeps_another_from_resting(self, store: Store) -> None:
        run_id = (await resting(store)).lease.run_id
        assert (await store.signal(run_id, signal("a"))).status is Status.QUEUED
        claim = await deciding(store)
        await store.signal(claim.lease.run_id, signal("a"))
        assert (await store.release(claim.lease, batch(2), rest=rest(claim))).status is Status.QUEUED

    async def test_a_step_that_is_refused_takes_no_signal(self, store: Store, pass_time: PassTime) -> None:
        claim = await running(store, lease_ms=300)
        run_id = claim.lease.run_id
        await store.signal(run_id, signal("a"))
        await pass_time(0.4)
        await claimed(store, run_id, owner="worker-2")
        with pytest.raises(LeaseLost):
            await store.journal(claim.lease, [StepRecord(f"{CALL}#1", b"{}", takes=("a",))], batch(1))
        assert list(await store.signals(run_id)) == ["a"]

    async def test_signals_outlast_a_commit_and_a_lost_worker(self, store: Store, pass_time: PassTime) -> None:
        """One that comes before anybody waits for it is kept as long as the run goes on."""
        claim = await running(store)
        run_id = claim.lease.run_id
        await store.signal(run_id, signal("a"))
        await store.commit(claim.lease, commit_of(claim, Status.QUEUED, reply_message("5")))
        await claimed(store, run_id, lease_ms=300)
        await pass_time(0.4)
        await claimed(store, run_id, owner="worker-2")
        assert list(await store.signals(run_id)) == ["a"]

    async def test_after_its_time_a_run_that_waits_is_claimed_whatever_was_said(
        self, store: Store, pass_time: PassTime
    ) -> None:
        """The end of the time for a decision is a decision of the worker that looks."""
        claim = await deciding(store)
        run_id = claim.lease.run_id
        await store.release(claim.lease, batch(2), rest=rest(claim, within_ms=300))
        assert await try_claim(store, run_id) == ()
        await pass_time(0.4)
        claim = await claimed(store, run_id, owner="worker-2")
        assert (await store.decide(run_id, decision("denied"))).status is Status.RUNNING
        with pytest.raises(AgentQError):
            await store.decide(run_id, decision("expired"))
        assert (await store.journaled(run_id))[f"{CALL}#approval"] == b'{"decision":"denied"}'
