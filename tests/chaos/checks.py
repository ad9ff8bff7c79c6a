"""What must be true when the dust has settled: of every run, effect, stream, session, and of every key in Redis."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from agentq._ids import child_run_id
from agentq.errors import RunNotFound
from agentq.messages import unanswered_calls
from agentq.runs import RunState, Status
from tests.chaos.deployment import MOVED
from tests.chaos.shapes import ALLOWED, ONCE
from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import redis.asyncio

    from agentq import AsyncClient
    from agentq.events.model import Event
    from agentq.messages import Message
    from tests.chaos.shapes import Shape

_AT_ONCE = 50
# A worker looks at RQ's registries every 30 s; a busy machine may be late.
_HEARTBEATS_S = 45
# Sets and lists of ours that are there as long as anything is; those of RQ that it never takes down, or entry by entry.
_LASTING = ("agentq:runs", "agentq:sessions", "agentq:expiring", "agentq:agents", "rq:queues", "rq:workers", "rq:wip:")


@dataclass(frozen=True)
class Planned:
    """A run that was accepted, and what is expected of it."""

    run_id: str
    shape: Shape
    session_id: str | None = None


@dataclass
class Found:
    """What was counted on the way."""

    runs: int = 0
    children: int = 0
    iterations: int = 0
    calls: int = 0
    unknown: int = 0
    cancelled: int = 0
    recoveries: int = 0
    decisions: int = 0
    events: int = 0


@dataclass
class Ledger:
    """What the tools did, by call and by what."""

    entries: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @classmethod
    def read(cls, path: Path) -> Ledger:
        ledger = cls()
        for line in path.read_text().splitlines() if path.exists() else ():
            what, _, call_id, *_ = line.split()
            ledger.entries[call_id][what] += 1
        return ledger

    def check(self, messages: Sequence[Message]) -> None:
        """What must not happen twice did not; what says that it happened did."""
        for result in (result for message in messages for result in message.tool_results):
            done = self.entries[result.call_id]
            if result.name in ONCE:
                assert done[f"{result.name}-start"] <= 1, f"{result.call_id} was begun twice: {done}"
                if result.outcome == "ok":
                    assert done[f"{result.name}-end"] == 1, f"{result.call_id} says that it happened: {done}"
                elif result.outcome == "cancelled":
                    assert done[f"{result.name}-start"] == 0, f"{result.call_id} says that it did not begin: {done}"
            elif result.outcome == "ok" and result.name in ("send", "look_up"):
                assert done["send-end"] + done["read"] >= 1, f"{result.call_id} says that it happened: {done}"


async def check_all(client: AsyncClient, planned: Sequence[Planned], ledger: Ledger) -> Found:
    """Every run is final and right, with its transcript, effects and events. Raises AssertionError."""
    found = Found()
    for start in range(0, len(planned), _AT_ONCE):
        part = planned[start : start + _AT_ONCE]
        await asyncio.gather(*(_check_run(client, each, ledger, found) for each in part))
    await _check_sessions(client, planned)
    return found


async def _check_run(client: AsyncClient, planned: Planned, ledger: Ledger, found: Found) -> None:
    run, messages = await asyncio.gather(client.read(planned.run_id), client.messages(planned.run_id))
    planned.shape.check(run, messages)
    ledger.check(messages)
    events = [event async for event in client.events(planned.run_id, live=False)]
    check_events(run, messages, events)
    found.decisions += check_decisions(run, messages, events, ledger)
    check_steering(run, messages, events)
    results = [result for message in messages for result in message.tool_results]
    found.runs += 1
    found.calls += len(results)
    found.unknown += sum(result.outcome == "unknown" for result in results)
    found.cancelled += run.status is Status.CANCELLED
    found.iterations += sum(event.type == "iteration.finished" for event in events)
    found.recoveries += sum(event.type == "run.recovered" for event in events)
    found.events += run.seq
    for call_id in (result.call_id for result in results if result.name == "ask"):
        await _check_child(client, run, child_run_id(call_id), ledger, found)


async def _check_child(client: AsyncClient, parent: RunState, run_id: str, ledger: Ledger, found: Found) -> None:
    """A run that another one started has ended with it, and as a run of its own it is right."""
    try:
        run, messages = await asyncio.gather(client.read(run_id), client.messages(run_id))
    except RunNotFound:
        assert parent.status is Status.CANCELLED, f"run {run_id} of run {parent.run_id} is not there"
        return
    assert run.status.is_final, f"run {run_id} is {run.status}, and run {parent.run_id}, which started it, has ended"
    assert run.status is Status.COMPLETED or parent.status is Status.CANCELLED, f"run {run_id} has {run.status}"
    assert unanswered_calls(messages) == (), f"run {run_id}: a call has no result"
    counted = [result for message in messages for result in message.tool_results if result.name == "tally"]
    for number, result in enumerate((each for each in counted if each.outcome == "ok"), start=1):
        assert result.content == f"{number} was counted", f"run {run_id}: {result}"
    ledger.check(messages)
    check_events(run, messages, [event async for event in client.events(run_id, live=False)])
    found.children += 1
    found.events += run.seq


def voided(events: Sequence[Event]) -> set[int]:
    """The numbers of pieces of replies that were given up."""
    return {
        number
        for event in events
        if event.type == "attempt.reset"
        for number in range(event.first, event.last + 1)
        if event.covers(number)
    }


def check_events(run: RunState, messages: Sequence[Message], events: Sequence[Event]) -> None:
    """Every number once and in order, none missing but voided ones; one commit for each iteration."""
    numbers = [event.seq for event in events]
    assert numbers == sorted(set(numbers)), f"run {run.run_id} has events out of order"
    missing = set(range(1, run.seq + 1)) - set(numbers) - voided(events)
    assert not missing, f"run {run.run_id} lacks events {sorted(missing)[:5]}"
    assert not [event for event in events if event.type == "gap"], f"run {run.run_id} has a gap"
    final = [event.type for event in events if event.type in ("run.completed", "run.failed", "run.cancelled")]
    assert final == [f"run.{run.status}"], f"run {run.run_id} ended as {final}"
    gone = voided(events)
    said = "".join(event.text for event in events if event.type == "text.delta" and event.seq not in gone)
    written = "".join(message.text for message in messages if message.role == "assistant")
    assert said == written, f"run {run.run_id} said {said!r}, and {written!r} is stored"


def check_decisions(run: RunState, messages: Sequence[Message], events: Sequence[Event], ledger: Ledger) -> int:
    """Each call that had to be allowed was decided once, and that is what became of it; how many words there were."""
    words = [event for event in events if event.type == "run.answered" and event.answer != "signal"]
    said = {event.call_id: event.answer for event in words}
    assert len(said) == len(words), f"run {run.run_id}: a call was decided on twice: {words}"
    for result in (each for message in messages for each in message.tool_results if each.name in ALLOWED):
        word, begun = said.get(result.call_id), ledger.entries[result.call_id][f"{result.name}-start"]
        assert word == "approved" or not begun, f"{result.call_id} was {word}, and was made"
        if result.outcome in ("ok", "unknown"):
            assert word == "approved", f"{result.call_id} was {word}, and its outcome is {result.outcome}"
        elif result.outcome == "error":
            assert word in ("denied", "expired"), f"{result.call_id} was {word}, and says {result.content!r}"
    return len(words)


def check_steering(run: RunState, messages: Sequence[Message], events: Sequence[Event]) -> None:
    """What was sent into the run is in its transcript once; what was paused was resumed, and began little meanwhile."""
    sent = sum(event.type == "run.steered" for event in events)
    heard = sum(message.role == "user" for message in messages) - 1
    assert heard == sent or (run.status is not Status.COMPLETED and heard <= sent), (
        f"run {run.run_id} was sent {sent} messages, and has {heard}"
    )
    begun: int | None = None
    for event in events:
        if event.type in ("run.paused", "run.resumed", "cancel.requested"):
            assert (begun is None) or event.type != "run.paused", f"run {run.run_id} was paused twice"
            begun = 0 if event.type == "run.paused" else None
        elif event.type == "iteration.started" and begun is not None:
            # The one that was under way may not have said so yet.
            begun += 1
            assert begun == 1, f"run {run.run_id} went on while it was paused"
    assert begun is None, f"run {run.run_id} has ended while it was paused"


async def _check_sessions(client: AsyncClient, planned: Sequence[Planned]) -> None:
    """The runs of each session went on one after the other, in the order in which they were accepted."""
    sessions: dict[str, list[str]] = defaultdict(list)
    for each in planned:
        if each.session_id is not None:
            sessions[each.session_id].append(each.run_id)
    for session_id, run_ids in sessions.items():
        state = await client.session(session_id)
        assert (state.open_runs, state.live_run_id) == (0, None), f"session {session_id} is not done: {state}"
        runs = [await client.read(run_id) for run_id in run_ids]
        told = [await client.messages(run.run_id) for run in runs]
        left = tuple(message for messages in told for message in messages)
        assert await client.session_messages(session_id) == left, f"session {session_id} is not what its runs said"
        seen = 0
        for run, messages in zip(runs, told, strict=True):
            assert run.history_length == seen, f"run {run.run_id} of session {session_id} saw another past"
            seen += len(messages)
        for before, after in pairwise(runs):
            assert before.finished_ms <= after.finished_ms, f"run {after.run_id} ended before {before.run_id}"


async def check_moves(redis: redis.asyncio.Redis, client: AsyncClient, planned: Sequence[Planned]) -> int:
    """Every write that was committed with its record happened exactly once; how many there were."""
    counts: dict[str, int] = {}
    async for key in redis.scan_iter(f"{MOVED}*", count=1000):
        counts[key.decode().removeprefix(MOVED)] = int(await redis.get(key) or 0)
    assert set(counts.values()) <= {1}, f"written twice: {[call for call, times in counts.items() if times > 1]}"
    for start in range(0, len(planned), _AT_ONCE):
        for messages in await asyncio.gather(
            *(client.messages(each.run_id) for each in planned[start : start + _AT_ONCE])
        ):
            for result in (result for message in messages for result in message.tool_results):
                if result.name == "move" and result.outcome == "ok":
                    assert counts.get(result.call_id) == 1, f"{result.call_id} says that it was written"
    return len(counts)


async def check_registries(redis: redis.asyncio.Redis) -> None:
    """What RQ was shown of iterations whose worker was killed runs out, and a worker that lives takes it away."""

    async def is_tidy() -> bool:
        over = [await redis.zcount(key, 0, time.time() - 1) async for key in redis.scan_iter("rq:wip:*")]
        return not any(over)

    await wait_until(is_tidy, timeout=_HEARTBEATS_S, message="entries that have run out stay in RQ's registries")


async def check_keys(redis: redis.asyncio.Redis) -> int:
    """Nothing is kept for ever, and nothing of RQ is left on its queues; how many keys there are."""
    strays, count = [], 0
    async for raw in redis.scan_iter(count=1000):
        key = raw.decode()
        count += 1
        if key.startswith("rq:job:"):
            strays += [key] if await redis.pttl(key) == -1 else []
        elif key.startswith(("rq:queue:", "rq:failed:", "rq:scheduled:")) or (
            not key.startswith(_LASTING) and await redis.pttl(key) == -1
        ):
            strays.append(key)
    assert not strays, f"left behind: {strays[:5]}"
    assert await redis.exists("agentq:due") == 0, "runs are due that have ended"
    return count


async def until_final(client: AsyncClient, planned: Sequence[Planned], timeout_s: float) -> None:
    """Wait until every run has ended. Raises AssertionError when one does not."""
    until = time.monotonic() + timeout_s
    open_runs = {each.run_id for each in planned}
    while open_runs:
        states = await asyncio.gather(*(client.read(run_id) for run_id in sorted(open_runs)[:200]))
        open_runs -= {state.run_id for state in states if state.status.is_final}
        if open_runs and time.monotonic() > until:
            raise AssertionError(f"{len(open_runs)} runs do not end: {await client.why(next(iter(open_runs)))}")
        await asyncio.sleep(0.05)
