"""Workers, queues and Redis: who works, what waits for how long, whether the ground is sound; pause and resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.errors import InvalidInput
from agentq.insight.checks import check_server
from agentq.insight.pauses import in_words
from agentq.runs import EVERYTHING
from agentq.web.access import Action
from agentq.web.page.rendering import allowed, page, see
from agentq.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


async def show(request: Request) -> Response:
    """One page of figures. Costs the same with a million runs."""
    site = site_of(request)
    await site.access.allow(request, Action.STATS)
    insight = site.client.insight
    try:
        stats, where = await insight.stats(), insight.where
    except InvalidInput as error:
        return page(request, "workers.html", stats=None, why_not=str(error))
    agents = await site.client.agents()
    return page(
        request,
        "workers.html",
        stats=stats,
        where=where,
        checks=list(check_server(await insight.server())),
        pauses=[(scope, in_words(scope), pause) for scope, pause in stats.pauses.items()],
        agents=sorted(agents.items()),
        paused_agents={scope.removeprefix("agent:") for scope in stats.pauses if scope.startswith("agent:")},
        is_paused=EVERYTHING in stats.pauses,
        can=await allowed(request, None, Action.PAUSE_ALL, Action.RESUME_ALL),
    )


async def pause(request: Request) -> Response:
    """Pause everything, an agent or a queue."""
    site = site_of(request)
    form = await site.access.form(request)
    who = await site.access.allow(request, Action.PAUSE_ALL)
    agent, queue = _scope(form.get("scope"))
    reason = form.get("reason")
    await site.client.pause_all(agent=agent, queue=queue, reason=reason if isinstance(reason, str) else "", by=who)
    return see(request, "page_workers")


async def resume(request: Request) -> Response:
    """Let it go on."""
    site = site_of(request)
    form = await site.access.form(request)
    await site.access.allow(request, Action.RESUME_ALL)
    agent, queue = _scope(form.get("scope"))
    await site.client.resume_all(agent=agent, queue=queue)
    return see(request, "page_workers")


def _scope(given: object) -> tuple[str | None, str | None]:
    """The agent or the queue that a form names; neither for everything."""
    kind, _, name = given.partition(":") if isinstance(given, str) else ("", "", "")
    match kind:
        case "agent" if name:
            return name, None
        case "queue" if name:
            return None, name
        case "all":
            return None, None
        case _:
            raise InvalidInput("the form does not say what is meant", field="scope")
