"""PURE: what a terminal sends, as keys. Bytes may come in any pieces."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

# Pasted text begins and ends with these, once a terminal was asked for it.
_PASTE_BEGINS, _PASTE_ENDS = "\x1b[200~", "\x1b[201~"
_NAMES = {
    "\r": "enter",
    "\n": "enter",
    "\t": "tab",
    "\x7f": "backspace",
    # As a shell has them.
    "\x01": "home",
    "\x02": "left",
    "\x04": "delete",
    "\x05": "end",
    "\x06": "right",
    "\x08": "backspace",
    "\x0b": "erase rest",
    "\x0c": "redraw",
    "\x0e": "down",
    "\x10": "up",
    "\x15": "erase line",
    "\x17": "erase word",
}
_FINALS = {"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end"}
_NUMBERS = {"1": "home", "7": "home", "4": "end", "8": "end", "3": "delete", "5": "page up", "6": "page down"}


@dataclass(frozen=True, slots=True)
class Key:
    """One key that was pressed: its name, or the text that it is. Pasted text is one key, and its lines one line."""

    name: str = ""
    text: str = ""
    is_pasted: bool = False


class Keys:
    """Turns what is read into keys. What is incomplete waits for the rest."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    @property
    def is_waiting(self) -> bool:
        """Whether an escape has come that may be the beginning of more, or the key itself."""
        return self._rest == "\x1b"

    def feed(self, read: bytes) -> list[Key]:
        """The keys that are complete."""
        self._rest += self._decoder.decode(read)
        found = []
        while self._rest:
            key, length = _first(self._rest)
            if length == 0:
                break
            self._rest = self._rest[length:]
            if key is not None:
                found.append(key)
        return found

    def settle(self) -> list[Key]:
        """Nothing more came: a lone escape is a key."""
        if not self.is_waiting:
            return []
        self._rest = ""
        return [Key("escape")]


def _first(text: str) -> tuple[Key | None, int]:
    """The first key of `text`, and how much of it that is: 0 where it is incomplete. None for one without a meaning."""
    if not text.startswith("\x1b"):
        name = _NAMES.get(text[0])
        if name is not None:
            return Key(name), 1
        return (Key(text=text[0]) if text[0].isprintable() else None), 1
    if text.startswith(_PASTE_BEGINS):
        end = text.find(_PASTE_ENDS)
        if end < 0:
            return None, 0
        pasted = " ".join(text[len(_PASTE_BEGINS) : end].split())
        return Key(text=pasted, is_pasted=True), end + len(_PASTE_ENDS)
    if len(text) == 1:
        return None, 0
    if text[1] not in "[O":
        return Key("escape"), 1
    for length, character in enumerate(text[2:], start=3):
        if "\x40" <= character <= "\x7e":
            return _sequence(text[2:length]), length
    return None, 0


def _sequence(text: str) -> Key | None:
    """The key of a control sequence, without its beginning."""
    name = _NUMBERS.get(text[:-1].split(";")[0]) if text.endswith("~") else _FINALS.get(text[-1])
    return None if name is None else Key(name)
