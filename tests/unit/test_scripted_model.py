"""The scripted model for users' tests: one reply per turn, chosen by the transcript alone."""

from __future__ import annotations

import pytest

from agentq.errors import ProviderError
from agentq.messages import (
    Message,
    NoteKind,
    ReasoningPart,
    Role,
    StopReason,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
    note_message,
    results_message,
    user_message,
)
from agentq.providers.base import ModelRequest, TextChunk
from agentq.providers.reply import ReplyBuilder
from agentq.testing.models import ScriptedCall, ScriptedModel, call

HELLO = user_message("Hello")
REPLY = Message(role=Role.ASSISTANT, parts=(TextPart(text="x"),), stop_reason=StopReason.END)
REFUSED = Message(role=Role.ASSISTANT, parts=(), stop_reason=StopReason.REFUSAL)


async def ask(model: ScriptedModel, *messages: Message) -> Message:
    builder = ReplyBuilder()
    async for chunk in model.stream(ModelRequest("", messages)):
        builder.add(chunk)
    return builder.finish("RUN", 1)


async def test_replies_come_one_per_turn():
    """A string, a call, several calls with text, and calls without arguments."""
    model = ScriptedModel([call("add", a=1, name="x"), ["Both: ", call("add", a=2), call("now")], "Hello there."])
    first = await ask(model, HELLO)
    assert first.stop_reason is StopReason.TOOL_CALLS
    assert [(c.call_id, c.name, c.arguments) for c in first.tool_calls] == [("RUN.1.0", "add", {"a": 1, "name": "x"})]
    result = results_message([ToolResultPart(call_id="RUN.1.0", name="add", content="1")])
    second = await ask(model, HELLO, first, result)
    assert second.text == "Both: "
    assert [(c.name, c.arguments) for c in second.tool_calls] == [("add", {"a": 2}), ("now", {})]
    third = await ask(model, HELLO, first, result, second)
    assert (third.text, third.stop_reason, third.model) == ("Hello there.", StopReason.END, "scripted")


async def test_a_repeated_turn_gets_the_same_reply():
    """A crash loses nothing: the place in the list is read from the transcript."""
    model = ScriptedModel(["one", "two"])
    assert (await ask(model, HELLO, REPLY)).text == "two"
    assert (await ask(model, HELLO)).text == "one"
    assert (await ask(model, HELLO)).text == "one"


async def test_every_run_of_a_session_starts_at_the_first_reply():
    model = ScriptedModel(["one", "two"])
    assert (await ask(model, HELLO, REPLY, REPLY, user_message("Again"))).text == "one"


async def test_requests_are_remembered():
    model = ScriptedModel(["one"])
    await ask(model, HELLO)
    assert [request.messages for request in model.requests] == [(HELLO,)]


async def test_exceptions_are_raised_until_a_note_stands_for_them():
    model = ScriptedModel([ProviderError("busy", status=503), ValueError("bug"), "fine"])
    note = note_message("busy", NoteKind.PROVIDER_ERROR)
    for _ in range(2):
        with pytest.raises(ProviderError, match="busy"):
            await ask(model, HELLO)
    with pytest.raises(ValueError, match="bug"):
        await ask(model, HELLO, note)
    assert (await ask(model, HELLO, note, note)).text == "fine"


async def test_an_exception_can_cut_a_reply_off():
    model = ScriptedModel([["Half a ", ProviderError("cut")]])
    stream = model.stream(ModelRequest("", (HELLO,)))
    assert await anext(stream) == TextChunk("Half ")
    assert await anext(stream) == TextChunk("a ")
    with pytest.raises(ProviderError, match="cut"):
        await anext(stream)


@pytest.mark.parametrize("kept", [(), (REFUSED,)])
async def test_a_refused_turn_is_taken_once(kept):
    """Whether or not the transcript keeps the refused reply beside its note."""
    model = ScriptedModel([REFUSED, "fine"])
    assert (await ask(model, HELLO)).stop_reason is StopReason.REFUSAL
    assert (await ask(model, HELLO, *kept, note_message("refused", NoteKind.REFUSED))).text == "fine"


async def test_a_tool_error_note_is_no_turn():
    model = ScriptedModel(["one", "two"])
    assert (await ask(model, HELLO, REPLY, note_message("raised", NoteKind.TOOL_ERROR))).text == "two"


async def test_a_function_sees_the_request():
    model = ScriptedModel([lambda request: [f"You said {request.messages[-1].text}", call("add", a=1)]])
    reply = await ask(model, HELLO)
    assert reply.text == "You said Hello"
    assert reply.tool_calls[0].arguments == {"a": 1}


async def test_a_message_is_replayed_as_it_is():
    """Text, reasoning with its signature, calls, usage and model; ids of calls are given anew."""
    message = Message(
        role=Role.ASSISTANT,
        parts=(
            ReasoningPart(text="Let me see", signature="s"),
            TextPart(text="Adding two numbers"),
            ToolCallPart(call_id="RUN.1.0", name="add", arguments={"a": 1}, provider_call_id="p"),
            ToolCallPart(call_id="RUN.1.1", name="add"),
        ),
        model="m",
        stop_reason=StopReason.TOOL_CALLS,
        usage=Usage(input_tokens=5),
    )
    assert await ask(ScriptedModel([message]), HELLO) == message


async def test_a_message_that_is_no_reply_is_refused():
    result = results_message([ToolResultPart(call_id="c", name="n", content="")])
    with pytest.raises(TypeError, match="not tool_result"):
        await ask(ScriptedModel([result]), HELLO)


async def test_broken_arguments_can_be_sent():
    reply = await ask(ScriptedModel([ScriptedCall("add", '{"a": ', "p1")]), HELLO)
    (part,) = reply.tool_calls
    assert "not valid JSON" in (part.arguments_error or "")
    assert part.provider_call_id == "p1"


async def test_too_many_turns_fail_for_good():
    with pytest.raises(ProviderError, match="has 1 replies and was asked for number 2") as caught:
        await ask(ScriptedModel(["one"]), HELLO, REPLY)
    assert not caught.value.retryable
