"""Faults planted into the Lua that guards every write, one at a time, in copies of the scripts: each is found."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ResponseError

from agentq._ids import child_run_id
from agentq._redis import scripts
from agentq.errors import AgentQError, CancelRequested, LeaseLost
from agentq.runs import CHILD, Question, Status
from agentq.settings import Settings
from agentq.stores import _effects
from agentq.stores.base import Rest, StepRecord
from agentq.stores.values import Change
from agentq.testing import StoreContract
from agentq.testing._contract import batch, claimed, commit_of, new_run, reply_message, running
from agentq.testing._race_rules import WORDS
from agentq.wiring import redis_parts
from tests.chaos.lost_replies import Violation, lose_replies
from tests.helpers import LUA

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


# Some searches send every script many times, which takes long where others keep the machine busy.
pytestmark = pytest.mark.timeout(180)


async def _lost_replies(redis_url: str) -> None:
    """Every script is sent twice, in a random life of a few runs."""
    for seed in range(3):
        await lose_replies(redis_url, count=8, seed=seed)


async def _zombie(redis_url: str) -> None:
    """A worker was believed dead, was replaced, and writes."""
    parts = redis_parts(Settings(redis_url=redis_url))
    try:
        old = await running(parts.store, lease_ms=300)
        await asyncio.sleep(0.35)
        new = await claimed(parts.store, old.lease.run_id, owner="worker-2")
        if new.lease.fence <= old.lease.fence:
            raise Violation("two claims have the same fence")
        try:
            await parts.store.journal(old.lease, [], batch(1))
        except LeaseLost:
            return
        raise Violation("a worker that had been replaced could write")
    finally:
        await parts.aclose()


async def _living(redis_url: str) -> None:
    """A worker is alive, and another one asks for its run."""
    parts = redis_parts(Settings(redis_url=redis_url))
    try:
        held = await running(parts.store)
        taken = await parts.store.claim([held.lease.run_id], owner="worker-2", claim_id="c", lease_ms=60_000)
        if taken:
            raise Violation("a lease that had not expired was taken")
    finally:
        await parts.aclose()


async def _refused(redis_url: str) -> None:
    """A call with an effect is announced after the cancel, and what comes along with it changes a value."""
    parts = redis_parts(Settings(redis_url=redis_url))
    try:
        held = await running(parts.store)
        await parts.store.cancel(held.lease.run_id)
        step = StepRecord("c", b"{}", starts_effect=True, changes=(Change("run", "n", b"1"),))
        with contextlib.suppress(CancelRequested):
            await parts.store.journal(held.lease, [step], batch(1))
        if await parts.store.values("run", held.lease.run_id):
            raise Violation("a step that was refused changed a value")
    finally:
        await parts.aclose()


async def _ends_first(redis_url: str) -> None:
    """A run ends between the moment in which another one looks at it and that in which this one goes to rest."""
    parts = redis_parts(Settings(redis_url=redis_url))
    try:
        above = await running(parts.store)
        run_id = above.lease.run_id
        below = child_run_id(f"{run_id}.1.0")
        await parts.store.create(new_run(run_id=below, parent_run_id=run_id))
        child = await claimed(parts.store, below)
        await parts.store.commit(child.lease, commit_of(child, Status.COMPLETED, reply_message("16")))
        question = Question(call_id="c", tool="ask", text="it waits", kind=CHILD, run_id=below)
        rest = Rest((question,), above.run.signals)
        if (await parts.store.release(above.lease, batch(1), rest=rest)).status is Status.WAITING:
            raise Violation("a run waits for one that has ended")
    finally:
        await parts.aclose()


def _rules(*names: str) -> Callable[[str], Awaitable[None]]:
    """Rules of the contract that every store is held against; none of them lets time pass."""

    async def search(redis_url: str) -> None:
        parts = redis_parts(Settings(redis_url=redis_url))
        try:
            for name in names:
                rule = getattr(StoreContract(), f"test_{name}")
                wants = inspect.signature(rule).parameters
                given = {"store": parts.store, "stream": parts.stream}
                await parts.store.pipeline.execute("FLUSHALL")
                for words in permutations((*WORDS, "cancel"), 2) if "given" in wants else [None]:
                    try:
                        await rule(**{each: given.get(each, words) for each in wants})
                    except (AssertionError, pytest.fail.Exception) as error:
                        raise Violation(f"{name}: {error}") from error
        finally:
            await parts.aclose()

    return search


async def _crowded(redis_url: str) -> None:
    """Three runs with a key that lets two of them go on; one of these comes to its end, and another one rests."""
    parts = redis_parts(Settings(redis_url=redis_url))
    store = parts.store
    try:
        new = [new_run(concurrency_key="tenant-7", concurrency=2) for _ in range(4)]
        run_ids = [(await store.create(each)).run_id for each in new]
        claims = await store.claim(run_ids, owner="w", claim_id="c1", lease_ms=60_000)
        if [claim.lease.run_id for claim in claims] != run_ids[:2]:
            raise Violation(f"{len(claims)} runs go on with a key that lets two of them")
        await store.commit(claims[0].lease, commit_of(claims[0], Status.COMPLETED, reply_message("16")))
        question = Question(call_id="c", tool="charge", text="it waits")
        await store.release(claims[1].lease, batch(1), rest=Rest((question,), claims[1].run.signals))
        claims = await store.claim(run_ids, owner="w", claim_id="c2", lease_ms=60_000)
        if [claim.lease.run_id for claim in claims] != run_ids[2:]:
            raise Violation(f"two places were given back, and {len(claims)} of those in line go on")
    finally:
        await parts.aclose()


_DECIDES = _rules(
    "a_decision_is_journaled_and_the_run_goes_on",
    "of_two_words_the_first_one_counts",
    "a_decision_that_is_sent_again_answers_as_before",
    "what_does_not_wait_so_any_more_is_not_decided",
    "a_worker_that_holds_the_run_hears_of_it_before_it_ends_the_run",
    "the_call_may_not_exist_any_more",
    "a_word_that_comes_before_the_run_rests_keeps_it_from_that",
)
_SIGNALS = _rules(
    "signals_are_kept_in_order_and_each_once",
    "a_signal_wakes_a_run_that_waits_and_keeps_another_from_resting",
    "a_signal_that_was_taken_does_not_come_again",
    "a_run_that_has_ended_takes_no_signal_but_knows_those_it_had",
)
_PAUSES = _rules(
    "a_queued_run_is_paused_at_once_and_says_why",
    "a_run_that_is_held_finishes_its_iteration_first",
    "pausing_and_resuming_again_changes_nothing",
    "a_cancel_takes_the_pause_away",
    "a_run_that_waits_is_paused_when_it_would_go_on",
)
_MESSAGES = _rules(
    "messages_come_in_order_and_once",
    "the_same_message_again_has_no_effect",
    "an_answer_that_has_not_seen_the_message_does_not_end_the_run",
    "no_message_comes_between_a_call_and_its_result",
    "a_run_that_is_over_reads_nothing_more",
)
_BUSY = _rules(
    "a_run_that_is_not_to_wait_is_refused_while_another_is_there",
    "of_two_newer_messages_the_last_one_wins",
    "a_live_run_that_nobody_holds_is_named_so_that_somebody_ends_it",
)


@dataclass(frozen=True)
class LuaFault:
    """`old` becomes `new` in `file`; `search` is what has to find it."""

    name: str
    file: str
    old: str
    new: str
    search: Callable[[str], Awaitable[None]] = _lost_replies


_CHANGES_FIRST = "change_values(ARGV[1], run, changes, ARGV[7]) if ARGV[5] == '1' and state.cancel then"
PLANTED = (
    LuaFault("no check of the fence", "_fence", "if not holds(state, fence, owner) then", "if false then", _zombie),
    LuaFault("live leases are taken", "claim", "number(state.lease_until) <= now", "true", _living),
    LuaFault(
        "the fence does not grow", "claim", "redis.call('HINCRBY', run, 'fence', 1)", "number(state.fence)", _zombie
    ),
    LuaFault("commit is not idempotent", "commit", "if state.committed == fence then", "if false then"),
    LuaFault("journal is not idempotent", "_fence", "tonumber(number) >= tonumber(batch) then", "false then"),
    LuaFault("create is not idempotent", "create", "if hash then", "if false then"),
    LuaFault("claim is not idempotent", "claim", "batch.id ~= ARGV[3]", "true"),
    LuaFault("release is not idempotent", "release", "if released == fence then", "if false then"),
    LuaFault("a tool's write is not recorded", "effect", "if record then", "if false then"),
    LuaFault("a retry is not recognised", "retry", "if retried == fence then", "if false then"),
    LuaFault("an answer is not recognised", "answer", "if answered == given then", "if false then"),
    LuaFault("the end of a child does not wake its parent", "_finish", "not waits_for_child(state[2])", "true"),
    LuaFault(
        "the end of a child is no signal", "_finish", "redis.call('HINCRBY', parent, 'signals', 1)", "", _ends_first
    ),
    LuaFault("a cancel stops at the first generation", "_cancel", "above[#above + 1] = child", ""),
    LuaFault("the end of a parent leaves its children", "commit", "cancel_children(", "-- cancel_children("),
    LuaFault("a cancelled run starts another one", "create", " or above[2] then", " then"),
    LuaFault(
        "a refused step changes values", "journal", "if ARGV[5] == '1' and state.cancel then", _CHANGES_FIRST, _refused
    ),
    LuaFault("what a worker took is not known again", "take_webhooks", "if before == token then", "if false then"),
    LuaFault(
        "what became of a message is not known again", "settle_webhook", "if of[2] == ARGV[2] then", "if false then"
    ),
    LuaFault("an import stages twice", "stage", "if counts == ARGV[1] then", "if false then"),
    LuaFault("a decision can be changed", "decide", "elseif stands then", "elseif false then", _DECIDES),
    LuaFault("a decision is not recognised", "decide", "if stands == ARGV[6] then", "if false then"),
    LuaFault("a cancelled run takes decisions", "decide", "or state.cancel then", "then", _DECIDES),
    LuaFault("a call that moved on is decided", "decide", "ARGV[3]) ~= ARGV[4]", "ARGV[3]) == ''", _DECIDES),
    LuaFault(
        "a decision wakes nobody",
        "decide",
        "local status = requeue(prefix, run, run_id)",
        "local status = state.status",
        _DECIDES,
    ),
    LuaFault("a decision is no signal", "decide", "redis.call('HINCRBY', run, 'signals', 1)", "", _DECIDES),
    LuaFault(
        "a signal is kept twice", "signal", "if redis.call('HEXISTS', KEYS[2], ARGV[3]) == 1 then", "if false then"
    ),
    LuaFault("a run that has ended takes signals", "signal", "FINAL[state.status]", "false", _SIGNALS),
    LuaFault("a signal wakes nobody", "signal", "if state.status ~= 'waiting' then", "if true then", _SIGNALS),
    LuaFault(
        "signals come in another order",
        "signal",
        "redis.call('HLEN', KEYS[2]) + 1",
        "-redis.call('HLEN', KEYS[2])",
        _SIGNALS,
    ),
    LuaFault("a signal is no signal", "signal", "redis.call('HINCRBY', run, 'signals', 1)", "", _SIGNALS),
    LuaFault("a signal can be taken twice", "journal", "ipairs(taken)", "ipairs({})", _SIGNALS),
    LuaFault("a paused run goes on", "_status", "to = 'paused'", "to = 'queued'", _PAUSES),
    LuaFault("a pause is not recognised", "pause", "if state.pause then", "if false then"),
    LuaFault("a pause is no signal", "pause", "redis.call('HINCRBY', run, 'signals', 1)", "", _PAUSES),
    LuaFault("a message is not recognised", "steer", "if token == ARGV[1] then", "if false then"),
    LuaFault("messages come in another order", "steer", "'RPUSH', KEYS[2]", "'LPUSH', KEYS[2]", _MESSAGES),
    LuaFault("messages stay in the inbox", "_inbox", "redis.call('DEL', run .. ':inbox')", "", _MESSAGES),
    LuaFault("a run that has ended takes messages", "steer", "FINAL[state.status]", "false", _MESSAGES),
    LuaFault("a key has one place too many", "_places", "if taken < (tonumber", "if taken <= (tonumber", _crowded),
    LuaFault("a place is not given back", "_status", "  leave_place(prefix, run, run_id)", "", _crowded),
    LuaFault("those in line wait for ever", "_places", "  fill_places(prefix, of[1])", "", _crowded),
    LuaFault("nobody makes way", "_busy", "stop(live)", "", _BUSY),
)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[LuaFault], None]]:
    """Puts a fault into the scripts for one test."""
    read = scripts._read  # noqa: SLF001 - a copy of the scripts is patched, not the files

    def put(fault: LuaFault) -> None:
        def patched(name: str) -> str:
            source = read(name)
            if name != fault.file:
                return source
            assert source.count(fault.old) == 1, f"{fault.file}.lua has not one place for {fault.name!r}"
            return source.replace(fault.old, fault.new)

        monkeypatch.setattr(scripts, "_read", patched)
        _forget()

    yield put
    _forget()


def _forget() -> None:
    """Scripts are read anew."""
    scripts.script.cache_clear()
    _effects._script_around.cache_clear()  # noqa: SLF001 - as above


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.name)
async def test_a_planted_fault_is_found(fault: LuaFault, plant: Callable[[LuaFault], None], redis_url: str):
    plant(fault)
    # Redis itself refuses some of what a faulty script does, such as an event under a number that is taken.
    with pytest.raises((Violation, AgentQError, ResponseError)):
        await fault.search(redis_url)


@pytest.mark.parametrize(
    "search",
    [_lost_replies, _zombie, _living, _refused, _ends_first, _DECIDES, _SIGNALS, _PAUSES, _MESSAGES, _BUSY, _crowded],
)
async def test_without_a_fault_nothing_is_found(search: Any, redis_url: str):
    await search(redis_url)


def test_every_guard_is_in_its_file():
    for fault in PLANTED:
        assert (LUA / f"{fault.file}.lua").read_text().count(fault.old) == 1, fault.name
