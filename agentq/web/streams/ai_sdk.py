"""The UI message stream of Vercel's AI SDK, version 1, as a fold over events.

The chunks: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol, and `uiMessageChunkSchema` in the npm package `ai`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq.events.model import (
    AttemptReset,
    Gap,
    IterationFinished,
    IterationStarted,
    ReasoningDelta,
    ReplyCompleted,
    RunAnswered,
    RunCancelledEvent,
    RunCompleted,
    RunFailedEvent,
    RunQueued,
    RunStarted,
    RunWaiting,
    TextDelta,
    ToolCalled,
    ToolFailed,
    ToolFinished,
)
from agentq.runs import APPROVAL
from agentq.web.streams.frames import Asked, Pieces, asks_people
from agentq.web.streams.replies import Reply, facts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq.events.model import Delta, Event
    from agentq.messages import FilePart
    from agentq.web.streams.frames import Body
    from agentq.web.streams.replies import Streaming


class AISDKFold:
    """The events of one run as chunks of one message, whose id is the run's."""

    def __init__(self, run_id: str, *, file_url: Callable[[FilePart], str] | None = None) -> None:
        self._run_id = run_id
        self._file_url = file_url or (lambda file: file.url)
        self._reply = Reply()
        self._has_begun = False
        self._in_step = False
        # What the step holds beside the reply that streams, and whether that is a reply that is complete.
        self._kept: list[Body] = []
        self._has_reply = False
        self._calls: set[str] = set()
        self._denied: set[str] = set()
        # Questions that are open, by call.
        self._asked: dict[str, RunWaiting] = {}
        self._seq = 0

    def take(self, event: Event) -> Pieces:
        """See `Fold`."""
        begun: list[Body] = [] if self._has_begun else [self._start()]
        self._has_begun = True
        pieces = self._pieces(event)
        self._seq = max(self._seq, event.seq)
        return Pieces([*begun, *pieces.body], pieces.closing, pieces.opening)

    def _pieces(self, event: Event) -> Pieces:
        match event:
            case RunCompleted():
                return self._end(event, "stop")
            case RunFailedEvent():
                return self._end(event, "error", {"type": "error", "errorText": event.reason})
            case RunCancelledEvent():
                return self._end(event, "other", {"type": "abort", "reason": event.reason})
            case RunWaiting() if asks_people(event):
                return self._ask(event)
            case _:
                return Pieces(self._body(event))

    def _body(self, event: Event) -> list[Body]:
        match event:
            case RunQueued() | RunStarted():
                return []
            case IterationStarted() | IterationFinished():
                if self._reply.torn and isinstance(event, IterationStarted):
                    self._reply = Reply()
                return self._finish_step()
            case TextDelta() | ReasoningDelta():
                return self._stream(event)
            case ReplyCompleted():
                return self._complete(event)
            case AttemptReset():
                return self._reset()
            case ToolCalled():
                return self._call(event.call_id, event.name, event.arguments, event.child_run_id)
            case ToolFinished() | ToolFailed():
                return self._result(event)
            case RunAnswered() if event.call_id in self._asked:
                return self._answered(event, self._asked.pop(event.call_id))
            case Gap():
                torn = self._reply.torn or bool(self._reply.pieces) or event.seq > self._seq
                closed = self._close_open()
                self._reply = Reply(torn=torn)
                return [*closed, _data(event)]
            case _:
                return [_data(event)]

    # --- the turn

    def _start(self) -> Body:
        return {"type": "start", "messageId": self._run_id, "messageMetadata": {"runId": self._run_id}}

    def _end(self, event: RunCompleted | RunFailedEvent | RunCancelledEvent, why: str, *before: Body) -> Pieces:
        metadata = {
            "runId": self._run_id,
            "status": event.type.partition(".")[2],
            "usage": event.usage.model_dump(mode="json", exclude_none=True),
            "iterations": event.iterations,
        }
        finish = {"type": "finish", "finishReason": why, "messageMetadata": metadata}
        return Pieces(self._close_all(), [*before, finish], [self._start()])

    def _ask(self, event: RunWaiting) -> Pieces:
        self._asked[event.call_id] = event
        told = [*self._close_open(), *self._call(event.call_id, event.name, event.arguments)]
        question = str(Asked(event.call_id, event.seq))
        if event.kind == APPROVAL:
            request = {"approvalId": question, "toolCallId": event.call_id, "reason": event.text}
            told += self._keep({"type": "tool-approval-request", **request})
        else:
            told += [*self._start_step(), *self._keep(_input(question, event))]
        told += self._close_all()
        return Pieces(told, [{"type": "finish", "finishReason": "tool-calls"}], [self._start()])

    def _answered(self, event: RunAnswered, waiting: RunWaiting) -> list[Body]:
        question = str(Asked(waiting.call_id, waiting.seq))
        if waiting.kind != APPROVAL:
            return self._keep(_input(question, waiting, answer=event.answer))
        is_approved = event.answer == "approved"
        if not is_approved:
            self._denied.add(event.call_id)
        reason = event.reason or ("" if event.answer in ("approved", "denied") else event.answer)
        why = {"reason": reason} if reason else {}
        said = {"approvalId": question, "approved": is_approved, **why}
        return self._keep({"type": "tool-approval-response", **said})

    def _close_all(self) -> list[Body]:
        closed = self._close_open()
        self._reply = Reply()
        return [*closed, *self._finish_step()]

    def _start_step(self) -> list[Body]:
        """Begin a step, unless one has begun: before its first content, so that none is empty."""
        if self._in_step:
            return []
        self._in_step, self._has_reply, self._kept = True, False, []
        return [{"type": "start-step"}]

    def _finish_step(self) -> list[Body]:
        if not self._in_step:
            return []
        self._in_step = False
        return [*self._close_open(), {"type": "finish-step"}]

    def _keep(self, *chunks: Body) -> list[Body]:
        """Chunks of the step that a reset takes away too, and which are then said again."""
        self._kept += chunks
        return list(chunks)

    # --- what the model says

    def _stream(self, delta: Delta) -> list[Body]:
        if self._reply.torn:
            return []
        # A reset takes back the whole step.
        told = self._finish_step() if self._has_reply else []
        told += self._start_step()
        closed, begins = self._reply.take(delta, "")
        piece = self._reply.open
        assert piece is not None  # noqa: S101 - a delta opens one
        if closed is not None:
            told.append(_chunk(closed, "end"))
        if begins:
            told.append(_chunk(piece, "start"))
        return [*told, _chunk(piece, "delta", delta=delta.text)]

    def _close_open(self) -> list[Body]:
        piece, self._reply.open = self._reply.open, None
        return [] if piece is None else [_chunk(piece, "end")]

    def _complete(self, event: ReplyCompleted) -> list[Body]:
        told = self._close_open()
        reply, self._reply = self._reply, Reply()
        if event.reasoning and not reply.has(thought=True):
            told += self._whole("reasoning", f"{event.seq}.reasoning", event.reasoning)
        if event.text and not reply.has(thought=False):
            told += self._whole("text", f"{event.seq}", event.text)
        self._has_reply = self._in_step
        return told

    def _whole(self, kind: str, part_id: str, text: str) -> list[Body]:
        return [
            *self._start_step(),
            {"type": f"{kind}-start", "id": part_id},
            {"type": f"{kind}-delta", "id": part_id, "delta": text},
            {"type": f"{kind}-end", "id": part_id},
        ]

    def _reset(self) -> list[Body]:
        """Take back what was said of a reply that is given up."""
        reply, self._reply = self._reply, Reply()
        return [{"type": "reset-step"}, *self._kept] if reply.pieces and self._in_step else []

    # --- tools

    def _call(self, call_id: str, name: str, arguments: dict[str, Any], child: str | None = None) -> list[Body]:
        if call_id in self._calls:
            return []
        self._calls.add(call_id)
        more = {} if child is None else {"toolMetadata": {"childRunId": child}}
        call = {"toolCallId": call_id, "toolName": name, "input": arguments, **more}
        return [*self._start_step(), *self._keep({"type": "tool-input-available", **call})]

    def _result(self, event: ToolFinished | ToolFailed) -> list[Body]:
        told = self._call(event.call_id, event.name, {})
        call = {"toolCallId": event.call_id}
        if isinstance(event, ToolFailed):
            if event.call_id in self._denied:
                return [*told, *self._keep({"type": "tool-output-denied", **call})]
            return [*told, *self._keep({"type": "tool-output-error", **call, "errorText": event.content})]
        output = event.content if event.data is None else event.data
        told += self._keep({"type": "tool-output-available", **call, "output": output})
        if not event.files:
            return told
        files = [{"type": "file", "url": self._file_url(file), "mediaType": file.media_type} for file in event.files]
        return [*told, *self._start_step(), *self._keep(*files)]


def _chunk(piece: Streaming, what: str, **fields: Any) -> Body:
    return {"type": f"{'reasoning' if piece.is_thought else 'text'}-{what}", "id": piece.part_id, **fields}


def _input(question: str, event: RunWaiting, *, answer: str | None = None) -> Body:
    data: dict[str, Any] = {
        "interruptId": question,
        "callId": event.call_id,
        "toolName": event.name,
        "kind": event.kind,
        "text": event.text,
        "schema": event.answer_schema,
        "untilMs": event.until_ms,
        "answer": answer,
    }
    return {"type": "data-agentq-input", "id": question, "data": data}


def _data(event: Event) -> Body:
    """An event that has no chunk of its own. Transient: it is told, and is no part of the message."""
    name = event.type.replace(".", "-")
    return {"type": f"data-agentq-{name}", "data": facts_of(event), "transient": True}
