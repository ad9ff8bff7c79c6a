"""PURE: a new run from the first part of an old one. What is stored of the old one stays as it is."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from agentq import _ids
from agentq.errors import InvalidInput
from agentq.messages import FilePart, Message, NoteKind, Role, StopReason, ToolResultPart, user_message
from agentq.stores.base import NewRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agentq.runs import RunState

# These notes stand behind the reply of a turn that did not count as an iteration.
_FAILED = (NoteKind.TOOL_ERROR, NoteKind.OUTPUT_INVALID)


def first_part(messages: Sequence[Message], iteration: int | None) -> tuple[Message, ...]:
    """The transcript up to the end of that iteration, counted from 1; 0 for what stands before the first, None for all.

    No part ends between a reply and the results of its calls. Raises `InvalidInput` when there were not so many.
    """
    if iteration is None:
        return tuple(messages)
    if isinstance(iteration, bool) or not isinstance(iteration, int) or iteration < 0:
        raise InvalidInput(f"iteration must be a whole number from 0 on, not {iteration!r}", field="iteration")
    if iteration == 0:
        replies = (at for at, message in enumerate(messages) if message.role is Role.ASSISTANT)
        return tuple(messages[: next(replies, len(messages))])
    ends = list(_ends(messages))
    if iteration > len(ends):
        raise InvalidInput(f"the run has {len(ends)} iterations, not {iteration}", field="iteration")
    return tuple(messages[: ends[iteration - 1]])


def _ends(messages: Sequence[Message]) -> Iterator[int]:
    """Where the iterations end that made progress."""
    for at, message in enumerate(messages):
        if message.role is not Role.ASSISTANT or message.stop_reason is StopReason.CANCELLED:
            continue
        end = at + 1
        results: tuple[ToolResultPart, ...] = ()
        if message.tool_calls:
            end = next(n for n in range(at + 1, len(messages)) if messages[n].role is Role.TOOL) + 1
            results = messages[end - 1].tool_results
        note = messages[end].note if end < len(messages) else None
        if note not in _FAILED and all(result.outcome != "cancelled" for result in results):
            yield end


def fork_of(
    run: RunState,
    messages: Sequence[Message],
    *,
    iteration: int | None,
    prompt: str | None,
    session_id: str | None,
    idempotency_key: str | None,
) -> NewRun:
    """The run to store. `messages` are its transcript but for the `prompt`. Raises `InvalidInput`."""
    said = (*messages, user_message(prompt)) if prompt is not None else tuple(messages)
    if said[-1].role is Role.ASSISTANT:
        raise InvalidInput(
            "that part of the run ends with an answer: give a prompt, or an earlier iteration", field="prompt"
        )
    request = json.dumps(["fork", run.run_id, iteration, prompt, session_id], separators=(",", ":"))
    return NewRun(
        run_id=_ids.new_run_id(),
        agent=run.agent,
        messages=said,
        queue=run.queue,
        model=run.model,
        session_id=session_id,
        user_id=run.user_id,
        metadata=run.metadata,
        concurrency_key=run.concurrency_key,
        concurrency=run.concurrency,
        idempotency_key=idempotency_key,
        request_hash=hashlib.sha256(request.encode()).hexdigest(),
        ttl_ms=run.ttl_ms,
        tools=run.tools,
        without=run.without,
        limits=run.limits,
        tenant=run.tenant,
        priority=run.priority,
        forked_from=run.run_id,
    )


def digests_in(messages: Sequence[Message]) -> set[str]:
    """The stored files that the messages refer to."""
    parts = [part for message in messages for part in message.parts]
    returned = [file for part in parts if isinstance(part, ToolResultPart) for file in part.files]
    files = [*returned, *(part for part in parts if isinstance(part, FilePart))]
    return {file.digest for file in files if file.digest is not None}
