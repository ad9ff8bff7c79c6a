"""Projecting a run for one client: its events through a fold, from where the client is."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from agentq import _json
from agentq.events.model import RunAnswered, RunRetried, RunWaiting
from agentq.web.streams.frames import START, Projection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from starlette.requests import Request

    from agentq.events.model import Event
    from agentq.messages import FilePart
    from agentq.web.site import Site
    from agentq.web.streams.frames import Fold, Frame, Position

# What says that a turn which had ended goes on, or that the run did without it.
_GOES_ON = ("run.answered", "run.retried", "run.completed", "run.failed", "run.cancelled")


async def frames(
    site: Site,
    run_id: str,
    fold: Fold,
    *,
    begins_after: int = 0,
    is_whole: bool = False,
    live: bool = True,
) -> AsyncGenerator[Sequence[Frame], None]:
    """The frames of a turn, those of one event at a time, until the turn ends.

    With `is_whole` it goes on through turns that have ended already and went on, to the end of the last one.
    """
    projection = Projection(fold, begins_after=begins_after)
    async with aclosing(site.client.events(run_id, voided=True, live=live)) as events:
        async for event in events:
            made = projection.take(site.redaction.event(event))
            if not projection.ends(event) or (is_whole and await _goes_on(site, event)):
                yield made
                continue
            yield [*made, *projection.closing()]
            return


async def _goes_on(site: Site, event: Event) -> bool:
    """Whether the run has gone on after an event that ends a turn."""
    async with aclosing(site.client.events(event.run_id, after=event.seq, live=False, kinds=_GOES_ON)) as later:
        async for each in later:
            if isinstance(each, RunRetried):
                return True
            if isinstance(event, RunWaiting) and (not isinstance(each, RunAnswered) or each.call_id == event.call_id):
                return each.type != "gap"
    return False


def past(position: Position = START, *, skip: int = 0) -> Callable[[Sequence[Frame]], list[Frame]]:
    """A filter for what a client has seen already: frames up to a position, or the first `skip` of them."""
    is_past, seen = position == START, 0

    def fresh(made: Sequence[Frame]) -> list[Frame]:
        nonlocal is_past, seen
        left = list(made) if is_past else [frame for frame in made if (frame.seq, frame.k) > position]
        # Where Redis came back with an older state, numbers begin anew.
        is_past = is_past or bool(left)
        passed = min(max(skip - seen, 0), len(left))
        seen += len(left)
        return left[passed:]

    return fresh


async def chunks(
    made: AsyncGenerator[Sequence[Frame], None],
    fresh: Callable[[Sequence[Frame]], list[Frame]],
    *,
    begin: str = "",
    end: str = "",
) -> AsyncGenerator[str, None]:
    """Frames as server-sent events; `id` is the number of the frame."""
    if begin:
        yield begin
    async with aclosing(made):
        async for each in made:
            if left := fresh(each):
                yield "".join(map(written, left))
    if end:
        yield end


def written(frame: Frame) -> str:
    """One frame; JSON has no line breaks."""
    return f"id: {frame.cursor}\ndata: {_json.dumps(frame.body).decode()}\n\n"


def file_urls(request: Request, run_id: str) -> Callable[[FilePart], str]:
    """Where a client finds the files of a run."""
    root: str = request.scope["agentq_root"]

    def url(file: FilePart) -> str:
        return file.url if file.digest is None else f"{root}/api/v1/runs/{run_id}/files/{file.digest}"

    return url
