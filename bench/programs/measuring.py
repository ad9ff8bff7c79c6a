"""Measuring in the process of a peer: time, CPU of this process and of Redis, and the line that tells them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGES = 20
MESSAGE_BYTES = 1000
ITERATIONS = 3
JOBS = 6
# The first jobs of a client load scripts and open connections.
WARM_UP_JOBS = 10
PAUSE_S = 0.01


@contextmanager
def measured(url: str = "") -> Iterator[None]:
    """Print what the block took, as the last line. With the URL of a Redis, its CPU too."""
    redis_cpu_s, cpu_s, began = _redis_cpu_s(url), time.process_time(), time.perf_counter()
    yield
    figures = {"seconds": time.perf_counter() - began, "worker_cpu_s": time.process_time() - cpu_s}
    if url:
        figures["redis_cpu_s"] = _redis_cpu_s(url) - redis_cpu_s
    print(json.dumps(figures))


class Wakes:
    """How long jobs took from before their enqueue, in another process that is a `sender` here, until they ran.

    All processes of a machine share its monotonic clock.
    """

    def __init__(self, amount: int) -> None:
        self._amount = amount
        self._took_ns: list[int] = []

    @property
    def are_all(self) -> bool:
        return len(self._took_ns) == self._amount

    def note(self, sent_ns: int) -> None:
        """A job runs that was enqueued then."""
        self._took_ns.append(time.monotonic_ns() - sent_ns)

    def tell(self) -> None:
        """Print them, as the last line, without those of the warm-up."""
        print(json.dumps({"took_ns": self._took_ns[WARM_UP_JOBS:]}))


@contextmanager
def sender(module: str, url: str, amount: int) -> Iterator[None]:
    """The other process, for the length of the block: `python -m module url send amount 0`."""
    command = [sys.executable, "-m", module, url, "send", str(amount), "0"]
    with subprocess.Popen(command) as process:
        yield
        if process.wait() != 0:
            raise RuntimeError(f"{module} could not enqueue")


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
