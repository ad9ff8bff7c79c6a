"""Terminals and pipes: colours, widths, safe text."""

from __future__ import annotations

import io
import json

import pytest

from agentq.cli._output import Output, OutputClosed, age, clip, columns, duration, one_line, printable, table
from tests.unit._cli import Terminal


@pytest.mark.parametrize(
    ("stream", "environ", "has_colour"),
    [
        (Terminal(), {}, True),
        (io.StringIO(), {}, False),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (Terminal(), {"FORCE_COLOR": "0"}, False),
        (Terminal(), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_when_there_are_colours(stream: io.StringIO, environ: dict[str, str], has_colour: bool):
    assert Output(stream, environ).style("x", "red") == ("\x1b[31mx\x1b[0m" if has_colour else "x")


def encoded(text: str, encoding: str) -> bytes:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    Output(stream, {}).line(text)
    return raw.getvalue()


def test_a_terminal_without_arrows_gets_seven_bits():
    assert encoded("→ add · 12 ms … ✓ é", "ascii") == b"-> add - 12 ms ... ok ?\n"


def test_what_no_encoding_knows_is_replaced():
    assert encoded("half \ud83d", "utf-8") == b"half ?\n"


class ClosedPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_has_gone_is_an_outcome_of_its_own():
    with pytest.raises(OutputClosed):
        Output(ClosedPipe(), {}).line("x")


def test_a_document_is_one_line_for_a_program_and_indented_for_a_person():
    pipe, terminal = io.StringIO(), Terminal()
    Output(pipe, {}).document({"a": "é"})
    Output(terminal, {}).document({"a": "é"})
    assert pipe.getvalue() == '{"a": "é"}\n'
    assert json.loads(terminal.getvalue()) == {"a": "é"}
    assert terminal.getvalue().count("\n") > 1


def test_control_characters_are_spelled_out():
    assert printable("a\tb\r\n\x1b[0m\x9b1m") == "a\tb\n\\x1b[0m\\x9b1m"
    assert one_line(" a\n\n  b\t\x00 ") == "a b \\x00"


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("short", 10, "short"),
        ("exactly", 7, "exactly"),
        ("too long", 7, "too lo…"),
        ("too long", 5, "too…"),
        ("漢字漢字", 5, "漢字…"),
        ("e\u0301" * 5, 5, "e\u0301" * 5),
        ("any", None, "any"),
        ("any", 0, "…"),
    ],
)
def test_clipping(text: str, width: int | None, expected: str):
    assert clip(text, width) == expected
    if width:
        assert columns(expected) <= width


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        (-5, "0 ms"),
        (12, "12 ms"),
        (1000, "1.0 s"),
        (59_949, "59.9 s"),
        (59_990, "1 m 00 s"),
        (125_000, "2 m 05 s"),
        (3_720_000, "1 h 02 m"),
    ],
)
def test_durations(ms: int, expected: str):
    assert duration(ms) == expected


@pytest.mark.parametrize(
    ("ms", "expected"),
    [(-1, "0 s"), (8_000, "8 s"), (300_000, "5 m"), (3 * 3_600_000, "3 h"), (86_400_000 * 12, "12 d")],
)
def test_ages(ms: int, expected: str):
    assert age(ms) == expected


def test_a_table_is_as_wide_as_its_cells_and_its_last_column_is_free():
    assert list(table([("A", "B"), ("long", "x"), ("漢", "y")])) == [["A   ", "B"], ["long", "x"], ["漢  ", "y"]]
    assert list(table([])) == []
