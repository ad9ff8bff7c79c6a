"""Commands as a shell starts them, timed: from the start of the process to its end, or until a worker is registered."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import redis

from bench.measure import ROOT, Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.measure import Bed, Sample

MS = Figure("ms", 0)
HELP, ENQUEUE, QUEUES, WORKER = "--help", "enqueue", "list the queues", "worker registered"
# RQ's set of workers, in which agentq's are too.
_WORKERS = "rq:workers"
_PATIENCE_S = 30
_LOOK_S = 0.001


def program(name: str) -> str:
    """A command of this environment."""
    return str(Path(sys.executable).with_name(name))


def median_ms(command: Sequence[str], bed: Bed, *, times: int, registers: bool) -> Sample:
    """Start the command so often, each time a new process, and once before to warm up the disk."""
    once: Callable[[Sequence[str], Bed], float] = _until_registered_s if registers else _until_ended_s
    once(command, bed)
    return {MS.name: 1000 * median(once(command, bed) for _ in range(times))}


def _until_ended_s(command: Sequence[str], bed: Bed) -> float:
    began = time.perf_counter()
    with _started(command, bed) as process:
        _, errors = process.communicate(timeout=_PATIENCE_S)
        seconds = time.perf_counter() - began
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{errors}")
    return seconds


def _until_registered_s(command: Sequence[str], bed: Bed) -> float:
    with redis.Redis.from_url(bed.server.url) as client:
        client.delete(_WORKERS)
        began = time.perf_counter()
        with _started(command, bed) as process:
            try:
                while not client.scard(_WORKERS):
                    if process.poll() is not None or time.perf_counter() > began + _PATIENCE_S:
                        raise RuntimeError(f"{' '.join(command)} has not registered")
                    time.sleep(_LOOK_S)
                seconds = time.perf_counter() - began
                process.terminate()
                process.communicate(timeout=_PATIENCE_S)
            finally:
                process.kill()
    return seconds


def _started(command: Sequence[str], bed: Bed) -> subprocess.Popen[str]:
    """With nothing of this user's settings, and importing from this checkout."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(bed.folder),
        "PYTHONPATH": str(ROOT),
        "REDIS_URL": bed.server.url,
    }
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
