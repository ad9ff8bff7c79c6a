"""What is in the wheel: the library, all of it, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from typing import TYPE_CHECKING

import pytest

from tests.helpers import LUA, ROOT

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATES = ROOT / "agentq" / "cli" / "project"
PAGE = ROOT / "agentq" / "web" / "page"
# Data files that the library reads at run time, and the licences of what is vendored.
_FILES = (*LUA.glob("*.lua"), *TEMPLATES.rglob("*.tmpl"), *PAGE.glob("templates/*"), *PAGE.glob("static/**/*.*"))
DATA = sorted(path.relative_to(ROOT).as_posix() for path in (*_FILES, *PAGE.glob("static/**/LICENSE")))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("wheel")
    # hatchling itself, not a front end: it needs neither network nor pip (an environment made by uv has none).
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_top_level_is_agentq_alone(wheel: zipfile.ZipFile):
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"agentq"}
    assert len(top) == 2


def test_every_module_is_inside(wheel: zipfile.ZipFile):
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "agentq").rglob("*.py")}
    assert modules - set(wheel.namelist()) == set()


@pytest.mark.parametrize("name", ["agentq/py.typed", *DATA])
def test_data_files_are_inside(wheel: zipfile.ZipFile, name: str):
    assert wheel.read(name) == (ROOT / name).read_bytes()


def test_the_command_is_agentq(wheel: zipfile.ZipFile):
    (name,) = (name for name in wheel.namelist() if name.endswith("dist-info/entry_points.txt"))
    entry_points = ConfigParser()
    entry_points.read_string(wheel.read(name).decode())
    assert dict(entry_points["console_scripts"]) == {"agentq": "agentq.cli:main"}


def test_a_project_is_started_and_carried_to_an_answer_with_the_wheel_alone(
    wheel: zipfile.ZipFile, tmp_path: Path, redis_url: str
):
    installed, shop = tmp_path / "installed", tmp_path / "shop"
    wheel.extractall(installed)
    environ = {**os.environ, "PYTHONPATH": str(installed), "REDIS_URL": redis_url, "NO_COLOR": "1"}

    def python(*args: str, cwd: Path) -> str:
        done = subprocess.run(
            [sys.executable, *args], cwd=cwd, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert python("-c", "import agentq; print(agentq.__file__)", cwd=tmp_path).startswith(str(installed))
    python("-m", "agentq", "init", "shop", cwd=tmp_path)
    refund = 'call refund {"number": "A-17", "amount": 5}'
    assert "5.00 paid back for A-17" in python("-m", "agentq", "run", refund, cwd=shop)
    run_id = python("-m", "agentq", "enqueue", "shop", refund, cwd=shop).strip()
    python("-m", "agentq", "worker", "--burst", cwd=shop)
    assert f"5.00 paid back for A-17, reference {run_id}.1.0" in python("-m", "agentq", "tail", run_id, cwd=shop)
