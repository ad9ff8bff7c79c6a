"""For as long as a world lasts: ids, jitter and clocks of agentq that take no `clock` follow the seed.

They are read as `time.monotonic()`, `random.uniform()` and `os.urandom()` through names of the modules of agentq, and
only those names are replaced: nobody else in this process notices.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
import time
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agentq.testing.simulation.scheduling import SimulatedLoop

# 2026-01-01, where `FakeClock` begins too.
START_MS = 1_767_225_600_000


class VirtualClock:
    """A `Clock` of the simulated world. `wrong_ms` is by how much its wall clock is off."""

    def __init__(self, loop: SimulatedLoop, *, wrong_ms: int = 0) -> None:
        self._loop = loop
        self._start_ms = START_MS + wrong_ms
        self.passed_ms = 0

    def now_ms(self) -> int:
        return self._start_ms + self.passed_ms + int(self._loop.time() * 1000)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def numbers_of(seed: int, purpose: str) -> random.Random:
    """The random numbers that a seed gives for one purpose, whatever is drawn for the others."""
    return random.Random(f"{seed} {purpose}")  # noqa: S311 - a simulation


class _Module:
    """A module, with some of its functions replaced."""

    def __init__(self, module: ModuleType, **replaced: Callable[..., Any]) -> None:
        self._module = module
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@contextmanager
def seeded(loop: SimulatedLoop, seed: int) -> Iterator[None]:
    """Have all of agentq follow the clock of `loop` and the seed within the block."""
    numbers = numbers_of(seed, "ids and jitter")
    clock = VirtualClock(loop)
    replacements = {
        id(time): _Module(
            time,
            monotonic=loop.time,
            time=lambda: clock.now_ms() / 1000,
            time_ns=lambda: clock.now_ms() * 1_000_000,
        ),
        id(random): numbers,
        id(os): _Module(os, urandom=numbers.randbytes),
    }
    replaced: list[tuple[ModuleType, str, ModuleType]] = []
    ours = f"{__name__.rpartition('.')[0]}."
    for module_name, module in sorted(sys.modules.items()):
        if not module_name.startswith("agentq.") or module_name.startswith(ours):
            continue
        for name in ("time", "random", "os"):
            given = vars(module).get(name)
            if isinstance(given, ModuleType) and id(given) in replacements:
                replaced.append((module, name, given))
                setattr(module, name, replacements[id(given)])
    try:
        yield
    finally:
        for module, name, given in replaced:
            setattr(module, name, given)


class _Errors(logging.Handler):
    def __init__(self, tell: Callable[[str], None], expected: type[BaseException]) -> None:
        super().__init__(logging.ERROR)
        self._tell = tell
        self._expected = expected

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, self._expected):
            self._tell(f"logged as an error: {record.getMessage()}" + (f" ({error!r})" if error else ""))


@contextmanager
def heard_errors(tell: Callable[[str], None], *, expected: type[BaseException]) -> Iterator[None]:
    """Within the block agentq logs nothing but errors, and those to `tell`: they tell of its bugs.

    Errors that come of an exception of the `expected` kind are part of the simulation.
    """
    logger = logging.getLogger("agentq")
    handler = _Errors(tell, expected)
    before = (logger.level, logger.propagate, logger.handlers)
    logger.handlers = [handler]
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield
    finally:
        level, logger.propagate, logger.handlers = before
        logger.setLevel(level)
