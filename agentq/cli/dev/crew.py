"""The worker processes of `agentq dev`: started, started again when they end or the code has changed, and stopped."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentq._children import Child, stop_all
from agentq.cli._errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

# A worker finishes what must not be repeated: its own limit and some more.
_PATIENCE_S = 30.0
_BACKOFF_S = (1.0, 30.0)
# One that has worked for so long was not broken from the start.
_STEADY_S = 10.0
# How the last line of a command begins that fails, behind a colour perhaps.
_ERROR = "error:"


@dataclass
class _Post:
    """One worker's place: who has it, and when the next one comes if nobody has."""

    number: int
    child: Child | None = None
    log_at: int = 0
    began: float = 0.0
    delay_s: float = _BACKOFF_S[0]
    due: float | None = 0.0
    logs: int = 0


@dataclass
class Crew:
    """`tell` gets what people should know: the workers' warnings, and what becomes of them.

    A worker that ends with a usage error cannot work as the code is: `broken` then, until the next `renew`.
    """

    count: int
    folder: Path
    environ: Mapping[str, str]
    arguments: Sequence[str]
    tell: Callable[[str], None]
    broken: bool = False
    _posts: list[_Post] = field(default_factory=list)
    _leaving: list[tuple[Child, float]] = field(default_factory=list)
    # What ended workers since the last `renew`: the same is true of all of them, and said once.
    _errors: set[str] = field(default_factory=set)

    @property
    def is_there(self) -> bool:
        """Whether any worker runs."""
        return any(child.exit_code is None for child in self._children())

    def start(self) -> None:
        self._posts = [_Post(number) for number in range(1, self.count + 1)]
        self.tend()

    def tend(self) -> None:
        """Pass on what the workers said, and start those whose time has come. To be called a few times a second."""
        for post in self._posts:
            self._listen(post)
            if post.child is not None and (code := post.child.exit_code) is not None:
                self._listen(post)
                self._ended(post, code)
            if post.due is not None and time.monotonic() >= post.due:
                self._fill(post)
        for child, until in self._leaving:
            if child.exit_code is None and time.monotonic() > until:
                child.kill()
        self._leaving = [entry for entry in self._leaving if entry[0].exit_code is None]

    def renew(self) -> None:
        """Start new workers at once; the old ones hand their runs over and leave."""
        self.broken = False
        self._errors.clear()
        for post in self._posts:
            self._listen(post)
            if post.child is not None and post.child.exit_code is None:
                post.child.send(signal.SIGTERM)
                self._leaving.append((post.child, time.monotonic() + _PATIENCE_S))
            post.child, post.due, post.delay_s = None, 0.0, _BACKOFF_S[0]
        self.tend()

    def stop(self, *, hurry: bool = False) -> None:
        """End all of them. Blocks until they are gone."""
        children = [child for child in self._children() if child.exit_code is None]
        stop_all(children, 0.0 if hurry else _PATIENCE_S)
        for post in self._posts:
            self._listen(post)
            post.child, post.due = None, None
        self._leaving = []

    def _children(self) -> list[Child]:
        return [post.child for post in self._posts if post.child is not None] + [child for child, _ in self._leaving]

    def _fill(self, post: _Post) -> None:
        command = [sys.executable, "-m", "agentq", "worker", "--log-level", "warning", *self.arguments]
        post.logs += 1
        log = self.folder / f"worker-{post.number}-{post.logs % 2}.log"
        post.child, post.log_at, post.due = Child(command, log=log, environ=self.environ), 0, None
        post.began = time.monotonic()

    def _ended(self, post: _Post, code: int) -> None:
        post.child = None
        if code == ExitCode.USAGE:
            self.broken = True
            return
        if time.monotonic() - post.began > _STEADY_S:
            post.delay_s = _BACKOFF_S[0]
        self.tell(f"worker {post.number} ended ({_words(code)}); the next one starts in {post.delay_s:g} s")
        post.due = time.monotonic() + post.delay_s
        post.delay_s = min(post.delay_s * 2, _BACKOFF_S[1])

    def _listen(self, post: _Post) -> None:
        if post.child is None:
            return
        with post.child.log.open("rb") as log:
            log.seek(post.log_at)
            said = log.read()
        # A line that is not whole yet comes with the next look.
        whole = said[: said.rfind(b"\n") + 1] if post.child.exit_code is None else said
        post.log_at += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            if not line.strip() or line in self._errors:
                continue
            if _ERROR in line[: len(_ERROR) + 10]:
                self._errors.add(line)
            self.tell(line)


def _words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
