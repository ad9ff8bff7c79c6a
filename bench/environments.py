"""A virtual environment for each peer, so that no two of them, and not agentq, share a version of anything.

They are made once, in `.bench/`, from the package index; what stands in a peer's requirements is what is measured.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from typing import TYPE_CHECKING

from bench.measure import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_FOLDER = ROOT / ".bench"
_PATIENCE_S = 600
_VERSIONS = (
    "import importlib.metadata as m, json, sys; print(json.dumps([f'{n} {m.version(n)}' for n in sys.argv[1:]]))"
)


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of an environment with these packages. Made when it is missing or was made of other ones.

    Raises `RuntimeError` when the index does not give them.
    """
    folder = _FOLDER / name
    python = folder / "bin" / "python"
    made_of = folder / "requirements.txt"
    wanted = "\n".join(requirements) + "\n"
    if made_of.exists() and made_of.read_text() == wanted and python.exists():
        return python
    print(f"  installing {', '.join(requirements)} ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    if uv := shutil.which("uv"):
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *requirements])
    else:
        venv.create(folder, with_pip=True)
        _run([str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *requirements])
    made_of.write_text(wanted)
    return python


def versions(python: Path, packages: Sequence[str]) -> str:
    """What is installed there, in words: `rq 2.12.0, redis 8.1.0`."""
    names: list[str] = json.loads(_run([str(python), "-c", _VERSIONS, *packages]))
    return ", ".join(names)


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:4])} failed:\n{done.stderr[-2000:]}")
    return done.stdout
