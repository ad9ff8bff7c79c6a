"""What is kept of a long proof between calls: one line of JSON for each part of it that has ended well."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from agentq.private_redis import find_program
from tests.helpers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What the proof is about. Figures of another state of these are no proof of this one.
_HEART = ("_redis", "decide.py", "events", "executors", "loop", "runs.py", "steps.py", "stores", "worker")


@cache
def heart() -> str:
    """A digest of the sources that the promises hang on."""
    digest = hashlib.sha256()
    for name in _HEART:
        place = ROOT / "agentq" / name
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.suffix in (".py", ".lua"):
                digest.update(path.relative_to(ROOT).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def versions() -> dict[str, str]:
    """What the proof ran on."""
    program = find_program() or "redis-server"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    server = next((word.partition("=")[2] for word in said.split() if word.startswith("v=")), said.strip())
    return {
        "Python": platform.python_version(),
        "redis-server": server,
        "redis-py": version("redis"),
        "rq": version("rq"),
        "kernel": f"{platform.system()} {platform.release()}",
    }


@dataclass(frozen=True)
class Part:
    """One part of a proof. `kind` is `campaign`, `defaults`, `lost replies` or `simulation`."""

    kind: str
    figures: dict[str, Any]
    heart: str
    when: str
    versions: dict[str, str]


class Proof:
    """The parts of a proof in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "parts.jsonl"

    def add(self, kind: str, figures: dict[str, Any]) -> None:
        """Keep what has ended well."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = {
            "kind": kind,
            "figures": figures,
            "heart": heart(),
            "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
            "versions": versions(),
        }
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def parts(self) -> Iterator[Part]:
        """Everything that was kept, also of earlier states of the sources."""
        if self._file.exists():
            for line in self._file.read_text().splitlines():
                yield Part(**json.loads(line))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The figures of the parts of one kind that speak of the sources as they are."""
        return [part.figures for part in self.parts() if part.kind == kind and part.heart == heart()]
