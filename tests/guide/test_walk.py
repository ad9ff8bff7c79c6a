"""What plays the guide's pages finds what is wrong with a page."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.guide._output import Names, is_as_shown
from tests.guide._pages import Shown, dialogue
from tests.guide._walk import PageIsWrong, Walk
from tests.helpers import wait_until_sync

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EXAMPLE, REAL, OTHER = "01JD3ZK8W5Q0X9V7T2M4N6P8RA", "01KC0Q6X4N8Z2M5R7T9V1B3D5F", "01KC0Q6X4N8Z2M5R7T9V1B3D5G"


@pytest.fixture
def play(tmp_path: Path, redis_url: str) -> Callable[[str], None]:
    """Play a page of this text."""

    def play(text: str) -> None:
        page, folder = tmp_path / "page.md", tmp_path / "folder"
        page.write_text(text)
        folder.mkdir()
        with Walk(folder, redis_url) as walk:
            walk.play(page)

    return play


def fenced(info: str, *lines: str) -> str:
    return "\n".join([f"```{info}", *lines, "```", ""])


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("7 + 9 is 16.", "7 + 9 is 16.\n"),
        ("00:09:07.080 hello  3.0 s", "23:59:59.999 hello  17 ms"),
        ("← 16", "← 16  3 ms"),
        ("← 16  1.2 s", "← 16"),
        ("created 2026-11-26 07:50:00, 3s ago", "created 2027-01-01 00:00:00, 12m ago"),
        ("worker agentq-vm-20225-108e5c21", "worker agentq-a.b-1-ffffffff"),
        ("1 passed in 0.02s", "1 passed in 11.90s"),
        ("a\n…\nd", "a\nb\nc\nd"),
        ("a\n…\nd", "a\nd"),
        ("call … end", "call anything (at all) end"),
        (f"{EXAMPLE} and {EXAMPLE}.1.0", f"{REAL} and {REAL}.1.0"),
    ],
)
def test_what_is_another_each_time_may_differ(shown: str, printed: str):
    assert is_as_shown(shown, printed, Names())


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("7 + 9 is 16.", "7 + 9 is 17."),
        ("7 + 9 is 16.", "7 + 9 is 16.\nand more"),
        ("7 + 9 is 16.", ""),
        ("3.0 s", "soon"),
        ("a\n…\nd", "a\nb"),
        ("a.c", "abc"),
        (f"{EXAMPLE} and {EXAMPLE}", f"{REAL} and {OTHER}"),
        (EXAMPLE, "no run"),
    ],
)
def test_everything_else_may_not(shown: str, printed: str):
    assert not is_as_shown(shown, printed, Names())


def test_an_example_id_stands_for_the_same_run_from_then_on():
    names = Names()
    assert is_as_shown(EXAMPLE, REAL, names)
    names.noticed(OTHER)
    assert names.real(f"agentq tail {EXAMPLE}") == f"agentq tail {REAL}"
    assert names.real("agentq tail RUN_ID") == f"agentq tail {OTHER}"
    assert not is_as_shown(EXAMPLE, OTHER, names)


def test_a_command_goes_on_while_a_quotation_is_open_or_a_line_ends_with_a_backslash():
    text = "$ agentq run 'call a {}\nsay x'\nx\n\n$ ls \\\n  -l   # list\n$ true\n"
    assert list(dialogue(text)) == [
        Shown("agentq run 'call a {}\nsay x'", "x"),
        Shown("ls \\\n  -l   # list", ""),
        Shown("true", ""),
    ]


def test_files_are_written_and_imported_and_fragments_go_on_in_them(play: Callable[[str], None]):
    play(
        fenced("python", "# workers/numbers.py", "seven = 7")
        + fenced("python", "# other.py", "from workers.numbers import seven", "eight = seven + 1")
        + fenced("python", "import asyncio", "await asyncio.sleep(0)", "print(eight)")
        + fenced("text output", "8")
        + fenced("console run", "$ python -c 'import other; print(other.eight)'", "8")
    )
    assert "other" not in sys.modules
    assert not hasattr(sys.modules.get("workers"), "numbers")


def test_a_sketch_is_not_run(play: Callable[[str], None]):
    play(fenced("python sketch", "raise AssertionError"))


@pytest.mark.parametrize(
    ("page", "error"),
    [
        (fenced("python", "print(8)") + fenced("text output", "9"), PageIsWrong),
        (fenced("text output", "9"), PageIsWrong),
        (fenced("console run", "$ echo 8", "9"), PageIsWrong),
        (fenced("console run", "$ false"), PageIsWrong),
        (fenced("console run exit=3", "$ true"), PageIsWrong),
        (fenced("console background", "$ echo 8", "9"), PageIsWrong),
        (fenced("console run", "no command"), ValueError),
        (fenced("python", "# broken.py", "1 / 0"), ZeroDivisionError),
        (fenced("python", "nowhere"), NameError),
    ],
)
def test_a_page_that_is_wrong_is_found(play: Callable[[str], None], page: str, error: type[Exception]):
    with pytest.raises(error):
        play(page)


def test_commands_in_the_background_are_there_until_the_page_ends(play: Callable[[str], None], tmp_path: Path):
    play(
        fenced(
            "console background",
            "$ trap 'echo ended > end; exit' TERM; echo begun; while :; do sleep 0.1; done",
            "begun",
        )
        + fenced("console run", "$ test ! -e end")
    )
    assert (tmp_path / "folder" / "end").read_text() == "ended\n"


def test_a_command_in_the_background_that_fails_is_found(tmp_path: Path):
    page, nothing = tmp_path / "page.md", tmp_path / "nothing.md"
    page.write_text(fenced("console background", "$ exit 3"))
    nothing.touch()

    def is_found() -> bool:
        try:
            walk.play(nothing)
        except AssertionError as error:
            return "has ended with 3" in str(error)
        return False

    with Walk(tmp_path, "redis://127.0.0.1:1/0") as walk:
        try:
            walk.play(page)
        except AssertionError:  # it was faster
            assert is_found()
        else:
            wait_until_sync(is_found)


def test_commands_see_the_ids_that_others_printed(play: Callable[[str], None]):
    play(
        fenced("console run", f"$ echo {REAL}", EXAMPLE, f"$ test {EXAMPLE} = {REAL}", f"$ test RUN_ID = {REAL}")
        + fenced("console run exit=4", "$ exit 4")
    )
