"""A deployment in which runs come to every ending, and a look at every key that is left."""

from __future__ import annotations

import hashlib
import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from agentq._ids import new_token
from agentq.attachments import File
from agentq.errors import ProviderError, ToolError
from agentq.executors.queue import QueueExecutor
from agentq.loop import Agent, Loop, settle_cancelled
from agentq.messages import FilePart, Message, Role, TextPart, user_message
from agentq.settings import Settings
from agentq.stores.base import EventBatch, NewRun
from agentq.stores.filters import RunFilter
from agentq.testing import ScriptedModel, call
from agentq.testing._contract import new_run, texts
from agentq.tools.function import tool
from agentq.tools.results import ToolResult
from agentq.worker.poison import reject_foreign

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.runs import RunState
    from agentq.stores.base import Claim
    from tests.stores.redis_parts import TimedParts

LEASE_MS = 3_000
SETTINGS = Settings(lease_ms=LEASE_MS, coalesce_ms=0, max_recoveries=1)
OWNERS = ("worker-1", "worker-2")
FOREIGN = "not-ours"
FILE = b"\x89PNG\r\n\x1a\n\x00\xff"
DRAWN = FILE + b"drawn"
DRAWN_DIGEST = hashlib.sha256(DRAWN).hexdigest()
DIGEST = hashlib.sha256(FILE).hexdigest()


@tool(effect="once")
async def charge(fail: bool) -> str:
    """Charge."""
    if fail:
        raise ToolError("out of money: ünbezahlt \u2028 💸")
    return "charged"


@tool(effect="none")
async def draw() -> ToolResult:
    """Draw."""
    return ToolResult("Here.", [File(DRAWN, name="b.png")], data={"ü": [1, None]})


SCRIPTS: dict[str, list[Any]] = {
    "answers": [call("charge", fail=False), "Done: ✓ 💸."],
    "draws": [call("draw"), "Done."],
    "fails": [ProviderError("no such model", retryable=False)],
    "retries": [ProviderError("busy"), ProviderError("busy"), ProviderError("busy"), "Done."],
    "gives up": [ProviderError("busy")] * 9,
    "breaks": [call("charge", fail=True)] * 9,
    "never ends": [call("charge", fail=False)] * 9,
}
# How each of `every_ending` ends.
ENDINGS = {
    "answers": "completed",
    "draws": "completed",
    "draws in a session": "completed",
    "fails": "failed",
    "retries": "completed",
    "gives up": "failed",
    "breaks": "failed",
    "never ends": "failed",
    "delayed": "completed",
    "cancelled while queued": "cancelled",
    "settled by a client": "cancelled",
    "handed back": "completed",
    "cancelled while running": "cancelled",
    "lost": "completed",
    "kills its workers": "failed",
    "first of a session": "completed",
    "second of a session": "failed",
    "cancelled in line": "cancelled",
    "delayed in a session": "completed",
    "alone in a session, with a file": "completed",
    "with a file": "completed",
}


class _TakesFiles(ScriptedModel):
    media_types = ("image/*",)


def _resolve(model: ScriptedModel, name: str) -> tuple[ScriptedModel, str]:
    return model, name


def with_file(text: str = "Look ü") -> tuple[Message, ...]:
    """The prompt of a run that comes with `FILE`."""
    file = FilePart(url=f"agentq:{DIGEST}", media_type="image/png", name="a.png", size=len(FILE))
    return (Message(role=Role.USER, parts=(TextPart(text=text), file)),)


class Deployment:
    """A store and a queue on one Redis, and workers that take wake-ups off the queue."""

    def __init__(
        self, parts: TimedParts, settings: Settings = SETTINGS, agent_ttl_s: float | Mapping[str, float] | None = None
    ) -> None:
        self.parts = parts
        self.settings = settings
        self.store = parts.store
        self.executor = QueueExecutor(parts.store)
        self.source = self.executor.source()
        fields: dict[str, Any] = {"model": "mock", "max_iterations": 4, "max_error_retries": 3, "retry_backoff_s": 0.5}
        self.agents = {
            name: Agent(name, tools=[charge, draw], ttl_s=agent_ttl_s, **fields)
            for name in (script.replace(" ", "-") for script in SCRIPTS)
        }
        models = {name.replace(" ", "-"): _TakesFiles(script) for name, script in SCRIPTS.items()}
        self.loops = {
            name: Loop(self.agents, self.store, self.executor, settings, resolve_model=partial(_resolve, model))
            for name, model in models.items()
        }
        self.count = 0

    async def enqueue(self, script: str, **fields: Any) -> str:
        new = new_run(**{"agent": script.replace(" ", "-"), "user_id": "u1", **fields})
        await self.store.create(new, wake=self.executor.wakeup)
        return new.run_id

    async def claim(self) -> tuple[Claim, ...]:
        """What a worker takes off the queue; jobs that are not ours are refused."""
        self.count += 1
        owner = OWNERS[self.count % 2]
        claimed = await self.store.claim_wakeups(
            self.source, owner=owner, claim_id=new_token(), lease_ms=LEASE_MS, count=3
        )
        await reject_foreign(self.parts.connection, claimed.foreign, worker=owner)
        return claimed.claims

    async def take(self, run_id: str, owner: str = "worker-1") -> Claim:
        (claim,) = await self.store.claim([run_id], owner=owner, claim_id=new_token(), lease_ms=LEASE_MS)
        return claim

    async def cancel_without_worker(self, run_id: str) -> None:
        """As a client does it: it knows of the agent only what was published."""
        await self.store.cancel(run_id, reason="enough ✋")
        claim = await self.take(run_id, "client")
        manifest = (await self.store.known_agents()).get(claim.run.agent, {})
        ttl_ms = manifest.get("ttl_ms", {})
        await settle_cancelled(self.store, claim, self.settings, agent_ttl_ms=ttl_ms, wake=self.executor.wakeup)

    async def publish(self) -> None:
        await self.store.publish_agents({name: agent.manifest() for name, agent in self.agents.items()})

    async def push_foreign(self) -> None:
        """A job of somebody else on our queue."""
        fields = ("data", json.dumps(["os.getcwd", None, [], {}]), "origin", "default", "status", "queued")
        times = ("created_at", "2026-01-01T00:00:00.000000Z", "enqueued_at", "2026-01-01T00:00:00.000000Z")
        await self.command("HSET", f"rq:job:{FOREIGN}", *fields, *times)
        await self.command("RPUSH", "rq:queue:default", FOREIGN)

    async def work(self) -> None:
        """Take wake-ups and sweep until every run has ended."""
        while any(not run.status.is_final for run in await self.store.list(RunFilter(limit=1_000))):
            for claim in await self.claim():
                await self.loops[claim.run.agent].begin(claim).run()
            await self.parts.pass_time(0.4)
            await self.sweep()

    async def sweep(self) -> None:
        await self.store.sweep(lease_ms=LEASE_MS, wake=self.executor.wakeup)

    async def drain_queue(self) -> None:
        """Take what is still in line: wake-ups of runs that were claimed by name."""
        while await self.command("EXISTS", "rq:queue:default"):
            assert await self.claim() == ()

    async def command(self, *command: Any) -> Any:
        return await self.store.pipeline.execute(*command)

    async def keys(self) -> set[str]:
        """All keys but the clock of the tests and what RQ keeps of the names of its queues."""
        keys: list[bytes] = await self.command("KEYS", "*")
        return {key.decode() for key in keys} - {"test:clock", "rq:queues"}

    async def ttl_ms(self, key: str) -> int:
        return int(await self.command("PTTL", key))

    async def keys_of(self, run: RunState) -> set[str]:
        keys = {key for key in await self.keys() if run.run_id in key}
        return keys | ({self.store.keys.idempotency(run.idempotency_key)} if run.idempotency_key else set())


async def every_ending(deployment: Deployment) -> dict[str, str]:
    """Runs of every ending, by what befell them; `ENDINGS` says how they end."""
    store = deployment.store
    await deployment.push_foreign()
    runs = {script: await deployment.enqueue(script, idempotency_key=f"key {script}") for script in SCRIPTS}
    runs["delayed"] = await deployment.enqueue("answers", delay_ms=2_000, metadata={"ü": [1, None, {"a": 1.5}]})
    runs["cancelled while queued"] = await deployment.enqueue("answers", delay_ms=60_000)
    await store.cancel(runs["cancelled while queued"])
    runs["settled by a client"] = await deployment.enqueue("answers")
    await deployment.cancel_without_worker(runs["settled by a client"])
    await store.create(NewRun("01" + "A" * 24, "answers", (user_message("x"),), idempotency_key="key answers"))
    for script, name in (("answers", "first"), ("breaks", "second"), ("answers", "third")):
        runs[f"{name} of a session"] = await deployment.enqueue(script, session_id="s1")
    runs["cancelled in line"] = runs.pop("third of a session")
    await deployment.cancel_without_worker(runs["cancelled in line"])
    runs["delayed in a session"] = await deployment.enqueue("answers", session_id="s1", delay_ms=3_000)
    attached = {"messages": with_file(), "files": {DIGEST: FILE}}
    runs["alone in a session, with a file"] = await deployment.enqueue(
        "answers", session_id="s 2 ü", user_id=None, **attached
    )
    runs["draws in a session"] = await deployment.enqueue("draws", session_id="s 2 ü", user_id=None)
    runs["with a file"] = await deployment.enqueue("answers", **attached)
    for fate in ("handed back", "cancelled while running", "lost", "kills its workers"):
        runs[fate] = await deployment.enqueue("answers")

    async def hold(fate: str) -> Claim:
        claim = await deployment.take(runs[fate])
        await store.journal(claim.lease, [], EventBatch(1, texts("a", "ü\u2028")))
        return claim

    await store.release((await hold("handed back")).lease, EventBatch(2), wake=deployment.executor.wakeup)
    await hold("cancelled while running")
    await store.cancel(runs["cancelled while running"])
    await hold("lost")
    for _ in range(3):
        await hold("kills its workers")
        await deployment.parts.pass_time(LEASE_MS / 1000)
    await deployment.work()
    return runs


async def strays(deployment: Deployment) -> list[str]:
    """What is kept for ever by accident: keys without a time to live whose run or session is not alive, and entries of
    the sets of all runs and sessions that refer to something that is gone.
    """
    found = []
    for key in sorted(await deployment.keys()):
        if await deployment.ttl_ms(key) == -1:
            found += [f"{key}: {what}" for what in await _stray(deployment, key)]
    return found


async def _stray(deployment: Deployment, key: str) -> list[str]:
    store, command = deployment.store, deployment.command
    if key.startswith("agentq:{"):
        status = await command("HGET", key[: key.index("}") + 1], "status")
        return [] if status in (b"queued", b"running") else [f"status is {status}"]
    if key.startswith("agentq:session:{"):
        count = await command("HGET", key[: key.index("}") + 1], "open")
        return [] if int(count or 0) > 0 else [f"open is {count}"]
    if key.startswith("agentq:key:"):
        run_id = await command("GET", key)
        return [] if await command("PTTL", store.keys.run(run_id.decode())) == -1 else ["its run is not alive"]
    if key.startswith("rq:job:"):
        queued = await command("LRANGE", "rq:queue:default", 0, -1)
        return [] if key.removeprefix("rq:job:").encode() in queued else ["it is on no queue"]
    if key.startswith("rq:queue:"):
        jobs = await command("LRANGE", key, 0, -1)
        return [f"{job} has no job" for job in jobs if not await command("EXISTS", f"rq:job:{job.decode()}")]
    if key.startswith("rq:failed:"):
        return [] if await command("ZCOUNT", key, 0, time.time() + 86_400) else ["holds what does not expire"]
    return await _dangling(deployment, key)


async def _dangling(deployment: Deployment, key: str) -> list[str]:
    """Members of a set of all runs or sessions that refer to nothing."""
    keys, command = deployment.store.keys, deployment.command
    if await command("TYPE", key) != b"zset":
        return ["nobody knows it"]
    members = [member.decode() for member in await command("ZRANGE", key, 0, -1)]
    if key in (keys.prefix + ":expiring", keys.prefix + ":sessions:expiring"):
        members = [json.loads(member)[0] for member in members]
    of = keys.session if key.startswith(keys.sessions()) else keys.run
    return [f"{member} is gone" for member in members if not await command("EXISTS", of(member))]
