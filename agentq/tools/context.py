"""What a tool may know about the call that it serves, and how it reports progress."""

from __future__ import annotations

import asyncio
import itertools
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from agentq.errors import InvalidInput
from agentq.tools.cache import Cache, memory_cache
from agentq.tools.secrets import Secrets
from agentq.tools.state import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping, Sequence


T = TypeVar("T")


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
