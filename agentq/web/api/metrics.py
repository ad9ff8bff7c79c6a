"""Metrics in the text format of Prometheus (version 0.0.4), from what Redis counts: no process is asked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from starlette.responses import Response

from agentq.insight.counters import read_counters
from agentq.runs import FINAL
from agentq.web.access import Action
from agentq.web.api.endpoint import Endpoint, routes_of
from agentq.web.api.operating import needs_redis

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agentq.insight.counters import Counters
    from agentq.insight.facts import Stats
    from agentq.web.api.endpoint import Asked, Nothing

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_TOKENS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cached_input": "cached_input_tokens",
    "cache_write": "cache_write_tokens",
    "reasoning": "reasoning_tokens",
}
Kind = Literal["counter", "gauge", "summary"]


@dataclass(slots=True)
class Metric:
    """One metric: samples are a suffix of its name, labels and a value."""

    name: str
    kind: Kind
    help: str
    samples: list[tuple[str, Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float, suffix: str = "", /, **labels: str) -> None:
        self.samples.append((suffix, labels, value))


async def metrics(asked: Asked[Nothing, Nothing]) -> Response:
    """Read the figures as Prometheus does. What is counted is counted in Redis: exact, whatever is killed."""
    await asked.allow(Action.STATS)
    with needs_redis():
        insight = asked.client.insight
        store = insight.store
        stats, counters = await asyncio.gather(insight.stats(), read_counters(store))
    return Response(render([*_counted(counters), *_now(stats, counters)]), headers={"Content-Type": _TEXT})


def render(metrics: Iterable[Metric]) -> str:
    """The text. Metrics without a sample are left out."""
    return "".join(line + "\n" for metric in metrics if metric.samples for line in _lines(metric))


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {_escaped(metric.help)}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for suffix, labels, value in metric.samples:
        inner = ",".join(f'{name}="{_escaped(text, quotes=True)}"' for name, text in labels.items())
        yield f"{metric.name}{suffix}{f'{{{inner}}}' if inner else ''} {_number(value)}"


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _counted(counters: Counters) -> Iterator[Metric]:
    counts = counters.counts
    ended = Metric("agentq_runs_ended_total", "counter", "Runs that have ended, by agent and how.")
    for status in sorted(FINAL):
        for agent, number in counts.get(status, {}).items():
            ended.add(number, agent=agent, status=status)
    yield ended
    yield _by_agent("agentq_iterations_total", "Iterations that made progress.", counts.get("iterations", {}))
    yield _by_agent("agentq_lease_expiries_total", "Runs that lost their worker.", counts.get("lease_expiries", {}))
    tokens = Metric("agentq_tokens_total", "counter", "Tokens that runs which have ended had used.")
    for kind, name in _TOKENS.items():
        for agent, number in counts.get(name, {}).items():
            tokens.add(number, agent=agent, kind=kind)
    yield tokens
    nano = counts.get("cost_nanousd", {})
    cost = {agent: number / 1e9 for agent, number in nano.items()}
    yield _by_agent("agentq_cost_usd_total", "What runs which have ended had cost, where prices are known.", cost)
    took = Metric("agentq_run_seconds", "summary", "How long runs took, from their enqueue to their end.")
    for agent, ms in counts.get("took_ms", {}).items():
        took.add(ms / 1000, "_sum", agent=agent)
        took.add(sum(counts.get(status, {}).get(agent, 0) for status in FINAL), "_count", agent=agent)
    yield took


def _by_agent(name: str, help: str, numbers: Mapping[str, float]) -> Metric:
    metric = Metric(name, "counter", help)
    for agent, number in numbers.items():
        metric.add(number, agent=agent)
    return metric


def _now(stats: Stats, counters: Counters) -> Iterator[Metric]:
    def one(name: str, help: str, value: float | None) -> Metric:
        return Metric(f"agentq_{name}", "gauge", help, [] if value is None else [("", {}, value)])

    def seconds_since(ms: int | None) -> float | None:
        return None if ms is None else max(stats.now_ms - ms, 0) / 1000

    runs = Metric("agentq_runs", "gauge", "Runs that are kept, by status.")
    for status, number in stats.runs.items():
        runs.add(number, status=status)
    yield runs
    waiting = Metric("agentq_waiting_for_people", "gauge", "What runs wait for people to say, by kind.")
    for kind, number in counters.waiting.items():
        waiting.add(number, kind=kind)
    yield waiting
    oldest = stats.oldest_queued
    yield one(
        "oldest_queued_seconds", "Age of the queued run that is oldest.", seconds_since(oldest[1]) if oldest else 0
    )
    yield one("sessions", "Sessions that are kept.", stats.sessions)
    depth = Metric("agentq_queue_depth", "gauge", "Wake-ups that wait in a queue.")
    age = Metric("agentq_queue_oldest_seconds", "gauge", "Age of the wake-up at the head of a queue.")
    failed = Metric("agentq_queue_failed_jobs", "gauge", "Failed jobs that RQ keeps of a queue.")
    paused = Metric("agentq_queue_paused", "gauge", "1 where nothing is taken from a queue, since it is paused.")
    for queue in stats.queues:
        depth.add(queue.waiting, queue=queue.name)
        age.add(seconds_since(queue.oldest_ms) or 0, queue=queue.name)
        failed.add(queue.failed, queue=queue.name)
        paused.add(int(queue.pause is not None), queue=queue.name)
    yield from (depth, age, failed, paused)
    ours = [worker for worker in stats.workers if worker.is_agentq]
    silent = sum(worker.is_silent for worker in ours)
    workers = Metric("agentq_workers", "gauge", "Workers, alive or not heard of late.")
    workers.add(len(ours) - silent, state="alive")
    workers.add(silent, state="silent")
    yield workers
    yield one("iterations_in_flight", "Iterations under way.", sum(worker.in_flight or 0 for worker in ours))
    yield one("slots", "Iterations that workers can have under way.", sum(worker.concurrency or 0 for worker in ours))
    yield one("sweep_age_seconds", "Since the last sweep of all workers.", seconds_since(stats.swept_ms))
    memory = stats.memory
    yield one("redis_memory_bytes", "What Redis uses.", memory.used if memory else None)
    yield one("redis_memory_limit_bytes", "What Redis may use; 0: no limit.", memory.limit if memory else None)


endpoints = [Endpoint("GET", "/metrics", metrics, "health", {200: "text/plain"}, problems=(501,))]
routes = routes_of(endpoints)
