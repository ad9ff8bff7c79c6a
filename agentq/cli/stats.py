"""`agentq stats`: one page of figures."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentq.insight.facts import QueueInfo, Stats
    from agentq.webhooks import WebhookState


@click.command("stats", cls=AgentqCommand, exits=(ExitCode.UNAVAILABLE,))
@pass_options
def command(options: Options) -> int:
    """Show figures on one page: runs by status, workers, queues with the age of the oldest wake-up, memory.

    Costs the same with a million runs. Runs whose time to live has passed are counted until the next sweep.
    --json prints one document.
    """
    import asyncio

    from agentq.cli._output import stdout
    from agentq.cli._table import paragraph

    async def main() -> Stats:
        async with options.connected() as client:
            return await client.insight.stats()

    stats = asyncio.run(main())
    out = stdout()
    if options.json:
        out.document(stats_document(stats))
        return ExitCode.OK
    for label, text in _facts(stats):
        first, *rest = paragraph(out, text, first=f"{label:<9} ", rest=" " * 10)
        out.line(out.style(first[:10], "dim") + first[10:])
        for line in rest:
            out.line(line)
    return ExitCode.OK


def stats_document(stats: Stats) -> dict[str, Any]:
    """The figures as JSON."""
    from agentq.cli.workers import worker_document

    oldest, spent = stats.oldest_queued, stats.spent
    return {
        **asdict(stats),
        "runs": dict(stats.runs),
        "oldest_queued": {"run_id": oldest[0], "created_ms": oldest[1]} if oldest else None,
        "queues": [{**asdict(queue), "latency_ms": _latency_ms(stats, queue)} for queue in stats.queues],
        "spent": spent and {"tokens": spent.tokens, "cost_usd": spent.cost_usd, "iterations": spent.iterations},
        "workers": [worker_document(worker) for worker in stats.workers],
    }


def _facts(stats: Stats) -> Iterator[tuple[str, str]]:
    from agentq.cli._limits import spending
    from agentq.cli._output import age, count, duration
    from agentq.insight.checks import megabytes
    from agentq.insight.pauses import in_words, paused_by
    from agentq.insight.why import is_sweep_late

    open_runs = ("queued", "running", "waiting", "paused")
    yield "runs", " · ".join(f"{stats.runs[status]} {status}" for status in open_runs)
    yield "ended", " · ".join(f"{number} {status}" for status, number in stats.runs.items() if status not in open_runs)
    if stats.oldest_queued:
        run_id, created_ms = stats.oldest_queued
        yield "oldest", f"{run_id}, queued, created {age(stats.now_ms - created_ms)} ago"
    yield "sessions", str(stats.sessions)
    swept = "no sweep for a day" if stats.swept_ms is None else f"swept {duration(stats.now_ms - stats.swept_ms)} ago"
    if is_sweep_late(stats.swept_ms, stats.now_ms):
        swept += ": no worker of agentq is at work"
    yield "watched", f"{count(stats.due, 'run')}, {swept}"
    yield "workers", _workers(stats)
    yield (
        "queues",
        " · ".join(_queue(stats, queue) for queue in stats.queues) or "none",
    )
    for scope, pause in stats.pauses.items():
        yield "paused", paused_by(pause, stats.now_ms, in_words(scope))
    if stats.webhooks:
        yield "webhooks", " · ".join(_webhook(webhook) for webhook in stats.webhooks)
    if stats.spent:
        yield "spent", f"{spending(stats.spent)} today, by all runs that are counted together"
    if stats.memory:
        limit = f"of {megabytes(stats.memory.limit)}" if stats.memory.limit else "without a limit"
        yield "memory", f"{megabytes(stats.memory.used)} {limit}, {stats.memory.policy}"
    else:
        yield "memory", "cannot tell: Redis refuses INFO"
    if stats.kept_bytes is not None:
        of = "the last that completed" if stats.kept_of == 1 else f"mean of the last {stats.kept_of} that completed"
        yield "per run", f"{megabytes(stats.kept_bytes)} kept, {of}"


def _workers(stats: Stats) -> str:
    from agentq.cli._output import count

    ours = [worker for worker in stats.workers if worker.is_agentq]
    parts = [str(len(ours))]
    if ours:
        in_flight = sum(worker.in_flight or 0 for worker in ours)
        slots = sum(worker.concurrency or 0 for worker in ours)
        parts.append(f"{in_flight} of {count(slots, 'iteration')} in flight")
        done, failed = sum(worker.done for worker in ours), sum(worker.failed for worker in ours)
        parts.append(f"{done} done and {failed} failed since they started")
    if silent := sum(worker.is_silent for worker in ours):
        parts.append(f"{silent} not heard of late")
    if stock := len(stats.workers) - len(ours):
        parts.append(count(stock, "stock rq worker"))
    return " · ".join(parts)


def _webhook(webhook: WebhookState) -> str:
    dead = f", {webhook.dead} given up" if webhook.dead else ""
    return f"{webhook.name} {webhook.pending} waiting{dead}"


def _queue(stats: Stats, queue: QueueInfo) -> str:
    from agentq.cli._output import age

    latency_ms = _latency_ms(stats, queue)
    oldest = "" if latency_ms is None else f", the oldest for {age(latency_ms)}"
    in_line = f" and {queue.in_line} in line behind their tenant's" if queue.in_line else ""
    return f"{queue.name} {queue.waiting} waiting{oldest}{in_line}{'' if queue.workers else ', no worker'}"


def _latency_ms(stats: Stats, queue: QueueInfo) -> int | None:
    """How long the wake-up at the head of the queue has waited."""
    return None if queue.oldest_ms is None else max(stats.now_ms - queue.oldest_ms, 0)
