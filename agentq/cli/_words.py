"""How calls, results, figures and messages are put into words, the same for `tail` and `show`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from agentq.attachments import in_words
from agentq.cli._output import Output, clip, count, duration, one_line, printable
from agentq.messages import (
    CompactionRecord,
    FilePart,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def call(name: str, arguments: Mapping[str, Any], width: int | None = None) -> str:
    """`add_numbers(a=7, b=9)` in at most `width` columns; the closing bracket stays."""
    listed = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
    room = None if width is None else max(width - len(name) - 2, 1)
    return f"{one_line(name)}({clip(one_line(listed), room)})"


def by(name: str) -> str:
    """Who did it, if they said: ` by ada`, to be put behind the verb."""
    return f" by {one_line(name)}" if name else ""


def content(text: str, width: int | None = None) -> str:
    """A tool's result on one line of at most `width` columns; without a width in full, further lines indented."""
    if width is not None:
        return clip(one_line(text), width) or "(nothing)"
    return printable(text).rstrip().replace("\n", "\n  ") or "(nothing)"


def file(part: FilePart, out: Output, indent: str = "") -> str:
    """`+ chart.png image/png, 12 KB`."""
    size = "" if part.size is None else f", {in_words(part.size)}"
    return (
        f"{indent}{out.style('+', 'cyan')} {one_line(part.name or part.url)} {out.style(part.media_type + size, 'dim')}"
    )


def result(text: str, files: Sequence[FilePart], width: int | None = None) -> str:
    """A tool's result as `content` writes it, for lines that are followed by those of its files."""
    return content(text, width) if text or not files else "(no text)"


def tokens(usage: Usage) -> str:
    """`812 tokens in (640 cached), 93 out, $0.0012`."""
    cached = f" ({usage.cached_input_tokens} cached)" if usage.cached_input_tokens else ""
    cost = f", ${usage.cost_usd:.4f}" if usage.cost_usd is not None else ""
    return f"{count(usage.input_tokens, 'token')} in{cached}, {usage.output_tokens} out{cost}"


def figures(*, iterations: int, tools: int | None, usage: Usage, elapsed_ms: int | None) -> str:
    """What a run has cost, without what is not known."""
    parts = [
        count(iterations, "iteration"),
        "" if tools is None else count(tools, "tool"),
        tokens(usage) if usage.input_tokens or usage.output_tokens else "",
        "" if elapsed_ms is None else duration(elapsed_ms),
    ]
    return " · ".join(part for part in parts if part)


def unread_script(prompt: str) -> str | None:
    """Why the mock model cannot read a prompt that looks like a script of its; None where it does not look so."""
    lines = (line.strip() for line in prompt.split("\n"))
    first = next((line for line in lines if line and not line.startswith("#")), "")
    if not _LIKE_A_SCRIPT.match(first):
        return None
    from agentq.errors import ProviderError
    from agentq.providers._script import parse_script

    try:
        parse_script(f"refuse\n{first}")  # after a line that can be read, the parser says what is wrong
    except ProviderError as error:
        return one_line(str(error.__cause__))
    return None


# More than the verb, which begins many a sentence.
_LIKE_A_SCRIPT = re.compile(r"call\s.*[{&]|stream\s.*\"|sleep\s+[\d.]|fail!?\s+\d")


# What was done to make a transcript fit.
COMPACTIONS = {
    "tool_results": "old results cut",
    "whitespace": "white space in old results collapsed",
    "summary": "old messages summed up",
    "dropped": "old messages left out",
}


def transcript(messages: Sequence[Message], out: Output, *, width: int | None) -> Iterator[str]:
    """The lines of `messages`; results name their tool, for they stand apart from their call."""
    for message in messages:
        if message.compacted is not None:
            yield from _record(message, message.compacted, out)
            continue
        for part in message.parts:
            yield from _part(message.role, part, out, width)


def _record(message: Message, record: CompactionRecord, out: Output) -> Iterator[str]:
    """What the model reads less of from here on; the messages above stay as they are."""
    yield out.style(f"· context: {COMPACTIONS[record.strategy]}", "dim")
    for line in printable(message.text).split("\n") if message.text and record.strategy == "summary" else ():
        yield out.style(f"  {line}".rstrip(), "dim")


def _part(role: Role, part: Part, out: Output, width: int | None) -> Iterator[str]:
    room = None if width is None else width - 2
    match part:
        case TextPart():
            marker, styles = _SPEAKERS[role]
            for number, line in enumerate(printable(part.text).rstrip("\n").split("\n")):
                lead = marker if not number else " " * len(marker)
                yield (out.style(lead, *styles) + out.style(line, *styles if role == Role.SYSTEM else ())).rstrip()
        case ReasoningPart():
            for line in printable(part.text).rstrip("\n").split("\n") if part.text else ():
                yield out.style(f"~ {line}".rstrip(), "dim")
        case FilePart():
            yield file(part, out)
        case ToolCallPart():
            yield f"{out.style('→', 'cyan')} {call(part.name, part.arguments, room)}"
        case ToolResultPart() if part.is_error:
            outcome = "" if part.outcome == "error" else f" ({part.outcome})"
            yield out.style(f"✗ {part.name}{outcome}: {content(part.content, room)}", "red")
        case ToolResultPart():
            name = out.style(f"{part.name}:", "dim")
            text = result(part.content, part.files, room and room - len(part.name) - 2)
            yield f"{out.style('←', 'green')} {name} {text}"
            for returned in part.files:
                yield file(returned, out, "  ")


_SPEAKERS: Mapping[Role, tuple[str, tuple[str, ...]]] = {
    Role.USER: ("> ", ("bold",)),
    Role.ASSISTANT: ("", ()),
    Role.TOOL: ("", ()),
    Role.SYSTEM: ("! ", ("yellow",)),
}
