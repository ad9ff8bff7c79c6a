"""What a tool may know about the call that it serves, and how it reports progress."""

from __future__ import annotations

import asyncio
import itertools
import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from agentq.errors import InvalidInput
from agentq.tools.answers import checked_schema
from agentq.tools.cache import Cache, memory_cache
from agentq.tools.durable import Durable, NoDurable, result_of_step
from agentq.tools.secrets import Secrets
from agentq.tools.state import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping, Sequence

    from agentq.steps import DurableStep


T = TypeVar("T")
# Longer is a mistake in the unit.
_LONGEST_S = 366 * 86_400
_MAX_NAME = 200


def _report_nothing(message: str, fraction: float | None) -> None:
    """The sink of a context that no loop made, as in a user's test."""


class _Pause:
    """Awaited, it gives other tasks a turn. Unlike a coroutine it may be dropped without a warning."""

    def __await__(self) -> Generator[Any, Any, None]:
        return asyncio.sleep(0).__await__()


_pause = _Pause()


async def _no_store(number: int, script: str, keys: Sequence[str | bytes], args: Sequence[str | bytes | float]) -> Any:
    """The effect of a context that no loop made, or of a store that runs no scripts."""
    raise InvalidInput("ctx.commit_with needs a run that lives in Redis", field="script")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ToolContext:
    """The call that a tool serves. A tool gets it in the parameter that is annotated with this class.

    `idempotency_key` is the same on every attempt of one call, and no other call has it. `attempt` counts from 1.
    `metadata` is what the run was enqueued with. `cancel_event` belongs to this call alone: a timeout sets it.
    `report` takes progress from any thread and neither blocks nor raises. `commit_effect` is what `commit_with` calls,
    with the number of the write within this entry into the tool.

    `state` is what the run keeps from call to call, `state.session` and `state.user` what is kept for its session and
    its user; all of it is stored with the result of the call, and not where the call fails. `cache` is shared by all
    workers, for a time. `secrets` are those that the tool asked for.
    """

    run_id: str
    call_id: str
    session_id: str | None = None
    user_id: str | None = None
    idempotency_key: str = ""
    attempt: int = 1
    metadata: Mapping[str, Any] = field(default_factory=dict)
    cancel_event: threading.Event = field(default_factory=threading.Event, repr=False)
    report: Callable[[str, float | None], None] = field(default=_report_nothing, repr=False)
    commit_effect: Callable[[int, str, Sequence[str | bytes], Sequence[str | bytes | float]], Awaitable[Any]] = field(
        default=_no_store, repr=False
    )
    state: State = field(default_factory=State, repr=False)
    cache: Cache = field(default_factory=memory_cache, repr=False)
    secrets: Secrets = field(default_factory=Secrets)
    event_loop: asyncio.AbstractEventLoop | None = field(default=None, repr=False)
    durable: Durable = field(default_factory=NoDurable, repr=False)
    # The writes of one entry into the tool, in order: entered again, it counts anew.
    _writes: Iterator[int] = field(default_factory=lambda: itertools.count(1), init=False, repr=False)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more: the run was cancelled or the call timed out.

        A thread cannot be stopped from outside, so a long synchronous tool looks here from time to time.
        """
        return self.cancel_event.is_set()

    def progress(self, message: str = "", fraction: float | None = None) -> Awaitable[None]:
        """Tell those who watch how far the tool is; `fraction` is 0 to 1.

        The report leaves at once. A synchronous tool just calls this; an async one may await it, which gives other
        work a turn. Nothing is sent once the call is cancelled. Raises `InvalidInput` for another fraction.
        """
        if fraction is not None and not 0 <= fraction <= 1:
            raise InvalidInput(f"fraction is from 0 to 1, not {fraction}", field="fraction")
        if not self.cancel_event.is_set():
            self.report(message, fraction)
        return _pause

    def commit_with(
        self, script: str, keys: Sequence[str | bytes] = (), args: Sequence[str | bytes | float] = ()
    ) -> Awaitable[Any]:
        """Write to the Redis of agentq exactly once: by a Lua script, together with the record that it has run.

        The script sees `keys` and `args` as KEYS and ARGV. What it returns is returned here, with strings decoded; when
        the tool is entered again after a crash, the first answer is returned and nothing is written. So a tool whose
        only effects are such writes is "idempotent". A tool may write several times; each time must come with the same
        script and in the same order as before, else it raises `StepDiverged`. To be awaited, so for async tools only.

        Raises `InvalidInput` where the run does not live in Redis, `LeaseLost` when another worker has taken it, and
        redis-py's `ResponseError` when the script fails; what a script wrote before it failed stays written.
        """
        _check_effect(script, keys, args)
        return self.commit_effect(next(self._writes), script, tuple(keys), tuple(args))

    async def step(self, name: str, fn: Callable[[], Any]) -> Any:
        """Do something once: what `fn` returns is journaled, and returned again when the tool is entered again.

        `fn` is a function without arguments, sync or async; it returns what has a JSON form. Where the worker dies
        between its end and the journal, it is called again. Steps have to come in the same order each time, one after
        the other. Raises `StepDiverged`.
        """
        if not isinstance(name, str) or not name:
            raise InvalidInput(f"a step has a name, not {name!r}", field="name")
        number = next(self._writes)
        earlier = await self.durable.earlier(number, "step", name)
        if earlier is not None:
            return earlier.value
        value = await result_of_step(fn)
        await self.durable.keep(number, name, value)
        return value

    async def sleep(self, seconds: float) -> None:
        """Rest for so long: the run holds no worker meanwhile. The tool is entered again from its first line."""
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= _LONGEST_S:
            raise InvalidInput(f"seconds must be from 0 to {_LONGEST_S} (a year), not {seconds!r}", field="seconds")
        await self._rest("timer", "", within_s=float(seconds))

    async def sleep_until(self, when: datetime) -> None:
        """Rest until then. `when` has a time zone; one that has passed is no rest."""
        if not isinstance(when, datetime) or when.tzinfo is None:
            raise InvalidInput(f"when must be a datetime with a time zone, not {when!r}", field="when")
        await self._rest("timer", "", until_s=when.timestamp())

    async def wait_for(self, name: str, timeout: float | None = None) -> Any:
        """Rest until somebody signals `name` to the run, and return the data. One that came before is taken.

        Raises TimeoutError when nothing came within `timeout` seconds.
        """
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME:
            raise InvalidInput(f"a signal has a name of at most {_MAX_NAME} characters, not {name!r}", field="name")
        if timeout is not None and not 0 < timeout <= _LONGEST_S:
            raise InvalidInput(f"timeout must be seconds above 0, not {timeout!r}", field="timeout")
        came = await self._rest("signal", name, within_s=timeout)
        if came.expired:
            raise TimeoutError(f"no signal {name} came within {timeout:g} s")
        return came.value

    async def ask(self, question: str, schema: Mapping[str, Any] | None = None, timeout: float | None = None) -> Any:
        """Rest until somebody answers, and return the answer: a text, or what fits `schema` (JSON Schema).

        The schema refers to nothing outside of it. Raises TimeoutError when nobody answered within `timeout` seconds,
        and `InvalidInput`.
        """
        if not isinstance(question, str) or not question.strip():
            raise InvalidInput("question is empty", field="question")
        if timeout is not None and not 0 < timeout <= _LONGEST_S:
            raise InvalidInput(f"timeout must be seconds above 0, not {timeout!r}", field="timeout")
        wanted = None if schema is None else checked_schema(schema, field="schema")
        given = await self._rest("input", self.secrets.redact(question), within_s=timeout, schema=wanted)
        if given.expired:
            raise TimeoutError(f"nobody answered within {timeout:g} s")
        return given.value

    async def _rest(self, kind: str, name: str, **how: Any) -> DurableStep:
        number = next(self._writes)
        earlier = await self.durable.earlier(number, kind, name)
        return earlier if earlier is not None else await self.durable.rest(number, kind, name, **how)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns, for synchronous tools: `ctx.wait(ctx.cache.get("rate"))`.

        Raises what it raises, and `InvalidInput` in an async tool, which awaits it instead.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            if self.event_loop is None:
                return asyncio.run(work)
            return asyncio.run_coroutine_threadsafe(work, self.event_loop).result()
        work.close()
        raise InvalidInput("an async tool awaits it: await ctx.cache.get(...)", field="work")


def _check_effect(script: Any, keys: Any, args: Any) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise InvalidInput("ctx.commit_with has to be awaited: make the tool async", field="script") from None
    if not isinstance(script, str) or not script.strip():
        raise InvalidInput("script must be the text of a Lua script", field="script")
    for name, values, kinds in (("keys", keys, (str, bytes)), ("args", args, (str, bytes, int, float))):
        if isinstance(values, str | bytes):
            raise InvalidInput(f"{name} must be a list, not {type(values).__name__}", field=name)
        for value in values:
            if isinstance(value, bool) or not isinstance(value, kinds):
                words = " or ".join(kind.__name__ for kind in kinds)
                raise InvalidInput(f"{name} has {value!r}, which is not {words}", field=name)
