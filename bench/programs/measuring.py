"""Measuring in the process of a peer: time, CPU of this process and of Redis, and the line that tells them."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGES = 20
MESSAGE_BYTES = 1000
ITERATIONS = 3
JOBS = 6


@contextmanager
def measured(url: str = "") -> Iterator[None]:
    """Print what the block took, as the last line. With the URL of a Redis, its CPU too."""
    redis_cpu_s, cpu_s, began = _redis_cpu_s(url), time.process_time(), time.perf_counter()
    yield
    figures = {"seconds": time.perf_counter() - began, "worker_cpu_s": time.process_time() - cpu_s}
    if url:
        figures["redis_cpu_s"] = _redis_cpu_s(url) - redis_cpu_s
    print(json.dumps(figures))


def talk() -> list[tuple[str, str]]:
    """What was said before, as role and text: 20 messages of 1 KB, the last one a question."""
    text = ("Once more, and with more feeling this time. " * 30)[:MESSAGE_BYTES]
    roles = ["user", "assistant"] * MESSAGES
    return [(role, text) for role in [*roles[: MESSAGES - 1], "user"]]


def _redis_cpu_s(url: str) -> float:
    if not url:
        return 0.0
    import redis

    with redis.Redis.from_url(url) as client:
        info = client.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])
