"""The screen of `agentq inbox` without a terminal: keys, the line that is typed, what stands where, how it looks."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq.cli._output import Output, columns
from agentq.cli.inbox.acts import _with
from agentq.cli.inbox.items import Items
from agentq.cli.inbox.keys import Key, Keys
from agentq.cli.inbox.line import Line
from agentq.cli.inbox.view import HELP, Scene, draw, folded
from agentq.deciding import Waiting
from agentq.runs import Question, RunState, Status
from tests.unit._cli import RUN, T0, Terminal

_SGR = re.compile(r"\x1b\[[0-9;]*m")


def waits(index: int = 0, kind: str = "approval", **fields: Any) -> Waiting:
    run = RunState(RUN, "clerk", Status.WAITING, prompt="Give it back.", session_id="s1", updated_ms=T0)
    given: dict[str, Any] = {"arguments": {"order": "A-17", "cents": 25000}, "since_ms": T0, **fields}
    return Waiting(run, Question(f"{RUN}.1.{index}", "refund", "has to be allowed", kind, **given))


def scene_of(*found: Waiting, **fields: Any) -> Scene:
    items = Items()
    items.take(found, T0)
    return Scene(items, **{"now_ms": T0 + 60_000, "where": "here", **fields})


def drawn(scene: Scene, width: int = 80, height: int = 24, *, colour: bool = False) -> list[str]:
    out = Output(Terminal(), {"FORCE_COLOR": "1"} if colour else {"NO_COLOR": "1"})
    return draw(scene, out, width, height).lines


class TestKeys:
    @pytest.mark.parametrize(
        ("read", "names"),
        [
            (b"ak", ["a", "k"]),
            (b"\x1b[A\x1b[B\x1bOA", ["up", "down", "up"]),
            (b"\x1b[5~\x1b[6~\x1b[3~\x1b[1~\x1bOF", ["page up", "page down", "delete", "home", "end"]),
            (b"\x1b[1;5A", ["up"]),
            (b"\r\n\x7f\x17\t", ["enter", "enter", "backspace", "erase word", "tab"]),
            ("é漢".encode(), ["é", "漢"]),
            (b"\x1bq", ["escape", "q"]),
            (b"\x00\x1b[99zq", ["q"]),
            (b"\xff", ["\ufffd"]),
        ],
    )
    def test_what_a_terminal_sends(self, read: bytes, names: list[str]):
        assert [key.name or key.text for key in Keys().feed(read)] == names

    def test_an_escape_alone_is_a_key_when_nothing_follows(self):
        keys = Keys()
        assert keys.feed(b"\x1b") == []
        assert keys.is_waiting
        assert keys.settle() == [Key("escape")]
        assert keys.settle() == []

    def test_what_is_pasted_is_one_key_on_one_line(self):
        (key,) = Keys().feed(b"\x1b[200~yes\nplease\x1b[201~")
        assert key == Key(text="yes please", is_pasted=True)

    @given(st.binary(max_size=60), st.integers(1, 5))
    def test_bytes_may_come_in_any_pieces(self, read: bytes, size: int):
        whole, piecewise = Keys(), Keys()
        found = [key for start in range(0, len(read), size) for key in piecewise.feed(read[start : start + size])]
        assert found == whole.feed(read)


class TestLine:
    def typed(self, *keys: str) -> Line:
        line = Line()
        for key in keys:
            line.take(Key(text=key) if len(key) == 1 else Key(key))
        return line

    @pytest.mark.parametrize(
        ("keys", "text", "at"),
        [
            ("abc", "abc", 3),
            (("a", "b", "left", "c"), "acb", 2),
            (("a", "b", "home", "delete", "right", "right"), "b", 1),
            (("a", " ", "b", "c", "erase word"), "a ", 2),
            (("a", "b", "left", "erase line"), "b", 0),
            (("a", "b", "home", "erase rest", "backspace"), "", 0),
            (("a", "end", "é", "backspace"), "a", 1),
        ],
    )
    def test_it_is_edited_as_in_a_shell(self, keys: tuple[str, ...], text: str, at: int):
        line = self.typed(*keys)
        assert (line.text, line.at) == (text, at)

    def test_other_keys_have_no_meaning(self):
        assert not Line().take(Key("up"))

    @given(
        st.text(st.characters(codec="utf-8", categories=["L", "N"]), max_size=40),
        st.integers(0, 40),
        st.integers(1, 30),
    )
    def test_what_is_shown_fits_and_has_the_cursor(self, text: str, at: int, width: int):
        shown, column = Line(text, min(at, len(text))).shown(width)
        assert columns(shown) <= width
        assert column <= width
        assert shown in text


class TestItems:
    def test_new_things_come_last_and_the_selection_stays(self):
        items = Items()
        items.take([waits(0), waits(1)], T0)
        items.move(1)
        items.take([waits(2, since_ms=T0 - 99), waits(0), waits(1)], T0)
        assert [item.key[0][-1] for item in items.all] == ["0", "1", "2"]
        assert items.at == 1

    def test_what_is_missing_twice_does_not_wait_any_more(self):
        items = Items()
        items.take([waits(0), waits(1)], T0)
        for state in ("open", "gone", "gone"):
            items.take([waits(1)], T0)
            assert items.all[0].state == state
        assert items.open_count == 1
        items.take([waits(0), waits(1)], T0)
        assert items.all[0].state == "open"

    def test_what_was_decided_is_not_open_again_for_a_late_answer(self):
        items = Items()
        items.take([waits(0)], T0)
        items.end(items.all[0], "done", "approved", T0)
        items.take([waits(0)], T0)
        assert items.all[0].state == "done"

    def test_the_next_question_of_the_same_call_is_another_thing(self):
        items = Items()
        items.take([waits(0, "input", number=1)], T0)
        items.end(items.all[0], "done", "answered", T0)
        items.take([waits(0, "input", number=2)], T0)
        assert [item.state for item in items.all] == ["done", "open"]

    def test_what_is_done_goes_after_a_while_but_not_what_is_selected(self):
        items = Items()
        items.take([waits(0), waits(1), waits(2)], T0)
        for item in items.all[:2]:
            items.end(item, "done", "approved", T0)
        items.take([waits(2)], T0 + 70_000)
        assert [item.key[0][-1] for item in items.all] == ["0", "2"]

    def test_skipped_things_come_after_the_others(self):
        items = Items()
        items.take([waits(0), waits(1), waits(2)], T0)
        items.skip()
        assert items.at == 1
        items.end(items.all[1], "done", "approved", T0)
        items.next_open()
        assert items.at == 2
        items.end(items.all[2], "done", "approved", T0)
        items.next_open()
        assert items.at == 0
        items.clear()
        assert [item.state for item in items.all] == ["open"]

    def test_nothing_is_selected_where_nothing_is(self):
        items = Items()
        items.move(1)
        items.skip()
        items.clear()
        assert items.selected is None


class TestView:
    def test_it_says_what_waits_how_long_and_what_it_would_do(self):
        found = waits(approvers=("finance", "ada"), until_ms=T0 + 3_600_000)
        scene = scene_of(found, does={("clerk", "refund"): "Give a customer the money back."})
        lines = drawn(scene)
        assert lines[0].startswith("inbox  1 waits")
        assert lines[2].rstrip().startswith('▸    1 m  clerk  refund(order="A-17", cents=25000)')
        assert lines[2].endswith("59 m left")
        text = "\n".join(lines)
        assert "refund: Give a customer the money back." in text
        assert '  order   "A-17"\n  cents   25000' in text
        assert "for       finance or ada" in text
        assert "waits     1 m; given up in 59 m, " in text
        assert f"run       {RUN} · clerk · session s1" in text
        assert lines[-1].startswith("a approve  d deny  e edit  enter all of it")

    @pytest.mark.parametrize(
        ("kind", "keys"), [("input", "n answer"), ("outcome", "n its result  x did not happen  u cannot be known")]
    )
    def test_each_kind_has_its_keys(self, kind: str, keys: str):
        assert drawn(scene_of(waits(kind=kind, name="Which box?")))[-1].startswith(keys)

    def test_a_question_says_what_fits(self):
        text = "\n".join(drawn(scene_of(waits(kind="input", name="Which box?", schema={"enum": ["small", 2]}))))
        assert "Which box?" in text
        assert "answer    small or 2" in text

    def test_a_long_argument_is_cut_until_everything_is_shown(self):
        scene = scene_of(waits(arguments={"body": "\n".join(f"row {n};" for n in range(30))}))
        text = "\n".join(drawn(scene))
        assert "  body    row 0;\n          row 1;" in text
        assert "          row 4;\n          … 25 more lines" in text

    def test_control_characters_are_spelled_out(self):
        scene = scene_of(waits(arguments={"a\x1b[31m": "b\x1b]0;x\x07\nc\rd"}, approvers=("\x1b[2J",)))
        assert "\x1b" not in "".join(drawn(scene))

    def test_nothing_waits(self):
        lines = drawn(scene_of())
        assert lines[0].startswith("inbox  0 wait")
        assert "nothing waits for anybody" in lines[3]
        assert lines[-1] == "r refresh  ? help  q quit"

    def test_the_help_names_every_key(self):
        text = "\n".join(drawn(scene_of(waits(), has_help=True)))
        assert all(keys in text for keys, _ in HELP)

    def test_no_colour_where_none_is_wanted(self):
        scene = scene_of(waits(), waits(1, until_ms=T0 + 61_000))
        assert "\x1b" not in "".join(drawn(scene))
        assert "\x1b[1;7m" in "".join(drawn(scene, colour=True))
        assert "\x1b[31m" in "".join(drawn(scene, colour=True))

    @pytest.mark.parametrize("pages", [None, [f"line {number}" for number in range(100)]])
    @pytest.mark.parametrize("asks", ["", "approve it?", "answer:"])
    @pytest.mark.parametrize("width", [1, 10, 20, 39, 59, 80, 300])
    @pytest.mark.parametrize("height", [1, 4, 11, 12, 24, 100])
    def test_it_fits_every_terminal(self, width: int, height: int, asks: str, pages: list[str] | None):
        many = [waits(n, arguments={"漢字" * 9: ["x" * 50, {"y": "z" * 90}]}, name="? " * 99) for n in range(30)]
        many.append(waits(31, "input", name="Which of them? " * 30, schema={"type": "object", "required": ["a" * 90]}))
        line = Line("typed " * 30, 100) if asks == "answer:" else None
        scene = scene_of(*many, ask=asks, line=line, status="it is done " * 20, pages=pages, top=3)
        scene.items.move(30)
        lines = drawn(scene, width, height, colour=True)
        assert len(lines) == min(max(height, 1), len(lines))
        assert all(columns(_SGR.sub("", text)) <= max(width, 20) for text in lines)

    @given(st.lists(st.sampled_from(["\x1b[31m", "\x1b[0m", "a", "漢", " "]), max_size=40), st.integers(2, 9))
    def test_a_folded_line_is_the_same_text_in_pieces_that_fit(self, parts: list[str], width: int):
        pieces = folded("".join(parts), width)
        bare = [_SGR.sub("", piece) for piece in pieces]
        assert "".join(bare) == _SGR.sub("", "".join(parts))
        assert all(columns(piece) <= width for piece in bare)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"order": "A", "cents": 900, "note": ""}, "refund with cents=900"),
        ({"order": "A", "cents": 5}, "refund without note"),
        ({"order": "B", "cents": 5, "more": [1]}, 'refund with order="B", more=[1], without note'),
    ],
)
def test_what_was_changed_of_a_call(changed: dict[str, Any], words: str):
    assert _with("refund", {"order": "A", "cents": 5, "note": ""}, changed) == words


def test_a_stream_without_arrows_gets_its_own_marks():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    out = Output(stream, {})
    out.write("▸ ─")
    stream.flush()
    assert stream.buffer.getvalue() == b"> -"
