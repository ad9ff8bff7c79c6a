"""`agentq init`: what it writes, and that it writes all of it or nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agentq.cli import cli, init
from agentq.cli._group import Options
from agentq.errors import InvalidInput

FILES = [
    ".gitignore",
    "Procfile",
    "README.md",
    "requirements.txt",
    "tests/test_shop.py",
    "web.py",
    "workers/__init__.py",
    "workers/app.py",
    "workers/tools.py",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*args: str) -> Result:
    return CliRunner().invoke(cli, ["init", *args], obj=Options())


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_project_is_written_and_what_to_do_next_is_said(here: Path):
    result = invoke("shop")
    assert (result.exit_code, result.stderr) == (0, "")
    assert everything(here / "shop") == FILES
    assert (here / "shop" / "README.md").read_text().startswith("# shop\n")
    assert "  + shop/workers/app.py\n" in result.stdout
    assert "  cd shop\n  agentq dev " in result.stdout


def test_the_directory_may_be_this_one_with_other_files_in_it(here: Path):
    (here / "notes.txt").write_text("mine")
    (here / "workers").mkdir()
    result = invoke(".")
    assert result.exit_code == 0
    assert everything(here) == sorted([*FILES, "notes.txt"])
    assert "cd " not in result.stdout
    assert (here / "README.md").read_text().startswith(f"# {here.name}\n")


def test_a_directory_below_others_is_made(here: Path):
    assert invoke("a/b c").exit_code == 0
    assert everything(here / "a" / "b c") == FILES
    assert "  cd 'a/b c'\n" in invoke("d/b c").stdout.replace("d/b c", "a/b c")


def test_with_json_the_files_are_a_document(here: Path):
    assert json.loads(invoke("shop", "--json").stdout) == {"directory": "shop", "files": FILES}


def test_no_file_is_ever_overwritten(here: Path):
    (here / "workers").mkdir()
    (here / "workers" / "app.py").write_text("mine")
    (here / "Procfile").symlink_to("nowhere")
    result = invoke(".")
    assert result.exit_code == 6
    assert result.stderr == (
        "error: Procfile, workers/app.py are there already; nothing was written: "
        "name another directory, or move them away\n"
    )
    assert everything(here) == ["workers/app.py"]
    assert (here / "workers" / "app.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([], 2, "Missing argument 'DIR'"),
        (["file"], 2, "error: file is a file; name a directory\n"),
        (["file/shop"], 2, "error: file/shop cannot be written: Not a directory\n"),
        (["shop", "other"], 2, "Got unexpected extra argument (other)"),
        (["x" * 300], 2, "cannot be written: File name too long\n"),
        ([""], 2, "DIR '' is no name for a folder"),
        (["a\nb"], 2, r"DIR 'a\nb' is no name for a folder"),
        (["\x1b[31m"], 2, r"DIR '\x1b[31m' is no name for a folder"),
        (["\udcff"], 2, r"DIR '\udcff' is no name for a folder"),
    ],
)
def test_bad_input_is_one_line(here: Path, args: list[str], code: int, words: str):
    (here / "file").touch()
    result = invoke(*args)
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert everything(here) == ["file"]


def test_a_link_that_leads_nowhere_is_no_directory(here: Path):
    (here / "link").symlink_to("nowhere")
    result = invoke("link")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: link is a link that leads nowhere; name a directory\n",
    )


def test_a_name_that_looks_like_an_option_can_be_pasted(here: Path):
    result = invoke("--", "-x")
    assert result.exit_code == 0
    assert "  cd ./-x\n" in result.stdout


def test_this_directory_may_have_any_name(here: Path, monkeypatch: pytest.MonkeyPatch):
    odd = here / os.fsdecode(b"a\nb\xff")
    odd.mkdir()
    monkeypatch.chdir(odd)
    assert invoke(".").exit_code == 0
    assert (odd / "README.md").read_text("utf-8").startswith("# a b\N{REPLACEMENT CHARACTER}\n")


def test_an_interrupt_takes_back_what_was_made_and_nothing_of_others(here: Path, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C comes with the last file, after somebody has put another into the new folder."""
    open_path = Path.open

    def interrupted(self: Path, mode: str = "r", **options: str) -> object:
        if mode == "x" and self.name == "tools.py":
            (self.parent / "theirs.py").write_text("")
            raise KeyboardInterrupt
        return open_path(self, mode, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        init.write_project(here / "shop")
    assert everything(here) == ["shop/workers/theirs.py"]


def test_what_was_written_is_gone_when_the_rest_cannot_be(here: Path, monkeypatch: pytest.MonkeyPatch):
    """The disk is full after five files."""
    written = 0
    open_path = Path.open

    def full(self: Path, mode: str = "r", **options: str) -> object:
        nonlocal written
        written += mode == "x"
        if written > 5:
            raise OSError(28, os.strerror(28), str(self))
        return open_path(self, mode, **options)  # type: ignore[call-overload]

    (here / "tests").mkdir()
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InvalidInput, match="No space left on device"):
        init.write_project(here)
    assert everything(here) == []
    assert [path.name for path in here.iterdir()] == ["tests"]
