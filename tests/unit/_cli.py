"""What the tests of the command line share: a terminal and a pipe to write to, and a client that plays a script."""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from agentq.cli._group import Options
from agentq.errors import RunNotFound
from agentq.insight.facts import QueueFacts, Snapshot, WorkerInfo
from agentq.insight.why import explain
from agentq.limits import Spent
from agentq.runs import RunState, Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from agentq.client import AsyncClient
    from agentq.events.model import Event
    from agentq.insight.reasons import Reason
    from agentq.messages import Message

RUN = "01JD3ZK8W5Q0X9V7T2M4N6P8RA"
OTHER = "01JD3ZK8W5Q0X9V7T2M4N6P8RB"
T0 = 1_700_000_000_000


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def numbered(events: Iterable[Event], *, run_id: str = RUN, first: int = 1, step_ms: int = 100) -> list[Event]:
    """`events` as a stream gives them: numbered, `step_ms` apart."""
    return [
        event.model_copy(update={"run_id": run_id, "seq": seq, "at_ms": T0 + (seq - 1) * step_ms})
        for seq, event in enumerate(events, start=first)
    ]


@dataclass
class ScriptedRun:
    """A run that the fake client knows. After its events: `interrupts` is Ctrl-C, `hangs` does not end."""

    state: RunState
    events: list[Event] = field(default_factory=list)
    messages: tuple[Message, ...] = ()
    hangs: bool = False
    interrupts: bool = False
    raises: BaseException | None = None


def run_state(run_id: str = RUN, status: Status = Status.COMPLETED, **fields: Any) -> RunState:
    return RunState(run_id, "calculator", status, **{"created_ms": T0, "prompt": "hi", **fields})


class ScriptedClient:
    """As much of `AsyncClient` as the command line uses."""

    def __init__(self, *runs: ScriptedRun, workers: tuple[str, ...] = ("w1",)) -> None:
        self.runs = {run.state.run_id: run for run in runs}
        self.live_workers = workers
        self.calls: list[tuple[str, Any]] = []
        self.closed = False
        self.raises: Exception | None = None

    def _run(self, run_id: str) -> ScriptedRun:
        if self.raises:
            raise self.raises
        if run_id not in self.runs:
            raise RunNotFound
        return self.runs[run_id]

    async def enqueue(self, agent: str, prompt: str, **options: Any) -> Any:
        self.calls.append(("enqueue", (agent, prompt, options)))
        return type(
            "Handle", (), {"id": next(iter(self.runs.values())).state.run_id if not self.raises else self._run("")}
        )

    async def read(self, run_id: str) -> RunState:
        return self._run(run_id).state

    async def messages(self, run_id: str) -> tuple[Message, ...]:
        return self._run(run_id).messages

    async def events(self, run_id: str, *, after: int = 0, live: bool = True) -> AsyncIterator[Event]:
        run = self._run(run_id)
        for event in run.events:
            if event.seq > after:
                yield event
        if run.raises:
            raise run.raises
        if run.interrupts:
            signal.raise_signal(signal.SIGINT)
        if run.hangs and live:
            await asyncio.Event().wait()

    async def cancel(self, run_id: str, *, reason: str = "", wait: float = 0.0) -> Status:
        run = self._run(run_id)
        self.calls.append(("cancel", (run_id, reason, wait)))
        if run.raises:
            raise run.raises
        if run.state.status is Status.QUEUED:
            run.state = replace(run.state, status=Status.CANCELLED)
        return run.state.status

    async def list(self, **which: Any) -> tuple[RunState, ...]:
        self.calls.append(("list", which))
        return tuple(run.state for run in self.runs.values())[: which["limit"]]

    async def spent(self, **whose: Any) -> Spent:
        self.calls.append(("spent", whose))
        return Spent()

    async def why(self, run_id: str) -> Reason:
        state = self._run(run_id).state
        self.calls.append(("why", run_id))
        workers = tuple(WorkerInfo(name, (state.queue,)) for name in self.live_workers)
        return explain(Snapshot(state, T0, QueueFacts(workers)))


@dataclass
class ScriptedOptions(Options):
    """Global options that lead to a scripted client."""

    client: ScriptedClient = field(default_factory=ScriptedClient)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[AsyncClient]:
        yield cast("AsyncClient", self.client)
        self.client.closed = True
