"""The language of the mock's scripts: its lines, how a prompt is read into them, and what `$N` stands for. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Never

from agentq import _json
from agentq.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROVIDER = "mock"


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of a turn."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Calls:
    """A turn that calls tools."""

    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """A turn that answers."""

    text: str


@dataclass(frozen=True, slots=True)
class Stream:
    """A turn that answers with the same piece many times."""

    count: int
    piece: str
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Sleep:
    """Latency of the turn on the next line."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Fail:
    """A model call that fails, once or always."""

    status: int
    always: bool = False


@dataclass(frozen=True, slots=True)
class Refuse:
    """A model that stops for safety, once."""


Action = Calls | Say | Stream | Fail | Refuse


@dataclass(frozen=True, slots=True)
class Line:
    """One action and the number of its line in the prompt, from 1."""

    number: int
    action: Action | Sleep


# -- reading a script --------------------------------------------------------------------------------------------------


def parse_script(prompt: str) -> tuple[Line, ...] | None:
    """The lines of a script, or None where the first line does not parse: then the prompt is plain text.

    Blank lines and lines that start with `#` are skipped. Raises `ProviderError` when a later line does not parse.
    """
    lines: list[Line] = []
    for number, text in enumerate(prompt.split("\n"), 1):
        stripped = text.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            lines.append(Line(number, _parse_line(stripped)))
        except (ValueError, RecursionError) as error:
            if not lines:
                return None
            verbs = ", ".join(_PARSERS)
            raise _problem(number, f"cannot be read: {error} (a script has one verb per line: {verbs})") from error
    return tuple(lines) or None


def _parse_line(text: str) -> Action | Sleep:
    """One line. Raises ValueError saying what it should look like."""
    verb, *rest = text.split(None, 1)
    parse = _PARSERS.get(verb)
    if parse is None:
        raise ValueError(f"it starts with {_short(verb)}")
    return parse(rest[0] if rest else "")


# A tool's name as providers allow it, with the separators that namespaces use.
_TOOL_NAME = re.compile(r"([\w-]+(?:[.:/][\w-]+)*)\s*")
_AND_CALL = re.compile(r"\s*&\s*call\s+")


def _parse_call(text: str) -> Calls:
    calls: list[Call] = []
    at = 0
    while True:
        name = _TOOL_NAME.match(text, at)
        if name is None:
            raise ValueError('a call looks like: call add_numbers {"a": 7, "b": 9}')
        at = name.end()
        arguments: dict[str, Any] = {}
        if text.startswith("{", at):
            arguments, at = _read_object(text, at)
        calls.append(Call(name[1], arguments))
        if at == len(text):
            return Calls(tuple(calls))
        further = _AND_CALL.match(text, at)
        if further is None:
            raise ValueError(f"after {name[1]} come one JSON object and '& call …', not {_short(text[at:])}")
        at = further.end()


def _parse_say(text: str) -> Say:
    if not text:
        raise ValueError("say needs a text: say The answer is $1.")
    return Say(text)


_STREAM = re.compile(r'([0-9]{1,9})\s+("(?:[^"\\]|\\.)*")(?:\s+([0-9]{1,9}(?:\.[0-9]+)?|\.[0-9]+))?')
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]+)?|\.[0-9]+")
_STATUS = re.compile(r"[45][0-9][0-9]")


def _parse_stream(text: str) -> Stream:
    found = _STREAM.fullmatch(text)
    if found is None:
        raise ValueError('stream needs a number, a JSON string and, if you like, seconds: stream 200 "token " 0.01')
    return Stream(int(found[1]), _json.loads(found[2]), float(found[3] or 0))


def _parse_sleep(text: str) -> Sleep:
    if not _SECONDS.fullmatch(text):
        raise ValueError("sleep needs seconds: sleep 0.5")
    return Sleep(float(text))


def _parse_fail(text: str) -> Fail:
    if not _STATUS.fullmatch(text):
        raise ValueError("fail needs a status from 400 to 599: fail 503")
    return Fail(int(text))


def _parse_fail_always(text: str) -> Fail:
    return replace(_parse_fail(text), always=True)


def _parse_refuse(text: str) -> Refuse:
    if text:
        raise ValueError("refuse stands alone on its line")
    return Refuse()


_PARSERS: dict[str, Callable[[str], Action | Sleep]] = {
    "call": _parse_call,
    "say": _parse_say,
    "stream": _parse_stream,
    "sleep": _parse_sleep,
    "fail": _parse_fail,
    "fail!": _parse_fail_always,
    "refuse": _parse_refuse,
}


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)
_strict_json = _decoder.decode


def _read_object(text: str, at: int) -> tuple[dict[str, Any], int]:
    """The JSON object at `at` and where it ends. Other text may follow, so `_json` cannot read it."""
    try:
        value, end = _decoder.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise ValueError(f"the arguments are not JSON ({error.msg} at {_short(text[error.pos :])})") from error
    return value, end


def _short(text: str) -> str:
    """`text` for an error message."""
    return repr(text if len(text) <= 40 else f"{text[:39]}…")


# -- $N ----------------------------------------------------------------------------------------------------------------

_REFERENCE = re.compile(r"\$(\$?)([0-9]+)")


def fill(value: Any, results: Sequence[str], number: int) -> Any:
    """`value` with every `$N` in its strings replaced; a string that is `$N` alone becomes the result as JSON."""
    match value:
        case dict():
            return {key: fill(item, results, number) for key, item in value.items()}
        case list():
            return [fill(item, results, number) for item in value]
        case str():
            whole = _REFERENCE.fullmatch(value)
            if whole is None or whole[1]:
                return fill_text(value, results, number)
            result = _result(whole[2], results, number)
            try:
                return _strict_json(result)
            except (ValueError, RecursionError):
                return result
        case _:
            return value


def fill_text(text: str, results: Sequence[str], number: int) -> str:
    """`text` with `$N` replaced by the result as it stands, and `$$N` by a plain `$N`."""
    if "$" not in text:
        return text
    return _REFERENCE.sub(lambda found: f"${found[2]}" if found[1] else _result(found[2], results, number), text)


def _result(digits: str, results: Sequence[str], number: int) -> str:
    index = int(digits[:9])  # nine digits are too many already, and int() has a limit
    if 1 <= index <= len(results):
        return results[index - 1]
    count = f"the run has {len(results)} tool result{'' if len(results) == 1 else 's'}"
    reason = count if index else "results count from $1"
    raise _problem(number, f"uses ${digits}, but {reason} (write $${digits} for a plain ${digits})")


def _problem(number: int, what: str) -> ProviderError:
    """Another attempt would meet the same script."""
    return ProviderError(f"line {number} of the script {what}", provider=PROVIDER, retryable=False)
