"""Draws the inbox. Knows what stands on the screen and how large it is; neither terminals nor clients."""

from __future__ import annotations

import json
import re
import textwrap
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentq.cli import _inbox
from agentq.cli._output import age, clip, columns, count, one_line, printable
from agentq.cli.inbox.items import Items, since

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agentq.cli._output import Output
    from agentq.cli.inbox.items import Item
    from agentq.cli.inbox.line import Line

_MARKS = {"open": " ", "skipped": "-", "done": "✓", "gone": "✗"}
_COLOURS = {"skipped": "dim", "done": "green", "gone": "dim"}
# So few lines have no room for more than the list.
_SMALL = 12
_HEAD, _FOOT = 2, 3
# A narrower terminal shows the beginning of each line.
_NARROWEST = 20
# Lines of the screen that are not for what it shows.
MARGIN = _HEAD + _FOOT
_LABEL = 9
# So many lines of one argument stand in the overview; all of them where everything is shown.
_LINES = 6
_KEYS = {
    "approval": (("a", "approve"), ("d", "deny"), ("e", "edit")),
    "input": (("n", "answer"),),
    "outcome": (("n", "its result"), ("x", "did not happen"), ("u", "cannot be known")),
}
HELP = (
    ("up down  k j", "go from one to the next; home and end go far"),
    ("a", "approve the call as it is (asks once more)"),
    ("d", "deny the call; the model reads the reason"),
    ("e", "edit the arguments in $EDITOR, then approve it so"),
    ("n", "answer a question, or give the result of a call whose worker died"),
    ("x  u", "of such a call: it did not happen, or it cannot be known"),
    ("enter", "all of it: arguments, what the model said, the run's transcript"),
    ("s", "skip: leave it for later"),
    ("r", "read anew, and forget what is done"),
    ("ctrl-z", "to the shell; fg comes back"),
    ("q  ctrl-c", "quit"),
)


@dataclass
class Scene:
    """What is to be drawn. `ask` stands in the last line in place of the keys, with the `line` that is typed."""

    items: Items
    now_ms: float = 0.0
    where: str = ""
    status: str = ""
    status_style: str = ""
    # So many came since somebody last pressed a key.
    news: int = 0
    ask: str = ""
    line: Line | None = None
    has_help: bool = False
    # What fills the screen in place of list and overview, and its first line there.
    pages: Sequence[str] | None = None
    top: int = 0
    # What tools do, by agent and name, as workers have published it.
    does: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Frame:
    lines: list[str]
    cursor: tuple[int, int] | None = None


def draw(scene: Scene, out: Output, width: int, height: int) -> Frame:
    """The whole screen, no line wider and not more of them than there is room for."""
    width, body = max(width, _NARROWEST), max(height - MARGIN, 0)
    if scene.pages is not None:
        middle = list(scene.pages[scene.top : scene.top + body])
    elif scene.has_help:
        middle = _help(out, width)
    elif scene.items.all:
        middle = _list_and_overview(scene, out, width, body)
    else:
        middle = ["", out.style(clip("  nothing waits for anybody; what comes appears here", width), "dim")]
    foot, cursor = _foot(scene, out, width)
    lines = [_head(scene, out, width), _rule(out, width), *middle[:body]]
    lines += [""] * (body - len(middle))
    lines += [_rule(out, width), *foot]
    lines = [folded(line, width)[0] for line in lines[-height:]]
    return Frame(lines, None if cursor is None else (len(lines) - 1, cursor))


def _rule(out: Output, width: int) -> str:
    return out.style("─" * width, "dim")


def _head(scene: Scene, out: Output, width: int) -> str:
    waits = scene.items.open_count
    title = f"inbox  {waits} {'waits' if waits == 1 else 'wait'}"
    if len(scene.items.all) > 1:
        title += f"  {scene.items.at + 1}/{len(scene.items.all)}"
    clock = time.strftime("%H:%M:%S", time.localtime(scene.now_ms / 1000))
    right = f"{scene.where}  {clock}"
    room = width - columns(title) - 2
    right = right if columns(right) <= room else clock if columns(clock) <= room else ""
    gap = " " * max(width - columns(title) - columns(right), 0)
    return out.style(clip(title, width), "bold") + out.style(gap + right, "dim")


def _list_and_overview(scene: Scene, out: Output, width: int, body: int) -> list[str]:
    items = scene.items
    if body < _SMALL - _HEAD - _FOOT:
        return _list(scene, out, width, body)
    length = min(len(items.all), max(body // 3, 3))
    overview = [] if items.selected is None else list(_overview(scene, items.selected, out, width))
    room = body - length - 1
    if len(overview) > room:
        rest = len(overview) - room + 1
        overview = [*overview[: room - 1], out.style(f"… {count(rest, 'more line')}: enter shows them", "dim")]
    return [*_list(scene, out, width, length), _rule(out, width), *overview]


def _list(scene: Scene, out: Output, width: int, length: int) -> list[str]:
    """So many of the things, the selected one among them."""
    items = scene.items
    first = min(max(items.at - length // 2, 0), max(len(items.all) - length, 0))
    shown = items.all[first : first + length]
    agents = min(max((columns(one_line(item.waits.run.agent)) for item in shown), default=0), 14)
    return [_row(scene, item, out, width, agents, is_selected=item is items.selected) for item in shown]


def _row(scene: Scene, item: Item, out: Output, width: int, agents: int, *, is_selected: bool) -> str:
    question = item.waits.question
    mark = f"{'▸' if is_selected else ' '}{_MARKS[item.state]} "
    waited = f"{age(scene.now_ms - since(item)):>5}  "
    agent = clip(one_line(item.waits.run.agent), agents)
    agent += " " * (agents - columns(agent)) + "  "
    end = "" if not question.until_ms or not item.is_open else f"  {age(max(question.until_ms - scene.now_ms, 0))} left"
    if item.note:
        end = f"  {one_line(item.note)}"
    if width < 60:
        agent = ""
    if width < 40:
        waited, end = "", end if item.note else ""
    room = width - columns(mark + waited + agent)
    end = clip(end, room // 2)
    text = clip(_inbox.what(question), room - columns(end))
    text += " " * (room - columns(text) - columns(end))
    style = ["bold", "reverse"] if is_selected else []
    if item.state in _COLOURS:
        style.append(_COLOURS[item.state])
    elif _inbox.is_urgent(question, scene.now_ms):
        style.append("red")
    return out.style(mark + waited + agent + text + end, *style)


def _overview(scene: Scene, item: Item, out: Output, width: int) -> Iterator[str]:
    """What one thing is, in the order in which one asks."""
    yield from describe(scene, item, out, width, limit=_LINES)


def describe(scene: Scene, item: Item, out: Output, width: int, *, limit: int | None) -> Iterator[str]:
    """What one thing is; `limit` is how many lines one argument may take."""
    run, question = item.waits.run, item.waits.question
    does = one_line(scene.does.get((run.agent, question.tool), ""))
    if question.kind == "input":
        yield from _wrapped(out, question.name, width, style="bold")
        if question.schema is not None:
            yield from _fact(out, "answer", _schema(question.schema), width)
        yield from _fact(out, "asked by", f"{question.tool}{f': {does}' if does else ''}", width)
    else:
        lost = "its worker died in it; what became of " if question.kind == "outcome" else ""
        yield from _wrapped(out, f"{lost}{question.tool}{f': {does}' if does else ''}", width, style="bold")
        if question.kind == "outcome":
            yield from _fact(out, "asks", question.text, width)
    yield from _arguments(out, question.arguments, width, limit)
    yield ""
    if question.approvers:
        yield from _fact(out, "for", " or ".join(question.approvers), width)
    yield from _fact(out, "waits", f"{age(scene.now_ms - since(item))}{_until(scene, item)}", width)
    who = [run.agent, run.session_id and f"session {run.session_id}", run.user_id and f"user {run.user_id}"]
    yield from _fact(out, "run", " · ".join([run.run_id, *filter(None, who)]), width)
    yield from _fact(out, "prompt", run.prompt, width, most=2)
    if run.is_cancel_requested:
        yield out.style("the run is being cancelled: what is decided has no effect", "yellow")


def _until(scene: Scene, item: Item) -> str:
    until_ms = item.waits.question.until_ms
    if not until_ms:
        return ", without an end"
    at = time.strftime("%a %H:%M", time.localtime(until_ms / 1000))
    return f"; given up in {age(max(until_ms - scene.now_ms, 0))}, {at}"


def _schema(schema: Mapping[str, Any]) -> str:
    """What kind of answer is wanted, in few words where that goes."""
    match schema:
        case {"enum": list(values)}:
            return " or ".join(value if isinstance(value, str) else json.dumps(value) for value in values)
        case {"type": str(kind)} if len(schema) == 1:
            return kind
    return json.dumps(schema, ensure_ascii=False)


def _arguments(out: Output, arguments: Mapping[str, Any], width: int, limit: int | None) -> Iterator[str]:
    """One argument a line; longer texts in lines of their own, as they are."""
    # As wide as the labels of the facts, at least: then all texts begin in one column.
    label = min(max((columns(one_line(name)) for name in arguments), default=0), 20)
    label = max(label, _LABEL - 2)
    for name, value in arguments.items():
        lead = clip(one_line(name), label)
        lead += " " * (label - columns(lead))
        room = max(width - label - 3, 10)
        lines = list(_lines(value, room))
        if limit is not None and len(lines) > limit:
            lines = [*lines[: limit - 1], f"… {count(len(lines) - limit + 1, 'more line')}"]
        for number, line in enumerate(lines or [""]):
            yield f"  {out.style(lead if not number else ' ' * label, 'cyan')} {line}"


def _lines(value: Any, width: int) -> Iterator[str]:
    if isinstance(value, str):
        text = value
        is_plain = "\n" not in text and columns(text) + 2 <= width
        if is_plain:
            yield json.dumps(printable(text), ensure_ascii=False)
            return
    else:
        text = json.dumps(value, ensure_ascii=False)
        text = text if columns(text) <= width else json.dumps(value, ensure_ascii=False, indent=2)
    for line in printable(text).expandtabs(4).split("\n"):
        yield from _cut(line, width)


def _cut(line: str, width: int) -> Iterator[str]:
    """A line without styles, in pieces that fit."""
    return iter(folded(line, width))


_STYLE_OR_CHARACTER = re.compile(r"\x1b\[[0-9;]*m|.", re.DOTALL)


def folded(line: str, width: int) -> list[str]:
    """A line in pieces that fit; each has the style that stood where it begins."""
    pieces, piece, taken, style = [], "", 0, ""
    for found in _STYLE_OR_CHARACTER.finditer(line):
        part = found[0]
        if part.startswith("\x1b"):
            style = "" if part == "\x1b[0m" else part
            piece += part
            continue
        size = columns(part)
        if taken + size > width and taken:
            pieces.append(piece + ("\x1b[0m" if style else ""))
            piece, taken = style, 0
        piece, taken = piece + part, taken + size
    return [*pieces, piece]


def paragraphs(text: str, width: int) -> list[str]:
    """A text with its own lines, which are wrapped."""
    lines = printable(text).expandtabs(4).split("\n")
    return [piece for line in lines for piece in textwrap.wrap(line, max(width, 10)) or [""]]


def _wrapped(out: Output, text: str, width: int, *, style: str) -> Iterator[str]:
    for line in textwrap.wrap(one_line(text), max(width, 10)):
        yield out.style(line, style)


def _fact(out: Output, label: str, text: str, width: int, *, most: int = 3) -> Iterator[str]:
    lines = [
        piece
        for line in textwrap.wrap(one_line(text), max(width - _LABEL - 1, 10))
        for piece in _cut(line, width - _LABEL - 1)
    ]
    if len(lines) > most:
        lines = [*lines[: most - 1], clip(lines[most - 1] + " …", max(width - _LABEL - 1, 10))]
    for number, line in enumerate(lines):
        lead = "" if number else label
        yield f"{out.style(f'{lead:<{_LABEL}}', 'dim')} {line}"


def _help(out: Output, width: int) -> list[str]:
    return [f"  {out.style(f'{keys:<14}', 'cyan')}{clip(text, max(width - 16, 10))}" for keys, text in HELP]


def _foot(scene: Scene, out: Output, width: int) -> tuple[list[str], int | None]:
    """What happened last, and the keys that have a meaning now, or what is asked; with the column of the cursor."""
    news = f"{count(scene.news, 'new thing')} below" if scene.news else ""
    told = " · ".join(filter(None, [one_line(scene.status), news]))
    status = out.style(clip(told, width), *filter(None, [scene.status_style]))
    if not scene.ask:
        return [status, _keys(scene, out, width)], None
    if scene.line is None:
        return [status, out.style(clip(one_line(scene.ask), width - 1), "bold")], min(columns(scene.ask), width - 1)
    ask = clip(one_line(scene.ask), max(width // 2, 10)) + " "
    text, at = scene.line.shown(max(width - columns(ask) - 1, 1))
    return [status, out.style(ask, "bold") + text], columns(ask) + at


def _keys(scene: Scene, out: Output, width: int) -> str:
    item = scene.items.selected
    own: Sequence[tuple[str, str]] = ()
    if item is not None and item.is_open:
        own = _KEYS.get(item.waits.question.kind, ())
    if scene.pages is not None:
        shown = [*own, ("j k", "scroll"), ("q", "back")]
    elif scene.has_help:
        shown = [("any key", "back")]
    else:
        more = (("enter", "all of it"), ("s", "skip")) if own else ()
        shown = [*own, *more, ("r", "refresh"), ("?", "help"), ("q", "quit")]
    while len(shown) > 2 and sum(columns(key) + columns(text) + 3 for key, text in shown) - 2 > width:
        shown.pop(-3 if len(shown) > 3 else 0)
    line = ""
    taken = 0
    for key, text in shown:
        if taken + columns(key) + columns(text) + 1 > width:
            break
        line += f"{out.style(key, 'bold')} {out.style(text, 'dim')}  "
        taken += columns(key) + columns(text) + 3
    return line.rstrip()
