"""Writes docs/http-api.md from the API itself. `make docs` runs it, and a test says when the page is stale."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

from agentq import errors
from agentq.web.api import endpoints
from agentq.web.problems import TITLES, code_of, status_of, title_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agentq.web.api.endpoint import Endpoint

PAGE = Path(__file__).parent.parent / "docs" / "http-api.md"
_HEAD = """\
# The HTTP API

Written by `make docs` from the API itself; do not edit it here. [The web](guide/web.md) shows it at work and says who
may do what; `/openapi.json` of a server has the models. Times are milliseconds since 1970, 0 for not yet. Bodies are
JSON, but for forms with files.
"""
_CODES = """\
What is refused, and what goes wrong, is a problem document (RFC 9457, `application/problem+json`): `type`, `title`,
`status`, `detail` for people, `code` for programs, and `field` where a field of the input is wrong. These are those of
[agentq's errors](guide/promises.md):
"""
_OTHERS = """\
And these have to do with requests as such:
"""
# What a class would need to be raised with.
_STATUS = {
    "not_authenticated": 401, "not_allowed": 403, "read_only": 403, "cross_site": 403, "csrf": 403, "redacted": 403,
    "unknown_host": 421, "too_large": 413, "unsupported_media_type": 415, "malformed": 400, "no_such_address": 404,
    "method_not_allowed": 405, "not_available": 501, "internal": 500,
}  # fmt: skip


def page() -> str:
    """The whole page."""
    tags = dict.fromkeys(endpoint.tag for endpoint in endpoints)
    parts = [_HEAD]
    for tag in tags:
        parts += [f"## {tag.capitalize()}\n", _table(("address", "what it does"), _rows(tag))]
    parts += ["## Codes\n", _CODES, _table(("code", "status", "means"), _of_errors())]
    parts += [_OTHERS, _table(("code", "status", "means"), _of_requests())]
    return "\n".join(parts)


def _rows(tag: str) -> Iterator[tuple[str, str]]:
    for endpoint in endpoints:
        if endpoint.tag == tag:
            path = endpoint.path.replace(":path}", "}")
            yield f"`{endpoint.method} {path}`", _words(endpoint)


def _words(endpoint: Endpoint) -> str:
    text = " ".join(inspect.cleandoc(endpoint.handler.__doc__ or "").split())
    takes = [f"`{name}`" for model in (endpoint.query, endpoint.body) for name in model.model_fields]
    takes += [f"`{name}` (header)" for name in endpoint.headers]
    if endpoint.takes_form:
        text += " Also as a form, with files."
    return f"{text} Takes {', '.join(takes)}." if takes else text


def _of_errors() -> Iterator[tuple[str, str, str]]:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.AgentQError)]
    for kind in sorted(kinds, key=code_of):
        yield f"`{code_of(kind)}`", str(status_of(kind())), title_of(kind)


def _of_requests() -> Iterator[tuple[str, str, str]]:
    for code in sorted(TITLES):
        yield f"`{code}`", str(_STATUS[code]), TITLES[code]


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join("| " + " | ".join(re.sub(r"([|<])", r"\\\1", cell) for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page())
