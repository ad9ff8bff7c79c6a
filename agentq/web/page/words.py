"""How times, amounts and values stand on the page: filters of the templates."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from agentq import _words
from agentq.attachments import in_words
from agentq.messages import Usage
from agentq.web.page.prose import prose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agentq.messages import Message, ToolResultPart

# What is longer is cut, with a link to the whole.
MAX_CHARS = 4000
MAX_LINES = 60
_TIME = Markup('<time datetime="{}" title="{}">{}</time>')


def now_ms() -> int:
    return int(time.time() * 1000)


def ago(ms: int) -> Markup:
    """How long ago or how far ahead, with the moment itself; a script keeps it right, in the reader's zone."""
    if not ms:
        return Markup("-")
    left = ms - now_ms()
    words = f"in {_words.age(left)}" if left > 0 else f"{_words.age(-left)} ago"
    at = datetime.fromtimestamp(ms / 1000, UTC)
    moment = f"{at:%d %b %Y, %H:%M:%S} UTC"
    return _TIME.format(at.isoformat(timespec="milliseconds"), moment, words)


def offset(ms: int, since_ms: int) -> str:
    """`+1.2 s` after the beginning."""
    return f"+{_words.duration(ms - since_ms)}" if since_ms else ""


def number(value: int) -> str:
    """`812`, `12.4k`, `1.3M`."""
    for limit, unit in ((1_000_000, "M"), (10_000, "k")):
        if value >= limit:
            return f"{value / (1_000_000 if unit == 'M' else 1000):.1f}{unit}"
    return f"{value:,}"


def usage(value: Mapping[str, Any] | Usage) -> Usage:
    """Of a run's state or an event."""
    return value if isinstance(value, Usage) else Usage.model_validate(dict(value))


def money(nanousd: int | None) -> str:
    """`$0.0012`."""
    if nanousd is None:
        return ""
    dollars = nanousd / 1e9
    return f"${dollars:.2f}" if dollars >= 1 else f"${dollars:.4f}"


def pretty(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def inline(arguments: Mapping[str, Any]) -> str:
    """`a: 7, b: 9`, as far as it fits a line."""
    text = ", ".join(
        f"{name}: {json.dumps(value, ensure_ascii=False, default=str)}" for name, value in arguments.items()
    )
    return text if len(text) <= 120 else text[:117] + "…"


def cut(text: str) -> str:
    """The beginning of a long text."""
    lines = text[:MAX_CHARS].split("\n")
    return "\n".join(lines[:MAX_LINES])


def is_long(text: str) -> bool:
    """Whether `cut` leaves something out."""
    return len(text) > MAX_CHARS or text.count("\n") >= MAX_LINES


def short_id(run_id: str) -> str:
    """The end of an id, by which ids of one day differ."""
    return f"…{run_id[-6:]}" if len(run_id) > 8 else run_id


def results(messages: Sequence[Message]) -> dict[str, ToolResultPart]:
    """The results of calls, by call."""
    return {part.call_id: part for message in messages for part in message.tool_results}


def calls(messages: Sequence[Message]) -> set[str]:
    """The ids of calls, whose results are shown with them."""
    return {part.call_id for message in messages for part in message.tool_calls}


def is_told(message: Message, told: set[str]) -> bool:
    """Whether all results of the message are shown with their calls."""
    return all(part.call_id in told for part in message.tool_results)


FILTERS: Mapping[str, Callable[..., Any]] = {
    "age": _words.age,
    "ago": ago,
    "bytes": in_words,
    "calls": calls,
    "cut": cut,
    "duration": _words.duration,
    "inline": inline,
    "is_long": is_long,
    "is_told": is_told,
    "money": money,
    "number": number,
    "offset": offset,
    "plural": _words.count,
    "pretty": pretty,
    "prose": prose,
    "results": results,
    "short_id": short_id,
    "usage": usage,
}
