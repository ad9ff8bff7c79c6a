"""What operators look at, and pause: figures, queues, workers, agents, what runs spend."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.responses import Response

from agentq.errors import InvalidInput
from agentq.web.access import Action
from agentq.web.api.documents import (
    Agents,
    Memory,
    Oldest,
    Pause,
    Pauses,
    Queue,
    Queues,
    Spent,
    Stats,
    Worker,
    Workers,
)
from agentq.web.api.endpoint import API, Endpoint, routes_of
from agentq.web.api.requests import AskSpent, PauseAll, ResumeAll
from agentq.web.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentq.web.api.endpoint import Asked, Nothing


async def read_stats(asked: Asked[Nothing, Nothing]) -> Stats:
    """Read one page of figures. Costs the same with a million runs."""
    await asked.allow(Action.STATS)
    with needs_redis():
        stats = await asked.client.insight.stats()
    oldest = stats.oldest_queued
    return Stats(
        now_ms=stats.now_ms,
        runs=dict(stats.runs),
        sessions=stats.sessions,
        due=stats.due,
        oldest_queued=None if oldest is None else Oldest(run_id=oldest[0], created_ms=oldest[1]),
        swept_ms=stats.swept_ms,
        workers=tuple(map(Worker.model_validate, stats.workers)),
        queues=tuple(map(Queue.model_validate, stats.queues)),
        memory=None if stats.memory is None else Memory.model_validate(stats.memory),
        pauses={scope: Pause.model_validate(pause) for scope, pause in stats.pauses.items()},
    )


async def list_queues(asked: Asked[Nothing, Nothing]) -> Queues:
    """List the queues, with how many wake-ups wait and how old the oldest is."""
    await asked.allow(Action.STATS)
    with needs_redis():
        return Queues(queues=tuple(map(Queue.model_validate, await asked.client.insight.queues())))


async def list_workers(asked: Asked[Nothing, Nothing]) -> Workers:
    """List the workers that are registered. One that was killed is there for up to 90 s, and silent."""
    await asked.allow(Action.STATS)
    with needs_redis():
        return Workers(workers=tuple(map(Worker.model_validate, await asked.client.insight.workers())))


async def list_agents(asked: Asked[Nothing, Nothing]) -> Agents:
    """List the agents, with their models, limits and the schemas of their tools."""
    await asked.allow(Action.STATS)
    given = {} if asked.site.app is None else asked.site.app.manifests()
    published = await asked.client.agents()
    return Agents(agents={name: dict(manifest) for name, manifest in {**given, **published}.items()})


async def read_spent(asked: Asked[Nothing, AskSpent]) -> Spent:
    """Read what runs have used together: of one user, one session, one agent, or all.

    Only runs of agents with a limit for that are counted.
    """
    await asked.allow(Action.STATS)
    query = asked.query
    spent = await asked.client.spent(
        user_id=query.user_id,
        session_id=query.session_id,
        agent=query.agent,
        window=query.window,
        day=query.day,
    )
    return Spent.model_validate(spent)


async def list_pauses(asked: Asked[Nothing, Nothing]) -> Pauses:
    """List what is paused as a whole."""
    await asked.allow(Action.STATS)
    found = await asked.client.pauses()
    return Pauses(pauses={scope: Pause.model_validate(pause) for scope, pause in found.items()})


async def pause_all(asked: Asked[PauseAll, Nothing]) -> Pause:
    """Keep the runs of an agent, of a queue, or all from going on. Again: the first pause stands."""
    who = await asked.allow(Action.PAUSE_ALL)
    body = asked.body
    pause = await asked.client.pause_all(agent=body.agent, queue=body.queue, reason=body.reason, by=who or body.by)
    return Pause.model_validate(pause)


async def resume_all(asked: Asked[Nothing, ResumeAll]) -> Response:
    """Let go on what was paused. Again: no effect."""
    await asked.allow(Action.RESUME_ALL)
    await asked.client.resume_all(agent=asked.query.agent, queue=asked.query.queue)
    return Response(status_code=204)


@contextmanager
def needs_redis() -> Iterator[None]:
    """Say so where the site is over another store, which cannot tell."""
    try:
        yield
    except InvalidInput as error:
        raise Problem(501, "not_available", str(error)) from error


_PAUSES = f"{API}/pauses"
endpoints = [
    Endpoint("GET", f"{API}/stats", read_stats, "operating", {200: Stats}, problems=(501,)),
    Endpoint("GET", f"{API}/queues", list_queues, "operating", {200: Queues}, problems=(501,)),
    Endpoint("GET", f"{API}/workers", list_workers, "operating", {200: Workers}, problems=(501,)),
    Endpoint("GET", f"{API}/agents", list_agents, "operating", {200: Agents}),
    Endpoint("GET", f"{API}/spent", read_spent, "operating", {200: Spent}, query=AskSpent),
    Endpoint("GET", _PAUSES, list_pauses, "operating", {200: Pauses}),
    Endpoint("POST", _PAUSES, pause_all, "operating", {200: Pause}, body=PauseAll),
    Endpoint("DELETE", _PAUSES, resume_all, "operating", {204: None}, query=ResumeAll),
]
routes = routes_of(endpoints)
