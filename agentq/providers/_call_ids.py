"""The ids that the calls of one transcript have on the wire. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

    from agentq.messages import ToolCallPart, ToolResultPart


class CallIds:
    """The server's own id of each call, or one made of ours where it is missing, not of the form, or taken."""

    def __init__(self, form: re.Pattern[str]) -> None:
        self._form = form
        self._ids: dict[str, str] = {}  # by our call id
        self._taken: set[str] = set()

    def of(self, part: ToolCallPart | ToolResultPart) -> str:
        """The id of a call, the same for its result."""
        if part.call_id not in self._ids:
            wire = part.provider_call_id or ""
            if not self._is_free(wire):
                wire = part.call_id.replace(".", "-")
            if not self._is_free(wire):
                wire = hashlib.sha256(part.call_id.encode()).hexdigest()[:9]  # short enough for every form
            self._taken.add(wire)
            self._ids[part.call_id] = wire
        return self._ids[part.call_id]

    def _is_free(self, wire: str) -> bool:
        return self._form.fullmatch(wire) is not None and wire not in self._taken
