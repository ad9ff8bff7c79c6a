"""AG-UI 1.0 as a fold over events (the protocol: https://docs.ag-ui.com, its schema: https://ag-ui.com/spec/1.0)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.events.model import (
    AttemptReset,
    Gap,
    IterationFinished,
    IterationStarted,
    ReasoningDelta,
    ReplyCompleted,
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
from agentq.web.streams.history import from_transcript
from agentq.web.streams.replies import Reply, Streaming, facts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq.events.model import Delta, Event
    from agentq.messages import FilePart, Usage
    from agentq.web.streams.frames import Body


PROTOCOL = "1.0"
# What the answer to a question about a call has to look like.
APPROVAL_SCHEMA = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean"},
        "reason": {"type": "string"},
        "arguments": {"type": "object", "description": "Other arguments for the call."},
    },
    "required": ["approved"],
}
_MEDIA = ("image", "audio", "video")


class AGUIFold:
    """The events of one run as those of AG-UI.

    `thread_id` and `run_id` are what the client calls the session and the turn. `history` are the messages that it has
    already: a reply that was given up can only be taken back by saying again which messages there are.
    """

    def __init__(
        self,
        thread_id: str,
        run_id: str,
        *,
        history: Sequence[Body] = (),
        file_url: Callable[[FilePart], str] | None = None,
    ) -> None:
        self._thread_id = thread_id
        self._run_id = run_id
        self._history = tuple(history)
        self._file_url = file_url or (lambda file: file.url)
        self._reply = Reply()
        self._made: dict[str, dict[str, Any]] = {}
        self._step: str | None = None
        self._calls: set[str] = set()
        self._results: set[str] = set()
        # The runs whose work calls are, and which of them are under way.
        self._children: dict[str, str] = {}
        self._active: set[str] = set()
        self._parent: str | None = None
        self._has_begun = False
        self._at_ms = 0
        self._seq = 0

    def take(self, event: Event) -> Pieces:
        """See `Fold`."""
        self._at_ms = event.at_ms
        begun: list[Body] = [] if self._has_begun else self._begin()
        pieces = self._pieces(event)
        self._seq = max(self._seq, event.seq)
        return Pieces([*begun, *pieces.body], pieces.closing, pieces.opening)

    def _pieces(self, event: Event) -> Pieces:
        match event:
            case RunCompleted():
                result = {"output": event.output, "iterations": event.iterations}
                return self._end(self._finished({"type": "success"}, result=result, usage=_usage(event.usage)))
            case RunFailedEvent():
                error = self._event("RUN_ERROR", message=event.reason, code="run_failed", usage=_usage(event.usage))
                return self._end(error)
            case RunCancelledEvent():
                return self._end(self._finished({"type": "cancelled"}, usage=_usage(event.usage)))
            case RunWaiting() if asks_people(event):
                return self._ask(event)
            case _:
                return Pieces(self._body(event))

    def _body(self, event: Event) -> list[Body]:
        match event:
            case RunQueued() | RunStarted():
                return []
            case IterationStarted():
                closed = self._close_step()
                if self._reply.torn:
                    self._reply = Reply()
                self._step = f"iteration {event.iteration}"
                return [*closed, self._event("STEP_STARTED", stepName=self._step)]
            case IterationFinished():
                return self._close_step()
            case TextDelta() | ReasoningDelta():
                return self._stream(event)
            case ReplyCompleted():
                return self._complete(event)
            case AttemptReset():
                return self._reset()
            case ToolCalled():
                return self._call(event)
            case ToolFinished() | ToolFailed():
                return self._result(event)
            case Gap():
                return self._gap(event)
            case _:
                return [self._custom(event)]

    # --- the turn

    def _begin(self) -> list[Body]:
        self._has_begun = True
        ids = {"threadId": self._thread_id, "runId": self._run_id}
        return [self._event("RUN_STARTED", **ids, protocolVersion=PROTOCOL)]

    def _end(self, closing: Body) -> Pieces:
        return Pieces(self._close_all(), [closing], self._begin())

    def _finished(self, outcome: Body, **more: Any) -> Body:
        ids = {"threadId": self._thread_id, "runId": self._run_id}
        return self._event("RUN_FINISHED", **ids, outcome=outcome, **more)

    def _ask(self, event: RunWaiting) -> Pieces:
        told = self._announce(event.call_id, event.name, event.arguments)
        interrupt: dict[str, Any] = {
            "id": str(Asked(event.call_id, event.seq)),
            "reason": event.kind,
            "message": event.text,
            "toolCallId": event.call_id,
            "metadata": {"agentq": facts_of(event)},
        }
        schema = APPROVAL_SCHEMA if event.kind == APPROVAL else event.answer_schema
        if schema is not None:
            interrupt["responseSchema"] = schema
        if event.until_ms:
            interrupt["expiresAt"] = datetime.fromtimestamp(event.until_ms / 1000, UTC).isoformat()
        pieces = self._end(self._finished({"type": "interrupt", "interrupts": [interrupt]}))
        return Pieces([*told, *pieces.body], pieces.closing, pieces.opening)

    def _close_all(self) -> list[Body]:
        """Nothing may be open where a turn ends."""
        closed = [*self._close_open(), *self._close_step()]
        children, self._active = sorted(self._active), set()
        outcome = {"type": "suspended"}
        closed += [self._event("SUBAGENT_FINISHED", subagentRunId=child, outcome=outcome) for child in children]
        self._reply = Reply()
        return closed

    def _close_step(self) -> list[Body]:
        step, self._step = self._step, None
        return [] if step is None else [self._event("STEP_FINISHED", stepName=step)]

    # --- what the model says

    def _stream(self, delta: Delta) -> list[Body]:
        if self._reply.torn:
            return []
        closed, begins = self._reply.take(delta, f"{delta.run_id}.")
        piece = self._reply.open
        assert piece is not None  # noqa: S101 - a delta opens one
        told = [] if closed is None else self._close(closed)
        if begins:
            told += self._open(piece)
        name = "REASONING_MESSAGE_CONTENT" if piece.is_thought else "TEXT_MESSAGE_CONTENT"
        return [*told, self._event(name, messageId=piece.part_id, delta=delta.text)]

    def _open(self, piece: Streaming) -> list[Body]:
        if piece.is_thought:
            return [
                self._event("REASONING_START", messageId=piece.part_id),
                self._event("REASONING_MESSAGE_START", messageId=piece.part_id, role="reasoning"),
            ]
        return [self._event("TEXT_MESSAGE_START", messageId=piece.part_id, role="assistant")]

    def _close(self, piece: Streaming) -> list[Body]:
        if piece.is_thought:
            return [
                self._event("REASONING_MESSAGE_END", messageId=piece.part_id),
                self._event("REASONING_END", messageId=piece.part_id),
            ]
        return [self._event("TEXT_MESSAGE_END", messageId=piece.part_id)]

    def _close_open(self) -> list[Body]:
        piece, self._reply.open = self._reply.open, None
        return [] if piece is None else self._close(piece)

    def _complete(self, event: ReplyCompleted) -> list[Body]:
        told = self._close_open()
        reply, self._reply = self._reply, Reply()
        if event.reasoning and not reply.has(thought=True):
            told += self._whole(f"{event.run_id}.{event.seq}.reasoning", event.reasoning, is_thought=True)
        for piece in reply.pieces:
            self._keep(piece)
        if event.text and not reply.has(thought=False):
            told += self._whole(f"{event.run_id}.{event.seq}", event.text, is_thought=False)
        texts = [piece.part_id for piece in reply.pieces if not piece.is_thought]
        self._parent = texts[-1] if texts else f"{event.run_id}.{event.seq}"
        return told

    def _whole(self, part_id: str, text: str, *, is_thought: bool) -> list[Body]:
        piece = Streaming(part_id, is_thought, text)
        self._keep(piece)
        name = "REASONING_MESSAGE_CONTENT" if is_thought else "TEXT_MESSAGE_CONTENT"
        return [*self._open(piece), self._event(name, messageId=part_id, delta=text), *self._close(piece)]

    def _keep(self, piece: Streaming) -> None:
        role = "reasoning" if piece.is_thought else "assistant"
        self._made[piece.part_id] = {"id": piece.part_id, "role": role, "content": piece.text}

    def _reset(self) -> list[Body]:
        """Take back what was said of a reply that is given up."""
        told = self._close_open()
        reply, self._reply = self._reply, Reply()
        if not reply.pieces:
            return told
        messages = self._messages()
        thoughts = [piece for piece in reply.pieces if piece.is_thought]
        if thoughts and not any(message.get("role") == "reasoning" for message in messages):
            # A snapshot without reasoning leaves that which a client has; one message of it, and it decides.
            messages.append({"id": thoughts[0].part_id, "role": "reasoning", "content": ""})
        return [*told, self._event("MESSAGES_SNAPSHOT", messages=messages)]

    def _messages(self) -> list[Body]:
        """The conversation as far as it stands."""
        ids = {message.get("id") for message in self._history}
        before = [dict(self._made.get(str(message.get("id")), message)) for message in self._history]
        return [*before, *(dict(message) for made, message in self._made.items() if made not in ids)]

    # --- tools

    def _call(self, event: ToolCalled) -> list[Body]:
        told = self._announce(event.call_id, event.name, event.arguments)
        child = event.child_run_id
        if child is not None and child not in self._children.values():
            self._children[event.call_id] = child
            self._active.add(child)
            told.append(
                self._event("SUBAGENT_STARTED", subagentRunId=child, name=event.name, parentToolCallId=event.call_id)
            )
        return told

    def _announce(self, call_id: str, name: str, arguments: dict[str, Any]) -> list[Body]:
        if call_id in self._calls:
            return []
        self._calls.add(call_id)
        given = _json.dumps(arguments).decode()
        # Calls of one reply are in one message.
        parent = self._parent or f"{call_id}.reply"
        message = self._made.setdefault(parent, {"id": parent, "role": "assistant"})
        call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": given}}
        message["toolCalls"] = [*message.get("toolCalls", ()), call]
        return [
            self._event("TOOL_CALL_START", toolCallId=call_id, toolCallName=name, parentMessageId=parent),
            self._event("TOOL_CALL_ARGS", toolCallId=call_id, delta=given),
            self._event("TOOL_CALL_END", toolCallId=call_id),
        ]

    def _result(self, event: ToolFinished | ToolFailed) -> list[Body]:
        told = self._announce(event.call_id, event.name, {})
        child = self._children.get(event.call_id)
        if child is not None and child in self._active:
            self._active.discard(child)
            if isinstance(event, ToolFailed):
                told.append(self._event("SUBAGENT_ERROR", subagentRunId=child, message=event.content))
            else:
                told.append(self._event("SUBAGENT_FINISHED", subagentRunId=child, outcome={"type": "success"}))
        if event.call_id in self._results:
            return told
        self._results.add(event.call_id)
        message_id = f"{event.call_id}.result"
        failed = {"metadata": {"agentq": {"outcome": event.outcome}}} if isinstance(event, ToolFailed) else {}
        content = self._content(event)
        self._made[message_id] = {
            "id": message_id, "role": "tool", "toolCallId": event.call_id, "content": content, **failed
        }  # fmt: skip
        ids = {"messageId": message_id, "toolCallId": event.call_id}
        return [*told, self._event("TOOL_CALL_RESULT", **ids, role="tool", content=content, **failed)]

    def _content(self, event: ToolFinished | ToolFailed) -> str | list[Body]:
        files = event.files if isinstance(event, ToolFinished) else ()
        if not files:
            return event.content
        return [{"type": "text", "text": event.content}, *map(self._file, files)]

    def _file(self, file: FilePart) -> Body:
        kind = file.media_type.partition("/")[0]
        source = {"type": "url", "value": self._file_url(file), "mimeType": file.media_type}
        named = {"metadata": {"name": file.name}} if file.name else {}
        return {"type": kind if kind in _MEDIA else "document", "source": source, **named}

    # --- the rest

    def _gap(self, event: Gap) -> list[Body]:
        told = self._close_open()
        torn = self._reply.torn or bool(self._reply.pieces) or event.seq > self._seq
        self._reply = Reply(torn=torn)
        if event.seq < self._seq and event.messages:
            # Redis came back with an older state: what was said since is no more.
            self._made = {str(message["id"]): message for message in from_transcript(event.run_id, event.messages)}
            told.append(self._event("MESSAGES_SNAPSHOT", messages=self._messages()))
        return [*told, self._custom(event)]

    def _custom(self, event: Event) -> Body:
        return self._event("CUSTOM", name=f"agentq.{event.type}", value=facts_of(event))

    def _event(self, kind: str, **fields: Any) -> Body:
        return {"type": kind, "timestamp": self._at_ms, **fields}


def _usage(usage: Usage) -> list[Body]:
    return [
        {
            "inputTokens": usage.input_tokens,
            "outputTokens": usage.output_tokens,
            "totalTokens": usage.total_tokens,
            "reasoningTokens": usage.reasoning_tokens,
            "cachedInputTokens": usage.cached_input_tokens,
            "cacheWriteInputTokens": usage.cache_write_tokens,
        }
    ]
