"""PURE: a line that somebody types, with the keys that a shell has for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentq.cli.inbox.keys import Key

_MOST = 4000


@dataclass
class Line:
    """What was typed so far; `at` is where the next character goes."""

    text: str = ""
    at: int = 0

    def take(self, key: Key) -> bool:
        """Change it as the key says; whether the key had a meaning."""
        if key.text:
            if len(self.text) + len(key.text) <= _MOST:
                self.text = self.text[: self.at] + key.text + self.text[self.at :]
                self.at += len(key.text)
            return True
        match key.name:
            case "left":
                self.at = max(self.at - 1, 0)
            case "right":
                self.at = min(self.at + 1, len(self.text))
            case "home":
                self.at = 0
            case "end":
                self.at = len(self.text)
            case "backspace":
                self._erase(max(self.at - 1, 0), self.at)
            case "delete":
                self._erase(self.at, self.at + 1)
            case "erase line":
                self._erase(0, self.at)
            case "erase rest":
                self._erase(self.at, len(self.text))
            case "erase word":
                self._erase(self.text[: self.at].rstrip().rfind(" ") + 1, self.at)
            case _:
                return False
        return True

    def shown(self, width: int) -> tuple[str, int]:
        """The part of it around the cursor that fits, and where the cursor stands in that."""
        from agentq.cli._output import columns

        begin = 0
        while columns(self.text[begin : self.at]) >= max(width, 1):
            begin += 1
        end = len(self.text)
        while columns(self.text[begin:end]) > width:
            end -= 1
        return self.text[begin:end], columns(self.text[begin : self.at])

    def _erase(self, begin: int, end: int) -> None:
        self.text = self.text[:begin] + self.text[end:]
        self.at = begin
