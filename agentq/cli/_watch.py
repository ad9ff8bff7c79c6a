"""Following runs to their end: one view per run, the warning that no worker is there, and detaching."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentq._ids import is_run_id
from agentq.cli._errors import STATUS_CODES, ExitCode, worst
from agentq.cli._mock import MockRemark
from agentq.cli._output import duration, one_line, remark, stderr, stdout
from agentq.cli._render import Renderer
from agentq.errors import RunNotFound, StoreUnavailable
from agentq.events.limits import LimitReached
from agentq.events.model import (
    Event,
    IterationFinished,
    IterationStarted,
    RunAnswered,
    RunCancelledEvent,
    RunCompleted,
    RunDelayed,
    RunFailedEvent,
    RunPaused,
    RunQueued,
    RunRecovered,
    RunReleased,
    RunResumed,
    RunRetried,
    RunStarted,
    RunWaiting,
)
from agentq.runs import RunState, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from agentq.cli._group import Options
    from agentq.client import AsyncClient
    from agentq.insight.reasons import Reason

_COLOURS = ("cyan", "magenta", "yellow", "blue", "green")
_WORKER_MISSING_AFTER_S = 2.0
_PROBE_EVERY_S = 2.0
# A shorter delay passes before one has read of it.
_WORTH_TELLING_MS = 1000


@dataclass(frozen=True, slots=True)
class Look:
    """How events are shown."""

    json: bool = False
    timestamps: bool = False
    full: bool = False


@dataclass
class _View:
    """One run on the screen: the cursor, how it ended, and whether it waits for a worker."""

    run_id: str
    show: Callable[[Event], None]
    close: Callable[[], None]
    cursor: int
    end: Status | None = None
    is_queued: bool = False
    changed_at: float = field(default_factory=time.monotonic)
    heard_at: float = field(default_factory=time.monotonic)

    def take(self, event: Event) -> None:
        match event:
            case RunQueued() | IterationFinished() | RunReleased() | RunAnswered() | RunRetried() | RunResumed():
                self.is_queued, self.end = True, None
            case (
                RunStarted()
                | RunRecovered()
                | IterationStarted()
                | RunWaiting()
                | RunDelayed()
                | RunPaused()
                | LimitReached()
            ):  # after an end too: a run can be retried
                self.is_queued, self.end = False, None
            case RunCompleted():
                self.end = Status.COMPLETED
            case RunFailedEvent():
                self.end = Status.FAILED
            case RunCancelledEvent():
                self.end = Status.CANCELLED
        self.changed_at = self.heard_at = time.monotonic()
        self.show(event)
        self.cursor = event.seq


class Watch:
    """Shows runs until they end."""

    def __init__(
        self,
        options: Options,
        look: Look,
        *,
        worker_missing_after_s: float = _WORKER_MISSING_AFTER_S,
        probe_every_s: float = _PROBE_EVERY_S,
    ) -> None:
        self._options = options
        self._look = look
        self._out = stdout()
        self._missing_after_s = worker_missing_after_s
        self._probe_every_s = probe_every_s
        self._views: list[_View] = []
        self._mock = MockRemark()

    async def follow(
        self, client: AsyncClient, run_ids: Sequence[str], *, after: int = 0, live: bool = True
    ) -> ExitCode:
        """Show the runs past the cursor `after`; answers with the worst of their ends."""
        states = await asyncio.gather(*(client.read(run_id) for run_id in run_ids))
        labels = _labels(run_ids)
        if live:
            self._tell_of_delays(states)
        self._views = [
            self._view(state, label, n, after) for n, (state, label) in enumerate(zip(states, labels, strict=True))
        ]
        probe = asyncio.create_task(self._tell_of_absence(client)) if live else None
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(client, view, live=live)) for view in self._views]
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        finally:
            await _stop(probe)
            self.close()
        return worst([task.result() for task in tasks])

    def _tell_of_delays(self, states: Sequence[RunState]) -> None:
        for state in states:
            left_ms = state.not_before_ms - time.time() * 1000
            if state.status is Status.QUEUED and left_ms > _WORTH_TELLING_MS:
                remark("delayed", f"run {state.run_id} starts in {duration(left_ms)}", as_json=self._look.json)
            if state.status is Status.QUEUED and state.waits_for_session:
                words = f"run {state.run_id} waits behind another run of session {state.session_id}"
                remark("in_line", words, as_json=self._look.json)

    def detach(self) -> ExitCode:
        """Say how to come back to what goes on."""
        self.close()
        if (err := stderr()).is_tty:
            err.line()  # the terminal has written ^C
        left = [view for view in self._views if view.end is None]
        if not left:
            remark("interrupted", "interrupted", as_json=self._look.json)
            return ExitCode.INTERRUPTED
        url = self._options.redis_url
        redis = f" --redis {shlex.quote(url)}" if url and "@" not in url else ""
        commands = [
            f"agentq tail {view.run_id}{f' --after {view.cursor}' if view.cursor else ''}{redis}" for view in left
        ]
        goes = "the run goes on" if len(left) == 1 else "the runs go on"
        separator = " " if len(commands) == 1 else "\n  "
        remark(
            "detached",
            f"detached; {goes}. Come back with:" + "".join(separator + c for c in commands),
            as_json=self._look.json,
        )
        return ExitCode.INTERRUPTED

    def close(self) -> None:
        for view in self._views:
            view.close()

    def _view(self, state: RunState, label: str, number: int, after: int) -> _View:
        if self._look.json:
            return _View(state.run_id, self._write_json, lambda: None, after)
        renderer = Renderer(
            self._out,
            label=label,
            colour=_COLOURS[number % len(_COLOURS)],
            timestamps=self._look.timestamps,
            full=self._look.full,
            created_ms=state.created_ms or None,
        )

        def show(event: Event) -> None:
            renderer.show(event)
            self._mock.take(event)

        return _View(state.run_id, show, renderer.close, after)

    def _write_json(self, event: Event) -> None:
        self._out.line(event.model_dump_json(exclude_none=True))

    async def _one(self, client: AsyncClient, view: _View, *, live: bool) -> ExitCode:
        watcher = asyncio.create_task(self._warn_without_worker(client, view)) if live else None
        try:
            async with contextlib.aclosing(client.events(view.run_id, after=view.cursor, live=live)) as events:
                async for event in events:
                    view.take(event)
        finally:
            await _stop(watcher)
        if view.end is None:
            state = await client.read(view.run_id)
            if not state.status.is_final:
                view.close()
            return STATUS_CODES[state.status]
        return STATUS_CODES[view.end]

    async def _warn_without_worker(self, client: AsyncClient, view: _View) -> None:
        """Say once what the run waits for, when nothing comes and nothing will: most often, no worker is there."""
        while True:
            await asyncio.sleep(self._missing_after_s / 4)
            if not view.is_queued or time.monotonic() - view.changed_at < self._missing_after_s:
                continue
            with contextlib.suppress(StoreUnavailable, RunNotFound):
                reason = await client.why(view.run_id)
                if reason.needs_help:
                    break
            view.changed_at = time.monotonic()
        view.close()
        tell_of_need(reason, as_json=self._look.json)

    async def _tell_of_absence(self, client: AsyncClient) -> None:
        """Say once that Redis is away, and once that it is back: the events come through it without a word."""
        is_away = False
        while True:
            await asyncio.sleep(self._probe_every_s)
            view = next((view for view in self._views if view.end is None), None)
            if view is None:
                continue
            is_quiet = time.monotonic() - max(view.heard_at for view in self._views) >= self._probe_every_s
            was_away = is_away
            try:
                if is_quiet or is_away:
                    await client.read(view.run_id)
                is_away = False
            except StoreUnavailable:
                is_away = True
            except RunNotFound:
                return  # the events say so
            if is_away != was_away:
                self.close()
                message = "Redis is away; waiting" if is_away else "Redis is back"
                remark("redis", message, as_json=self._look.json)


def tell_of_need(reason: Reason, *, as_json: bool) -> None:
    """Say beside the output what a run waits for and what to do, as `agentq why` does."""
    remark(str(reason.code), one_line(f"{reason.text}; {reason.fix}"), as_json=as_json)


async def _stop(task: asyncio.Task[None] | None) -> None:
    if task:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def watch(watch_: Watch, main: Callable[[], Coroutine[Any, Any, ExitCode]]) -> ExitCode:
    """Run `main` to its end; Ctrl-C detaches `watch_`."""
    try:
        return asyncio.run(main())
    except KeyboardInterrupt:
        return watch_.detach()


def checked_run_id(text: str) -> str:
    """`text` as a run id; raises `RunNotFound` where it cannot be one. Lower case is taken too."""
    if is_run_id(text.upper()):
        return text.upper()
    raise RunNotFound(f"there is no run {text!r}: a run id has 26 letters and digits, as in 01JD3ZK8W5Q0X9V7T2M4N6P8RA")


def _labels(run_ids: Sequence[str]) -> list[str]:
    """A short name for each of several runs: the random end of its id. One run needs none."""
    if len(run_ids) == 1:
        return [""]
    length = 6
    while length < 26 and len({run_id[-length:] for run_id in run_ids}) < len(set(run_ids)):
        length += 1
    return [run_id[-length:] for run_id in run_ids]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group, however deep."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
