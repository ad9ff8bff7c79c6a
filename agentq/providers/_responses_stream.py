"""Reads the events of a streamed reply of OpenAI's Responses. Pure.

The text of a reply comes in deltas; what is sent back later is taken from the event that ends each item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq.messages import StopReason, Usage
from agentq.providers import _responses_items as items
from agentq.providers._failures import told_in_stream
from agentq.providers._responses_told import Told
from agentq.providers._values import count, dict_or_empty, dicts_in, object_in, problem, shown, some_text, text_or_empty
from agentq.providers.base import Chunk, ReasoningChunk, ReplyEnd, TextChunk, ToolCallChunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agentq.errors import ProviderError
    from agentq.providers._sse import Frame

_DONE = b"[DONE]"
# They repeat the request, or what came before, and need not be parsed.
_SAY_NOTHING_NEW = frozenset(
    {
        "response.created",
        "response.in_progress",
        "response.queued",
        "response.output_text.done",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_part.done",
        "response.reasoning_summary_text.done",
        "response.reasoning_text.done",
        "response.refusal.done",
    }
)
_ENDS = frozenset({"completed", "incomplete", "failed", "cancelled"})
_TERMINAL = frozenset(f"response.{status}" for status in _ENDS)
_KIND_OF = {"output_text": "message", "refusal": "message", "summary": "reasoning", "content": "reasoning"}


class ResponsesReader:
    """Turns frames into chunks. `model` is the name that was asked for."""

    def __init__(self, provider: str, model: str) -> None:
        self._provider = provider
        self._asked = model
        self._items: list[Told] = []
        self._by_id: dict[str, Told] = {}
        self._by_index: dict[int, Told] = {}
        self._open: Told | None = None  # whose text the last chunk was of
        self._calls = 0
        self._is_refusal = False
        self._stop_reason: StopReason | None = None
        self._usage = Usage()
        self._model: str | None = None
        self.is_done = False

    @property
    def has_ended(self) -> bool:
        return self._stop_reason is not None

    def read(self, frame: Frame) -> Iterable[Chunk]:
        """The chunks of one event. Raises `ProviderError`, also for an error that the server tells in the stream."""
        data = frame.data
        if self.is_done or frame.event in _SAY_NOTHING_NEW or not data.strip():
            return ()
        if data.strip() == _DONE:
            self.is_done = True
            return ()
        event = object_in(data, self._provider)
        kind = event.get("type") or frame.event
        if kind == "response.output_text.delta":
            item, delta = self._open, event.get("delta")
            if (
                item is not None
                and delta
                and item.event_id == event.get("item_id")
                and item.part == event.get("content_index")
                and item.source == "output_text"
            ):
                item.pieces.append(delta)
                return (TextChunk(delta),)
            return self._told(event, "output_text", event.get("content_index"))
        return self._other(kind, event)

    def read_whole(self, body: bytes) -> Iterator[Chunk]:
        """The chunks of a reply that came in one piece: the server does not stream, or a gateway speaks for it."""
        reply = object_in(body, self._provider)
        if reply.get("error") and reply.get("object") != "response":
            raise self._told_error(reply["error"])
        if not isinstance(reply.get("output"), list) or reply.get("status") in ("queued", "in_progress"):
            raise problem(self._provider, f"sent no reply: {shown(body)}", retryable=False)
        yield from self._ends(reply, "completed")

    def end(self) -> ReplyEnd:
        """The end of the reply. Raises `ProviderError` when the stream was cut before it."""
        if self._stop_reason is None:
            raise problem(self._provider, "the stream was cut before the reply was complete")
        return ReplyEnd(self._stop_reason, self._usage, self._model, items.origin_of(self._asked))

    def _other(self, kind: Any, event: dict[str, Any]) -> Iterable[Chunk]:
        match kind:
            case "response.function_call_arguments.delta":
                return self._told_arguments(event)
            case "response.reasoning_summary_text.delta":
                return self._told(event, "summary", event.get("summary_index"))
            case "response.reasoning_text.delta":
                return self._told(event, "content", event.get("content_index"))
            case "response.refusal.delta":
                return self._told(event, "refusal", event.get("content_index"))
            case "response.content_part.done":
                return self._part_done(event)
            case "response.output_item.added":
                return self._added(event)
            case "response.output_item.done":
                item = dict_or_empty(event.get("item"))
                return self._done(item, self._find(event, item), event)
            case "error":
                raise self._told_error(event.get("error") or event)
            case str() if kind in _TERMINAL:
                return self._ends(dict_or_empty(event.get("response")), kind.rpartition(".")[2])
            case _ if event.get("error"):
                raise self._told_error(event["error"])
        return ()

    # --- items

    def _find(self, event: dict[str, Any], item: dict[str, Any] | None = None) -> Told | None:
        """The item of an event, by its id or else by its place: some servers give an item another id every time."""
        item_id, place = text_or_empty(event.get("item_id") if item is None else item.get("id")), _place(event)
        if not item_id and place < 0:
            return self._items[-1] if self._items else None
        return self._by_id.get(item_id) or self._by_index.get(place)

    def _begin(self, kind: str, item_id: Any, event: dict[str, Any]) -> Told:
        item = Told(kind)
        self._items.append(item)
        if isinstance(item_id, str) and item_id:
            self._by_id[item_id] = item
        if (place := _place(event)) >= 0:
            self._by_index[place] = item
        if kind == "function_call":
            item.call_index = self._calls
            self._calls += 1
        return item

    def _added(self, event: dict[str, Any]) -> Iterator[Chunk]:
        given = dict_or_empty(event.get("item"))
        item = self._begin(text_or_empty(given.get("type")), given.get("id"), event)
        if item.kind == "function_call":
            # Keeps its place among the parts. The arguments come when they are whole.
            item.added = items.without_nulls(given)
            yield from self._interrupt()
            yield ToolCallChunk(item.call_index, some_text(given.get("name")))

    def _told(self, event: dict[str, Any], source: str, part: Any) -> Iterator[Chunk]:
        """A delta of text or reasoning, which may be the first of its item or of a part of it."""
        delta, kind = event.get("delta"), _KIND_OF[source]
        if not isinstance(delta, str) or not delta:
            return
        item = self._find(event)
        if item is None or item.is_done or item.kind != kind:
            item = self._begin(kind, event.get("item_id"), event)
        if kind == "reasoning" and item.source not in ("", source):
            return  # the same thought in other words
        item.event_id = event.get("item_id")
        if self._open is not item:
            yield from self._interrupt()
            self._open = item
        if item.source and (item.part, item.source) != (part, source):
            yield from item.part_ends()
        if item.part != part:
            yield from item.skips_to(part)
        item.part, item.source = part, source
        self._is_refusal = self._is_refusal or source == "refusal"
        item.pieces.append(delta)
        yield TextChunk(delta) if kind == "message" else ReasoningChunk(delta)

    def _told_arguments(self, event: dict[str, Any]) -> tuple[()]:
        item = self._find(event)
        if item is None or item.is_done or item.kind != "function_call":
            item = self._begin("function_call", event.get("item_id"), event)
        if isinstance(delta := event.get("delta"), str):
            item.pieces.append(delta)
        return ()

    def _part_done(self, event: dict[str, Any]) -> tuple[()]:
        item = self._find(event)
        if item is not None and item is self._open and item.part == event.get("content_index"):
            item.part_ended = items.without_nulls(dict_or_empty(event.get("part")))
        return ()

    def _interrupt(self) -> Iterator[Chunk]:
        """Something else comes before the open item is done."""
        item, self._open = self._open, None
        if item is not None and not item.is_done:
            yield from item.breaks_off()

    def _done(self, given: dict[str, Any], item: Told | None, event: dict[str, Any]) -> Iterator[Chunk]:
        """The chunks of what is known about an item now that it is whole."""
        given = items.without_nulls(given)
        kind = text_or_empty(given.get("type"))
        if item is None or (item.kind and item.kind != kind):
            item = self._begin(kind, given.get("id"), event)
        if item.is_done or not kind:
            return
        if item is not self._open:
            yield from self._interrupt()
        yield from item.ends(given)
        self._is_refusal = self._is_refusal or item.is_refusal
        if item_id := some_text(given.get("id")):
            self._by_id[item_id] = item
        if self._open is item:
            self._open = None

    # --- the end

    def _ends(self, response: dict[str, Any], status: str) -> Iterator[Chunk]:
        if text_or_empty(response.get("status")) in _ENDS:
            status = response["status"]  # the name of the event may say "completed" all the same
        if status in ("failed", "cancelled"):
            raise self._told_error(response.get("error") or f"the response has {status}")
        for given, item in self._left(dicts_in(response.get("output"))):
            yield from self._done(given, item, {})
        for item in self._items:
            if item.kind == "function_call" and not item.is_done:
                yield from item.ends(item.added)
        yield from self._interrupt()
        self._model = some_text(response.get("model"))
        self._usage = read_usage(dict_or_empty(response.get("usage")))
        self._stop_reason = StopReason.REFUSAL if self._is_refusal else StopReason.END
        if status == "incomplete":
            reason = dict_or_empty(response.get("incomplete_details")).get("reason")
            is_filtered = reason == "content_filter"
            self._stop_reason = StopReason.CONTENT_FILTER if is_filtered else StopReason.MAX_TOKENS
        self.is_done = True

    def _left(self, output: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Told | None]]:
        """What the end of the reply says of items that no event ended.

        An item with an id that is new is taken for one of its kind that has another there, as long as there is one.
        """
        found = [self._by_id.get(text_or_empty(item.get("id"))) for item in output]
        renamed = [item for item in self._items if item not in found]
        for each, known in zip(output, found, strict=True):
            item = known
            if item is None:
                item = next((other for other in renamed if other.kind == each.get("type")), None)
                if item is not None:
                    renamed.remove(item)
            if item is None or not item.is_done:
                yield each, item

    def _told_error(self, error: Any) -> ProviderError:
        if isinstance(error, dict) and error.get("type") == "error":
            error = {name: value for name, value in error.items() if name != "type"}
        return told_in_stream(self._provider, error)


def read_usage(usage: dict[str, Any]) -> Usage:
    """The tokens of a reply. Input tokens hold the cached ones, output tokens those of reasoning."""
    given, made = dict_or_empty(usage.get("input_tokens_details")), dict_or_empty(usage.get("output_tokens_details"))
    return Usage(
        input_tokens=count(usage.get("input_tokens")),
        output_tokens=count(usage.get("output_tokens")),
        cached_input_tokens=count(given.get("cached_tokens")),
        cache_write_tokens=count(given.get("cache_write_tokens")),
        reasoning_tokens=count(made.get("reasoning_tokens")),
    )


def _place(event: dict[str, Any]) -> int:
    place = event.get("output_index")
    return place if isinstance(place, int) else -1
