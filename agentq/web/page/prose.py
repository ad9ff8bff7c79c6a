"""PURE: what models write, with the little of Markdown that matters for reading. All else stays as it was written.

Blocks of code, lists, headings, paragraphs; in them code, bold text and links to the web. Nothing is markup but what is
made here, and each pattern has a limit to its length, so that no text can make it slow.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterator

_FENCE = re.compile(r"\s{0,3}(`{3,9}|~{3,9})[^`]{0,100}")
_ITEM = re.compile(r"\s{0,12}(?:[-*+]|(\d{1,9})[.)])[ \t]+(?=\S)")
_HEADING = re.compile(r"#{1,6}[ \t]+(?=\S)")
_INLINE = re.compile(
    r"`([^`\n]{1,500})`"
    r"|\*\*(?=[^\s*])([^*\n]{1,500})\*\*"
    r"|\[([^\[\]\n]{1,300})\]\((https?://[^\s()]{1,1000})\)"
)

_CODE = Markup('<pre class="text" tabindex="0"><code>{}</code></pre>')


def prose(text: str) -> Markup:
    """The text as HTML."""
    return Markup("").join(_blocks(text.strip("\n").split("\n")))


def _blocks(lines: list[str]) -> Iterator[Markup]:
    number = 0
    while number < len(lines):
        line = lines[number]
        if not line.strip():
            number += 1
            continue
        if fence := _FENCE.fullmatch(line):
            end = _end_of_fence(lines, number + 1, fence[1])
            yield Markup('<pre class="text" tabindex="0"><code>{}</code></pre>').format(
                "\n".join(lines[number + 1 : end])
            )
            number = end + 1
            continue
        end = number + 1
        while end < len(lines) and lines[end].strip() and not _begins(lines[end]):
            end += 1
        if item := _ITEM.match(line):
            end, items = _items(lines, number)
            yield _list(item, items)
        elif heading := _HEADING.match(line):
            end = number + 1
            yield Markup("<p><strong>{}</strong></p>").format(_inline(line[heading.end() :]))
        else:
            yield Markup("<p>{}</p>").format(_inline("\n".join(lines[number:end])))
        number = end


def _begins(line: str) -> bool:
    """Whether a block begins here that ends a paragraph."""
    return bool(_FENCE.fullmatch(line) or _ITEM.match(line) or _HEADING.match(line))


def _end_of_fence(lines: list[str], number: int, fence: str) -> int:
    while number < len(lines) and lines[number].strip() != fence:
        number += 1
    return number


def _items(lines: list[str], number: int) -> tuple[int, list[str]]:
    """Where a list ends, and its items: lines that go on with one, or are set in, are of it."""
    items: list[str] = []
    while number < len(lines):
        line = lines[number]
        if item := _ITEM.match(line):
            items.append(line[item.end() :])
        elif line.strip() and not _begins(line) and lines[number - 1].strip():
            items[-1] += "\n" + line.strip()
        elif line.strip() or number + 1 >= len(lines) or not _ITEM.match(lines[number + 1]):
            break
        number += 1
    return number, items


def _list(first: re.Match[str], items: list[str]) -> Markup:
    told = Markup("").join(Markup("<li>{}</li>").format(_inline(item)) for item in items)
    if first[1] is None:
        return Markup("<ul>{}</ul>").format(told)
    return Markup('<ol start="{}">{}</ol>').format(int(first[1]), told)


def _inline(text: str) -> Markup:
    parts: list[Markup] = []
    end = 0
    for found in _INLINE.finditer(text):
        parts.append(escape(text[end : found.start()]))
        code, bold, words, address = found.groups()
        if code is not None:
            parts.append(Markup("<code>{}</code>").format(code))
        elif bold is not None:
            parts.append(Markup("<strong>{}</strong>").format(bold))
        else:
            parts.append(Markup('<a href="{}" rel="noopener noreferrer nofollow">{}</a>').format(address, words))
        end = found.end()
    parts.append(escape(text[end:]))
    return Markup("").join(parts)
