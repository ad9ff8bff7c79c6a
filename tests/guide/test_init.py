"""A project that `agentq init` has made works as it is: its agent, its worker, its web app and its tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.helpers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIND = 'call find_order {"number": "A-17"}'
REFUND = 'call refund {"number": "A-17", "amount": 5}'


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The new project."""
    done = subprocess.run(
        [sys.executable, "-m", "agentq", "init", "shop"], cwd=tmp_path, env=environ(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return tmp_path / "shop"


def environ(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **more}


def run(shop: Path, *command: str, **more: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=shop, env=environ(**more), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_agent_answers_in_process(shop: Path):
    assert '{"item":"teapot","paid":24.0}\n✓ completed' in run(shop, "-m", "agentq", "run", FIND)


def test_its_own_tests_pass(shop: Path):
    assert "2 passed" in run(shop, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider")


@pytest.fixture
def web(shop: Path, redis_url: str) -> Iterator[str]:
    """The address of its web app."""
    server = subprocess.Popen(
        [sys.executable, "web.py"],
        cwd=shop,
        env=environ(REDIS_URL=redis_url, PORT="0"),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.communicate()


def test_its_web_app_hands_a_prompt_to_its_worker(shop: Path, web: str, redis_url: str):
    with httpx.Client(base_url=web, timeout=20) as browser:
        key = {"Idempotency-Key": "request-1"}
        asked = browser.post("/", content=REFUND, headers=key).raise_for_status().json()
        assert browser.post("/", content=REFUND, headers=key).json() == asked
        run(shop, "-m", "agentq", "worker", "--burst", REDIS_URL=redis_url)
        seen = browser.get(f"/{asked['run_id']}").raise_for_status().json()
    assert seen["status"] == "completed"
    assert re.fullmatch(rf"5\.00 paid back for A-17, reference {asked['run_id']}\.1\.0", seen["answer"])


def test_its_readme_names_commands_and_files_that_are_there(shop: Path):
    readme = (shop / "README.md").read_text()
    commands = {line.split()[1] for line in readme.splitlines() if line.startswith("    agentq ")}
    assert commands >= {"dev", "enqueue", "run"}
    helped = run(shop, "-m", "agentq", "--help")
    assert all(re.search(rf"^  {name} ", helped, re.MULTILINE) for name in commands)
    for path in re.findall(r"\b(?:workers/\w+|web)\.py", readme):
        assert (shop / path).exists()
