"""Folding loses nothing, and a `Replayer` delivers each event once and in order, whatever was folded meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentq.events.encoding import decode_event, encode_event, numbered
from agentq.events.fold import Replayer, fold, ranges, unfold
from agentq.events.model import (
    AttemptReset,
    Delta,
    Event,
    FoldedRange,
    Gap,
    ReasoningDelta,
    ReplyCompleted,
    TextDelta,
    ToolProgress,
)
from agentq.testing._contract import completed


def text(seq: int, piece: str = "x", at_ms: int = 5) -> TextDelta:
    return TextDelta(run_id="R", seq=seq, at_ms=at_ms, text=piece)


def thought(seq: int, piece: str = "x", at_ms: int = 5) -> ReasoningDelta:
    return ReasoningDelta(run_id="R", seq=seq, at_ms=at_ms, text=piece)


def progress(seq: int) -> ToolProgress:
    return ToolProgress(run_id="R", seq=seq, at_ms=5, call_id="c", name="roll_dice")


def reply(seq: int, *deltas: Delta) -> ReplyCompleted:
    """The event that the deltas are folded into, after a round trip through its stored form."""
    event = decode_event(encode_event(completed(deltas)), run_id="R", seq=seq, at_ms=6)
    assert isinstance(event, ReplyCompleted)
    return event


def reset(seq: int, first: int, last: int) -> AttemptReset:
    return AttemptReset(run_id="R", seq=seq, at_ms=6, first=first, last=last, reason="recovered")


class TestFold:
    def test_nothing_folds_into_nothing(self):
        assert fold([]) == ()
        assert ranges([]) == ()
        assert unfold(ReplyCompleted(turn=1, text="said without deltas")) == ()

    def test_a_hole_or_another_kind_starts_a_new_range(self):
        deltas: list[Delta] = [text(2, "ab", 5), text(3, "", 6), thought(4, "hm", 7), text(5, "c", 8), text(8, "d", 9)]
        assert fold(deltas) == (
            FoldedRange(first=2, kind="text", lengths=(2, 0), at_ms=(5, 6)),
            FoldedRange(first=4, kind="reasoning", lengths=(2,), at_ms=(7,)),
            FoldedRange(first=5, kind="text", lengths=(1,), at_ms=(8,)),
            FoldedRange(first=8, kind="text", lengths=(1,), at_ms=(9,)),
        )
        assert ranges(deltas) == ((2, 5), (8, 8))

    def test_lengths_count_code_points(self):
        family = "\U0001f469\u200d\U0001f680"
        assert fold([text(1, family), text(2, "e\u0301")])[0].lengths == (3, 2)
        assert [delta.text for delta in unfold(reply(3, text(1, family), text(2, "e\u0301")))] == [family, "e\u0301"]

    @given(
        st.lists(
            st.tuples(st.booleans(), st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 3)), max_size=30
        )
    )
    def test_what_was_folded_comes_back(self, pieces: list[tuple[bool, str, int]]):
        deltas: list[Delta] = []
        seq = 0
        for is_text, piece, step in pieces:
            seq += step
            deltas.append((text if is_text else thought)(seq, piece, at_ms=1_000 * seq))
        assert unfold(reply(seq + 1, *deltas)) == tuple(deltas)
        covered = [number for first, last in ranges(deltas) for number in range(first, last + 1)]
        assert covered == [delta.seq for delta in deltas]

    def test_numbers_relative_to_the_reply_are_made_absolute(self):
        stored = encode_event(
            ReplyCompleted(
                turn=1,
                text="abc",
                deltas=(*fold([text(3, "a")]), FoldedRange(first=-2, kind="text", lengths=(2,), at_ms=())),
            )
        )
        event = decode_event(stored, run_id="R", seq=8, at_ms=9)
        assert isinstance(event, ReplyCompleted)
        assert unfold(event) == (text(3, "a"), text(6, "bc", at_ms=9))


class TestReplayer:
    def test_events_in_order_are_delivered_at_once(self):
        replayer = Replayer()
        assert replayer.feed([text(1), text(2)], False) == [text(1), text(2)]
        assert replayer.feed([text(3)], True) == [text(3)]
        assert (replayer.cursor, replayer.fed, replayer.is_holding) == (3, 3, False)

    def test_what_lies_before_the_cursor_is_dropped(self):
        replayer = Replayer(2)
        assert replayer.feed([text(1), text(2), text(3), text(2), text(3)], True) == [text(3)]

    def test_a_fold_fills_the_hole_from_the_cursor_on(self):
        deltas: list[Delta] = [text(1, "a"), text(2, "b"), thought(4, "c")]
        replayer = Replayer(1)
        assert replayer.feed([progress(3)], False) == []
        assert (replayer.cursor, replayer.fed, replayer.is_holding) == (1, 3, True)
        assert replayer.feed([reply(5, *deltas)], False) == [deltas[1], progress(3), deltas[2], reply(5, *deltas)]
        assert not replayer.is_holding

    def test_numbers_that_a_reset_dropped_are_passed_over(self):
        replayer = Replayer()
        assert replayer.feed([progress(3), text(4)], False) == []
        # 4 was read before it was dropped.
        assert replayer.feed([reset(6, 1, 5)], False) == [progress(3), text(4), reset(6, 1, 5)]

    def test_holding_goes_on_behind_an_incomplete_page(self):
        replayer = Replayer()
        assert replayer.feed([text(1), progress(3)], False) == [text(1)]
        assert replayer.feed([], False) == []
        assert replayer.feed([], True) == [Gap(run_id="R", seq=2, at_ms=5, first=2, last=2), progress(3)]

    def test_what_nothing_accounts_for_is_a_gap(self):
        replayer = Replayer()
        page: list[Event] = [progress(5), reply(8, text(3), text(6)), reset(12, 10, 11)]
        events = replayer.feed(page, True)
        assert [(event.seq, event.type) for event in events] == [
            (2, "gap"), (3, "text.delta"), (4, "gap"), (5, "tool.progress"), (6, "text.delta"), (7, "gap"),
            (8, "reply.completed"), (9, "gap"), (12, "attempt.reset"),
        ]  # fmt: skip
        gaps = [event for event in events if isinstance(event, Gap)]
        assert [(gap.first, gap.last) for gap in gaps] == [(1, 2), (4, 4), (7, 7), (9, 9)]

    @pytest.mark.parametrize("complete", [True, False])
    def test_nothing_fed_delivers_nothing(self, complete: bool):
        assert Replayer(7).feed([], complete) == []


class Reader:
    """Reads pages, as a stream does, and remembers what it was given."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.replayer = Replayer(after)
        self.delivered: list[Event] = []
        self.read: set[int] = set()

    def page(self, stored: dict[int, Event], size: int) -> bool:
        page = [event for seq, event in sorted(stored.items()) if seq > self.replayer.fed]
        complete = len(page) <= size
        self.read |= {event.seq for event in page[:size]}
        self.delivered += self.replayer.feed(page[:size], complete)
        return complete

    def reconnect(self) -> None:
        """Begin again at the cursor, as a viewer does whose connection was cut."""
        self.replayer = Replayer(self.replayer.cursor)
        self.read = {event.seq for event in self.delivered}


class Readers(RuleBasedStateMachine):
    """A writer that appends, folds and resets at any moment, and readers with any cursor and page size."""

    def __init__(self) -> None:
        super().__init__()
        self.log: dict[int, Event] = {}
        self.stored: dict[int, Event] = {}
        self.open: list[Delta] = []
        self.dropped: set[int] = set()
        self.readers: list[Reader] = []

    def append(self, event: Event, *, stored: bool = True) -> Event:
        seq = len(self.log) + 1
        event = numbered(event, run_id="R", seq=seq, at_ms=1_000 + seq)
        self.log[seq] = event
        if stored:
            self.stored[seq] = event
        return event

    def remove(self, deltas: list[Delta]) -> None:
        for delta in deltas:
            del self.stored[delta.seq]
        self.open = [delta for delta in self.open if delta not in deltas]

    @initialize()
    def begin(self) -> None:
        self.append(ToolProgress(call_id="c", name="first"))

    @rule(pieces=st.lists(st.tuples(st.booleans(), st.text("aé\U0001f600", max_size=3)), min_size=1, max_size=5))
    def stream(self, pieces: list[tuple[bool, str]]) -> None:
        for is_text, piece in pieces:
            delta = self.append(TextDelta(text=piece) if is_text else ReasoningDelta(text=piece))
            assert isinstance(delta, TextDelta | ReasoningDelta)
            self.open.append(delta)

    @rule()
    def something_else(self) -> None:
        self.append(ToolProgress(call_id="c", name="roll_dice"))

    @precondition(lambda self: self.open)
    @rule(beside=st.lists(st.text("aé", max_size=3), max_size=3))
    def complete(self, beside: list[str]) -> None:
        first = len(self.log) + 1
        together = [
            TextDelta(run_id="R", seq=seq, at_ms=1_000 + first + len(beside), text=piece)
            for seq, piece in enumerate(beside, start=first)
        ]
        for delta in together:
            self.log[delta.seq] = delta
        folded = self.append(completed([*self.open, *together]))
        # The relative form is what the store sees; readers see it with numbers.
        assert folded.at_ms == 1_000 + first + len(beside)
        self.remove(self.open)

    @precondition(lambda self: self.open)
    @rule()
    def give_up(self) -> None:
        dropped = {delta.seq for delta in self.open}
        numbers = range(self.open[0].seq, len(self.log) + 1)
        kept = tuple(number for number in numbers if number not in dropped)
        event = AttemptReset(first=numbers[0], last=numbers[-1], reason="recovered", kept=kept)
        self.dropped |= dropped
        self.append(event)
        self.remove(self.open)

    @rule(data=st.data())
    def attach(self, data: st.DataObject) -> None:
        if len(self.readers) < 6:
            self.readers.append(Reader(data.draw(st.integers(0, len(self.log)))))

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), size=st.integers(1, 6))
    def read_a_page(self, data: st.DataObject, size: int) -> None:
        reader = data.draw(st.sampled_from(self.readers))
        if reader.page(self.stored, size):
            assert reader.replayer.cursor == len(self.log)
            assert not reader.replayer.is_holding

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def reconnect(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.readers)).reconnect()

    def expected(self, reader: Reader) -> list[Event]:
        """The log from the cursor on, without what was dropped before it was read."""
        return [
            event
            for seq, event in self.log.items()
            if seq > reader.after and (seq not in self.dropped or seq in reader.read)
        ]

    @invariant()
    def each_reader_has_a_prefix(self) -> None:
        for reader in self.readers:
            cursor = reader.replayer.cursor
            assert reader.delivered == [event for event in self.expected(reader) if event.seq <= cursor]

    def teardown(self) -> None:
        for reader in self.readers:
            while not reader.page(self.stored, 3):
                pass
            assert reader.delivered == self.expected(reader)
            assert reader.replayer.cursor == len(self.log)


TestReaders = Readers.TestCase
TestReaders.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(
    kinds=st.lists(st.sampled_from(["delta", "delta", "other", "complete", "reset"]), min_size=1, max_size=40),
    trimmed=st.integers(0, 40),
    after=st.integers(0, 40),
    size=st.integers(1, 10),
)
def test_events_and_gaps_together_account_for_every_number(kinds: list[str], trimmed: int, after: int, size: int):
    machine = Readers()
    machine.begin()
    for kind in kinds:
        if kind == "delta":
            machine.stream([(True, "a")])
        elif kind == "other" or not machine.open:
            machine.something_else()
        elif kind == "complete":
            machine.complete([])
        else:
            machine.give_up()
    last = len(machine.log)
    # A byte limit drops the oldest and never the newest event.
    machine.stored = {seq: event for seq, event in machine.stored.items() if seq > min(trimmed, last - 1)}
    reader = Reader(min(after, last))
    while not reader.page(machine.stored, size):
        pass

    accounted: list[int] = []
    for event in reader.delivered:
        if isinstance(event, Gap):
            assert event.seq == event.last
            accounted += range(event.first, event.last + 1)
        else:
            assert event == machine.log[event.seq]
            accounted.append(event.seq)
    silent = set(range(reader.after + 1, last + 1)) - set(accounted)
    assert accounted == sorted(set(accounted))
    assert silent <= machine.dropped
    assert set(machine.stored) - set(range(reader.after + 1)) <= set(accounted)
