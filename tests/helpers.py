"""What many tests need: places in the checkout, and waiting for a condition in place of sleeping."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROOT = Path(__file__).parent.parent
LUA = ROOT / "agentq" / "_redis" / "lua"

T = TypeVar("T")
_POLL_S = 0.01


@overload
async def wait_until(predicate: Callable[[], Awaitable[T]], timeout: float = 10, message: str = "") -> T: ...
@overload
async def wait_until(predicate: Callable[[], T], timeout: float = 10, message: str = "") -> T: ...
async def wait_until(predicate: Callable[[], Any], timeout: float = 10, message: str = "") -> Any:
    """Poll `predicate`, sync or async, until it is true and return its value; fail with what it said last."""
    deadline = time.monotonic() + timeout
    while True:
        seen = predicate()
        value = await seen if inspect.isawaitable(seen) else seen
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(_complaint(predicate, value, timeout, message))
        await asyncio.sleep(_POLL_S)


def wait_until_sync(predicate: Callable[[], T], timeout: float = 10, message: str = "") -> T:
    """`wait_until` for tests without an event loop."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(_complaint(predicate, value, timeout, message))
        time.sleep(_POLL_S)
    return value


def processes_naming(text: str) -> list[str]:
    """The command lines, of all processes of this machine, that hold `text`."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "command="], capture_output=True, text=True, check=True).stdout
    return [command for command in listed.splitlines() if text in command]


def _complaint(predicate: object, seen: object, timeout: float, message: str) -> str:
    what = message or getattr(predicate, "__qualname__", repr(predicate))
    return f"not within {timeout} s: {what}; last seen: {seen!r}"
