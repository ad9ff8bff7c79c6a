"""The mock model plays scripts from the transcript alone. `play` below stands in for the loop."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq.errors import ProviderError
from agentq.messages import (
    FilePart,
    Message,
    NoteKind,
    ReasoningPart,
    Role,
    StopReason,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    note_message,
    results_message,
    user_message,
)
from agentq.providers.base import Chunk, ModelRequest, ReplyEnd, TextChunk
from agentq.providers.mock import MockProvider, count_words, next_turn, split_words
from agentq.providers.reply import ReplyBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = Path(__file__).parents[2] / "docs" / "mock.md"
PROVIDER_NOTE = note_message("The model could not be reached.", NoteKind.PROVIDER_ERROR)


@dataclass
class FakeClock:
    """Sleeping only adds up."""

    slept: list[float] = field(default_factory=list)

    def now_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def use_tool(name: str, arguments: dict[str, Any]) -> str:
    match name:
        case "add_numbers":
            return json.dumps(arguments["a"] + arguments["b"])
        case "multiply_numbers":
            return json.dumps(arguments["a"] * arguments["b"])
        case "roll_dice":
            return "4"
        case "give":
            return str(arguments["text"])
        case _:
            raise ValueError(f"there is no tool called {name}")


async def collect(messages: Sequence[Message], provider: MockProvider) -> list[Chunk]:
    return [chunk async for chunk in provider.stream(ModelRequest("", tuple(messages)))]


def reply_to(messages: Sequence[Message], provider: MockProvider | None = None) -> Message:
    builder = ReplyBuilder()
    for chunk in asyncio.run(collect(messages, provider or MockProvider(FakeClock()))):
        builder.add(chunk)
    return builder.finish("RUN", len(messages))


def results_of(reply: Message) -> list[Message]:
    """The results of all calls, then the note when a tool raised."""
    parts, notes = [], []
    for call in reply.tool_calls:
        try:
            content, outcome = use_tool(call.name, call.arguments), "ok"
        except ValueError as error:
            content, outcome = str(error), "error"
            notes = [note_message("A tool raised.", NoteKind.TOOL_ERROR)]
        parts.append(
            ToolResultPart.model_validate(
                {**call.model_dump(), "type": "tool_result", "content": content, "outcome": outcome}
            )
        )
    return [results_message(parts), *notes]


def play(
    prompt: str, *, before: Sequence[Message] = (), keep_refused: bool = True, max_turns: int = 20
) -> list[Message]:
    """Carry a prompt to its answer as the loop does; returns what was appended after the prompt."""
    messages = [*before, user_message(prompt)]
    start = len(messages)
    for _ in range(max_turns):
        try:
            reply = reply_to(messages)
        except ProviderError as error:
            messages.append(note_message(str(error), NoteKind.PROVIDER_ERROR))
            if not error.retryable:
                break
            continue
        if reply.stop_reason is StopReason.REFUSAL:
            messages += [*([reply] if keep_refused else []), note_message("The reply was refused.", NoteKind.REFUSED)]
            continue
        messages.append(reply)
        if not reply.tool_calls:
            break
        messages += results_of(reply)
    return messages[start:]


def answer(prompt: str, **options: Any) -> str:
    return play(prompt, **options)[-1].text


def calls_of(messages: Sequence[Message]) -> list[list[tuple[str, dict[str, Any]]]]:
    return [[(c.name, c.arguments) for c in message.tool_calls] for message in messages if message.tool_calls]


# -- echo --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prompt",
    [
        "Hello world",
        "call me when you are done",
        "call me, maybe",
        'call add_numbers {"a": 7',
        "sleep well",
        "sleep -1",
        "sleep 1e3",
        "fail 503 please",
        "fail 200",
        "fail",
        "refuse to do it",
        'stream "x" 3',
        "stream 3 x",
        'stream 3 "\\ud800"',
        "say",
        "Say hello",
        "saying hello",
        "# just a heading",
        "# A heading\nand text\nsay hi",
        "plain text\nsay hi",
        "  two  spaces\n\nand lines \t",
        "   ",
        "",
        "Grüße 👋",
    ],
)
def test_what_is_no_script_is_echoed(prompt):
    """The first line decides; the joined chunks are the prompt, character for character."""
    reply = reply_to([user_message(prompt)])
    assert (reply.text, reply.stop_reason) == (prompt, StopReason.END)


def test_an_echo_comes_word_by_word():
    chunks = asyncio.run(collect([user_message("Good  morning to you")], MockProvider()))
    assert [c.text for c in chunks if isinstance(c, TextChunk)] == ["Good  ", "morning ", "to ", "you"]
    assert isinstance(chunks[-1], ReplyEnd)
    assert chunks[-1].model == "mock"


@given(st.text())
def test_words_join_to_the_text(text):
    words = split_words(text)
    assert "".join(words) == text
    assert len(words) == max(len(re.findall(r"\S+", text)), 1 if text else 0)


@given(
    st.text()
    | st.lists(st.sampled_from(['call a {"x": 1}', "call", "say $1", "&", "{", "fail 9", "\n", "$$1", "#"])).map(
        " ".join
    )
)
def test_no_prompt_breaks_the_mock(prompt):
    """Any prompt gives a reply or a `ProviderError`, nothing else."""
    try:
        next_turn([user_message(prompt)])
    except ProviderError as error:
        assert not error.retryable  # noqa: PT017  # either outcome is fine, only its kind is tested


# -- call, say, $N -----------------------------------------------------------------------------------------------------


def test_a_script_runs_line_by_line():
    """One line is one turn; the results fill `$N`, the numbers stay numbers."""
    messages = play(
        'call add_numbers {"a": 7, "b": 9}\n'
        'call multiply_numbers {"a": "$1", "b": 12} & call roll_dice {}\n'
        "say The answer is $2."
    )
    assert calls_of(messages) == [
        [("add_numbers", {"a": 7, "b": 9})],
        [("multiply_numbers", {"a": 16, "b": 12}), ("roll_dice", {})],
    ]
    assert messages[-1].text == "The answer is 192."
    assert messages[0].stop_reason is StopReason.TOOL_CALLS


def test_blank_lines_and_comments_are_skipped():
    assert answer("\n# first\r\n\n  call roll_dice  \r\n# then\n\tsay It is $1.\n\n") == "It is 4."


def test_a_line_ends_at_a_newline_only():
    """JSON may hold other characters that Python takes for the end of a line."""
    assert calls_of(play('call give {"text": "a\u2028b\x0cc"}'.replace("\x0c", "\\f"))) == [
        [("give", {"text": "a\u2028b\fc"})]
    ]


@pytest.mark.parametrize(
    ("line", "calls"),
    [
        ("call roll_dice", [("roll_dice", {})]),
        ("call roll_dice{}", [("roll_dice", {})]),
        ("call a&call b & call c {}", [("a", {}), ("b", {}), ("c", {})]),
        ('call give {"text": "x & call y {}"} & call b', [("give", {"text": "x & call y {}"}), ("b", {})]),
        ('call give {"text": "a \\"}\\" b"}', [("give", {"text": 'a "}" b'})]),
        ('call give {"text": "ü👋", "n": {"deep": [1, null]}}', [("give", {"text": "ü👋", "n": {"deep": [1, None]}})]),
        ("call server.tool-name", [("server.tool-name", {})]),
    ],
)
def test_calls_are_read_as_json(line, calls):
    reply = reply_to([user_message(line)])
    assert [(call.name, call.arguments) for call in reply.tool_calls] == calls


@pytest.mark.parametrize(
    ("result", "value"),
    [
        ("16", 16),
        ("-2.5", -2.5),
        ("true", True),
        ("null", None),
        ('"quoted"', "quoted"),
        ("[1, 2]", [1, 2]),
        ('{"a": 1}', {"a": 1}),
        ("plain text", "plain text"),
        ("007", "007"),
        ("NaN", "NaN"),
        ("", ""),
        ("see $1 and $9", "see $1 and $9"),
    ],
)
def test_a_whole_string_becomes_the_value_of_the_result(result, value):
    """Valid JSON becomes its value, anything else stays text, and nothing in a result is filled again."""
    give = json.dumps({"text": result.replace("$", "$$")})
    script = f'call give {give}\ncall use {{"x": ["$1", {{"y": "$1"}}], "z": "<$1>"}}'
    used = calls_of(play(script))[1]
    assert used == [("use", {"x": [value, {"y": value}], "z": f"<{result}>"})]


def test_double_dollars_stand_for_one():
    assert answer("say $$1 of $$20, or 5$ and $x and $$") == "$1 of $20, or 5$ and $x and $$"
    assert calls_of(play('call a {"x": "$$1", "y": "in $$2"}\nsay ok')) == [[("a", {"x": "$1", "y": "in $2"})]]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "say It is $1.",
            r"line 1 of the script uses \$1, but the run has 0 tool results \(write \$\$1 for a plain \$1\)",
        ),
        ("call roll_dice\n\nsay $1 $2", r"line 3 of the script uses \$2, but the run has 1 tool result "),
        ('call roll_dice\ncall a {"x": "$3"}', r"line 2 of the script uses \$3"),
        ("say $0", r"uses \$0, but results count from \$1"),
        ("say $" + "9" * 5000, "the run has 0 tool results"),
    ],
)
def test_a_missing_result_fails_the_run(script, message):
    last = play(script)[-1]
    assert last.note is NoteKind.PROVIDER_ERROR
    assert re.search(message, last.text)


def test_the_result_of_a_failed_call_is_its_message():
    """A tool that raised leaves an error result and a note; the script goes on with both."""
    messages = play("call nothing\nsay It said: $1")
    assert [message.note for message in messages] == [None, None, NoteKind.TOOL_ERROR, None]
    assert messages[-1].text == "It said: there is no tool called nothing"


def test_a_script_without_an_answer_ends_with_the_last_result():
    assert answer('call roll_dice & call give {"text": "the last"}') == "the last"
    assert answer('call give {"text": ""}') == "Done."
    assert answer("sleep 1") == "Done."


def test_say_comes_word_by_word():
    chunks = asyncio.run(collect([user_message("say  The answer  is 3. ")], MockProvider()))
    assert [c.text for c in chunks if isinstance(c, TextChunk)] == ["The ", "answer  ", "is ", "3."]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("say a\nsya b", "line 2 of the script cannot be read: it starts with 'sya' .*one verb per line: call, say"),
        ("# c\nsay a\n\ncall", "line 4 .*a call looks like"),
        ('say a\ncall add {"a": 1', "line 2 .*the arguments are not JSON"),
        ('say a\ncall add {"a": Infinity}', "line 2 .*Infinity is not JSON"),
        ("say a\ncall add [1]", "line 2 .*after add come"),
        ('say a\ncall add {"a": 1} {"b": 2}', "line 2 .*after add come"),
        ("say a\ncall add & multiply", "line 2 .*after add come"),
        ("say a\ncall add &", "line 2 .*after add come"),
        ("say a\ncall x {" + '"a":[' * 100_000, "line 2"),
        ("say a\nfail 200", "line 2 .*from 400 to 599"),
        ("say a\nfail!", "line 2 .*from 400 to 599"),
        ("say a\nsleep long", "line 2 .*sleep needs seconds"),
        ("say a\nstream x", "line 2 .*stream needs"),
        ("say a\nrefuse it", "line 2 .*stands alone"),
        ("say a\nsay", "line 2 .*say needs a text"),
    ],
)
def test_a_later_line_that_cannot_be_read_fails_the_run(script, message):
    """The error names the line before the first turn, and no retry can help."""
    with pytest.raises(ProviderError, match=message) as caught:
        next_turn([user_message(script)])
    assert not caught.value.retryable
    assert caught.value.provider == "mock"
    assert len(str(caught.value)) < 300


# -- sleep, stream -----------------------------------------------------------------------------------------------------


def test_sleep_is_latency_of_the_next_line():
    clock = FakeClock()
    reply = reply_to([user_message("sleep 0.5\nsleep .25\nsay hi")], MockProvider(clock))
    assert (reply.text, clock.slept) == ("hi", [0.75])


def test_a_sleep_belongs_to_one_turn():
    """The turn after it does not wait again."""
    clock = FakeClock()
    script = user_message("sleep 1\ncall roll_dice\nsay hi")
    first = reply_to([script], MockProvider(clock))
    second = reply_to([script, first, *results_of(first)], MockProvider(clock))
    assert (second.text, clock.slept) == ("hi", [1.0])


def test_a_sleep_at_the_end_delays_the_answer():
    clock = FakeClock()
    script = user_message("call roll_dice\nsleep 2")
    first = reply_to([script], MockProvider(clock))
    assert reply_to([script, first, *results_of(first)], MockProvider(clock)).text == "4"
    assert clock.slept == [2.0]


def test_a_failure_comes_after_its_sleep():
    clock = FakeClock()
    with pytest.raises(ProviderError, match="fails with 503"):
        reply_to([user_message("sleep 3\nfail 503")], MockProvider(clock))
    assert clock.slept == [3.0]
    reply_to([user_message("sleep 3\nfail 503"), PROVIDER_NOTE], MockProvider(clock))
    assert clock.slept == [3.0]


def test_stream_repeats_a_piece():
    clock = FakeClock()
    chunks = asyncio.run(collect([user_message('stream 3 "a\\n " 0.01')], MockProvider(clock)))
    assert chunks[:-1] == [TextChunk("a\n ")] * 3
    assert clock.slept == [0.01, 0.01]


def test_stream_needs_no_delay_and_may_be_empty():
    clock = FakeClock()
    assert reply_to([user_message('stream 300 "x"')], MockProvider(clock)).text == "x" * 300
    assert reply_to([user_message('stream 0 "x" 1')], MockProvider(clock)).parts == ()
    assert clock.slept == []


async def test_a_long_instant_reply_lets_other_tasks_run():
    """A reply without delays gives the event loop a turn now and then."""
    seen: list[int] = []
    count = 0

    async def watch() -> None:
        while True:
            seen.append(count)
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    async for _ in MockProvider().stream(ModelRequest("", (user_message('stream 5000 "x"'),))):
        count += 1
    watcher.cancel()
    assert len(set(seen)) > 10


async def test_cancelling_stops_a_sleep():
    task = asyncio.create_task(collect([user_message("sleep 60\nsay hi")], MockProvider()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# -- fail, refuse ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 422, 425, 429, 499, 500, 503, 529])
def test_fail_raises_its_status(status):
    with pytest.raises(ProviderError, match=f"line 1 of the script fails with {status}") as caught:
        reply_to([user_message(f"fail {status}")])
    assert (caught.value.status, caught.value.provider) == (status, "mock")
    assert caught.value.retryable is (status in {408, 409, 425, 429} or status >= 500)


def test_a_failure_is_used_up_by_its_note():
    """Two fail lines are two failures, then the script goes on."""
    messages = play("fail 503\nfail 429\ncall roll_dice\nfail 500\nsay It is $1.")
    assert [message.note for message in messages] == [
        NoteKind.PROVIDER_ERROR,
        NoteKind.PROVIDER_ERROR,
        None,
        None,
        NoteKind.PROVIDER_ERROR,
        None,
    ]
    assert messages[-1].text == "It is 4."


def test_a_failure_without_a_note_is_played_again():
    """A worker that died before it wrote the note changes nothing."""
    script = [user_message("fail 503\nsay hi")]
    assert next_turn(script).error is not None
    assert next_turn(script).error is not None


def test_a_note_about_another_failure_uses_nothing_up():
    """A real fault in the middle of a script repeats the line that it interrupted."""
    script = user_message("call roll_dice\nfail 503\nsay hi")
    assert reply_to([script, PROVIDER_NOTE]).tool_calls[0].name == "roll_dice"
    first = reply_to([script])
    done = [script, PROVIDER_NOTE, first, *results_of(first)]
    assert next_turn(done).error is not None
    assert next_turn([*done, note_message("raised", NoteKind.TOOL_ERROR)]).error is not None
    assert reply_to([*done, PROVIDER_NOTE]).text == "hi"


def test_fail_always_is_never_used_up():
    messages = play("fail! 503\nsay hi", max_turns=5)
    assert [message.note for message in messages] == [NoteKind.PROVIDER_ERROR] * 5


@pytest.mark.parametrize("keep_refused", [True, False])
def test_a_refusal_is_used_up_by_its_note(keep_refused):
    """Whether or not the transcript keeps the refused reply beside its note."""
    messages = play("call roll_dice\nrefuse\nrefuse\nsay It is $1.", keep_refused=keep_refused)
    assert [m.note for m in messages].count(NoteKind.REFUSED) == 2
    assert messages[-1].text == "It is 4."


def test_a_refusal_has_words():
    reply = reply_to([user_message("refuse")])
    assert (reply.stop_reason, reply.text) == (StopReason.REFUSAL, "I can't help with that.")


# -- sessions, usage, statelessness ------------------------------------------------------------------------------------


def test_the_script_is_the_last_user_message():
    """Earlier runs of a session come before it, and their results do not count."""
    before = [user_message("call roll_dice\nsay one"), *play("call roll_dice\nsay one")]
    assert answer('call give {"text": "new"}\nsay $1', before=before) == "new"
    assert answer("hello", before=before) == "hello"


def test_a_transcript_without_a_prompt_gives_an_empty_reply():
    assert reply_to([]).parts == ()


def test_every_turn_follows_from_the_transcript():
    """Another provider, asked for any turn again, gives the same reply."""
    prompt = user_message('call roll_dice\nrefuse\nfail 503\ncall add_numbers {"a": "$1", "b": 1}\nsay $2')
    messages = [prompt, *play(prompt.text)]
    for index, message in enumerate(messages):
        if message.role is Role.ASSISTANT:
            assert reply_to(messages[:index]) == message


def test_tokens_are_words():
    """Input counts every message, output the reply; a call counts its name and its arguments."""
    script = user_message('call add_numbers {"a": 7, "b": 9}\nsay The answer is $1.')
    first = reply_to([script])
    second = reply_to([script, first, *results_of(first)])
    assert first.usage is not None
    assert second.usage is not None
    assert (first.usage.input_tokens, first.usage.output_tokens) == (11, 3)
    assert (second.usage.input_tokens, second.usage.output_tokens) == (11 + 3 + 1, 4)
    streamed = reply_to([user_message('stream 200 "token "')])
    assert streamed.usage is not None
    assert (streamed.usage.output_tokens, count_words([streamed])) == (200, 200)


def test_every_kind_of_part_is_counted():
    parts = (
        TextPart(text="one two\n"),
        TextPart(text=""),
        ReasoningPart(text="three four five"),
        FilePart(url="file:x", media_type="text/plain"),
        ToolCallPart(call_id="c", name="six", arguments={"seven": 1}),
        ToolResultPart(call_id="c", name="n", content="eight"),
    )
    assert count_words([Message(role=Role.ASSISTANT, parts=parts)]) == 8


# -- the page ----------------------------------------------------------------------------------------------------------


def examples() -> list[tuple[str, str]]:
    """Each `prompt` block of the page and the `run` block that follows it."""
    blocks = re.findall(
        r"^```text (prompt|run)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert [kind for kind, _ in blocks] == ["prompt", "run"] * (len(blocks) // 2)
    texts = [text.rstrip("\n") for _, text in blocks]
    return list(zip(texts[::2], texts[1::2], strict=True))


def shown(message: Message) -> list[str]:
    if message.note is not None:
        return [f"note   {message.note}"]
    if message.tool_results:
        return [f"tool   {result.content}" for result in message.tool_results]
    if message.tool_calls:
        calls = ", ".join(f"{call.name} {json.dumps(call.arguments)}" for call in message.tool_calls)
        return [f"model  calls {calls}"]
    return [f"model  {message.text}".rstrip()]


@pytest.mark.parametrize(("prompt", "run"), examples())
def test_the_page_shows_what_happens(prompt, run):
    assert [line for message in play(prompt) for line in shown(message)] == run.split("\n")
