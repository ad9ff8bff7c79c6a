"""Tells the tool calls of one streamed Chat Completion apart, whatever the server does with their indexes. Pure."""

from __future__ import annotations

from typing import Any

from agentq import _json
from agentq.providers._chat_details import storable
from agentq.providers._values import dict_or_empty, some_text
from agentq.providers.base import ToolCallChunk


class CallIndexes:
    """Tells the calls of one reply apart where the server's `index` does not: it may be missing, or always 0."""

    def __init__(self) -> None:
        self._arguments: list[list[str]] = []  # the pieces so far, by our index
        self._names: list[str] = []
        self._told: dict[int, str] = {}
        self._with_id: set[int] = set()
        self._by_id: dict[str, int] = {}
        self._by_index: dict[int, int] = {}

    def chunk(self, call: dict[str, Any]) -> ToolCallChunk:
        function = dict_or_empty(call.get("function"))
        name, call_id = some_text(function.get("name")), some_text(call.get("id"))
        arguments = _arguments(function.get("arguments"))
        index = self._index(call.get("index"), call_id, name)
        # Where Gemini's compatible server puts the signature that it wants back with the call.
        extra = call.get("extra_content")
        self._arguments[index].append(arguments)
        self._names[index] = self._names[index] or name or ""
        # The first id counts: some servers make up another for every piece.
        is_first_id = call_id is not None and index not in self._with_id
        if is_first_id:
            self._with_id.add(index)
        return ToolCallChunk(
            index,
            name,
            arguments,
            call_id if is_first_id else None,
            {"extra_content": storable(extra)} if extra else None,
        )

    def natives(self) -> list[ToolCallChunk]:
        """The arguments, as `native`, of those calls that would go back in other words than they came."""
        chunks = []
        for index, pieces in enumerate(self._arguments):
            text = "".join(pieces)
            if text != self._told.get(index) and _is_object(text) and _compact(text) != text:
                self._told[index] = text
                chunks.append(ToolCallChunk(index, native={"arguments": text}))
        return chunks

    def _index(self, given: Any, call_id: str | None, name: str | None) -> int:
        if call_id is not None and call_id in self._by_id:
            return self._by_id[call_id]
        known = self._known(given)
        if known is None or self._is_another(known, call_id, name):
            known = len(self._arguments)
            self._arguments.append([])
            self._names.append("")
            if isinstance(given, int):
                self._by_index[given] = known
        if call_id is not None:
            self._by_id[call_id] = known
        return known

    def _known(self, given: Any) -> int | None:
        if isinstance(given, int):
            return self._by_index.get(given)
        return len(self._arguments) - 1 if self._arguments else None

    def _is_another(self, known: int, call_id: str | None, name: str | None) -> bool:
        """Whether a piece with a name begins a call of its own although it comes under the index of an earlier one."""
        if name is None or not self._names[known]:
            return False
        return (call_id is not None and known in self._with_id) or _is_object("".join(self._arguments[known]))


def _arguments(value: Any) -> str:
    """A fragment of JSON text. Some servers send the object itself."""
    if isinstance(value, str):
        return value
    return _json.dumps(value).decode() if isinstance(value, dict) else ""


def _compact(text: str) -> str:
    """How the arguments go out when nothing else is known of them."""
    return _json.dumps(_json.loads(text)).decode()


def _is_object(text: str) -> bool:
    try:
        return isinstance(_json.loads(text), dict)
    except ValueError:
        return False
