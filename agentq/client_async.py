"""The client for async code: puts runs in, watches them, gets their results out. Needs no agent code."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from agentq import results, sse
from agentq.attachments import Attachable, read_files
from agentq.callbacks import Callbacks, calls, finish
from agentq.catalogue import Catalogue
from agentq.errors import InvalidInput
from agentq.events.kinds import checked_kinds
from agentq.intake import (
    NOTHING,
    as_agent_says,
    checked_before,
    checked_digest,
    checked_id,
    checked_limit,
    checked_name,
    checked_offset,
    checked_status,
    checked_wish,
    new_run,
    seconds_until,
)
from agentq.quieting_async import QuietsWorkers
from agentq.runs import Priority, RunState, SessionState, Status, WhenBusy
from agentq.scheduling import Scheduling
from agentq.scheduling_async import KeepsSchedules
from agentq.settings import Settings
from agentq.steering import Steering
from agentq.steering_async import SteersRun, SteersRuns
from agentq.stores.filters import RunFilter, SessionFilter
from agentq.webhooks_async import KeepsWebhooks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from agentq.deciding import Deciding, DecisionRequest
    from agentq.events.model import Event
    from agentq.events.stream import EventStream
    from agentq.executors.base import Executor
    from agentq.insight.asking import Insight
    from agentq.insight.reasons import Reason
    from agentq.limits import RunLimits
    from agentq.messages import FilePart, Message
    from agentq.results import RunResult
    from agentq.stores.base import Store


@dataclass(frozen=True, slots=True)
class _Parts:
    store: Store
    stream: EventStream
    executor: Executor | None
    aclose: Callable[[], Awaitable[None]] | None = None


class AsyncClient(SteersRuns["AsyncRun"], KeepsSchedules, KeepsWebhooks, QuietsWorkers):
    """Enqueues runs and reads what becomes of them.

    Without `store`, `stream` and `executor` it works over Redis at `redis_url`, else REDIS_URL, and connects at the
    first use; from several event loops, each has connections of its own. `authorize` is asked, with a
    `DecisionRequest`, whether somebody may decide, answer or signal: it returns True, False, or why not. Errors:
    `InvalidInput` before anything is stored, `RunNotFound`, `StoreUnavailable` when Redis is away.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        settings: Settings | None = None,
        store: Store | None = None,
        stream: EventStream | None = None,
        executor: Executor | None = None,
        authorize: Callable[[DecisionRequest], Any] | None = None,
    ) -> None:
        if settings is None:
            settings = Settings.load(redis_url=redis_url)
        elif redis_url is not None:
            settings = replace(settings, redis_url=redis_url)
        self.settings = settings
        stream = stream or getattr(store, "stream", None)
        if (store is None) is not (stream is None):
            raise InvalidInput("a client that is given a store needs its stream too, and the other way round")
        self._given = _Parts(store, stream, executor) if store is not None and stream is not None else None
        self._authorize = authorize
        self._executor = executor
        self._made: dict[asyncio.AbstractEventLoop, _Parts] = {}
        self._catalogue = Catalogue()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Again: no effect. A store that was passed in is left open."""
        self._closed = True
        parts = self._made.pop(asyncio.get_running_loop(), None)
        if parts is not None and parts.aclose is not None:
            await parts.aclose()

    async def enqueue(
        self,
        agent: str,
        prompt: str,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        queue: str | None = None,
        model: str | None = None,
        idempotency_key: str | None = None,
        delay: float = 0.0,
        at: datetime | None = None,
        files: Sequence[Attachable] = (),
        tools: Sequence[str] | None = None,
        without: Sequence[str] = (),
        when_busy: WhenBusy | None = None,
        ttl_s: float | Mapping[str, float] | None = None,
        limits: RunLimits | None = None,
        concurrency_key: str | None = None,
        concurrency: int | None = None,
        tenant: str | None = None,
        priority: Priority | None = None,
    ) -> AsyncRun:
        """Store a run and wake a worker for it, `delay` seconds from now or `at` a time; returns when the run is safe.

        Runs of one `session_id` go on one after the other, in the order in which they came, and each sees what the
        earlier ones said. A session belongs to the first `user_id` that is named for it: others get `SessionConflict`.
        The same `idempotency_key` with the same input gives the run that it made before, for as long as that run is
        kept; with other input it raises `IdempotencyConflict`. Without `queue`, the agent's own is used. `files` come
        with the prompt: paths, bytes, URLs or `File` objects. `ttl_s` is how long the run is kept when it has ended, in
        seconds, or by outcome as in `{"completed": 3600}`; otherwise its agent or the settings say.
        `tools` names the tools and toolsets of the agent that the run may use, `[]` for none; without it, all.
        `without` switches off what the agent has, for this run: "memory", "retrieval".
        `when_busy` says what happens while another run of the session is under way: "queue", "reject", "interrupt"
        (stop it, keep what it said) or "replace" (stop it, forget that); without it, the agent says.
        `limits` say what it may use; what they leave out, its agent says.
        At most `concurrency` runs with the same `concurrency_key` go on at the same time; the others wait in line.
        Runs of a `tenant` take turns with those of others; `priority` ("high", "normal", "low") is among its own.
        """
        attached = await asyncio.to_thread(read_files, files, self.settings) if files else NOTHING
        new = new_run(
            self.settings,
            agent,
            prompt,
            session_id=session_id,
            user_id=user_id,
            metadata=metadata,
            queue=queue,
            model=model,
            idempotency_key=idempotency_key,
            delay=delay,
            at=at,
            ttl_s=ttl_s,
            attached=attached,
            tools=tools,
            without=without,
            when_busy=when_busy,
            limits=limits,
            concurrency_key=concurrency_key,
            concurrency=concurrency,
            tenant=tenant,
            priority=priority,
        )
        parts = self._parts()
        if parts.executor is None:
            raise InvalidInput("this client has a store but no executor to wake its runs; pass executor= too")
        manifest = await self._catalogue.manifest(parts.store, agent)
        new = as_agent_says(new, manifest, attached.parts, queue=queue, when_busy=when_busy)
        created = await parts.store.create(new, wake=getattr(parts.executor, "wakeup", None))
        await self._steering().settle(created.stopped)
        # Not `existed`: that is also the answer to our own create when it had to be sent twice.
        if created.run_id == new.run_id and not created.woken:
            await parts.executor.schedule_next_iteration(created.run_id, delay=seconds_until(at, delay))
        return AsyncRun(self, created.run_id, agent, is_new=created.run_id == new.run_id)

    async def get(self, run_id: str) -> AsyncRun:
        """A handle on a run that exists."""
        state = await self.read(run_id)
        return AsyncRun(self, run_id, state.agent)

    async def read(self, run_id: str) -> RunState:
        """Everything that is known of a run but its transcript."""
        return await self._parts().store.read(checked_id(run_id))

    async def status(self, run_id: str) -> Status:
        """The run's status."""
        return (await self.read(run_id)).status

    async def result(self, run_id: str, timeout: float | None = None) -> RunResult:
        """Wait until the run has ended and return its result.

        Raises `RunFailed` or `RunCancelled`, and `ResultTimeout` after `timeout` seconds: the run goes on then.
        """
        parts = self._parts()
        return await results.result_of(parts.store, parts.stream, checked_id(run_id), timeout)

    async def outcome(self, run_id: str) -> RunResult | None:
        """The result of a run that has completed, else None; does not wait and does not raise for a failed run."""
        state = await self.read(run_id)
        return await results.collected(self._parts().store, state) if state.status is Status.COMPLETED else None

    async def messages(self, run_id: str) -> tuple[Message, ...]:
        """The transcript as it stands."""
        return await self._parts().store.messages(checked_id(run_id))

    async def file(self, run_id: str, file: FilePart | str) -> bytes:
        """The content of a stored file that the run's messages refer to, by its part or digest; see `Store.file`."""
        return await self._parts().store.file(checked_id(run_id), checked_digest(file))

    async def events(
        self, run_id: str, *, after: int = 0, live: bool = True, kinds: Iterable[str] = (), voided: bool = False
    ) -> AsyncGenerator[Event, None]:
        """Every event past the cursor `after` (the `seq` of the last one seen), then live until the run has ended.

        With `kinds`, such as `["tool.finished"]`, only those; `gap` comes with any, and `attempt.reset` with deltas.
        Without `live` it stops at the last event there is. With `voided`, deltas of replies that were given up come
        back, empty: a fold that counts what it makes of each event then always counts the same. Whoever leaves the
        loop early should close the generator (`contextlib.aclosing`), which ends the subscription at once.
        """
        wanted, stream = checked_kinds(kinds), self._parts().stream
        async with results.reading(stream, checked_id(run_id), after=after, live=live, voided=voided) as events:
            async for event in events:
                if event.type in wanted:
                    yield event

    async def sse(self, run_id: str, *, after: int | str = 0) -> AsyncGenerator[str, None] | None:
        """The events past `after` as server-sent events: the body of a text/event-stream response, with heartbeats.

        `after` is the cursor as the browser has it: its Last-Event-ID. Returns None when the run has ended and nothing
        follows `after`: answer 204, at which an EventSource stops. Raises `RunNotFound` and `InvalidInput` at once,
        before there is a body. Close the generator when the browser has gone.
        """
        after = sse.cursor(after)
        if not sse.has_more(await self.read(run_id), after):
            return None
        return sse.frames(self.events(run_id, after=after), self.settings.heartbeat_ms / 1000)

    async def follow(self, run_id: str, callbacks: Callbacks, *, after: int = 0) -> RunResult | None:
        """Call the callbacks until the run has ended; returns the result of a completed run, else None.

        How a run failed stands in the event that `on_done` gets. What a callback raises comes out here.
        """
        async with aclosing(calls(callbacks, self.events(run_id, after=after))) as due:
            async for call in due:
                await finish(call())
        return await self.outcome(run_id)

    async def list(
        self,
        *,
        status: Status | str | None = None,
        agent: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> tuple[RunState, ...]:
        """Runs, newest first. `before` is the id of the last run of the page before; at most 1000 a page."""
        which = RunFilter(
            status=None if status is None else checked_status(status),
            agent=checked_wish(agent, field="agent"),
            session_id=checked_wish(session_id, field="session_id"),
            user_id=checked_wish(user_id, field="user_id"),
            before=checked_before(before),
            limit=checked_limit(limit),
        )
        return await self._parts().store.list(which)

    async def session(self, session_id: str) -> SessionState:
        """The state of a session. Raises `SessionNotFound`."""
        return await self._parts().store.session(checked_name(session_id, field="session_id"))

    async def session_messages(self, session_id: str, *, start: int = 0) -> tuple[Message, ...]:
        """What the ended runs of a session said, from index `start` on. Raises `SessionNotFound`."""
        session_id, start = checked_name(session_id, field="session_id"), checked_offset(start, field="start")
        return await self._parts().store.session_messages(session_id, start=start)

    async def sessions(
        self, *, user_id: str | None = None, offset: int = 0, limit: int = 50
    ) -> tuple[SessionState, ...]:
        """Sessions, the one used last first; at most 1000 a page."""
        offset = checked_offset(offset, field="offset")
        user_id = checked_wish(user_id, field="user_id")
        which = SessionFilter(user_id=user_id, offset=offset, limit=checked_limit(limit))
        return await self._parts().store.list_sessions(which)

    async def agents(self) -> Mapping[str, Mapping[str, Any]]:
        """The agents that workers have published within a day: name → its queue, model, limits and tools."""
        known: Callable[[], Awaitable[Mapping[str, Any]]] | None = getattr(self._parts().store, "known_agents", None)
        return {} if known is None else await known() or {}

    @property
    def insight(self) -> Insight:
        """What an operator asks: workers, queues, figures. Ask for it anew in each event loop."""
        from agentq.insight.asking import Insight

        parts = self._parts()
        return Insight(parts.store, parts.executor)

    async def why(self, run_id: str) -> Reason:
        """Why the run is not moving, or how it ended: one sentence with what to do, and a code for programs."""
        return await self.insight.why(checked_id(run_id))

    def _parts(self) -> _Parts:
        """What was passed in, else what was made for this event loop."""
        if self._closed:
            raise RuntimeError("this client is closed; make a new one")
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        if loop not in self._made:
            for stale in [other for other in tuple(self._made) if other.is_closed()]:
                self._made.pop(stale, None)
            self._made[loop] = _redis_parts(self.settings, self._executor)
        return self._made[loop]

    def _scheduling(self) -> Scheduling:
        parts = self._parts()
        return Scheduling(parts.store, parts.executor, self.settings, self._catalogue)

    def _steering(self) -> Steering:
        parts = self._parts()
        return Steering(parts.store, parts.stream, parts.executor, self.settings, self._catalogue, self._deciding())

    def _deciding(self) -> Deciding:
        from agentq.deciding import Deciding  # enqueueing has no need of it

        parts, most = self._parts(), self.settings.max_value_bytes
        return Deciding(parts.store, parts.executor, self._catalogue, max_value_bytes=most, authorize=self._authorize)


class AsyncRun(SteersRun):
    """A handle on one run: it holds the id, and asks the client for everything else.

    `is_new` is False where it was there before: `enqueue` was given its idempotency key again.
    """

    __slots__ = ("_client", "agent", "id", "is_new")

    _client: AsyncClient

    def __init__(self, client: AsyncClient, run_id: str, agent: str, *, is_new: bool = False) -> None:
        self._client = client
        self.id = run_id
        self.agent = agent
        self.is_new = is_new

    def __repr__(self) -> str:
        return f"AsyncRun(id={self.id!r}, agent={self.agent!r})"

    async def read(self) -> RunState:
        return await self._client.read(self.id)

    async def status(self) -> Status:
        return await self._client.status(self.id)

    async def result(self, timeout: float | None = None) -> RunResult:
        """See `AsyncClient.result`."""
        return await self._client.result(self.id, timeout)

    async def messages(self) -> tuple[Message, ...]:
        return await self._client.messages(self.id)

    async def file(self, file: FilePart | str) -> bytes:
        """See `AsyncClient.file`."""
        return await self._client.file(self.id, file)

    def events(self, *, after: int = 0, live: bool = True, kinds: Iterable[str] = ()) -> AsyncGenerator[Event, None]:
        """See `AsyncClient.events`."""
        return self._client.events(self.id, after=after, live=live, kinds=kinds)

    async def follow(self, callbacks: Callbacks, *, after: int = 0) -> RunResult | None:
        """See `AsyncClient.follow`."""
        return await self._client.follow(self.id, callbacks, after=after)


def _redis_parts(settings: Settings, executor: Executor | None) -> _Parts:
    """Connects nothing yet; but imports redis, which is why it waits for the first use."""
    from agentq.wiring import redis_parts

    made = redis_parts(settings)
    return _Parts(made.store, made.stream, executor or made.executor, made.aclose)
