"""Messages that are made to fit: which way is taken, what it may touch, and that the same comes of the same."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq import Compaction, InvalidInput, budget_tool_results, compact, estimate_tokens
from agentq.context.compaction import oldest
from agentq.context.shortening import collapsed, cut
from agentq.context.view import last_record, plan_of, record_of, shown
from agentq.messages import (
    CompactionRecord,
    FilePart,
    Message,
    NoteKind,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
    note_message,
    results_message,
    unanswered_calls,
    user_message,
)


def reply(text: str = "", *call_ids: str, tokens: int = 0) -> Message:
    calls = tuple(ToolCallPart(call_id=call_id, name="look", arguments={"at": call_id}) for call_id in call_ids)
    parts = ((TextPart(text=text),) if text else ()) + calls
    return Message(role=Role.ASSISTANT, parts=parts, usage=Usage(input_tokens=tokens) if tokens else None)


def results(content: str, *call_ids: str) -> Message:
    return results_message(ToolResultPart(call_id=call_id, name="look", content=content) for call_id in call_ids)


def turns(*contents: str) -> list[Message]:
    """A prompt, and a turn with a call for each content of its result."""
    found = [user_message("Look around.")]
    for number, content in enumerate(contents):
        found += [reply("", f"c{number}"), results(content, f"c{number}")]
    return found


@st.composite
def transcripts(draw: st.DrawFn) -> list[Message]:
    """What a session holds: prompts, answers, notes, and replies whose calls all have their results, right behind."""
    texts = st.text("ab \n\t ü日", max_size=60) | st.integers(0, 3_000).map(lambda size: "x  \n " * size)
    found: list[Message] = []
    for number in range(draw(st.integers(0, 14))):
        match draw(st.sampled_from(["user", "answer", "note", "calls", "calls", "calls"])):
            case "user":
                found.append(user_message(draw(texts)))
            case "answer":
                found.append(reply(draw(texts) or "Yes."))
            case "note":
                found.append(note_message("A tool failed.", NoteKind.TOOL_ERROR))
            case _:
                ids = [f"c{number}.{index}" for index in range(draw(st.integers(1, 3)))]
                answered = [ToolResultPart(call_id=call_id, name="look", content=draw(texts)) for call_id in ids]
                found += [reply(draw(texts), *ids), results_message(answered)]
    return found


compactions = st.builds(
    Compaction,
    max_tokens=st.integers(1, 3_000),
    threshold=st.floats(0.5, 0.95),
    preserve_recent=st.integers(2, 8),
    max_tool_result_chars=st.integers(1, 2_000),
)
summarisers = st.sampled_from([None, lambda old: f"{len(old)} messages", lambda old: "word " * 500, lambda old: " "])


def orphans(messages: tuple[Message, ...]) -> set[str]:
    """Results whose call does not stand before them."""
    called: set[str] = set()
    lost: set[str] = set()
    for message in messages:
        called |= {call.call_id for call in message.tool_calls}
        lost |= {result.call_id for result in message.tool_results} - called
    return lost


class TestCompact:
    @given(transcripts(), compactions, summarisers)
    def test_it_touches_only_what_it_may(self, messages: list[Message], compaction: Compaction, summarise: Any):
        before = list(messages)
        done = compact(messages, compaction, summarise=summarise)
        assert messages == before
        assert done.messages[-compaction.preserve_recent :] == tuple(messages[-compaction.preserve_recent :])
        assert not unanswered_calls(done.messages)
        assert not orphans(done.messages)
        assert done.tokens_before == estimate_tokens(messages)
        assert done.tokens_after == estimate_tokens(done.messages) <= done.tokens_before
        prompts = [message for message in messages if message.role is Role.USER]
        assert not prompts or prompts[-1] in done.messages

    @given(transcripts(), compactions, summarisers)
    def test_twice_is_as_once_and_the_same_gives_the_same(
        self, messages: list[Message], compaction: Compaction, summarise: Any
    ):
        done = compact(messages, compaction, summarise=summarise)
        assert compact(messages, compaction, summarise=summarise) == done
        again = compact(done.messages, compaction, summarise=summarise)
        assert (again.messages, again.strategy) == (done.messages, "none")

    @given(transcripts(), compactions)
    def test_it_fits_or_is_as_small_as_it_may_be(self, messages: list[Message], compaction: Compaction):
        done = compact(messages, compaction)
        if done.tokens_before <= compaction.limit:
            assert (done.strategy, done.messages) == ("none", tuple(messages))
        elif done.tokens_after > compaction.max_tokens:
            # Then nothing is left but the prompt, a word for the rest, and what must stay; or the word is no shorter.
            position = oldest(messages, compaction.preserve_recent)
            prompts = [message for message in messages[:position] if message.role is Role.USER]
            word = user_message("[10 earlier messages were left out to fit, without a summary.]")
            assert done.tokens_after <= estimate_tokens([*prompts[-1:], word, *messages[position:]])

    @pytest.mark.parametrize(
        ("contents", "max_tokens", "strategy"),
        [
            (["short"] * 6, 10_000, "none"),
            (["x" * 20_000, *["short"] * 6], 4_000, "tool_results"),
            (["word   \n\n\n  " * 400, *["short"] * 6], 1_200, "whitespace"),
            (["x" * 4_000, *["short"] * 6], 500, "summary"),
        ],
    )
    def test_the_cheapest_that_fits_is_taken(self, contents: list[str], max_tokens: int, strategy: str):
        asked: list[int] = []

        def summarise(old: Any) -> str:
            asked.append(len(old))
            return "A short summary."

        compaction = Compaction(max_tokens, preserve_recent=4)
        done = compact(turns(*contents), compaction, summarise=summarise)
        assert done.strategy == strategy
        assert done.tokens_after <= compaction.limit
        assert len(asked) == (strategy == "summary")

    def test_a_summary_comes_after_the_prompt_and_as_from_the_user(self):
        messages = turns(*["x" * 1_000] * 6)
        done = compact(messages, Compaction(1_000, preserve_recent=4), summarise=lambda old: f"{len(old)} are gone.")
        assert done.messages[0] == messages[0]
        assert (done.messages[1].role, done.messages[1].note) == (Role.USER, NoteKind.COMPACTED)
        assert done.messages[1].text.endswith("\n9 are gone.")
        assert done.messages[2:] == tuple(messages[-4:])

    def test_the_prompt_goes_with_the_rest_where_a_newer_one_stays(self):
        messages = [*turns(*["x" * 1_000] * 6), reply("Done."), user_message("Now sum up."), reply("Well ...")]
        done = compact(messages, Compaction(1_000, preserve_recent=2), summarise=lambda old: "All was looked at.")
        assert [message.text for message in done.messages][1:] == ["Now sum up.", "Well ..."]

    def test_a_summariser_that_fails_leaves_the_oldest_out_and_is_told_of(self, caplog: pytest.LogCaptureFixture):
        def summarise(old: Any) -> str:
            raise RuntimeError("no model is there")

        with caplog.at_level(logging.WARNING, "agentq.context.compaction"):
            done = compact(turns(*["x" * 1_000] * 6), Compaction(1_000, preserve_recent=4), summarise=summarise)
        assert done.strategy == "dropped"
        assert done.messages[1].text == "[8 earlier messages were left out to fit, without a summary.]"
        assert "no model is there" in caplog.text

    def test_what_is_left_out_later_is_counted_with_what_was_before_and_a_summary_stays(self):
        compaction = Compaction(1_000, preserve_recent=4)
        first = compact(turns(*["x" * 1_000] * 6), compaction, summarise=lambda old: "The first six.")
        more = [*first.messages, *turns(*["y" * 1_000] * 6)[1:]]
        second = compact(more, compaction)
        assert second.messages[1].text.endswith(
            "\nThe first six.\n[12 earlier messages were left out to fit, without a summary.]"
        )
        third = compact([*second.messages, *turns(*["z" * 1_000] * 6)[1:]], compaction)
        assert third.messages[1].text.endswith("[24 earlier messages were left out to fit, without a summary.]")
        assert third.messages[1].text.count("The first six.") == third.messages[1].text.count("[A summary") == 1

    def test_a_summary_that_frees_little_is_not_paid_for_while_there_is_room(self):
        messages = [user_message("Look."), reply("Hm. " * 20), *turns("y" * 3_600)[1:]]
        compaction = Compaction(1_000, preserve_recent=2)
        assert estimate_tokens(messages) > compaction.limit

        def summarise(old: Any) -> str:
            raise AssertionError("nobody is to be asked")

        assert compact(messages, compaction, summarise=summarise).strategy == "none"


class TestShortening:
    @given(st.text("ab \n\t]0", max_size=200), st.integers(1, 60))
    def test_cutting_twice_is_as_once(self, content: str, limit: int):
        done = cut(content, limit)
        assert cut(done, limit) == done or len(done) > len(content)

    def test_what_was_cut_before_keeps_its_true_length(self):
        assert cut(cut("x" * 12_000, 8_000), 5_000) == (
            f"{'x' * 5_000}\n[Truncated: 12000 chars total, showing first 5000]"
        )

    def test_a_line_that_only_looks_like_the_notice_is_cut_like_any(self):
        content = f"{'x' * 500}\n[Truncated: 12000 chars total, showing first 10]"
        assert cut(content, 100).endswith(f"\n[Truncated: {len(content)} chars total, showing first 100]")

    @given(st.text("ab \n\t\r ", max_size=100))
    def test_collapsing_keeps_the_words_and_their_lines(self, content: str):
        done = collapsed(content)
        assert done.split() == content.split()
        assert collapsed(done) == done
        assert len(done) <= len(content)
        assert [line.split() for line in done.split("\n") if line] == [
            line.split() for line in content.split("\n") if line.strip()
        ]

    def test_results_are_cut_but_for_the_last_messages(self):
        messages = turns("x" * 9_000, "y" * 9_000)
        done = budget_tool_results(messages, 100, preserve_recent=2)
        assert [len(message.tool_results[0].content) < 200 for message in done if message.tool_results] == [True, False]
        assert done[0] is messages[0]
        assert budget_tool_results(done, 100, preserve_recent=2) == done

    @pytest.mark.parametrize(("given", "field"), [((0, 10), "max_chars"), ((10, -1), "preserve_recent")])
    def test_bad_limits_are_refused(self, given: tuple[int, int], field: str):
        with pytest.raises(InvalidInput) as refused:
            budget_tool_results([], given[0], preserve_recent=given[1])
        assert refused.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0), ("max_tokens", 1.5), ("max_tokens", True), ("max_tokens", None),
        ("threshold", 0.49), ("threshold", 0.96), ("threshold", float("nan")), ("threshold", "0.8"),
        ("preserve_recent", 1), ("preserve_recent", 2.0),
        ("max_tool_result_chars", 0), ("max_tool_result_chars", -1),
        ("model", ""), ("model", 5),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_names_itself(field: str, value: Any):
    with pytest.raises(InvalidInput, match=field) as refused:
        Compaction(**{"max_tokens": 1_000, field: value})
    assert refused.value.field == field


class TestEstimates:
    def test_four_characters_are_a_token_and_other_scripts_take_more(self):
        assert estimate_tokens("x" * 4_000) == 1_000
        assert estimate_tokens("") == 0
        assert estimate_tokens("日" * 400) == 300

    def test_every_part_counts(self):
        parts: list[Any] = [
            TextPart(text="x" * 400),
            ReasoningPart(text="x" * 400),
            ToolCallPart(call_id="c", name="look", arguments={"at": "x" * 400}),
            ToolResultPart(call_id="c", name="look", content="x" * 400),
            FilePart(url="agentq:1", media_type="text/plain", size=400),
            FilePart(url="https://x.example/a.png", media_type="image/png"),
        ]
        sizes = [estimate_tokens(Message(role=Role.USER, parts=(part,))) for part in parts]
        assert all(100 <= size <= 120 for size in sizes[:5])
        assert sizes[5] > 1_000
        assert estimate_tokens([Message(role=Role.USER, parts=(part,)) for part in parts]) == sum(sizes)

    def test_what_a_reply_reported_corrects_the_estimate(self):
        messages = (*turns("x" * 4_000), reply("Done.", tokens=0))
        asked = estimate_tokens(messages[:3]) + 100
        told = (*messages[:3], reply("Done.", tokens=2 * asked))
        limits = Compaction(max_tokens=2_000)
        assert plan_of(messages, 0, limits, 100)[2](messages) == estimate_tokens(messages) + 100
        assert plan_of(told, 0, limits, 100)[2](messages) == pytest.approx(2 * (estimate_tokens(messages) + 100), abs=2)

    @pytest.mark.parametrize(("share", "history", "factor"), [(0.01, 0, 0.5), (50, 0, 3), (0.5, 4, 1), (2, 4, 2)])
    def test_the_correction_has_bounds_and_another_run_only_makes_it_larger(
        self, share: float, history: int, factor: float
    ):
        messages = turns("x" * 40_000)
        told = (*messages, reply("Done.", tokens=int(share * estimate_tokens(messages))))
        measure = plan_of(told, history, Compaction(max_tokens=2_000), 0)[2]
        assert measure.factor == pytest.approx(factor, rel=0.01)


class TestRecords:
    """The same, by records in a transcript that only grows."""

    @given(transcripts(), transcripts(), compactions, st.booleans())
    def test_a_record_shows_what_was_planned_and_later_ones_go_on_from_it(
        self, first: list[Message], second: list[Message], compaction: Compaction, is_summed_up: bool
    ):
        second = [_renamed(message) for message in second]
        stored: list[Message] = list(first)
        for more in (second, []):
            plan, now, measure = plan_of(stored, 0, compaction, 0)
            if plan.strategy != "none":
                is_out = plan.strategy == "summary"
                strategy: Any = plan.strategy if is_summed_up or not is_out else "dropped"
                before = last_record(stored)
                record = record_of(plan, now, before, compaction, strategy, "What was." if is_out else "")
                length = len(stored)
                stored.append(record)
                seen = shown(stored, last_record(stored)).messages
                assert seen[-compaction.preserve_recent :] == now.messages[-compaction.preserve_recent :]
                assert is_out or seen == plan.messages
                assert not unanswered_calls(seen)
                assert not orphans(seen)
                assert measure(seen) < measure(now.messages) or is_out
                assert record.compacted is not None
                assert record.compacted.left_out <= length
                # What was done is done: the same again is nothing new.
                assert plan_of(stored, 0, compaction, 0)[0].strategy == "none" or is_out
            stored += more

    def test_no_record_is_shown_and_the_last_one_counts(self):
        messages = turns("x" * 40, "y" * 40)
        old = Message(role=Role.SYSTEM, parts=(), compacted=CompactionRecord(strategy="dropped", left_out=5))
        new = Message(
            role=Role.SYSTEM,
            parts=(TextPart(text="Two turns."),),
            compacted=CompactionRecord(strategy="summary", left_out=3, kept=0),
        )
        stored = (*messages, old, new)
        seen = shown(stored, last_record(stored))
        assert seen.messages[0].text == "Look around."
        assert seen.messages[1].text.endswith("Two turns.")
        assert (seen.messages[2:], seen.indexes) == (tuple(messages[3:]), (0, 2, 3, 4))

    def test_a_record_of_what_is_not_there_is_passed_over(self):
        far = Message(role=Role.SYSTEM, parts=(), compacted=CompactionRecord(strategy="dropped", left_out=50))
        assert last_record((*turns("x"), far)) is None


def _renamed(message: Message) -> Message:
    """The message as of a later run: ids of calls are never used twice."""
    parts = tuple(
        part.model_copy(update={"call_id": f"later.{part.call_id}"})
        if isinstance(part, ToolCallPart | ToolResultPart)
        else part
        for part in message.parts
    )
    return message.model_copy(update={"parts": parts})
