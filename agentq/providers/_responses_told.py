"""One item of a reply of OpenAI's Responses while it is being told, and the chunks that it becomes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.providers import _responses_items as items
from agentq.providers._values import dicts_in, some_text, text_or_empty
from agentq.providers.base import Chunk, ReasoningChunk, TextChunk, ToolCallChunk

if TYPE_CHECKING:
    from collections.abc import Iterator


# No reply has more; a number beyond is a mistake of the server.
_EMPTY_AT_MOST = 16


@dataclass(slots=True, eq=False)
class Told:
    """An item, as far as it was told: `pieces` of `part`, which is one of its contents or summaries.

    `source` is what those are of; `closed` is the content of a message before that part. Something else came in
    between where it `is_broken`: its parts alone cannot give it back then.
    """

    kind: str
    added: dict[str, Any] = field(default_factory=dict)
    event_id: Any = None  # how its deltas name it
    call_index: int = 0
    pieces: list[str] = field(default_factory=list)
    part: Any = None
    source: str = ""
    part_ended: dict[str, Any] | None = None
    closed: list[dict[str, Any]] = field(default_factory=list)
    is_broken: bool = False
    is_refusal: bool = False
    is_done: bool = False

    def part_ends(self) -> Iterator[Chunk]:
        """Another part of the item begins."""
        if self.kind == "reasoning":
            self.pieces.append(items.BETWEEN)
            yield ReasoningChunk(items.BETWEEN)
        else:
            yield self._closed_part(self.part_ended or _content_part(self.source), "".join(self.pieces))

    def skips_to(self, part: Any) -> Iterator[Chunk]:
        """The content with index `part` begins; those before it of which nothing was told are empty."""
        if self.kind == "message" and isinstance(part, int) and part - len(self.closed) <= _EMPTY_AT_MOST:
            while len(self.closed) < part:
                yield self._closed_part(_content_part(self.source), "")

    def breaks_off(self) -> Iterator[Chunk]:
        """Something else comes before the item is done."""
        self.is_broken = bool(self.pieces or self.closed)
        if self.pieces:
            made = TextChunk if self.kind == "message" else ReasoningChunk
            yield made("", native={items.GOES_ON: True})

    def ends(self, given: dict[str, Any]) -> Iterator[Chunk]:
        """What `given`, the whole item, says beyond what was told; the native of its last part."""
        match self.kind:
            case "message":
                yield from self._message(given)
            case "reasoning":
                yield self._reasoning(given)
            case "function_call":
                yield self._call(given)
            case _:
                yield ReasoningChunk("", native=items.other_native(given))
        self.is_done = True

    def _message(self, given: dict[str, Any]) -> Iterator[Chunk]:
        content = dicts_in(given.get("content"))
        self.is_refusal = any(part.get("type") == "refusal" for part in content)
        if self.is_broken:
            yield TextChunk("", items.message_native(given, ()))
            return
        for part in content[len(self.closed) :]:
            text, so_far = _words(part), "".join(self.pieces)
            if not text.startswith(so_far):
                break
            if text != so_far:
                yield TextChunk(text[len(so_far) :])
            closing = self._closed_part(part, text)
            if len(self.closed) < len(content):
                yield closing
        yield TextChunk("", items.message_native(given, () if self.pieces else self.closed))

    def _closed_part(self, part: dict[str, Any], text: str) -> TextChunk:
        native = items.part_native(part)
        self.closed.append(items.content_part(text, native))
        self.pieces, self.part_ended = [], None
        return TextChunk("", native | {items.GOES_ON: True})

    def _reasoning(self, given: dict[str, Any]) -> ReasoningChunk:
        if self.is_broken:
            return ReasoningChunk("", native=items.reasoning_native(given, None))
        so_far = "".join(self.pieces)
        told = [items.BETWEEN.join(items.texts_of(given.get(name))) for name in ("summary", "content")]
        whole = next((text for text in told if text and text.startswith(so_far)), so_far)
        return ReasoningChunk(whole[len(so_far) :], native=items.reasoning_native(given, whole))

    def _call(self, given: dict[str, Any]) -> ToolCallChunk:
        arguments = given.get("arguments")
        if isinstance(arguments, dict):
            arguments = _json.dumps(arguments).decode()  # some servers send the object itself
        elif not isinstance(arguments, str) or not arguments:
            arguments = "".join(self.pieces)
        return ToolCallChunk(
            self.call_index,
            some_text(given.get("name")),
            arguments,
            some_text(given.get("call_id")),
            items.call_native(given, arguments),
        )


def _content_part(source: str) -> dict[str, Any]:
    """A content part whose end was not told."""
    return {"type": "refusal"} if source == "refusal" else {"type": "output_text", "annotations": []}


def _words(part: dict[str, Any]) -> str:
    return text_or_empty(part.get("refusal") if part.get("type") == "refusal" else part.get("text"))
