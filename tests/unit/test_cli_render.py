"""How the events of a run look, in a pipe and on a terminal."""

from __future__ import annotations

import io
import re

import pytest

from agentq.cli._output import Output
from agentq.cli._render import Renderer
from agentq.events.model import (
    AttemptReset,
    CancelRequestedEvent,
    ContextCompacted,
    ContextRetrieved,
    Event,
    FoldedRange,
    FoundPassage,
    Gap,
    IterationFinished,
    IterationStarted,
    ModelReplaced,
    ModelRetried,
    Note,
    ReasoningDelta,
    ReplyCompleted,
    RunCancelledEvent,
    RunCompleted,
    RunFailedEvent,
    RunQueued,
    RunRecovered,
    RunReleased,
    RunStarted,
    TextDelta,
    TextRedacted,
    ToolCalled,
    ToolFailed,
    ToolFinished,
    ToolProgress,
)
from agentq.messages import (
    FilePart,
    Message,
    NoteKind,
    Role,
    StopReason,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
    user_message,
)
from tests.unit._cli import T0, Terminal, numbered

FILES = (
    FilePart(url="agentq:d", media_type="image/png", name="a\nb.png", size=12_345),
    FilePart(url="https://x.org/b", media_type="application/pdf"),
)


def drawn(events: list[Event], stream: io.StringIO | None = None, **look: object) -> str:
    stream = stream or io.StringIO()
    renderer = Renderer(Output(stream, {}), **look)  # type: ignore[arg-type]
    for event in numbered(events):
        renderer.show(event)
    renderer.close()
    return stream.getvalue()


def on_terminal(events: list[Event], **look: object) -> str:
    return drawn(events, Terminal(), **look)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


ADD = ToolCalled(call_id="c.1.0", name="add_numbers", arguments={"a": 7, "b": 9})
ADDED = ToolFinished(call_id="c.1.0", name="add_numbers", content="16", duration_ms=12)
WHOLE_RUN: list[Event] = [
    RunQueued(agent="calculator", prompt="Take 7 + 9,\nthen say it"),
    RunStarted(agent="calculator", worker="w1"),
    IterationStarted(iteration=1, worker="w1", fence=1),
    ReasoningDelta(text="I need "),
    ReasoningDelta(text="a tool.\nYes."),
    ReplyCompleted(turn=1, reasoning="I need a tool.\nYes.", stop_reason=StopReason.TOOL_CALLS),
    ADD,
    ADDED,
    IterationFinished(iteration=1, duration_ms=20),
    IterationStarted(iteration=2, worker="w2", fence=2),
    TextDelta(text="The answer "),
    TextDelta(text="is 16.\n\nBye"),
    ReplyCompleted(turn=2, text="The answer is 16.\n\nBye"),
    RunCompleted(output="…", usage=Usage(input_tokens=812, output_tokens=93), iterations=2),
]


def test_a_run_from_its_prompt_to_its_figures():
    assert drawn(WHOLE_RUN) == (
        "calculator: Take 7 + 9, then say it\n"
        "· iteration 1 · worker w1\n"
        "~ I need a tool.\n"
        "~ Yes.\n"
        "→ add_numbers(a=7, b=9)\n"
        "← 16  12 ms\n"
        "· iteration 2 · worker w2\n"
        "The answer is 16.\n"
        "\n"
        "Bye\n"
        "✓ completed · 2 iterations · 1 tool · 812 tokens in, 93 out · 1.3 s\n"
    )


def test_text_appears_as_it_streams_without_waiting_for_the_line_to_end():
    stream = Terminal()
    renderer = Renderer(Output(stream, {}))
    for event in numbered([TextDelta(text="The "), TextDelta(text="answer")]):
        renderer.show(event)
    assert stream.getvalue() == "The answer"


def test_a_terminal_shows_the_same_words_in_colours():
    text = on_terminal(WHOLE_RUN)
    assert plain(text) == drawn(WHOLE_RUN)
    assert "\x1b[2m~ \x1b[0m\x1b[2mI need \x1b[0m" in text
    assert "\x1b[36m→\x1b[0m \x1b[1madd_numbers\x1b[0m(a=7, b=9)" in text


def test_several_runs_get_a_prefix_and_whole_lines_only():
    stream = io.StringIO()
    out = Output(stream, {})
    first, second = Renderer(out, label="P8RA"), Renderer(out, label="P8RB")
    for event in numbered([TextDelta(text="one "), TextDelta(text="line\nand ")]):
        first.show(event)
        second.show(event)
    first.show(numbered([ReplyCompleted(turn=1, text="…")])[0])
    second.close()
    assert stream.getvalue() == "P8RA │ one line\nP8RB │ one line\nP8RA │ and \nP8RB │ and \n"


def test_timestamps_begin_each_line():
    text = drawn([TextDelta(text="a\nb"), ADD], timestamps=True)
    assert re.sub(r"\d\d:\d\d:\d\d", "hh:mm:ss", text) == (
        "hh:mm:ss.000 a\nhh:mm:ss.000 b\nhh:mm:ss.100 → add_numbers(a=7, b=9)\n"
    )


CASES: dict[str, tuple[list[Event], str]] = {
    "a reply that did not stream is shown when it is complete": (
        [ReplyCompleted(turn=1, text="Hello", reasoning="Hm")],
        "~ Hm\nHello\n",
    ),
    "a reply whose deltas lie before the cursor is not shown again": (
        [ReplyCompleted(turn=1, text="Hi", deltas=(FoldedRange(first=1, kind="text", lengths=(2,), at_ms=(T0,)),))],
        "",
    ),
    "a reply that hit the token limit": (
        [TextDelta(text="Once upon"), ReplyCompleted(turn=1, text="Once upon", stop_reason=StopReason.MAX_TOKENS)],
        "Once upon\n! cut off: the model reached its token limit\n",
    ),
    "what was shown of an abandoned reply is void": (
        [TextDelta(text="The ans"), AttemptReset(first=1, last=1, reason="worker w1 was lost"), TextDelta(text="The")],
        "The ans\n↺ the reply was started again: worker w1 was lost\nThe\n",
    ),
    "a viewer that saw nothing of an abandoned reply is not told": (
        [AttemptReset(first=1, last=1, reason="worker w1 was lost"), TextDelta(text="The")],
        "The\n",
    ),
    "a tool call in the middle of the text": (
        [TextDelta(text="Let me see"), ADD, TextDelta(text=" and"), ADDED, TextDelta(text=" so on")],
        "Let me see\n→ add_numbers(a=7, b=9)\n and\n← 16  12 ms\n so on\n",
    ),
    "results of calls at the same time name their call": (
        [
            ADD,
            ToolCalled(call_id="c.1.1", name="roll_dice", arguments={}),
            ToolCalled(call_id="c.1.2", name="add_numbers", arguments={"a": 1, "b": 1}),
            ToolFinished(call_id="c.1.2", name="add_numbers", content="2", duration_ms=3),
            ToolFinished(call_id="c.1.1", name="roll_dice", content="[6]", duration_ms=3),
            ADDED,
        ],
        (
            "→ add_numbers(a=7, b=9)\n"
            "→ roll_dice()\n"
            "→ add_numbers(a=1, b=1)\n"
            "← add_numbers(a=1, b=1): 2  3 ms\n"
            "← roll_dice: [6]  3 ms\n"
            "← 16  12 ms\n"
        ),
    ),
    "a second attempt, and a result without a call": (
        [
            ToolCalled(call_id="c.1.0", name="pay", arguments={"to": 'A "B"'}, attempt=2),
            ToolFinished(call_id="c.1.0", name="pay", content="", duration_ms=1500),
            ToolFinished(call_id="c.1.9", name="early", content="x", duration_ms=61_000),
        ],
        '→ pay(to="A \\"B\\"")  attempt 2\n← (nothing)  1.5 s\n← early: x  1 m 01 s\n',
    ),
    "tools that fail": (
        [
            ADD,
            ToolFailed(call_id="c.1.0", name="add_numbers", content="a must be\na number", duration_ms=1),
            ToolFailed(call_id="c.1.1", name="pay", content="nobody knows", outcome="unknown", duration_ms=2),
        ],
        "→ add_numbers(a=7, b=9)\n✗ add_numbers: a must be a number  1 ms\n✗ pay (unknown): nobody knows  2 ms\n",
    ),
    "progress": (
        [
            ToolProgress(call_id="c", name="slow", message="1 of 4", fraction=0.25),
            ToolProgress(call_id="c", name="slow"),
        ],
        "⋯ slow  25%  1 of 4\n⋯ slow\n",
    ),
    "progress that comes faster than once a second": (
        [
            *(ToolProgress(call_id="c", name="slow", message=f"{step} of 13") for step in range(1, 14)),
            ToolProgress(call_id="d", name="other"),
            ToolFinished(call_id="c", name="slow", content="done"),
        ],
        "⋯ slow  1 of 13\n⋯ slow  11 of 13\n⋯ other\n⋯ slow  13 of 13\n← slow: done\n",
    ),
    "an echo where a script was meant": (
        [
            RunQueued(agent="a", prompt='call menu {"day": }'),
            RunCompleted(output='call menu {"day": }', iterations=1),
        ],
        (
            'a: call menu {"day": }\n'
            "! an echo: the first line is no line of a mock script: "
            "the arguments are not JSON (Expecting value at '}')\n"
            "✓ completed · 1 iteration · 0 tools · 100 ms\n"
        ),
    ),
    "an echo of a plain sentence": (
        [RunQueued(agent="a", prompt="call me, maybe"), RunCompleted(output="call me, maybe", iterations=1)],
        "a: call me, maybe\n✓ completed · 1 iteration · 0 tools · 100 ms\n",
    ),
    "a note": (
        [
            Note(
                kind=NoteKind.PROVIDER_ERROR,
                text="The call failed (503).",
                errors=1,
                max_error_retries=10,
                delay_ms=2000,
            )
        ],
        "! The call failed (503).  (failure 1 of 10, again in 2.0 s)\n",
    ),
    "the model is asked again": (
        [ModelRetried(model="openai:gpt-6-sol", attempt=2, wait_ms=1500, reason="openai answered 503")],
        "! asking openai:gpt-6-sol again in 1.5 s (attempt 2): openai answered 503\n",
    ),
    "another model is asked": (
        [ModelReplaced(model="openai:gpt-6-sol", by="mock", reason="openai answered 503")],
        "! asking mock in place of openai:gpt-6-sol: openai answered 503\n",
    ),
    "a hook changed what was streamed": (
        [
            TextDelta(text="4711"),
            AttemptReset(first=1, last=1, reason="redacted"),
            TextRedacted(turn=1),
            ReplyCompleted(turn=1, text="[number]"),
        ],
        "4711\n↺ a hook changed the reply; this is what is kept:\n[number]\n",
    ),
    "passages were found": (
        [
            ContextRetrieved(
                query="refund",
                passages=(FoundPassage(source="a.md#Refunds"), FoundPassage(source="b.md")),
                duration_ms=3,
            ),
            ContextRetrieved(query="refund", passages=(FoundPassage(text="x"),)),
            ContextRetrieved(query="refund", error="the retriever took longer than 10 s"),
        ],
        (
            "· found 2 passages: a.md#Refunds, b.md\n"
            "· found 1 passage\n"
            "! no passages: the retriever took longer than 10 s\n"
        ),
    ),
    "a transcript that was made to fit": (
        [
            ContextCompacted(
                strategy="summary", messages_before=41, messages_after=12, tokens_before=9_100, tokens_after=1_200
            ),
        ],
        "· context: old messages summed up (about 9100 tokens → 1200, 41 messages → 12)\n",
    ),
    "a note on a tool does not repeat what failed": (
        [Note(kind=NoteKind.TOOL_ERROR, text="A tool failed (pay: no).", errors=2, max_error_retries=10)],
        "! the model was told; failure 2 of 10\n",
    ),
    "a turn again": (
        [IterationStarted(iteration=1, worker="w1", fence=1), IterationStarted(iteration=1, worker="w1", fence=2)],
        "· iteration 1 · worker w1\n· iteration 1 again\n",
    ),
    "the run changes hands": (
        [
            RunRecovered(recoveries=1, previous_owner="w1"),
            RunRecovered(recoveries=2),
            RunReleased(worker="w2"),
            CancelRequestedEvent(reason="too slow"),
        ],
        (
            "↻ worker w1 was lost, another goes on\n"
            "↻ the worker was lost, another goes on\n"
            "» worker w2 shuts down, another goes on\n"
            "⊘ cancel requested: too slow\n"
        ),
    ),
    "a failed run": (
        [RunFailedEvent(reason="11 turns failed", iterations=1)],
        "! 11 turns failed\n✗ failed · 1 iteration\n",
    ),
    "a cancelled run": (
        [RunQueued(agent="a", prompt="p"), TextDelta(text="Par"), RunCancelledEvent(reason="enough")],
        "a: p\nPar\n! enough\n⊘ cancelled · 0 iterations · 0 tools · 200 ms\n",
    ),
    "a reason that was shown is not repeated": (
        [CancelRequestedEvent(reason="enough"), RunCancelledEvent(reason="enough")],
        "⊘ cancel requested: enough\n⊘ cancelled · 0 iterations\n",
    ),
    "a gap": (
        [
            Gap(
                first=3,
                last=9,
                messages=(
                    user_message("What is\n7 + 9?"),
                    Message(
                        role=Role.ASSISTANT,
                        parts=(TextPart(text="Let me add."), ToolCallPart(call_id="c", name="add", arguments={"a": 7})),
                    ),
                    Message(role=Role.TOOL, parts=(ToolResultPart(call_id="c", name="add", content="16"),)),
                ),
            )
        ],
        "… events 3-9 were trimmed; the transcript so far:\n> What is\n  7 + 9?\nLet me add.\n→ add(a=7)\n← add: 16\n",
    ),
    "files of a result": (
        [
            ToolCalled(call_id="c", name="draw"),
            ToolFinished(call_id="c", name="draw", content="Here.", files=FILES, duration_ms=3),
            ToolFinished(call_id="d", name="photo", content="", files=FILES[:1]),
        ],
        (
            "→ draw()\n← Here.  3 ms\n  + a b.png image/png, 12 KB\n  + https://x.org/b application/pdf\n"
            "← photo: (no text)\n  + a b.png image/png, 12 KB\n"
        ),
    ),
    "files in a transcript": (
        [
            Gap(
                first=3,
                last=9,
                messages=(
                    user_message("Look.", FILES[:1]),
                    Message(
                        role=Role.TOOL,
                        parts=(ToolResultPart(call_id="c", name="draw", content="Here.", files=FILES),),
                    ),
                ),
            )
        ],
        (
            "… events 3-9 were trimmed; the transcript so far:\n+ a b.png image/png, 12 KB\n> Look.\n"
            "← draw: Here.\n  + a b.png image/png, 12 KB\n  + https://x.org/b application/pdf\n"
        ),
    ),
    "what a model says cannot move the cursor": (
        [TextDelta(text="\x1b[2Jhi\r\nyou\x07"), ToolFinished(call_id="c", name="t", content="\x1b]0;x\x07")],
        "\\x1b[2Jhi\nyou\\x07\n← t: \\x1b]0;x\\x07\n",
    ),
}


@pytest.mark.parametrize(("events", "expected"), CASES.values(), ids=CASES.keys())
def test_in_a_pipe(events: list[Event], expected: str):
    assert drawn(events) == expected


@pytest.mark.parametrize("events", [events for events, _ in CASES.values()], ids=CASES.keys())
def test_a_pipe_gets_no_escapes(events: list[Event]):
    assert "\x1b" not in drawn(events) + drawn(events, label="P8RA", timestamps=True)


LONG = "x" * 500


def test_long_arguments_and_results_are_shortened_in_a_pipe():
    lines = drawn([ADD.model_copy(update={"arguments": {"a": LONG}}), ADDED.model_copy(update={"content": LONG})])
    call, result = lines.splitlines()
    assert (len(call), len(result)) == (200, 200)
    assert call.endswith("xx…)")
    assert result.endswith("xx…  12 ms")


def test_full_shortens_nothing_and_keeps_the_lines_of_a_result():
    text = drawn([ADD, ADDED.model_copy(update={"content": f"{LONG}\nlast"})], full=True)
    assert text == f"→ add_numbers(a=7, b=9)\n← {LONG}\n  last  12 ms\n"


def test_a_terminal_shortens_to_its_width(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "60")
    wide = "漢" * 100
    text = plain(on_terminal([RunQueued(agent="a", prompt=wide), ADDED.model_copy(update={"content": wide})]))
    # Half a wide character is not to be had.
    assert [sum(2 if character == "漢" else 1 for character in line) for line in text.splitlines()] == [60, 59]


def test_progress_on_a_terminal_replaces_itself_and_leaves_nothing():
    progress = ToolProgress(call_id="c", name="slow", message="1 of 4")
    text = on_terminal([progress, progress, ADDED])
    wiped = "\x1b[2m⋯ slow  1 of 4\x1b[0m\r\x1b[2K"
    assert text == f"{wiped}{wiped}\x1b[32m←\x1b[0m \x1b[2madd_numbers: \x1b[0m16\x1b[2m  12 ms\x1b[0m\n"
