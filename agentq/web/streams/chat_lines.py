"""The lines of chat products, `{type, data}`, as a fold over events: from `session.run.started` to its completion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq.events.model import (
    AttemptReset,
    Gap,
    ReasoningDelta,
    ReplyCompleted,
    RunAnswered,
    RunCancelledEvent,
    RunCompleted,
    RunFailedEvent,
    RunWaiting,
    TextDelta,
    ToolCalled,
    ToolFailed,
    ToolFinished,
    ToolProgress,
)
from agentq.web.streams.frames import Asked, Pieces, asks_people
from agentq.web.streams.replies import Reply, Streaming

if TYPE_CHECKING:
    from agentq.events.model import Delta, Event
    from agentq.messages import FilePart
    from agentq.web.streams.frames import Body


def line(kind: str, **data: Any) -> dict[str, Any]:
    """One line, before it is written as JSON."""
    return {"type": kind, "data": data}


class ChatLinesFold:
    """The events of one run as lines. A part that changes comes again with its id; text comes as `delta`, then whole.

    How the run ended stands in `closing`: the caller may have more to say before that.
    """

    def __init__(self, run_id: str, session_id: str | None = None) -> None:
        self._run = {"run_id": run_id, "session_id": session_id}
        self._reply = Reply()
        self._has_begun = False
        self._calls: dict[str, dict[str, Any]] = {}
        self._asked: dict[str, Body] = {}
        self._seq = 0

    def take(self, event: Event) -> Pieces:
        """See `Fold`."""
        begun = [] if self._has_begun else [line("session.run.started", **self._run)]
        self._has_begun = True
        match event:
            case RunCompleted():
                usage = event.usage.model_dump(mode="json", exclude_none=True)
                result = line("result", **self._run, output=event.output, usage=usage)
                pieces = Pieces(self._close_open(), [result, line("session.run.completed", **self._run)])
            case RunFailedEvent():
                pieces = Pieces(self._close_open(), failure(self._run, event.reason, "run_failed"))
            case RunCancelledEvent():
                reason = event.reason or "the run was cancelled"
                pieces = Pieces(self._close_open(), failure(self._run, reason, "run_cancelled"))
            case _:
                pieces = Pieces(self._body(event))
        self._seq = max(self._seq, event.seq)
        return Pieces([*begun, *pieces.body], pieces.closing)

    def _body(self, event: Event) -> list[Body]:
        match event:
            case TextDelta() | ReasoningDelta():
                return self._stream(event)
            case ReplyCompleted():
                return self._complete(event)
            case AttemptReset():
                reply, self._reply = self._reply, Reply()
                return [self._part(piece, "removed") for piece in reply.pieces]
            case ToolCalled():
                return [self._call(event.call_id, event.name, "running", input=event.arguments)]
            case ToolProgress():
                progress = {"message": event.message, "fraction": event.fraction}
                return [self._call(event.call_id, event.name, "running", progress=progress)]
            case ToolFinished():
                files = {"files": [_file(file) for file in event.files]} if event.files else {}
                data = {} if event.data is None else {"data": event.data}
                return [self._call(event.call_id, event.name, "completed", output=event.content, **data, **files)]
            case ToolFailed():
                return [self._call(event.call_id, event.name, "error", error=event.content, outcome=event.outcome)]
            case RunWaiting() if asks_people(event):
                return [self._question(event)]
            case RunAnswered() if event.call_id in self._asked:
                part = {**self._asked.pop(event.call_id), "state": "answered", "answer": event.answer}
                return [line("message.part.updated", **self._run, part=part)]
            case Gap():
                torn = self._reply.torn or bool(self._reply.pieces) or event.seq > self._seq
                reply, self._reply = self._reply, Reply(torn=torn)
                return [self._part(piece, "removed") for piece in reply.pieces]
            case _:
                return []

    # --- what the model says

    def _stream(self, delta: Delta) -> list[Body]:
        if self._reply.torn:
            return []
        closed, _ = self._reply.take(delta, "")
        piece = self._reply.open
        assert piece is not None  # noqa: S101 - a delta opens one
        told = [] if closed is None else [self._part(closed, "done", text=closed.text)]
        return [*told, self._part(piece, "streaming", delta=delta.text)]

    def _complete(self, event: ReplyCompleted) -> list[Body]:
        told = self._close_open()
        reply, self._reply = self._reply, Reply()
        if event.reasoning and not reply.has(thought=True):
            piece = Streaming(f"{event.seq}.reasoning", is_thought=True, text=event.reasoning)
            told.append(self._part(piece, "done", text=piece.text))
        if event.text and not reply.has(thought=False):
            piece = Streaming(f"{event.seq}", is_thought=False, text=event.text)
            told.append(self._part(piece, "done", text=piece.text))
        return told

    def _close_open(self) -> list[Body]:
        piece, self._reply.open = self._reply.open, None
        return [] if piece is None else [self._part(piece, "done", text=piece.text)]

    def _part(self, piece: Streaming, state: str, *, delta: str | None = None, **more: Any) -> Body:
        part = {"id": piece.part_id, "type": "reasoning" if piece.is_thought else "text", "state": state, **more}
        added = {} if delta is None else {"delta": delta}
        return line("message.part.updated", **self._run, part=part, **added)

    # --- tools

    def _call(self, call_id: str, name: str, state: str, **more: Any) -> Body:
        part = self._calls.setdefault(call_id, {"id": call_id, "type": "tool", "name": name})
        part.update(more)
        part.pop("progress", None) if "progress" not in more else None
        return line("message.part.updated", **self._run, part={**part, "state": state})

    def _question(self, event: RunWaiting) -> Body:
        part = {
            "id": str(Asked(event.call_id, event.seq)),
            "type": "question",
            "call_id": event.call_id,
            "name": event.name,
            "kind": event.kind,
            "text": event.text,
            "input": event.arguments,
            "schema": event.answer_schema,
            "until_ms": event.until_ms,
        }
        self._asked[event.call_id] = part
        return line("message.part.updated", **self._run, part={**part, "state": "waiting"})


def failure(run: Body, reason: str, code: str) -> list[dict[str, Any]]:
    """How a turn ends that came to nothing: what went wrong, and that it is over."""
    return [line("error", **run, message=reason, code=code), line("session.run.failed", **run, reason=reason)]


def _file(file: FilePart) -> Body:
    return file.model_dump(mode="json", exclude_none=True, exclude={"type"})
