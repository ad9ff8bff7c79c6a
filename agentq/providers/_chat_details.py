"""`reasoning_details`, as OpenRouter streams them and wants them back: whole, unchanged and in order. Pure.

Each detail becomes a part of the reply. What is not its text stands in the `native` of the part.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.providers.base import ReasoningChunk

if TYPE_CHECKING:
    from agentq.messages import ReasoningPart

# Where the text of a detail stands. The other kinds, such as encrypted ones, have none and come whole.
_TEXT = {"reasoning.text": "text", "reasoning.summary": "summary"}


class DetailReader:
    """Puts the pieces of details together. A signature holds for the whole text before it, so none may stay in pieces.

    `close` says that the reply goes on with something else.
    """

    def __init__(self) -> None:
        self._open: dict[str, Any] | None = None

    def read(self, pieces: list[Any]) -> list[ReasoningChunk]:
        """The chunks of the details of one delta."""
        chunks: list[ReasoningChunk] = []
        for piece in pieces:
            if not isinstance(piece, dict):
                continue
            field = _TEXT.get(str(piece.get("type")))
            text = piece.get(field) if field is not None else None
            if self._open is not None and not self._goes_on(piece, text):
                chunks += self.close()
            if self._open is None:
                self._open = dict(piece)
            else:
                self._open |= {name: value for name, value in piece.items() if value is not None and name != field}
            if field is not None and isinstance(text, str) and text:
                self._open.pop(field, None)
                chunks.append(ReasoningChunk(text))
        return chunks

    def close(self) -> list[ReasoningChunk]:
        """The chunk that ends the detail which is open, if there is one."""
        if self._open is None:
            return []
        detail, self._open = self._open, None
        return [ReasoningChunk("", native={"detail": storable(detail)})]

    def _goes_on(self, piece: dict[str, Any], text: Any) -> bool:
        """Whether `piece` belongs to the detail that is open."""
        last = self._open or {}
        if str(piece.get("type")) not in _TEXT or (text and last.get("signature")):
            return False
        return all(
            piece.get(name) is None or last.get(name) is None or piece[name] == last[name]
            for name in ("type", "index", "id")
        )


def detail_of(part: ReasoningPart) -> dict[str, Any] | None:
    """The detail that the part was made of, None where it was none."""
    detail = part.native.get("detail") if part.native is not None else None
    if not isinstance(detail, dict):
        return None
    field = _TEXT.get(str(detail.get("type")))
    return detail | {field: part.text} if field is not None and part.text else detail


def storable(value: Any) -> Any:
    """`value` without lone surrogates, which have no stored form."""
    try:
        _json.dumps(value)
    except ValueError:
        return json.loads(_json.storable(json.dumps(value, ensure_ascii=False)))
    return value
