"""Child processes that take part in a measurement together: they are told words, and answer in lines of JSON.

`Child` is the side of the process that prepares; `say` and `told` are the child's own. Peers import this, too, in
environments that have no agentq.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

# A child that takes longer is stuck.
_PATIENCE_S = 300
_LAST_WORDS = 4000
_ROOT = Path(__file__).parent.parent


class Child:
    """`python -m module arguments`, from the beginning of a `with` block to its end, where it must have ended well."""

    def __init__(self, module: str, *arguments: object, python: Path | str = sys.executable) -> None:
        self._module = module
        self._errors = TemporaryFile()  # noqa: SIM115 - closed in `__exit__`
        self._process = subprocess.Popen(
            [str(python), "-m", module, *map(str, arguments)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._watchdog = threading.Timer(_PATIENCE_S, self._process.kill)
        self._watchdog.daemon = True
        self._watchdog.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                self._process.kill()
            self._process.communicate()
            if kind is None and self._process.returncode != 0:
                raise self._failed()
        finally:
            self._watchdog.cancel()
            self._errors.close()

    def tell(self, word: str) -> None:
        """Send a word, for which the child waits."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        """Wait for what the child says next. Raises `RuntimeError` when it has ended in place of that."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise self._failed()
        return json.loads(line)

    def _failed(self) -> RuntimeError:
        self._errors.seek(0)
        last_words = self._errors.read().decode(errors="replace")[-_LAST_WORDS:]
        return RuntimeError(f"{self._module} ended with {self._process.returncode}:\n{last_words}")


def say(value: Any) -> None:
    """Tell the parent."""
    print(json.dumps(value), flush=True)


async def told(word: str) -> None:
    """Wait until the parent says `word`. Ends the process when the parent has gone."""
    heard = await asyncio.to_thread(sys.stdin.readline)
    if heard.strip() != word:
        raise SystemExit(f"told {heard!r} in place of {word!r}")


def memory_kb() -> dict[str, int]:
    """What is resident in memory of this process: `now`, and at most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {"now": int(fields["VmRSS"].split()[0]), "peak": int(fields["VmHWM"].split()[0])}
