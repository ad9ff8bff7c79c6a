"""What runs wait for people to say, with the forms to say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.web.access import Action
from agentq.web.page.asking import Ask
from agentq.web.page.rendering import allowed, page
from agentq.web.page.run import ANSWERS
from agentq.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

# So many runs that wait are read; the rest comes when they have been answered.
_MOST = 100


async def show(request: Request) -> Response:
    """The inbox, what has waited longest first."""
    site = site_of(request)
    await site.access.allow(request, Action.LIST)
    shown: list[tuple[Ask, frozenset[str]]] = []
    may: dict[str, frozenset[str] | None] = {}
    waiting = await site.client.inbox(limit=_MOST)
    for each in waiting:
        run_id = each.run.run_id
        if run_id not in may:
            is_readable = await site.access.may(request, Action.READ, each.run)
            may[run_id] = await allowed(request, each.run, *ANSWERS) if is_readable else None
        can = may[run_id]
        if can is not None:
            redacted = site.redaction.question(each.question)
            is_whole = redacted.arguments == each.question.arguments
            shown.append((Ask(site.redaction.run(each.run), redacted, is_whole), can))
    shown.sort(key=lambda pair: (pair[0].since_ms, pair[0].run.run_id))
    return page(request, "inbox.html", shown=shown, is_full=len({each.run.run_id for each in waiting}) >= _MOST)
