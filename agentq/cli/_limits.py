"""Limits on the command line: the options that give a run some, and how it stands with them in words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agentq.limits import RunLimits, Spent
    from agentq.runs import RunState

# The option of each limit.
OPTIONS = {
    "tokens": "--max-tokens",
    "cost_usd": "--max-cost",
    "iterations": "--max-iterations",
    "wall_s": "--max-time",
    "no_progress_s": "--max-idle",
    "on_reached": "--on-limit",
}


def limiting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what a run may use; `taken` makes limits of them."""
    for option in (
        click.option(
            OPTIONS["on_reached"],
            "on_reached",
            type=click.Choice(["fail", "wait"]),
            help="What becomes of the run then: wait is until it may use more.",
        ),
        click.option(
            OPTIONS["no_progress_s"],
            "no_progress_s",
            metavar="SECONDS",
            type=float,
            help="At most so long at a stretch.",
        ),
        click.option(
            OPTIONS["wall_s"], "wall_s", metavar="SECONDS", type=float, help="At most so long from its start."
        ),
        click.option(OPTIONS["iterations"], "iterations", metavar="N", type=int, help="At most so many turns."),
        click.option(OPTIONS["cost_usd"], "cost_usd", metavar="USD", type=float, help="At most so many dollars."),
        click.option(OPTIONS["tokens"], "tokens", metavar="N", type=int, help="At most so many tokens, in and out."),
    ):
        function = option(function)
    return function


def taken(given: dict[str, Any]) -> RunLimits | None:
    """Takes the limits out of what a command was given; None for none. Raises `InvalidInput`, in terms of options."""
    from agentq.errors import InvalidInput
    from agentq.limits import limits_of

    named = {name: given.pop(name) for name in OPTIONS}
    try:
        return limits_of({name: value for name, value in named.items() if value is not None})
    except InvalidInput as error:
        field = error.field or ""
        raise InvalidInput(str(error).replace(field, OPTIONS.get(field, field), 1), field=field) from error


def standing(run: RunState) -> Iterator[str]:
    """What a run has used of its own limits: `812 of 5000 tokens`. Those of its agent are known to workers only."""
    from agentq.cli._output import count, duration
    from agentq.messages import Usage

    limits = run.limits
    if limits is None:
        return
    used, before = Usage(**run.usage), Usage(**run.retried_usage)
    if limits.tokens is not None:
        yield f"{used.total_tokens - before.total_tokens:,} of {limits.tokens:,} tokens"
    if limits.cost_usd is not None:
        cost = ((used.cost_nanousd or 0) - (before.cost_nanousd or 0)) / 1_000_000_000
        yield f"${cost:.4f} of ${limits.cost_usd:.4f}"
    if limits.iterations is not None:
        yield f"{run.iteration - run.retried_at} of {count(limits.iterations, 'iteration')}"
    if limits.wall_s is not None:
        end_ms = run.finished_ms or time.time() * 1000
        passed_ms = end_ms - run.started_ms if run.started_ms else 0
        yield f"{duration(passed_ms)} of {duration(limits.wall_s * 1000)}"
    if limits.no_progress_s is not None:
        yield f"{duration(limits.no_progress_s * 1000)} at a stretch"
    if limits.on_reached == "wait":
        yield "then it waits"


def spending(spent: Spent) -> str:
    """`12,345 tokens, $1.2000, 7 iterations`."""
    from agentq.cli._output import count

    return f"{spent.tokens:,} tokens, ${spent.cost_usd:.4f}, {count(spent.iterations, 'iteration')}"
