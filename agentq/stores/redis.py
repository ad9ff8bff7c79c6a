"""`RedisStore`: runs in Redis hashes, every change one Lua script. The scripts are in agentq/_redis/lua."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq._redis.hub import Hub, Mark
from agentq._redis.keys import Keys
from agentq._redis.pipeline import Pipeline
from agentq._redis.scripts import Script, script
from agentq.errors import FileNotStored, RunNotFound
from agentq.events.model import RunQueued
from agentq.messages import Message, decode_message, encode_message
from agentq.runs import Pause, RunState, SessionState, Status
from agentq.stores import _arguments, _quotes
from agentq.stores._checks import check_answered
from agentq.stores._claims import ClaimedWakeups, Claims, WakeupSource
from agentq.stores._commits import Commits
from agentq.stores._effects import write_effect
from agentq.stores._epochs import Epoch, Epochs
from agentq.stores._listing import list_runs
from agentq.stores._manifests import Manifests
from agentq.stores._pauses import Pauses
from agentq.stores._records import fields_of_new_run, run_of_hash
from agentq.stores._retention import Retention
from agentq.stores._schedules import RedisSchedules
from agentq.stores._sessions import delete_session, list_sessions, read_session, read_session_messages
from agentq.stores._shared import RedisShared
from agentq.stores._signals import Signals
from agentq.stores._transcripts import Transcripts
from agentq.stores._webhooks import RedisWebhooks
from agentq.stores.base import (
    Answer,
    Appended,
    Claim,
    Commit,
    Committed,
    Created,
    Decision,
    EventBatch,
    Lease,
    NewRun,
    Released,
    Renewal,
    Rest,
    Retry,
    Signal,
    Signalled,
    Steer,
    StepRecord,
    Sweep,
    Wakeup,
)
from agentq.stores.webhooks import asks_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    import redis

    from agentq._redis.connection import Connection
    from agentq._redis.replication import Replication
    from agentq.events.model import Event
    from agentq.limits import Meter, RunLimits, Spent
    from agentq.stores.filters import RunFilter, SessionFilter
    from agentq.stores.values import Scope

# Two passes of all workers together come no closer than this, nor so far apart that it looks like a pause.
_SWEEP_SPACING_MS = 200
_SPACINGS_IN_LEASE = 10


class RedisStore:
    """Runs in Redis. One store a process is enough; it is not bound to a thread, but to one event loop."""

    def __init__(
        self,
        connection: Connection,
        *,
        prefix: str = "agentq",
        hub: Hub | None = None,
        retention: Retention | None = None,
        replication: Replication | None = None,
        scripts: Callable[[str], Script] = script,
    ) -> None:
        self.connection = connection
        self.keys = Keys(prefix)
        self.hub = hub or Hub(connection)
        self.pipeline = Pipeline(connection, replication)
        self._script = scripts
        self._manifests = Manifests(self.pipeline, self.keys, scripts)
        self._pauses = Pauses(self.pipeline, self.keys, scripts)
        self._signals = Signals(self.pipeline, self.keys, scripts)
        self._epoch = Epochs(self.pipeline, self.keys, scripts)
        self._transcripts = Transcripts()
        self._retention = retention or Retention()
        self._commits = Commits(
            self.pipeline, self.keys, scripts, self._transcripts, self._retention, self.known_agents
        )
        self.schedules = RedisSchedules(self.pipeline, self.keys, scripts)
        self.webhooks = RedisWebhooks(self.pipeline, self.keys, scripts)
        self.shared = RedisShared(self.pipeline, self.keys, scripts, connection)
        self._claims = Claims(self.pipeline, self.keys, scripts, self._transcripts, self._commits.set_aside)

    async def create(self, new: NewRun, *, wake: Wakeup | None = None) -> Created:
        check_answered(new.messages)
        queued = RunQueued(agent=new.agent, queue=new.queue, session_id=new.session_id, prompt=new.prompt)
        run_id, existed, woken, stopped = await self.pipeline.run(
            self._script("create"),
            about=_arguments.about(key=new.idempotency_key, session=new.session_id),
            run=self.keys.run(new.run_id),
            messages=self.keys.messages(new.run_id),
            events=self.keys.events(new.run_id),
            key=self.keys.idempotency(new.idempotency_key),
            files=self.keys.files(new.run_id, new.session_id),
            prefix=self.keys.prefix,
            run_id=new.run_id,
            hash=new.request_hash,
            delay_ms=new.delay_ms,
            at_ms=new.at_ms,
            wakeup=_arguments.template(wake),
            when_busy=new.when_busy,
            fields=fields_of_new_run(new),
            contents=[encode_message(message) for message in new.messages],
            items=_arguments.items((queued,)),
            blobs=[item for pair in new.files.items() for item in pair],
            firing=_arguments.firing(new.firing),
        )
        return Created(run_id.decode(), bool(existed), bool(woken), tuple(each.decode() for each in stopped))

    async def claim(
        self, run_ids: Sequence[str], *, owner: str, claim_id: str, lease_ms: int, agents: Sequence[str] | None = None
    ) -> tuple[Claim, ...]:
        if agents is not None and not agents:
            return ()
        claimed = await self._claims.take(
            WakeupSource((), ""), run_ids, owner=owner, claim_id=claim_id, lease_ms=lease_ms, count=0, agents=agents
        )
        return claimed.claims

    async def claim_wakeups(
        self,
        source: WakeupSource,
        *,
        owner: str,
        claim_id: str,
        lease_ms: int,
        count: int,
        is_idle: bool = True,
        agents: Sequence[str] | None = None,
    ) -> ClaimedWakeups:
        """Take up to `count` wake-ups off the queues and claim their runs, in one script. Idempotent by `claim_id`.

        A run that lost its worker twice is taken alone, by a worker that `is_idle`.
        """
        return await self._claims.take(
            source, (), owner=owner, claim_id=claim_id, lease_ms=lease_ms, count=count, is_idle=is_idle, agents=agents
        )

    async def renew(self, leases: Sequence[Lease], *, lease_ms: int) -> tuple[Renewal, ...]:
        if not leases:
            return ()
        answers = await self.pipeline.run(
            self._script("renew"), **_arguments.renewal(self.keys.prefix, leases, lease_ms)
        )
        return _arguments.renewals(leases, answers)

    async def journal(
        self, lease: Lease, records: Sequence[StepRecord], batch: EventBatch, *, using_tools: bool = False
    ) -> Appended:
        written = [item for record in records for item in (record.name.encode(), record.value)]
        items, quotes = _quotes.without_repeats(_arguments.items(batch.events), batch.events, written)
        last, at_ms = await self.pipeline.run(
            self._script("journal"),
            about=f"run {lease.run_id}",
            run=self.keys.run(lease.run_id),
            journal=self.keys.journal(lease.run_id),
            events=self.keys.events(lease.run_id),
            prefix=self.keys.prefix,
            fence=lease.fence,
            owner=lease.owner,
            batch=batch.number,
            effect=int(any(record.starts_effect for record in records)),
            phase="using_tools" if using_tools else "",
            user_ttl_ms=self._retention.session_ms,
            records=written,
            items=items,
            ranges=_arguments.ranges(batch),
            quotes=quotes,
            changes=_arguments.changes(change for record in records for change in record.changes),
            taken=[signal_id for record in records for signal_id in record.takes],
            blobs=[item for record in records for pair in record.files.items() for item in pair],
        )
        return Appended(last, at_ms)

    async def commit(self, lease: Lease, commit: Commit, *, wake: Wakeup | None = None) -> Committed:
        return await self._commits.commit(lease, commit, wake)

    async def release(
        self, lease: Lease, batch: EventBatch, *, wake: Wakeup | None = None, rest: Rest | None = None
    ) -> Released:
        status, woken = await self.pipeline.run(
            self._script("release"),
            about=f"run {lease.run_id}",
            run=self.keys.run(lease.run_id),
            events=self.keys.events(lease.run_id),
            prefix=self.keys.prefix,
            run_id=lease.run_id,
            fence=lease.fence,
            owner=lease.owner,
            batch=batch.number,
            wakeup=_arguments.template(wake),
            question=b"" if rest is None else _json.dumps(list(rest.questions)),
            signals=0 if rest is None else rest.signals_seen,
            within_ms=0 if rest is None else rest.within_ms,
            asks=asks_of(rest),
            items=_arguments.items(batch.events),
            closing=() if rest is None else _arguments.items(rest.closing),
        )
        self._transcripts.drop(lease.run_id)
        return Released(Status(status.decode()), bool(woken))

    async def answer(self, run_id: str, answer: Answer, *, wake: Wakeup | None = None) -> Released:
        return await self._signals.answer(run_id, answer, wake)

    async def retry(self, run_id: str, retry: Retry, *, wake: Wakeup | None = None) -> Released:
        return await self._signals.retry(run_id, retry, wake)

    async def set_limits(
        self, run_id: str, limits: RunLimits, events: Sequence[Event] = (), *, wake: Wakeup | None = None
    ) -> Released:
        return await self._signals.limit(run_id, limits, events, wake)

    async def cancel(self, run_id: str, *, reason: str = "", by: str = "") -> Signalled:
        return await self._signals.cancel(run_id, reason, by)

    async def decide(self, run_id: str, decision: Decision, *, wake: Wakeup | None = None) -> Released:
        return await self._signals.decide(run_id, decision, wake)

    async def signal(self, run_id: str, signal: Signal, *, wake: Wakeup | None = None) -> Released:
        return await self._signals.signal(run_id, signal, wake)

    async def signals(self, run_id: str) -> Mapping[str, Signal]:
        return await self._signals.kept(run_id)

    async def journaled(self, run_id: str) -> Mapping[str, bytes]:
        kept: Mapping[bytes, bytes] = await self.pipeline.execute("HGETALL", self.keys.journal(run_id))
        return {name.decode(): value for name, value in kept.items()}

    async def steer(self, run_id: str, steer: Steer) -> Status:
        return await self._signals.steer(run_id, steer)

    async def pause(self, run_id: str, *, reason: str = "", by: str = "") -> Signalled:
        return await self._signals.pause(run_id, reason, by)

    async def resume(self, run_id: str, *, by: str = "", wake: Wakeup | None = None) -> Released:
        return await self._signals.resume(run_id, by, wake)

    async def pause_all(self, scope: str, *, reason: str = "", by: str = "") -> Pause:
        return await self._pauses.pause(scope, reason, by)

    async def resume_all(self, scope: str) -> None:
        await self._pauses.resume(scope)

    async def pauses(self) -> Mapping[str, Pause]:
        return await self._pauses.read()

    async def sweep(
        self, *, lease_ms: int, wake: Wakeup | None = None, limit: int = 100, agents: Sequence[str] = ()
    ) -> Sweep:
        woken, to_wake, pruned = await self.pipeline.run(
            self._script("sweep"),
            due=self.keys.due,
            last=self.keys.sweep,
            prefix=self.keys.prefix,
            lease_ms=lease_ms,
            wakeup=_arguments.template(wake),
            limit=limit,
            spacing_ms=min(_SWEEP_SPACING_MS, lease_ms // _SPACINGS_IN_LEASE),
            agents=agents,
        )
        return Sweep(tuple(run.decode() for run in woken), tuple(run.decode() for run in to_wake), pruned)

    async def read(self, run_id: str) -> RunState:
        state = await self._find(run_id)
        if state is None:
            raise RunNotFound.of(run_id)
        return state

    async def _find(self, run_id: str) -> RunState | None:
        raw: Mapping[bytes, bytes] = await self.pipeline.execute("HGETALL", self.keys.run(run_id))
        return run_of_hash(run_id, [item for pair in raw.items() for item in pair]) if raw else None

    async def messages(self, run_id: str, *, start: int = 0) -> tuple[Message, ...]:
        contents = await self.pipeline.execute("LRANGE", self.keys.messages(run_id), start, -1)
        if not contents:
            await self.read(run_id)
        return tuple(decode_message(content) for content in contents)

    async def list(self, which: RunFilter) -> tuple[RunState, ...]:
        return await list_runs(self.pipeline, self.keys, self._find, which)

    async def session(self, session_id: str) -> SessionState:
        return await read_session(self.pipeline, self.keys, session_id)

    async def session_messages(self, session_id: str, *, start: int = 0) -> tuple[Message, ...]:
        messages = await read_session_messages(self.pipeline, self.keys, session_id, start)
        if not messages:
            await self.session(session_id)
        return messages

    async def list_sessions(self, which: SessionFilter) -> tuple[SessionState, ...]:
        return await list_sessions(self.pipeline, self.keys, which)

    async def delete_session(self, session_id: str) -> None:
        await delete_session(self.pipeline, self.keys, self._script("delete_session"), session_id)

    async def file(self, run_id: str, digest: str) -> bytes:
        session: bytes | None = await self.pipeline.execute("HGET", self.keys.run(run_id), "session")
        key = self.keys.files(run_id, session.decode() if session else None)
        content: bytes | None = await self.pipeline.execute("HGET", key, digest)
        if content is None:
            raise FileNotStored(f"run {run_id}, file {digest[:12]}…: {FileNotStored().args[0]}")
        return content

    async def values(self, scope: Scope, of: str) -> Mapping[str, bytes]:
        kept: Mapping[bytes, bytes] = await self.pipeline.execute("HGETALL", self.keys.values(scope, of))
        return {name.decode(): value for name, value in kept.items()}

    async def spent(self, meters: Sequence[Meter]) -> tuple[Spent, ...]:
        if not meters:
            return ()
        answers = await self.pipeline.run(
            self._script("spent"), prefix=self.keys.prefix, meters=_arguments.meters(meters)
        )
        return _arguments.spent_of(answers)

    async def commit_effect(
        self,
        lease: Lease,
        name: str,
        script: str,
        keys: Sequence[str | bytes],
        args: Sequence[str | bytes | int | float],
    ) -> Any:
        """Run a tool's script and record its answer under `name`, at once; see `stores/_effects.py`."""
        return await write_effect(self.pipeline, self.keys, lease, name, script, keys, args)

    async def report_loss(self, lease: Lease, *, unsure: bool, committed: int = 0) -> bool:
        """Note that Redis has lost what was written under the lease; whether the run is still there to be marked.

        `unsure`: a call with an effect may have been made of which nothing is stored any more. So it counts, too, where
        the commit with the fence `committed` is gone. Again: no effect.
        """
        return await self._epoch.report(lease, committed=committed, unsure=unsure)

    async def look_at_server(self) -> Epoch:
        """Note which server this Redis is, and tell since when."""
        return await self._epoch.look()

    async def next_wake(self, run_id: str) -> int:
        """Count a wake-up that somebody else writes. Raises `RunNotFound`."""
        (number,) = await self.pipeline.run(
            self._script("count_wake"), about=f"run {run_id}", run=self.keys.run(run_id)
        )
        return int(number)

    async def watch_cancels(self, owner: str) -> AsyncIterator[str]:
        """Yield the ids of runs that were cancelled while `owner` held them. May miss some: renewal tells, too."""
        async with self.hub.listen(self.keys.cancels(owner)) as inbox:
            while True:
                item = await inbox.get(timeout_s=60)
                if isinstance(item, bytes):
                    yield item.decode()
                elif item is Mark.RESYNC:
                    continue

    async def publish_agents(self, manifests: Mapping[str, Mapping[str, Any]]) -> None:
        """Say which agents a worker serves, for clients without agent code. To be repeated well within a day."""
        await self._manifests.publish(manifests)

    async def known_agents(self) -> Mapping[str, Mapping[str, Any]]:
        """The agents that workers have published within a day: name → manifest."""
        return await self._manifests.known()

    async def aclose(self) -> None:
        await self.hub.aclose()
        await self.pipeline.drain()


def renew_blocking(client: redis.Redis, prefix: str, leases: Sequence[Lease], lease_ms: int) -> tuple[Renewal, ...]:
    """Renew from a thread. Raises redis-py's own exceptions: the caller tries again before the lease runs out."""
    renew = script("renew")
    keys, arguments = renew(**_arguments.renewal(prefix, leases, lease_ms))
    return _arguments.renewals(leases, client.eval(renew.source.decode(), len(keys), *keys, *arguments))
