"""What is done to a run: cancel, pause, resume, retry, fork, steer, follow up, limit. Each is safe to send again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.web.access import Action
from agentq.web.api.documents import RunStatus, Started
from agentq.web.api.endpoint import API, Endpoint, routes_of
from agentq.web.api.requests import (
    CancelRun,
    FollowUp,
    ForkRun,
    PauseRun,
    Said,
    SetLimits,
    SteerRun,
    files_of,
)
from agentq.web.api.runs import idempotency_key, started, uploads

if TYPE_CHECKING:
    from starlette.responses import Response

    from agentq.web.api.endpoint import Asked, Nothing

_RUN = f"{API}/runs/{{run_id}}"


async def cancel_run(asked: Asked[CancelRun, Nothing]) -> RunStatus:
    """Ask a run to stop, and those that it started; waits up to `wait_s` seconds for its end. Again: no effect."""
    run, who = await asked.run(Action.CANCEL)
    body = asked.body
    cancelling = asked.client.cancel(run.run_id, reason=body.reason, wait=body.wait_s, by=who or body.by)
    # Whoever leaves while it waits has cancelled it all the same.
    status = await (asked.unless_gone(cancelling) if body.wait_s else cancelling)
    return RunStatus(run_id=run.run_id, status=status)


async def pause_run(asked: Asked[PauseRun, Nothing]) -> RunStatus:
    """Keep a run from starting another iteration until it is resumed. Again: no effect."""
    run, who = await asked.run(Action.PAUSE)
    status = await asked.client.pause(run.run_id, reason=asked.body.reason, by=who or asked.body.by)
    return RunStatus(run_id=run.run_id, status=status)


async def resume_run(asked: Asked[Said, Nothing]) -> RunStatus:
    """Let a paused run go on. One that is not paused stays as it is."""
    run, who = await asked.run(Action.RESUME)
    return RunStatus(run_id=run.run_id, status=await asked.client.resume(run.run_id, by=who or asked.body.by))


async def retry_run(asked: Asked[Said, Nothing]) -> RunStatus:
    """Take up a run again that has failed or was cancelled, from its last commit; finished work is not repeated."""
    run, who = await asked.run(Action.RETRY)
    return RunStatus(run_id=run.run_id, status=await asked.client.retry(run.run_id, by=who or asked.body.by))


async def fork_run(asked: Asked[ForkRun, Nothing]) -> Response:
    """Start a new run that begins with this one's transcript, or its part up to the end of `iteration`.

    With an Idempotency-Key that was used before it answers with the run that it made then, and 201 all the same.
    """
    run, who = await asked.run(Action.FORK)
    body = asked.body
    fork = await asked.client.fork(
        run.run_id,
        iteration=body.iteration,
        prompt=body.prompt,
        session_id=body.session_id,
        idempotency_key=idempotency_key(asked.request, who),
    )
    return started(asked, fork.id, fork.agent, is_new=True)


async def steer_run(asked: Asked[SteerRun, Nothing]) -> RunStatus:
    """Send a message into a run that goes on; its next iteration reads it."""
    run, who = await asked.run(Action.STEER)
    body = asked.body
    files = [*files_of(body.files), *await uploads(asked.form)]
    status = await asked.client.steer(run.run_id, body.text, files=files, by=who or body.by)
    return RunStatus(run_id=run.run_id, status=status)


async def follow_up(asked: Asked[FollowUp, Nothing]) -> Response:
    """Start the next run of a run's session, of the same agent, user and model."""
    run, who = await asked.run(Action.FOLLOW_UP)
    body = asked.body
    following = await asked.client.follow_up(
        run.run_id,
        body.prompt,
        files=[*files_of(body.files), *await uploads(asked.form)],
        idempotency_key=idempotency_key(asked.request, who),
    )
    return started(asked, following.id, following.agent, is_new=following.is_new)


async def set_limits(asked: Asked[SetLimits, Nothing]) -> RunStatus:
    """Give a run limits of its own; what is left out stays as it was."""
    run, who = await asked.run(Action.SET_LIMITS)
    status = await asked.client.set_limits(run.run_id, asked.body.limits, by=who or asked.body.by)
    return RunStatus(run_id=run.run_id, status=status)


_ONE = {200: RunStatus}
_NEW = {201: Started, 200: Started}
_KEY = ("Idempotency-Key",)
endpoints = [
    Endpoint("POST", f"{_RUN}/cancel", cancel_run, "steering", _ONE, body=CancelRun, problems=(404, 409)),
    Endpoint("POST", f"{_RUN}/pause", pause_run, "steering", _ONE, body=PauseRun, problems=(404, 409)),
    Endpoint("POST", f"{_RUN}/resume", resume_run, "steering", _ONE, body=Said, problems=(404, 409)),
    Endpoint("POST", f"{_RUN}/retry", retry_run, "steering", _ONE, body=Said, problems=(404, 409)),
    Endpoint("POST", f"{_RUN}/fork", fork_run, "steering", _NEW, body=ForkRun, headers=_KEY, problems=(404, 409)),
    Endpoint(
        "POST", f"{_RUN}/steer", steer_run, "steering", _ONE, body=SteerRun, takes_form=True, problems=(404, 409)
    ),
    Endpoint(
        "POST", f"{_RUN}/follow-up", follow_up, "steering", _NEW, body=FollowUp, takes_form=True, headers=_KEY,
        problems=(404, 409),
    ),
    Endpoint("PUT", f"{_RUN}/limits", set_limits, "steering", _ONE, body=SetLimits, problems=(404, 409)),
]  # fmt: skip
routes = routes_of(endpoints)
