"""Plays a page of docs/guide from its first block to its last, in a folder of its own.

- A block whose first line is `# some/file.py`, or another name, is written to that file. Python is then imported,
  unless it is a test.
- `python` without a name runs in the namespace of the file before it; `await` is allowed.
- `python sketch` is only parsed: what cannot run here, such as a model that wants a key.
- `text output` is what the block before it printed.
- `console run`: the commands are run and must print what is shown, if anything is. `exit=4` is the code of the last.
  `cd folder` is where the page goes on from then on.
- `console background`: the commands are started, have to print what is shown, and are stopped when the page ends.

Other blocks are left to the tests of what they show.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import inspect
import io
import os
import signal
import subprocess
import sys
import types
from typing import TYPE_CHECKING, Any, Self

import pytest

from agentq import AsyncClient, Client
from tests.guide._output import Names, is_as_shown
from tests.guide._pages import Block, Shown, all_blocks, dialogue
from tests.helpers import ROOT, wait_until_sync

if TYPE_CHECKING:
    from pathlib import Path

_COMMAND_S = 40
_START_S = 20
_STOP_S = 10


class PageIsWrong(AssertionError):
    """The page shows what is not so."""

    def __init__(self, block: Block, what: str, shown: str, seen: str) -> None:
        super().__init__(f"{block}: {what}\n--- the page shows\n{shown}\n--- but\n{seen}")


class Walk:
    """One page, its folder, and what its blocks have left behind."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self._root = folder
        self.folder = folder  # where the page is now
        self._redis_url = redis_url
        self._environ = {
            # A page shows what a person's terminal prints; under these names pytest prints its summary otherwise.
            **{name: value for name, value in os.environ.items() if name not in {"CI", "BUILD_NUMBER"}},
            "REDIS_URL": redis_url,
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),  # noqa: PTH120
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
            "PYTEST_ADDOPTS": "--color=no -p no:cacheprovider -p no:randomly -p no:xdist "
            "-o asyncio_default_fixture_loop_scope=function",
        }
        self._names = Names()
        self._namespace: dict[str, Any] = {}
        self._namespaces: list[dict[str, Any]] = []
        self._printed: str | None = None
        self._processes: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._displaced: dict[str, types.ModuleType] = {}

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner()
        self._patch = pytest.MonkeyPatch()
        self._patch.setenv("REDIS_URL", self._redis_url)
        self._go_to(self.folder)
        return self

    def _go_to(self, folder: Path) -> None:
        self.folder = folder
        self._patch.chdir(folder)
        self._patch.syspath_prepend(folder)

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.ExitStack() as always:
            always.callback(self._forget_modules)
            always.callback(self._runner.close)
            always.callback(self._close_clients)
            for process, _ in self._processes:
                always.callback(_stop, process)

    def play(self, page: Path) -> None:
        """Raises `PageIsWrong`, or what a block raises."""
        for block in all_blocks(page):
            printed, self._printed = self._printed, None
            if block.is_file:
                self._write(block)
            elif block.language == "python" and "sketch" not in block.words:
                self._printed = self._execute(block)
            elif block.language == "text" and "output" in block.words:
                self._compare(block, "what the block before it prints", block.text, printed or "(nothing)")
            elif block.language == "console" and "run" in block.words:
                self._converse(block)
            elif block.language == "console" and "background" in block.words:
                for number, shown in enumerate(dialogue(block.text)):
                    self._start(block, shown, number)
        for process, log in self._processes:
            assert not process.poll(), f"{process.args!r} has ended with {process.returncode}:\n{log.read_text()}"

    # files and Python

    def _write(self, block: Block) -> None:
        path = self.folder / block.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        if path.suffix != ".py" or path.name.startswith("test_"):
            return
        package = path.parent
        while package != self.folder:
            (package / "__init__.py").touch()
            package = package.parent
        name = block.name.removesuffix(".py").replace("/", ".")
        self._displace(name.partition(".")[0])
        importlib.invalidate_caches()
        self._enter(vars(importlib.import_module(name)))

    def _execute(self, block: Block) -> str:
        """Run a block that continues the file before it; returns what it printed."""
        code = compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if not self._namespaces:
            self._enter({"__name__": "page"})
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            result = types.FunctionType(code, self._namespace)()
            if inspect.iscoroutine(result):
                self._runner.run(result)
        return printed.getvalue()

    def _enter(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self._namespaces.append(namespace)

    def _displace(self, top: str) -> None:
        """Put modules of that name aside that are not the page's: the checkout has a `workers` too."""
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == top and not self._is_of_page(module):
                self._displaced[name] = sys.modules.pop(name)

    def _is_of_page(self, module: types.ModuleType) -> bool:
        return (getattr(module, "__file__", None) or "").startswith(str(self._root))

    # commands

    def _converse(self, block: Block) -> None:
        code = next((int(word.removeprefix("exit=")) for word in block.words if word.startswith("exit=")), 0)
        typed = list(dialogue(block.text))
        for number, shown in enumerate(typed, start=1):
            if shown.command.startswith("cd "):
                self._go_to(self.folder / shown.command.removeprefix("cd "))
                continue
            done = subprocess.run(
                ["sh", "-c", self._names.real(shown.command)],
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_COMMAND_S,
                check=False,
            )
            wanted = code if number == len(typed) else 0
            if done.returncode != wanted:
                raise PageIsWrong(
                    block, f"$ {shown.command}", f"exit code {wanted}", f"{done.returncode}\n{done.stdout}"
                )
            if shown.output:
                self._compare(block, f"$ {shown.command}", shown.output, done.stdout)
            self._names.noticed(done.stdout)

    def _start(self, block: Block, shown: Shown, number: int) -> None:
        log = self.folder / f".{block.name.replace(' ', '-')}-{number}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["sh", "-c", self._names.real(shown.command)],
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append((process, log))
        if not shown.output:
            return

        def is_there() -> bool:
            # What comes after the lines that are shown is not the page's business.
            return is_as_shown(f"{shown.output}\n…", log.read_text(), self._names) or process.poll() is not None

        wait_until_sync(is_there, timeout=_START_S, message=f"{block}: $ {shown.command} prints what is shown")
        self._compare(block, f"$ {shown.command}", f"{shown.output}\n…", log.read_text())

    def _compare(self, block: Block, what: str, shown: str, printed: str) -> None:
        if not is_as_shown(shown, printed, self._names):
            raise PageIsWrong(block, what, shown, printed)

    # afterwards

    def _close_clients(self) -> None:
        for value in [value for namespace in self._namespaces for value in namespace.values()]:
            if isinstance(value, Client):
                value.close()
            elif isinstance(value, AsyncClient):
                self._runner.run(value.aclose())

    def _forget_modules(self) -> None:
        self._patch.undo()
        for name, module in list(sys.modules.items()):
            if self._is_of_page(module):
                del sys.modules[name]
        sys.modules.update(self._displaced)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
