"""Stock RQ in processes of its own, by its real command line."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.helpers import ROOT, wait_until
from tests.worker.harness import environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# The first is the default of `rq worker`, which forks for each job.
FORKING, SIMPLE = (), ("-w", "rq.SimpleWorker")
_END_S = 45
_STOP_S = 20


@dataclass
class Stock:
    """An `rq` that runs, and the file with what it says. A pipe would stay open as long as a work-horse has it."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    async def ended(self) -> str:
        """Wait for the end; returns all that was said."""
        await wait_until(lambda: self.process.poll() is not None, _END_S, "rq has ended")
        return self.said


def _start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stderr=subprocess.STDOUT, **options)


@asynccontextmanager
async def rq(url: str, folder: Path, *arguments: str, **changes: str) -> AsyncIterator[Stock]:
    """`rq ARGUMENTS` in the checkout (or in `PWD`), stopped at the end. `changes` go into its environment."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix="rq-", suffix=".log", delete=False) as log:
        process = _start(
            [sys.executable, "-m", "rq.cli", *arguments],
            cwd=changes.get("PWD", ROOT),
            env=environment(url, folder) | changes,
            stdout=log,
        )
    try:
        yield Stock(process, Path(log.name))
    finally:
        # Warmly, so that it takes its work-horse along.
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, _STOP_S)
        finally:
            process.kill()
            process.wait()


async def said(url: str, folder: Path, *arguments: str, **changes: str) -> str:
    """Run `rq ARGUMENTS` to its end; what it said."""
    async with rq(url, folder, *arguments, **changes) as stock:
        return await stock.ended()
