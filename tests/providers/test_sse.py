"""Server-sent events come out the same wherever the network cut the stream."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq.providers._sse import Frame, FrameTooLarge, SseParser

SAMPLE = (
    '\ufeffdata: {"text": "one\u2028two\u2029three\x85four é 😀"}\n\n'
    ": a comment\r\n\r\n"
    "event: delta\rid: 7\rdata: first\rdata:second\r\r"
    "retry: 10\nunknown: field\ndata\n\n"
    "id: \0\ndata: [DONE]\n\r\n"
    "data: last"
).encode()
FRAMES = [
    Frame('{"text": "one\u2028two\u2029three\x85four é 😀"}'.encode()),
    Frame(b"first\nsecond", "delta", "7"),
    Frame(b"", "", "7"),
    Frame(b"[DONE]", "", "7"),
    Frame(b"last", "", "7"),
]


def parse(*pieces: bytes) -> list[Frame]:
    parser = SseParser()
    frames = [frame for piece in pieces for frame in parser.feed(piece)]
    return frames + parser.end()


def cut(data: bytes, places: set[int]) -> list[bytes]:
    edges = [0, *sorted(places), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


def test_a_stream_in_one_piece():
    """Lines end with LF, CRLF or CR; other separators of Unicode belong to the text. The last frame needs no blank."""
    assert parse(SAMPLE) == FRAMES


def test_a_stream_byte_by_byte():
    assert parse(*(SAMPLE[at : at + 1] for at in range(len(SAMPLE)))) == FRAMES


@pytest.mark.parametrize("at", range(len(SAMPLE)))
def test_a_stream_in_two_pieces(at: int):
    assert parse(SAMPLE[:at], SAMPLE[at:]) == FRAMES


@given(st.sets(st.integers(0, len(SAMPLE))))
def test_any_cut_gives_the_same_frames(places: set[int]):
    assert parse(*cut(SAMPLE, places)) == FRAMES


@given(st.text(alphabet="da:t \r\n{}x\ufeff\u2028").map(str.encode), st.sets(st.integers(0, 60)))
def test_any_bytes_in_any_pieces_give_the_same_frames(data: bytes, places: set[int]):
    assert parse(*cut(data, {place for place in places if place < len(data)})) == parse(data)


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\r\n", codec="utf-8")), min_size=1, max_size=5))
def test_what_was_written_is_read(texts: list[str]):
    written = "".join(f"data: {text}\n\n" for text in texts).encode()
    assert [frame.data.decode() for frame in parse(written)] == texts


# Everything that may stand in a line; what ends one elsewhere in Unicode does not here.
LINE = st.text(alphabet="a:{ }\x00\t\x0b\x0c\x1c\x85\u2028\u2029é😀\ufeff", max_size=6)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[Frame]]:
    """A stream as a server may write it, each event with line ends of its own, and the frames that it means."""
    written, frames, event_id = draw(st.sampled_from(["", "\ufeff"])), [], ""
    for _ in range(draw(st.integers(0, 4))):
        end = draw(ENDS)
        event = draw(st.sampled_from(["", "delta"]))
        new_id = draw(st.sampled_from(["", "7", "8"]))
        data = draw(st.lists(LINE, max_size=3))
        space = draw(st.sampled_from(["", " "]))
        lines = [f"event:{space}{event}"] if event else []
        lines += [f"id: {new_id}"] if new_id else []
        # Without a blank the first one of a text would be taken for it.
        lines += [f"data:{' ' if text.startswith(' ') else space}{text}" for text in data]
        others = draw(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([": wait", ":", "retry: 9", "x: y", "x"]))))
        for place, line in others:
            lines.insert(place, line)
        written += "".join(f"{line}{end}" for line in [*lines, ""])
        event_id = new_id or event_id
        if data:
            frames.append(Frame("\n".join(data).encode(), event, event_id))
    return written.encode(), frames


@given(streams(), st.sets(st.integers(0, 200)), st.booleans())
def test_any_stream_in_any_pieces_means_the_same(given: tuple[bytes, list[Frame]], places: set[int], is_whole: bool):
    """Also where the blank line after the last frame did not come, nor the end of its last line."""
    data, frames = given
    if not is_whole:
        data = data.rstrip(b"\r\n")
    assert parse(*cut(data, {place for place in places if place < len(data)})) == frames


@given(streams(), st.sets(st.integers(0, 200)))
def test_progress_does_not_depend_on_the_pieces(given: tuple[bytes, list[Frame]], places: set[int]):
    data, _ = given
    whole, pieces = SseParser(), SseParser()
    whole.feed(data)
    for piece in cut(data, {place for place in places if place < len(data)}):
        pieces.feed(piece)
    assert pieces.progress == whole.progress


@given(st.binary(max_size=120), st.sets(st.integers(0, 120)))
def test_no_bytes_at_all_break_it(data: bytes, places: set[int]):
    assert parse(*cut(data, {place for place in places if place < len(data)})) == parse(data)


def test_an_empty_stream_has_no_frames():
    assert parse() == parse(b"") == parse(b"\n\n\r\n") == parse(b": comment") == []


def test_an_event_without_data_is_none():
    assert parse(b"event: ping\n\ndata: x\n\n") == [Frame(b"x")]


BARE = '{\n  "error": {\n    "code": 503,\n    "message": "data: busy"\n  }\n}'


@pytest.mark.parametrize(
    ("stream", "frames"),
    [
        (f"data: 1\n\n{BARE}\n\ndata: 2\n\n", [Frame(b"1"), Frame(BARE.encode(), is_bare=True), Frame(b"2")]),
        (f"data: 1\n{BARE}\ndata: 2", [Frame(b"1"), Frame(BARE.encode(), is_bare=True), Frame(b"2")]),
        (f"\ufeff{BARE}", [Frame(BARE.encode(), is_bare=True)]),
        ("event: x\nid: 1\n: wait\n [1,\n: wait\n2]\r\r", [Frame(b" [1,\n2]", "", "1", is_bare=True)]),
        ("unknown\n}\n\n{\n\n}\n", [Frame(b"{", is_bare=True)]),
    ],
)
def test_json_without_data_before_it_is_a_frame_of_its_own(stream: str, frames: list[Frame]):
    data = stream.encode()
    assert parse(data) == frames
    assert parse(*(data[at : at + 1] for at in range(len(data)))) == frames


def test_comments_and_blank_lines_are_no_progress():
    parser = SseParser()
    for piece in (b": wait", b"ing\n", b"\n", b":\r\n\r\n", b": again and", b" again"):
        parser.feed(piece)
        assert parser.progress == 0, piece
    parser.feed(b"\nda")
    assert parser.progress == 2
    parser.feed(b"ta: x")
    assert parser.progress == 7


@pytest.mark.parametrize("line", [b"data: 123456", b"data: 1234\n", b"event: 1\ndata: 1\n", b"x: 12345\n", b"{12345\n"])
def test_a_frame_beyond_the_limit_is_refused(line: bytes):
    parser = SseParser(max_frame_bytes=20)
    pieces = iter([line] * 4)
    with pytest.raises(FrameTooLarge, match="more than 20 bytes"):
        all(parser.feed(piece) == [] for piece in pieces)
    assert len(list(pieces)) < 3


def test_frames_and_comments_below_the_limit_may_go_on_for_ever():
    parser = SseParser(max_frame_bytes=20)
    for _ in range(1000):
        assert parser.feed(b": a comment\n: an") == []
        assert parser.feed(b"other\ndata: 12\n\n") == [Frame(b"12")]
