"""What `agentq dev --reload` takes for a change of the code."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agentq.cli.dev.files import Files

if TYPE_CHECKING:
    from pathlib import Path


def changed(files: Files) -> list[str]:
    return [str(path) for path in files.changed()]


def test_written_new_and_removed_files_have_changed_once(tmp_path: Path):
    (tmp_path / "workers").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "workers" / f"{name}.py").write_text("x = 1")
    files = Files(tmp_path, rest=0)
    assert changed(files) == []
    (tmp_path / "workers" / "a.py").write_text("x = 12")
    (tmp_path / "workers" / "b.py").unlink()
    (tmp_path / "new.py").touch()
    assert changed(files) == ["new.py", "workers/a.py", "workers/b.py"]
    assert changed(files) == []


def test_a_file_of_the_same_size_that_was_written_again_has_changed(tmp_path: Path):
    path = tmp_path / "a.py"
    path.write_text("x = 1")
    files = Files(tmp_path, rest=0)
    path.write_text("x = 2")
    os.utime(path, ns=(1, 1))
    assert changed(files) == ["a.py"]


def test_what_is_not_the_projects_own_code_is_passed_over(tmp_path: Path):
    files = Files(tmp_path, rest=0)
    for folder in (".git", ".venv/lib", "__pycache__", "node_modules/x", "env/lib"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.py").touch()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "notes.txt").touch()
    assert changed(files) == []


def test_after_a_look_the_project_is_left_in_peace(tmp_path: Path):
    files = Files(tmp_path, rest=1e6)
    (tmp_path / "a.py").touch()
    assert changed(files) == []
    assert [str(path) for path in files.changed(at_once=True)] == ["a.py"]
