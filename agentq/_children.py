"""Child processes that do not outlive this one, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Child:
    """A process in a session of its own, so that Ctrl-C in the terminal does not reach it; its output goes to `log`.

    It is killed, with what it started, when this process is gone: also after a `kill -9`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - callers pass programs of ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env=environ,
                start_new_session=True,
            )
        self._watchdog = _watch(self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative after a signal."""
        code = self._process.poll()
        if code is not None:
            self._dismiss()
        return code

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within this time."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self.exit_code is not None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self, patience_s: float) -> None:
        """End it by SIGTERM; kill it, if it is still there after `patience_s`. Again: no effect."""
        stop_all([self], patience_s)

    def kill(self) -> None:
        """End it at once, with what it started. Again: no effect."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # Before the process is reaped, so that the watchdog never kills another one that got the same number.
        self._dismiss()
        self._process.wait()

    def _dismiss(self) -> None:
        if self._watchdog.returncode is None:
            self._watchdog.kill()
            self._watchdog.communicate()


def stop_all(children: Sequence[Child], patience_s: float) -> None:
    """End all by SIGTERM, at the same time; kill those that are still there after `patience_s`."""
    for child in children:
        child.send(signal.SIGTERM)
    for child in children:
        if not child.wait(patience_s):
            child.kill()


def _watch(pid: int) -> subprocess.Popen[bytes]:
    """Kill the group of `pid` when this process is gone: the pipe closes then.

    PR_SET_PDEATHSIG would be Linux only, and it follows the thread that started the child, not the process.
    """
    script = f"read -r _; kill -9 -{pid}"
    return subprocess.Popen(  # noqa: S603 - the number comes from us
        ["/bin/sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
