"""Runs the demo as a process: signals, errors, exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from agentq.cli._errors import ExitCode, exit_code, report
from agentq.cli._output import OutputClosed, stderr, stdout
from agentq.demo.play import play
from agentq.demo.workers import WorkersGone
from agentq.errors import AgentQError


async def _until_signalled() -> ExitCode:
    """Play the demo; a signal stops it. All is taken down in either case, and no second signal cuts that short."""
    playing = asyncio.current_task()
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        if not received and playing is not None:
            playing.cancel()
        received.append(number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    try:
        return await play(stdout(), os.environ)
    except asyncio.CancelledError:
        if not received:
            raise
        stderr().line("\ninterrupted; everything that the demo had started is gone")
        return ExitCode.INTERRUPTED


def main() -> int:
    try:
        return asyncio.run(_until_signalled())
    except OutputClosed:
        return ExitCode.OUTPUT_CLOSED
    except WorkersGone as error:
        stderr().line(f"error: {error}; its log ends with:\n{error.log or '(nothing)'}")
        return ExitCode.FAILED
    except AgentQError as error:
        report(error, stderr())
        return exit_code(error)


if __name__ == "__main__":
    sys.exit(main())
