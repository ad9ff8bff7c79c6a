"""Schedules: prompts that workers enqueue by cron."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from agentq.errors import InvalidInput, ScheduleNotFound
from agentq.web.access import Action
from agentq.web.api.documents import Schedule, Schedules, Started
from agentq.web.api.endpoint import API, Endpoint, routes_of
from agentq.web.api.requests import PutSchedule
from agentq.web.api.runs import proposed, started

if TYPE_CHECKING:
    from agentq.schedules import ScheduleState
    from agentq.web.api.endpoint import Asked, B, Nothing, Q

_SCHEDULE = f"{API}/schedules/{{name}}"
# What `enqueue` takes and makes sense each time; see `AsyncClient.schedule`.
_OPTIONS = frozenset(
    {"session_id", "user_id", "metadata", "queue", "model", "tools", "without", "ttl_s", "tenant", "priority"}
)


async def list_schedules(asked: Asked[Nothing, Nothing]) -> Schedules:
    """List schedules, the next to fire first, those that are paused last."""
    await asked.allow(Action.LIST)
    return Schedules(schedules=tuple(map(_document, await asked.client.schedules())))


async def put_schedule(asked: Asked[PutSchedule, Nothing]) -> Schedule:
    """Have workers enqueue a prompt at the times of a cron expression. Another schedule of that name is replaced."""
    body = asked.body
    user_id = body.options.get("user_id")
    await asked.allow(
        Action.SCHEDULE, proposed(body.agent, prompt=body.prompt, user_id=user_id if isinstance(user_id, str) else None)
    )
    if unknown := sorted(set(body.options) - _OPTIONS):
        raise InvalidInput(f"options has {unknown[0]!r:.80}; there are: {', '.join(sorted(_OPTIONS))}", field="options")
    state = await asked.client.schedule(
        asked.named("name"),
        body.agent,
        body.prompt,
        cron=body.cron,
        timezone=body.timezone,
        catch_up=body.catch_up,
        overlap=body.overlap,
        **body.options,
    )
    return _document(state)


async def delete_schedule(asked: Asked[Nothing, Nothing]) -> Response:
    """Forget a schedule; its runs stay."""
    await asked.allow(Action.SCHEDULE)
    await asked.client.unschedule(asked.named("name"))
    return Response(status_code=204)


async def pause_schedule(asked: Asked[Nothing, Nothing]) -> Schedule:
    """Let a schedule not fire until it is resumed."""
    await asked.allow(Action.SCHEDULE)
    await asked.client.pause_schedule(asked.named("name"))
    return await _read(asked)


async def resume_schedule(asked: Asked[Nothing, Nothing]) -> Schedule:
    """Let a schedule fire again, at its next time."""
    await asked.allow(Action.SCHEDULE)
    return _document(await asked.client.resume_schedule(asked.named("name")))


async def run_schedule(asked: Asked[Nothing, Nothing]) -> Response:
    """Make a run of a schedule now, out of turn."""
    await asked.allow(Action.SCHEDULE)
    run = await asked.client.get(await asked.client.run_schedule(asked.named("name")))
    return started(asked, run.id, run.agent, is_new=True)


async def _read(asked: Asked[B, Q]) -> Schedule:
    name = asked.named("name")
    found = [each for each in await asked.client.schedules() if each.schedule.name == name]
    if not found:
        raise ScheduleNotFound
    return _document(found[0])


def _document(state: ScheduleState) -> Schedule:
    schedule = state.schedule
    return Schedule(
        name=schedule.name,
        agent=schedule.agent,
        prompt=schedule.prompt,
        cron=schedule.cron,
        timezone=schedule.timezone,
        catch_up=schedule.catch_up,
        overlap=schedule.overlap,
        options=dict(schedule.options),
        next_ms=state.next_ms,
        last_ms=state.last_ms,
        last_run_id=state.last_run_id,
        fired=state.fired,
        skipped=state.skipped,
    )


_ONE = {200: Schedule}
endpoints = [
    Endpoint("GET", f"{API}/schedules", list_schedules, "schedules", {200: Schedules}),
    Endpoint("PUT", _SCHEDULE, put_schedule, "schedules", _ONE, body=PutSchedule),
    Endpoint("DELETE", _SCHEDULE, delete_schedule, "schedules", {204: None}, problems=(404,)),
    Endpoint("POST", f"{_SCHEDULE}/pause", pause_schedule, "schedules", _ONE, problems=(404,)),
    Endpoint("POST", f"{_SCHEDULE}/resume", resume_schedule, "schedules", _ONE, problems=(404,)),
    Endpoint("POST", f"{_SCHEDULE}/run", run_schedule, "schedules", {201: Started}, problems=(404,)),
]
routes = routes_of(endpoints)
