"""What the tutorials stand on: a folder for a project, and the command line run in it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The agent of those tutorials that are not about agents.
APP = '''\
from agentq import Agent, AgentQ, tool


@tool(effect="none")
def add_numbers(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


app = AgentQ(agents=[Agent("calculator", model="mock", tools=[add_numbers])])
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder in which a user's project begins, with `workers/app.py`."""
    folder = tmp_path / "project"
    (folder / "workers").mkdir(parents=True)
    (folder / "workers" / "__init__.py").touch()
    (folder / "workers" / "app.py").write_text(APP)
    return folder


@pytest.fixture
def agentq(redis_url: str, project: Path) -> Callable[..., str]:
    """Run a command of agentq in the project's folder, over the test's Redis; returns what it printed."""

    def run(*args: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "agentq", *args],
            cwd=project,
            env={**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def work(agentq: Callable[..., str]) -> Callable[[], None]:
    """Advance everything that is queued: a worker that ends when there is nothing left."""

    def burst() -> None:
        agentq("worker", "--burst")

    return burst
