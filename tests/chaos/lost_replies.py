"""Every script that writes is carried out, its answer is thrown away, and it is sent again, at moments of random work.

    python -m tests.chaos.lost_replies --count 1000 --seed 7 --json

The second answer must be the first one, and the second sending must leave Redis as it was (promise P8). Scripts that
are meant to move on with time or with each call have only to do the runs no harm: the work goes on after them, and all
runs must come to their end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentq._ids import child_run_id, new_run_id, new_token
from agentq._redis.connection import Connection
from agentq.archive.exporting import Selection, export_archive
from agentq.archive.importing import import_archive
from agentq.archive.reading import ArchiveReader
from agentq.archive.restoring import Restorer
from agentq.archive.terms import Terms
from agentq.errors import AgentQError, CancelRequested, NotWaiting, SessionBusy, SessionMovedOn
from agentq.events.limits import LimitsChanged
from agentq.events.model import RunAnswered, RunRetried, RunWaiting, TextDelta
from agentq.executors.queue import QueueExecutor
from agentq.limits import Meter, RunLimits, Spent
from agentq.messages import user_message
from agentq.runs import CHILD, LIMIT, WHEN_BUSY, Question, Status
from agentq.settings import Settings
from agentq.stores.base import Answer, Decision, EventBatch, NewRun, Rest, Retry, Signal, StepRecord
from agentq.stores.redis import RedisStore
from agentq.stores.values import SCOPES, BreakerRule, Change, Scope, apply, owner_of
from agentq.testing._contract import commit_of, reply_message
from tests._redis_server import RedisServer
from tests.chaos.digest import DIGEST
from tests.chaos.lost_schedules import SendsSchedules
from tests.chaos.lost_steering import Steered
from tests.chaos.lost_webhooks import TellsWebhooks
from tests.helpers import LUA

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from agentq._redis.scripts import Script
    from agentq.runs import RunState
    from agentq.stores.base import Claim, Committed

# These count, or follow the clock: sent again they may write again. What they answer must mean the same.
MOVES_ON = {
    "renew": "extends leases from now",
    "sweep": "notes when it was here",
    "publish": "notes when it was here",
    "epoch": "notes when it was here",
    "count_wake": "skips a number",
    "schedules": "tells the time",
}
METER = Meter("user", "ann", "total")
# All scripts; that none is forgotten is for the folder to say.
SCRIPTS = tuple(sorted(path.stem for path in LUA.glob("[!_]*.lua")))
_LEASE_MS = 60_000
_OPEN = 6
_TRIES = 50
_FLUSH_EVERY = 40
_FILE = hashlib.sha256(b"content").hexdigest()


class Violation(AssertionError):
    """A script that was sent again did something, or answered something else."""


class Losing:
    """In place of a pipeline's `run`: sends every script twice, and gives the second answer."""

    def __init__(self, store: RedisStore) -> None:
        self.lost: Counter[str] = Counter()
        self._run = store.pipeline.run
        self._execute = store.pipeline.execute
        store.pipeline.run = self  # type: ignore[method-assign]

    async def __call__(self, script: Script, *, about: str = "", **values: Any) -> Any:
        first = await _outcome(self._run(script, about=about, **values))
        before = await self._digest(script.name)
        again = await _outcome(self._run(script, about=about, **values))
        self.lost[script.name] += 1
        # A claim that took nothing is not remembered; meanwhile a run, or a message, may be due.
        took_nothing = (script.name, first) == ("take_webhooks", ("answered", [])) or (
            script.name == "claim" and first[0] == "answered" and first[1][:2] == [[], 0]
        )
        if not took_nothing and script.name not in MOVES_ON:
            if _meaning(script.name, again) != _meaning(script.name, first):
                raise Violation(f"{script.name} answered {first!r}, and when it was sent again {again!r}")
            if await self._digest(script.name) != before:
                raise Violation(f"{script.name} was sent again with {values!r}, and wrote again")
        kind, value = again
        if kind == "raised":
            raise value[0](value[1])
        return value

    async def _digest(self, name: str) -> Any:
        return None if name in MOVES_ON else await self._execute("EVAL", DIGEST, 0)


def _meaning(name: str, outcome: tuple[str, Any]) -> tuple[str, Any]:
    """What an answer means to who gets it.

    That a run which one has made was there already is no news, and a breaker says how long it is still open.
    """
    match name, outcome:
        case "create", ("answered", value):
            return "answered", [value[0], value[2]]
        case "claim", ("answered", value):
            # The order of a hash may change while it grows, also by reading.
            claims = [[each[0], _pairs(each[1]), _pairs(each[2]), *each[3:]] for each in value[0]]
            return "answered", [claims, *value[1:]]
        case "take_webhooks" | "webhook_messages", ("answered", value):
            return "answered", [[*each[:2], _pairs(each[2]), *each[3:]] for each in value]
        case "breaker", ("answered", value):
            return "answered", value[0] > 0
    return outcome


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return sorted(zip(flat[::2], flat[1::2], strict=True))


async def _outcome(call: Coroutine[Any, Any, Any]) -> tuple[str, Any]:
    try:
        return "answered", await call
    except AgentQError as error:
        return "raised", (type(error), str(error))


@dataclass
class World(SendsSchedules, TellsWebhooks, Steered):
    """A few runs at a time, and everything that can be done to them."""

    store: RedisStore
    executor: QueueExecutor
    dice: random.Random
    open_runs: list[str] = field(default_factory=list)
    held: dict[str, tuple[Claim, int]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    paused: set[str] = field(default_factory=set)
    steered: set[str] = field(default_factory=set)
    children: dict[str, list[str]] = field(default_factory=dict)
    values: dict[tuple[Scope, str], dict[str, bytes]] = field(default_factory=dict)
    made: int = 0
    effects: int = 0

    @property
    def wake(self) -> Any:
        return self.executor.wakeup

    async def step(self, wanted: str) -> None:
        """Do something that sends the script `wanted`, or what has to come before that."""
        if len(self.open_runs) < _OPEN:
            await self.create()
        do: Callable[[], Awaitable[None]] = getattr(self, f"do_{wanted}", self.advance)
        await do()

    async def create(self) -> None:
        await self._create(self.dice.choice([None, *self.held]))

    async def _create(self, parent: str | None) -> str | None:
        """A new run; None where its parent starts nothing more."""
        self.made += 1
        new = NewRun(
            new_run_id() if parent is None else child_run_id(f"{parent}.1.{self.made}"),
            "shop",
            (user_message(f"prompt {self.made}"),),
            session_id=(session_id := self.dice.choice((None, None, "s1", "s2")) if parent is None else None),
            when_busy=self.dice.choice(("queue", *WHEN_BUSY)) if session_id is not None else "queue",
            idempotency_key=self.dice.choice((None, f"k{self.made}")),
            concurrency_key=self.dice.choice((None, None, None, "tenant-7")),
            concurrency=3,
            tenant=self.dice.choice((None, None, "acme")),
            priority=self.dice.choice((None, None, "high", "low")),
            delay_ms=self.dice.choice((0, 0, 0, 1)),
            files={_FILE: b"content"} if self.dice.random() < 0.2 else {},
            user_id=self.dice.choice((None, "u1")),
            parent_run_id=parent,
        )
        try:
            created = await self.store.create(new, wake=self.wake)
        except (CancelRequested, SessionBusy):
            return None
        self.open_runs.append(created.run_id)
        if parent is not None:
            self.children.setdefault(parent, []).append(created.run_id)
            if (await self.store.read(parent)).is_cancel_requested:
                raise Violation(f"run {created.run_id} started, and {parent} above it was cancelled")
        return created.run_id

    async def claim(self, run_id: str) -> bool:
        for claim in await self.store.claim([run_id], owner="w", claim_id=new_token(), lease_ms=_LEASE_MS):
            self.held[run_id] = claim, 0
        return run_id in self.held

    async def hold(self) -> str:
        """A run that is held; made and claimed if there is none."""
        if not self.held:
            await self.take_wakeups()
        if not self.held:
            await self.resume()
            await self.resume_all()
        for _ in range(_TRIES):
            if self.held:
                return self.dice.choice(sorted(self.held))
            for run_id in self.dice.sample(self.open_runs, len(self.open_runs)):
                state = await self.store.read(run_id)
                if state.status is Status.WAITING:
                    await self._answer_question(state)
                if await self.claim(run_id):
                    break
            else:
                await self.create()
        raise Violation(f"of {len(self.open_runs)} runs none can be claimed")

    async def _answer_question(self, state: RunState) -> None:
        """Answer a person's question; a run that waits for another one is woken by its end, and by nothing else."""
        asked = state.question
        if asked is None or asked.kind != CHILD:
            await self._answer(state)
        elif (await self.store.read(asked.run_id or "")).status.is_final:
            raise Violation(f"run {state.run_id} waits for run {asked.run_id}, which has ended")

    async def take_wakeups(self) -> None:
        taken = await self.store.claim_wakeups(
            self.executor.source(), owner="w", claim_id=new_token(), lease_ms=_LEASE_MS, count=2
        )
        for claim in taken.claims:
            self.held[claim.run.run_id] = claim, 0

    async def advance(self) -> None:
        """Whatever a worker does next."""
        await self.dice.choice((self.do_journal, self.do_commit, self.do_release, self.do_effect))()

    # --- one method for each script, named after it

    async def do_create(self) -> None:
        if len(self.open_runs) > 3 * _OPEN:
            await self.do_commit()
        else:
            await self.create()

    async def do_claim(self) -> None:
        await self.do_release()
        await self.hold()

    async def do_journal(self) -> None:
        run_id = await self.hold()
        claim, number = self.held[run_id]
        if self.dice.random() < 0.1:
            await self.store.cancel(run_id)
        changes = self._changes(claim)
        files = {_FILE: b"content"} if self.dice.random() < 0.3 else {}
        record = StepRecord(
            f"{run_id}.1.{number}",
            b'{"a":1}',
            starts_effect=self.dice.random() < 0.5,
            changes=changes,
            files=files,
        )
        events = tuple(TextDelta(text="x") for _ in range(self.dice.randint(0, 3)))
        try:
            await self.store.journal(claim.lease, [record], EventBatch(number + 1, events))
        except CancelRequested:
            changes = ()  # the commit that comes sooner or later ends it
        else:
            self.held[run_id] = claim, number + 1
            if files and await self.store.file(run_id, _FILE) != b"content":
                raise Violation(f"a file of run {run_id} is not there")
        await self._check_values(claim.run, changes)

    def _changes(self, claim: Claim) -> tuple[Change, ...]:
        """New values of a run, its session and its user, some of which take a name away."""
        if self.dice.random() < 0.4:
            return ()
        self.made += 1
        number = str(self.made).encode()
        scopes = [scope for scope in SCOPES if owner_of(scope, claim.run) is not None]
        return tuple(
            Change(self.dice.choice(scopes), self.dice.choice("abc"), self.dice.choice((None, number, number)))
            for _ in range(self.dice.randint(1, 4))
        )

    async def _check_values(self, run: RunState, changes: Sequence[Change]) -> None:
        """Every value is the one that was written last, and none that was refused is there."""
        for scope in SCOPES:
            if (of := owner_of(scope, run)) is not None:
                expected = self.values.setdefault((scope, of), {})
                apply(expected, [change for change in changes if change.scope == scope])
                if (found := dict(await self.store.values(scope, of))) != expected:
                    raise Violation(f"the values of {scope} {of} are {found}, and should be {expected}")

    async def do_decide(self) -> None:
        run_id = await self.hold()
        claim, number = self.held[run_id]
        call_id = f"{run_id}.9.{number}"
        await self.store.journal(claim.lease, [StepRecord(call_id, b'{"waits":1}')], EventBatch(number + 1))
        self.held[run_id] = claim, number + 1
        decided = StepRecord(f"{call_id}#approval", b'{"decision":"approved"}')
        with contextlib.suppress(NotWaiting):  # it was cancelled
            await self.store.decide(run_id, Decision(call_id, b'{"waits":1}', decided), wake=self.wake)

    async def do_signal(self) -> None:
        run_id = await self.hold()
        await self.store.signal(run_id, Signal(new_token(), "packed", b'{"by":"ann"}'), wake=self.wake)

    async def do_breaker(self) -> None:
        rule = BreakerRule(3, 3_600_000, 3_600_000)  # no key may end between two looks
        await self.store.shared.tell_breaker("t", rule, failed=self.dice.random() < 0.8, token=new_token())
        await self.store.shared.ask_breaker("t", rule, token=new_token())

    async def do_effect(self) -> None:
        run_id = await self.hold()
        claim, _ = self.held[run_id]
        self.effects += 1
        source = "return redis.call('INCR', KEYS[1])"
        name = f"{run_id}.1.0#{self.effects}"
        count = await self.store.commit_effect(claim.lease, name, source, ["effects"], [])
        if count != self.effects:
            raise Violation(f"{self.effects} writes of a tool made {count}")

    async def do_commit(self) -> None:
        await self._commit(self.dice.choice((Status.QUEUED, Status.COMPLETED, Status.COMPLETED, Status.FAILED)))

    async def _commit(self, status: Status, run_id: str | None = None) -> str:
        run_id = run_id or await self.hold()
        claim, number = self.held[run_id]
        state = await self.store.read(run_id)
        if state.is_cancel_requested:
            status = Status.CANCELLED
        commit = commit_of(
            claim,
            status,
            reply_message("said"),
            batch=EventBatch(number + 1, (TextDelta(text="y"),)),
            signals_seen=state.signals - (self.dice.random() < 0.1),
            delay_ms=self.dice.choice((0, 0, 1)) if status is Status.QUEUED else 0,
            changes=self._changes(claim),
            meters=(METER,),
            spent=Spent(tokens=7, cost_nanousd=70, iterations=1),
        )
        committed = await self.store.commit(claim.lease, commit, wake=self.wake)
        del self.held[run_id]
        is_heard = state.signals == commit.signals_seen and run_id not in self.steered
        if status.is_final and committed.status is Status.QUEUED and is_heard:
            raise Violation(f"run {run_id} did not end, and nobody had sent a signal")
        await self._check_values(claim.run, commit.changes)
        if committed.status.is_final:
            self.open_runs.remove(run_id)
            self.ended.append(run_id)
            await self._check_family(run_id, committed)
        return run_id

    async def _check_below(self, run_id: str) -> None:
        for child_id in self.children.get(run_id, ()):
            child = await self.store.read(child_id)
            if child.status.is_final:
                continue  # below it a run may have been opened again since
            if not child.is_cancel_requested:
                raise Violation(f"run {child_id} goes on, and the one above it, {run_id}, does not")
            await self._check_below(child_id)

    async def _check_family(self, run_id: str, committed: Committed) -> None:
        """Runs below one that has ended are asked to stop, and the one above it does not wait any more."""
        await self._check_below(run_id)
        parent_id = (await self.store.read(run_id)).parent_run_id
        if parent_id is None:
            return
        parent = await self.store.read(parent_id)
        if parent.question is not None and parent.question.kind == CHILD:
            raise Violation(f"run {parent_id} waits although run {run_id} below it has ended")
        if committed.parent_run_id is not None:
            raise Violation(f"run {parent_id} was to be woken by the script")

    async def do_release(self) -> None:
        await self._release(rests=self.dice.random() < 0.3)

    async def _release(self, *, rests: bool) -> str:
        run_id = await self.hold()
        claim, number = self.held.pop(run_id)
        question = Question(call_id=f"{run_id}.1.0", tool="charge", text="Did it happen?")
        waiting = RunWaiting(call_id=question.call_id, name="charge", text=question.text)
        rest = Rest((question,), claim.run.signals, (waiting,)) if rests else None
        child_id = None
        if rests and self.dice.random() < 0.3:
            await self._create(run_id)
        if rests and (others := [child for child in self.children.get(run_id, ()) if child in self.open_runs]):
            child_id = self.dice.choice(others)
            if self.dice.random() < 0.6 and (child_id in self.held or await self.claim(child_id)):
                # It ends while its parent goes to rest.
                await self._commit(Status.COMPLETED, child_id)
            asked = Question(call_id=question.call_id, tool="ask", text="it waits", kind=CHILD, run_id=child_id)
            rest = Rest((asked,), claim.run.signals, within_ms=self.dice.choice((0, _LEASE_MS)))
        elif rests and self.dice.random() < 0.2:
            limited = Question(call_id=question.call_id, tool="look", text="not so often", kind=LIMIT)
            rest = Rest((limited,), claim.run.signals, within_ms=1)
        await self.store.release(claim.lease, EventBatch(number + 1), wake=self.wake, rest=rest)
        if child_id is not None and child_id not in self.open_runs:
            state = await self.store.read(run_id)
            if state.status is Status.WAITING:
                raise Violation(f"run {run_id} went to rest, and run {child_id} below it had ended")
        return run_id

    async def do_answer(self) -> None:
        run_id = await self._release(rests=True)
        state = await self.store.read(run_id)
        if state.status is Status.WAITING:
            await self._answer_question(state)

    async def _answer(self, state: RunState) -> None:
        told = RunAnswered(call_id=f"{state.run_id}.1.0", name="charge", answer="unknown")
        record = StepRecord(f"{state.run_id}.1.0", b'{"yes":1}')
        await self.store.answer(state.run_id, Answer(state.fence, record, (told,)), wake=self.wake)

    async def do_cancel(self) -> None:
        run_id = self.dice.choice(self.open_runs)
        if self.dice.random() < 0.3 and (child_id := await self._create(run_id)) is not None:
            await self._create(child_id)
        await self.store.cancel(run_id, reason="enough")
        await self._check_below(run_id)
        await self._create(run_id)
        if run_id not in self.held and await self.claim(run_id):
            claim, _ = self.held.pop(run_id)
            commit = commit_of(claim, Status.CANCELLED, signals_seen=claim.run.signals)
            await self.store.commit(claim.lease, commit, wake=self.wake)
            self.open_runs.remove(run_id)
            self.ended.append(run_id)

    async def do_spent(self) -> None:
        await self.store.spent([METER])

    async def do_limit(self) -> None:
        run_id = self.dice.choice(self.open_runs)
        limits = RunLimits(iterations=self.dice.randint(1000, 2000))
        await self.store.set_limits(run_id, limits, (LimitsChanged(limits=limits.given()),), wake=self.wake)

    async def do_retry(self) -> None:
        run_id = await self._commit(Status.FAILED)
        if run_id not in self.ended:
            return
        state = await self.store.read(run_id)
        try:
            await self.store.retry(run_id, Retry(state.fence, (), (RunRetried(retries=1),)), wake=self.wake)
        except SessionMovedOn:
            return
        self.ended.remove(run_id)
        self.open_runs.append(run_id)

    async def do_lost(self) -> None:
        run_id = await self.hold()
        await self.store.report_loss(self.held[run_id][0].lease, unsure=False)

    async def do_renew(self) -> None:
        await self.hold()
        leases = [claim.lease for claim, _ in self.held.values()]
        held = [each.held for each in await self.store.renew(leases, lease_ms=_LEASE_MS)]
        if not all(held):
            raise Violation("a lease that was renewed twice counts as lost")

    async def do_sweep(self) -> None:
        await self.store.sweep(lease_ms=_LEASE_MS, wake=self.wake, agents=("shop",))

    async def do_publish(self) -> None:
        await self.store.publish_agents({"shop": {"queue": None}})

    async def do_epoch(self) -> None:
        await self.store.look_at_server()

    async def do_count_wake(self) -> None:
        await self.store.next_wake(self.dice.choice(self.open_runs))

    async def do_stage(self) -> None:
        await self._move_an_archive()

    async def do_restore(self) -> None:
        await self._move_an_archive()

    async def do_restore_session(self) -> None:
        await self._move_an_archive()

    async def _move_an_archive(self) -> None:
        """Export everything that has ended, delete it, and import it again."""
        while not self.ended or await self.store.pipeline.execute("EXISTS", self.store.keys.session("s1")) == 0:
            if len(self.open_runs) < _OPEN:
                await self.create()
            await self._commit(Status.COMPLETED)
        await self.end_all()
        store = self.store
        reader = ArchiveReader(store.pipeline, store.keys)
        lines = [each async for each in export_archive(store, reader, Selection()) if isinstance(each, bytes)]
        await store.pipeline.execute("FLUSHALL")
        self.ended.clear()
        # An archive holds the values of runs and of sessions.
        self.values = {key: kept for key, kept in self.values.items() if key[0] != "user"}
        self.effects = 0
        terms = Terms(Settings(), None, {})
        found = [
            each async for each in import_archive(Restorer(store.pipeline, store.keys), reader, iter(lines), terms)
        ]
        if wrong := [each for each in found if each.outcome != "new"]:
            raise Violation(f"an import whose replies were lost says {wrong[0]}")

    async def end_all(self) -> None:
        """Carry every run to its end. Raises `Violation` when one cannot be."""
        for _ in range(200 * (len(self.open_runs) + 1)):
            if not self.open_runs:
                return
            await self._commit(Status.COMPLETED)
        raise Violation(f"run {self.open_runs[0]} does not end: {await self.store.read(self.open_runs[0])}")


async def lose_replies(redis_url: str, count: int, seed: int) -> dict[str, Any]:
    """Lose `count` replies of every script, in a Redis that is emptied. Returns figures; raises `Violation`."""
    began = time.monotonic()
    dice = random.Random(seed)
    connection = Connection(redis_url)
    store = RedisStore(connection)
    losing = Losing(store)
    world = World(store, QueueExecutor(store, tenant_wakeups=2), dice)
    steps = 0
    try:
        await store.pipeline.execute("FLUSHALL")
        while wanted := [name for name in SCRIPTS if losing.lost[name] < count]:
            await world.step(dice.choice(wanted))
            steps += 1
            if steps % _FLUSH_EVERY == 0:
                await world.end_all()
                await store.pipeline.execute("FLUSHALL")
                world = World(store, world.executor, dice)
        await world.end_all()
    finally:
        await store.aclose()
        await connection.aclose()
    return {
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "steps": steps,
        "per_script": {name: losing.lost[name] for name in SCRIPTS},
        "violations": 0,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=100, help="replies to lose of each script [100]")
    parser.add_argument("--seed", type=int, default=0, help="what the dice begin with [0]")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="agentq-lost-replies-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            figures = asyncio.run(lose_replies(server.url, options.count, options.seed))
        except Violation as violation:
            sys.stdout.write(f"seed {options.seed}: {violation}\n")
            return 1
        finally:
            server.kill()
    sys.stdout.write(json.dumps(figures) + "\n" if options.json else f"{figures}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
