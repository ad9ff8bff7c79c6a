"""The blocking client, for web apps and scripts that are not async: `AsyncClient` behind a portal, nothing twice."""

from __future__ import annotations

import inspect
import weakref
from typing import TYPE_CHECKING, Any, Self, TypeVar

from agentq._portal import Portal
from agentq.callbacks import Callbacks, calls, finish
from agentq.client_async import AsyncClient, AsyncRun
from agentq.quieting_sync import QuietsWorkers
from agentq.scheduling_sync import KeepsSchedules
from agentq.steering_sync import SteersRun, SteersRuns
from agentq.webhooks_sync import KeepsWebhooks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from datetime import date, datetime

    from agentq.attachments import Attachable
    from agentq.deciding import DecisionRequest
    from agentq.events.model import Event
    from agentq.events.stream import EventStream
    from agentq.executors.base import Executor
    from agentq.insight.reasons import Reason
    from agentq.limits import RunLimits, Spent, Window
    from agentq.messages import FilePart, Message
    from agentq.results import RunResult
    from agentq.runs import Priority, RunState, SessionState, Status, WhenBusy
    from agentq.settings import Settings
    from agentq.stores.base import Store

T = TypeVar("T")

__all__ = ["AsyncClient", "AsyncRun", "Client", "Run"]


class Client(SteersRuns, KeepsSchedules, KeepsWebhooks, QuietsWorkers):
    """Enqueues runs and reads what becomes of them; every method does what the one of `AsyncClient` does, and blocks.

    One client serves a whole process: it may be shared by threads, made before a fork (the child connects anew), and
    left to itself at exit. It refuses to block an event loop: async code uses `AsyncClient`.
    """

    _client: AsyncClient

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
        self._client = AsyncClient(
            redis_url, settings=settings, store=store, stream=stream, executor=executor, authorize=authorize
        )
        self._portal = Portal(self._client.aclose)
        # At exit the portal closes itself; this is for a client that is dropped before.
        weakref.finalize(self, self._portal.close, wait=False).atexit = False

    @property
    def settings(self) -> Settings:
        return self._client.settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread; calls that wait in other threads raise. Again: no effect."""
        self._portal.close()

    def enqueue(
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
    ) -> Run:
        """Store a run and wake a worker for it, `delay` seconds from now; returns as soon as the run is safe.

        See `AsyncClient.enqueue` for the rest: sessions, idempotency keys, files, tools and how long the run is kept.
        """
        run = self._portal.call(
            self._client.enqueue,
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
            files=files,
            tools=tools,
            without=without,
            when_busy=when_busy,
            limits=limits,
            concurrency_key=concurrency_key,
            concurrency=concurrency,
            tenant=tenant,
            priority=priority,
            ttl_s=ttl_s,
        )
        return Run(self, run.id, run.agent, is_new=run.is_new)

    def follow_up(
        self, run_id: str, text: str, *, files: Sequence[Attachable] = (), idempotency_key: str | None = None
    ) -> Run:
        """Enqueue the next run of a run's session, of the same agent, user and model; it sees what was said.

        Raises `InvalidInput` for a run without a session.
        """
        run = self._portal.call(self._client.follow_up, run_id, text, files=files, idempotency_key=idempotency_key)
        return Run(self, run.id, run.agent, is_new=run.is_new)

    def fork(
        self,
        run_id: str,
        *,
        iteration: int | None = None,
        prompt: str | None = None,
        session_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Enqueue a new run that begins with this one's transcript, or its part up to the end of `iteration`.

        0 is the prompt alone. `prompt` is added. The fork has the agent, user, model and metadata of the old run, which
        stays as it is, whatever became of it; `forked_from` links the two. It belongs to no session but a new one that
        is named. What tools keep in `ctx.state` is not taken along. Raises `InvalidInput`, also where the part ends
        with an answer and there is no prompt.
        """
        run = self._portal.call(
            self._client.fork,
            run_id,
            iteration=iteration,
            prompt=prompt,
            session_id=session_id,
            idempotency_key=idempotency_key,
        )
        return Run(self, run.id, run.agent)

    def get(self, run_id: str) -> Run:
        """A handle on a run that exists."""
        return Run(self, run_id, self._portal.call(self._client.get, run_id).agent)

    def read(self, run_id: str) -> RunState:
        """Everything that is known of a run but its transcript."""
        return self._portal.call(self._client.read, run_id)

    def status(self, run_id: str) -> Status:
        """The run's status."""
        return self._portal.call(self._client.status, run_id)

    def result(self, run_id: str, timeout: float | None = None) -> RunResult:
        """Wait until the run has ended and return its result.

        Raises `RunFailed` or `RunCancelled`, and `ResultTimeout` after `timeout` seconds: the run goes on then.
        """
        return self._portal.call(self._client.result, run_id, timeout)

    def outcome(self, run_id: str) -> RunResult | None:
        """The result of a run that has completed, else None; does not wait and does not raise for a failed run."""
        return self._portal.call(self._client.outcome, run_id)

    def messages(self, run_id: str) -> tuple[Message, ...]:
        """The transcript as it stands."""
        return self._portal.call(self._client.messages, run_id)

    def file(self, run_id: str, file: FilePart | str) -> bytes:
        """The content of a stored file that the run's messages refer to, by its part or digest; see `Store.file`."""
        return self._portal.call(self._client.file, run_id, file)

    def events(
        self, run_id: str, *, after: int = 0, live: bool = True, kinds: Iterable[str] = (), voided: bool = False
    ) -> Iterator[Event]:
        """Every event past the cursor `after` (the `seq` of the last one seen), then live until the run has ended.

        With `kinds`, such as `["tool.finished"]`, only those; `gap` comes with any, and `attempt.reset` with deltas.
        Without `live` it stops at the last event there is. With `voided`, deltas of replies that were given up come
        back, empty; see `AsyncClient.events`. Leaving the loop early ends the subscription.
        """
        return self._iterate(self._client.events(run_id, after=after, live=live, kinds=kinds, voided=voided))

    def sse(self, run_id: str, *, after: int | str = 0) -> Generator[str, None, None] | None:
        """The events past `after` as server-sent events: the body of a text/event-stream response, with heartbeats.

        `after` is the cursor as the browser has it: its Last-Event-ID. Returns None when the run has ended and nothing
        follows `after`: answer 204, at which an EventSource stops. Raises `RunNotFound` and `InvalidInput` at once,
        before there is a body. The server closes the generator when the browser has gone; until then it holds a thread.
        """
        frames = self._portal.call(self._client.sse, run_id, after=after)
        return None if frames is None else self._iterate(frames)

    def _iterate(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        # A generator of its own, so that the client lives as long as it: `for event in Client().get(run_id).events()`.
        yield from self._portal.iterate(items)

    def follow(self, run_id: str, callbacks: Callbacks, *, after: int = 0) -> RunResult | None:
        """Call the callbacks until the run has ended; returns the result of a completed run, else None.

        Plain callbacks run in this thread and may use this client; coroutine functions run on the client's own loop.
        """
        for call in self._portal.iterate(calls(callbacks, self._client.events(run_id, after=after))):
            if inspect.isawaitable(answer := call()):
                self._portal.call(finish, answer)
        return self.outcome(run_id)

    def list(
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
        return self._portal.call(
            self._client.list,
            status=status,
            agent=agent,
            session_id=session_id,
            user_id=user_id,
            before=before,
            limit=limit,
        )

    def session(self, session_id: str) -> SessionState:
        """The state of a session. Raises `SessionNotFound`."""
        return self._portal.call(self._client.session, session_id)

    def session_messages(self, session_id: str, *, start: int = 0) -> tuple[Message, ...]:
        """What the ended runs of a session said, from index `start` on. Raises `SessionNotFound`."""
        return self._portal.call(self._client.session_messages, session_id, start=start)

    def sessions(self, *, user_id: str | None = None, offset: int = 0, limit: int = 50) -> tuple[SessionState, ...]:
        """Sessions, the one used last first; at most 1000 a page."""
        return self._portal.call(self._client.sessions, user_id=user_id, offset=offset, limit=limit)

    def spent(
        self,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        agent: str | None = None,
        window: Window = "day",
        day: date | None = None,
    ) -> Spent:
        """What runs have used together so far, of one user, one session, one agent, or all.

        Only runs of agents with a `SpendLimit` for that are counted, from then on. `window` is "day" (that of UTC which
        it is now, or `day`), "hour" or "total".
        """
        return self._portal.call(
            self._client.spent, user_id=user_id, session_id=session_id, agent=agent, window=window, day=day
        )

    def agents(self) -> Mapping[str, Mapping[str, Any]]:
        """The agents that workers have published within a day: name → its queue, model, limits and tools."""
        return self._portal.call(self._client.agents)

    def workers(self, queue: str) -> tuple[str, ...] | None:
        """The names of the workers that serve the queue now; None where the executor cannot tell."""
        return self._portal.call(self._client.workers, queue)

    def why(self, run_id: str) -> Reason:
        """Why the run is not moving, or how it ended: one sentence with what to do, and a code for programs."""
        return self._portal.call(self._client.why, run_id)


class Run(SteersRun):
    """A handle on one run: it holds the id, and asks the client for everything else. `is_new`: see `AsyncRun`."""

    __slots__ = ("_client", "agent", "id", "is_new")

    _client: Client

    def __init__(self, client: Client, run_id: str, agent: str, *, is_new: bool = False) -> None:
        self._client = client
        self.id = run_id
        self.agent = agent
        self.is_new = is_new

    def __repr__(self) -> str:
        return f"Run(id={self.id!r}, agent={self.agent!r})"

    def read(self) -> RunState:
        return self._client.read(self.id)

    def status(self) -> Status:
        return self._client.status(self.id)

    def result(self, timeout: float | None = None) -> RunResult:
        """See `Client.result`."""
        return self._client.result(self.id, timeout)

    def messages(self) -> tuple[Message, ...]:
        return self._client.messages(self.id)

    def file(self, file: FilePart | str) -> bytes:
        """See `Client.file`."""
        return self._client.file(self.id, file)

    def events(self, *, after: int = 0, live: bool = True, kinds: Iterable[str] = ()) -> Iterator[Event]:
        """See `Client.events`."""
        return self._client.events(self.id, after=after, live=live, kinds=kinds)

    def follow(self, callbacks: Callbacks, *, after: int = 0) -> RunResult | None:
        """See `Client.follow`."""
        return self._client.follow(self.id, callbacks, after=after)
