"""Asks a Redis about itself: version, settings, clock, what this user may do."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from agentq.insight.redis import milliseconds, parsed_info

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq._redis.pipeline import Pipeline

# The shortest of so many round trips tells most about the clock.
_ROUND_TRIPS = 5
# What our scripts take for granted, and nothing that writes.
_SCRIPT = "return cjson.encode({redis.call('TIME')[1]})"


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a Redis says of itself. `info` is INFO, empty where it is refused; `config` what CONFIG GET told, or None.

    `ahead_ms` is how far its clock is ahead of this machine's, give or take half of `round_trip_ms`. `cannot` names
    what this user may not do, with Redis's words: `scripts`, `publish`.
    """

    info: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, str] | None = None
    round_trip_ms: float = 0.0
    ahead_ms: float = 0.0
    cannot: Mapping[str, str] = field(default_factory=dict)


async def read_server(pipeline: Pipeline, prefix: str) -> ServerFacts:
    """Ask. Raises `StoreUnavailable` when Redis is away; what it refuses is part of the answer."""
    round_trip_ms, ahead_ms = await _clock(pipeline)
    info, config, scripts, publish = await asyncio.gather(
        _tried(pipeline, "INFO"),
        _tried(pipeline, "CONFIG", "GET", "append*"),
        _tried(pipeline, "EVAL", _SCRIPT, 0),
        _tried(pipeline, "PUBLISH", f"{prefix}:doctor", ""),
    )
    refused = {"scripts": scripts, "publish": publish}
    return ServerFacts(
        info={} if isinstance(info, ResponseError) else parsed_info(info),
        config=None if isinstance(config, ResponseError) else _texts(config),
        round_trip_ms=round_trip_ms,
        ahead_ms=ahead_ms,
        cannot={name: str(answer) for name, answer in refused.items() if isinstance(answer, ResponseError)},
    )


async def _clock(pipeline: Pipeline) -> tuple[float, float]:
    """The shortest round trip in milliseconds, and how far Redis's clock was ahead in the middle of it."""
    trips = []
    for _ in range(_ROUND_TRIPS):
        before, started = time.time(), time.perf_counter()
        theirs = await pipeline.execute("TIME")
        took_ms = (time.perf_counter() - started) * 1000
        trips.append((took_ms, milliseconds(theirs) - (before * 1000 + took_ms / 2)))
    return min(trips)


async def _tried(pipeline: Pipeline, *command: Any) -> Any:
    try:
        return await pipeline.execute(*command)
    except ResponseError as error:
        return error


def _texts(config: Mapping[Any, Any]) -> dict[str, str]:
    def text(value: Any) -> str:
        return value.decode() if isinstance(value, bytes) else str(value)

    return {text(name): text(value) for name, value in config.items()}
