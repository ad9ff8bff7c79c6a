"""Lua scripts: loading, includes, arguments by name, and return codes turned into the exceptions that headers name.

An include stands where its functions are needed: within a block, they are made only when that is entered.

A header lists `KEYS[1] name`, `KEYS[2..] name` (all further keys), `ARGV[1] name`, `ARGV[2] name*` (a list: its length
stands at that place, its items follow after all single arguments) and, under Returns, `-1 ErrorName`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from agentq import errors

_ENTRY = re.compile(r"^(KEYS|ARGV)\[(\d+)(\.\.)?\]\s+(\w+)(\*)?\s", re.MULTILINE)
_CODE = re.compile(r"^\s+(-\d+)\s+([A-Z]\w+)\s", re.MULTILINE)
_INCLUDE = re.compile(r"^ *-- @include (\w+)$", re.MULTILINE)
_FUNCTION = re.compile(r"^local function (\w+)\(.*?^end$", re.MULTILINE | re.DOTALL)
_WORD = re.compile(r"\w+")
_STRING_OR_COMMENT = re.compile(r"""'[^'\n]*'|"[^"\n]*"|--\[\[.*?\]\]|--[^\n]*""", re.DOTALL)

Argument = str | bytes | int | Sequence[str | bytes]


@dataclass(frozen=True, slots=True)
class Script:
    """One command. Calling it gives what EVALSHA takes; `outcome` gives what to do with the reply."""

    name: str
    source: bytes
    sha: str
    keys: tuple[str, ...]
    more_keys: str | None
    arguments: tuple[tuple[str, bool], ...]
    codes: Mapping[int, type[errors.AgentQError]]

    def __call__(self, **values: Argument) -> tuple[list[Any], list[Any]]:
        """Put named values into their places: the keys, and the other arguments."""
        keys: list[Any] = [values.pop(name) for name in self.keys]
        if self.more_keys is not None:
            keys.extend(values.pop(self.more_keys))  # type: ignore[arg-type]  # the header says that it is a list
        single: list[Any] = []
        items: list[Any] = []
        for name, is_list in self.arguments:
            value = values.pop(name)
            if is_list:
                single.append(len(value))  # type: ignore[arg-type]  # as above
                items.extend(value)  # type: ignore[arg-type]  # as above
            else:
                single.append(value)
        if values:
            raise TypeError(f"{self.name}.lua has no {', '.join(values)}")
        return keys, single + items

    def outcome(self, reply: Any, *, about: str = "") -> Any:
        """Return the reply, or raise the exception that the header names for its code."""
        if isinstance(reply, int) and reply < 0:
            kind = self.codes[reply]
            message = str(kind().args[0])
            raise kind(f"{about}: {message[:1].lower()}{message[1:]}" if about else message)
        return reply


@cache
def script(name: str) -> Script:
    """Load agentq/_redis/lua/<name>.lua with its includes."""
    return load(name, {})


def load(name: str, replaced: Mapping[str, str]) -> Script:
    """Read a script's header and put its includes in; `replaced` gives other sources for includes (a clock, say)."""
    source = _read(name)
    header = source[: source.index("]]")]
    keys: list[str] = []
    more_keys = None
    arguments: list[tuple[str, bool]] = []
    for table, _, more, entry, is_list in _ENTRY.findall(header):
        if table == "ARGV":
            arguments.append((entry, bool(is_list)))
        elif more:
            more_keys = entry
        else:
            keys.append(entry)
    codes = {int(code): getattr(errors, error) for code, error in _CODE.findall(header)}
    whole = _INCLUDE.sub(lambda match: replaced.get(match[1]) or _read(f"_{match[1]}"), source)
    body = _without_unused(whole).encode()
    sha = hashlib.sha1(body, usedforsecurity=False).hexdigest()
    return Script(name, body, sha, tuple(keys), more_keys, tuple(arguments), codes)


def _without_unused(source: str) -> str:
    """Drop the functions that nothing calls: Lua would make each of them anew, whenever the script is called."""
    code = _STRING_OR_COMMENT.sub("", source)
    functions = {found[1]: found[0] for found in _FUNCTION.finditer(code)}
    used, waiting = set[str](), [_FUNCTION.sub("", code)]
    while waiting:
        called = functions.keys() & set(_WORD.findall(waiting.pop())) - used
        used |= called
        waiting += [functions[name] for name in called]
    return _FUNCTION.sub(lambda found: found[0] if found[1] in used else "", source)


def _read(name: str) -> str:
    return resources.files("agentq._redis").joinpath(f"lua/{name}.lua").read_text("utf-8")
