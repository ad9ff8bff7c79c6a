"""How a run ended, and how to wait for it. Knows the store and the stream only by their protocols."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from agentq.errors import InvalidInput, ResultTimeout, RunCancelled, RunFailed
from agentq.events.encoding import is_known
from agentq.events.voids import with_voided
from agentq.messages import Message, Role, Usage
from agentq.output import parse
from agentq.runs import RunState, Status

if TYPE_CHECKING:
    from agentq.events.model import Event
    from agentq.events.stream import EventStream
    from agentq.stores.base import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a completed run came to. `output` is the text of its last reply, `messages` the whole transcript."""

    run_id: str
    output: str
    messages: tuple[Message, ...]
    usage: Usage
    status: Status = Status.COMPLETED

    def parse(self, kind: type[T]) -> T:
        """The output as a pydantic model or another type, such as the agent's `output_type`. Raises `InvalidInput`."""
        return parse(kind, self.output)


@asynccontextmanager
async def reading(
    stream: EventStream, run_id: str, *, after: int = 0, live: bool = True, voided: bool = False
) -> AsyncIterator[AsyncIterator[Event]]:
    """Open a run's events; the subscription ends with the block, however the block is left. Raises `InvalidInput`.

    Those of kinds that only newer versions know are left out: workers may be newer than who reads. With `voided`,
    deltas that an `attempt.reset` has dropped come back, empty.
    """
    if isinstance(after, bool) or not isinstance(after, int):
        raise InvalidInput(f"after must be the seq of an event, a whole number, not {after!r:.80}", field="after")
    events = stream.follow(run_id, after=after, live=live)
    try:
        read = with_voided(events, after) if voided else events
        yield (event async for event in read if is_known(event))
    finally:
        if isinstance(events, AsyncGenerator):
            await events.aclose()


async def ended(store: Store, stream: EventStream, state: RunState) -> RunState:
    """Return the run's state once it is final. A run that is final already costs nothing."""
    while not state.status.is_final:
        async with reading(stream, state.run_id, after=state.seq) as events:
            async for _ in events:
                pass
        # Read, not taken from the final event: the run may have been retried since.
        state = await store.read(state.run_id)
    return state


async def result_of(store: Store, stream: EventStream, run_id: str, timeout: float | None = None) -> RunResult:
    """Wait until the run has ended, and return its result.

    Raises `RunFailed`, `RunCancelled`, `RunNotFound`, or `ResultTimeout` after `timeout` seconds (0 only looks).
    """
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0):
        raise InvalidInput(
            f"timeout must be 0 or more seconds, or None to wait for ever, not {timeout!r:.80}", field="timeout"
        )
    state = await store.read(run_id)
    if not state.status.is_final:
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                state = await ended(store, stream, state)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ResultTimeout(f"run {run_id} did not end within {timeout:g} s; it goes on") from None
    return await collected(store, state)


async def collected(store: Store, state: RunState) -> RunResult:
    """The result of a run that is final, by its state. Raises `RunFailed` or `RunCancelled`."""
    run_id = state.run_id
    if state.status is Status.FAILED:
        raise RunFailed(f"run {run_id} failed: {state.last_error or 'no reason was recorded'}", run_id=run_id)
    if state.status is Status.CANCELLED:
        reason = f": {state.cancel_reason}" if state.cancel_reason else ""
        raise RunCancelled(f"run {run_id} was cancelled{reason}", run_id=run_id)
    messages = await store.messages(run_id)
    return RunResult(
        run_id=run_id,
        output=next((message.text for message in reversed(messages) if message.role is Role.ASSISTANT), ""),
        messages=messages,
        usage=Usage.model_validate(dict(state.usage)),
        status=state.status,
    )
