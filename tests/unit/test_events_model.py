"""Events keep what they hold; their stored form leaves out what the stream knows."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agentq.client_async import AsyncClient
from agentq.errors import StoreCorrupted
from agentq.events import context, limits, model
from agentq.events.encoding import decode_event, encode_event, is_delta, is_known, numbered
from agentq.events.model import Event, FoldedRange, ReplyCompleted, TextDelta, ToolCalled
from agentq.messages import Usage, user_message
from agentq.testing import ScriptedModel
from tests.unit._loop import Stage

KINDS: tuple[type[BaseModel], ...] = get_args(get_args(Event)[0])
# One value for each field that must be given.
REQUIRED: dict[str, Any] = {
    "agent": "calculator",
    "allowed": 50_000,
    "answer": "did_not_happen",
    "arguments": {"a": [1, None, {"ü": "\U0001f600"}]},
    "attempt": 2,
    "by": "openai:gpt-6-sol",
    "call_id": "R.1.0",
    "content": "16",
    "errors": 1,
    "fence": 3,
    "first": 2,
    "iteration": 1,
    "kind": "tool_error",
    "last": 4,
    "limit": "tokens",
    "limits": {"tokens": 50_000},
    "max_error_retries": 10,
    "messages": (user_message("hi"),),
    "messages_after": 12,
    "messages_before": 40,
    "model": "anthropic:claude-opus-5-5",
    "name": "add_numbers",
    "of": "the run",
    "on_reached": "wait",
    "output": "It is 16.",
    "query": "Take 7 + 9",
    "reason": "recovered",
    "delay_ms": 1500,
    "recoveries": 1,
    "retries": 2,
    "strategy": "summary",
    "text": "naïve \U0001f469\u200d\U0001f680",
    "used": 51_234,
    "tokens_after": 9_000,
    "tokens_before": 81_000,
    "turn": 1,
    "wait_ms": 1500,
    "worker": "worker-1",
}


def example(kind: type[BaseModel]) -> Any:
    return kind(**{name: REQUIRED[name] for name, field in kind.model_fields.items() if name in REQUIRED})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_event_comes_back(kind: type[BaseModel]):
    event = example(kind)
    stored = encode_event(event)
    assert not {"run_id", "seq", "at_ms"} & set(json.loads(stored))
    back = decode_event(stored, run_id="R", seq=7, at_ms=1_000)
    assert type(back) is kind
    assert back == event.model_copy(update={"run_id": "R", "seq": 7, "at_ms": 1_000})


def test_types_are_unique_and_the_union_holds_every_class():
    types = [kind.model_fields["type"].default for kind in KINDS]
    assert len(set(types)) == len(types)
    defined = {
        thing
        for module in (model, limits, context)
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, BaseModel) and "type" in thing.model_fields
        if thing.__module__ == module.__name__
    }
    assert defined == set(KINDS)


def test_deltas_are_what_a_fold_replaces():
    assert {kind.__name__ for kind in KINDS if is_delta(example(kind))} == {"TextDelta", "ReasoningDelta"}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_is_kept_to_the_letter(text: str):
    stored = encode_event(TextDelta(text=text))
    assert b"\n" not in stored
    assert decode_event(stored, run_id="R", seq=1, at_ms=1) == TextDelta(run_id="R", seq=1, at_ms=1, text=text)


def test_what_an_event_says_of_its_place_is_not_believed():
    stored = encode_event(TextDelta(run_id="other", seq=99, at_ms=99, text="a"))
    assert decode_event(stored, run_id="R", seq=1, at_ms=2) == TextDelta(run_id="R", seq=1, at_ms=2, text="a")


def test_numbering_makes_relative_ranges_absolute():
    ranges = (
        FoldedRange(first=3, kind="text", lengths=(2,), at_ms=(50,)),
        FoldedRange(first=-2, kind="reasoning", lengths=(1, 4), at_ms=()),
    )
    event = numbered(ReplyCompleted(turn=1, deltas=ranges), run_id="R", seq=9, at_ms=60)
    assert isinstance(event, ReplyCompleted)
    assert event.deltas == (ranges[0], FoldedRange(first=7, kind="reasoning", lengths=(1, 4), at_ms=(60, 60)))


def test_fields_of_a_newer_version_are_ignored():
    event = decode_event('{"type":"text.delta","text":"a","colour":"red"}', run_id="R", seq=1, at_ms=1)
    assert event == TextDelta(run_id="R", seq=1, at_ms=1, text="a")


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"type":"text.delta"}', b"\xff"])
def test_what_cannot_be_read_names_the_event(data: bytes):
    with pytest.raises(StoreCorrupted, match="event 7 of run R"):
        decode_event(data, run_id="R", seq=7, at_ms=1)


def test_absent_values_are_not_stored():
    assert json.loads(encode_event(ToolCalled(call_id="c", name="f"))) == {
        "type": "tool.called",
        "call_id": "c",
        "name": "f",
        "arguments": {},
        "attempt": 1,
    }
    assert "usage" not in json.loads(encode_event(ReplyCompleted(turn=1)))
    assert json.loads(encode_event(ReplyCompleted(turn=1, usage=Usage(input_tokens=1))))["usage"]["input_tokens"] == 1


async def test_an_event_of_a_newer_version_is_passed_over_and_no_reader_stops_at_it():
    new = decode_event(b'{"type":"run.dreamt","of":"tea"}', run_id="R", seq=2, at_ms=1)
    assert (new.type, new.seq, is_known(new)) == ("run.dreamt", 2, False)
    with pytest.raises(StoreCorrupted):
        decode_event(b'{"type":"text.delta"}', run_id="R", seq=2, at_ms=1)
    with pytest.raises(StoreCorrupted):
        decode_event(b"{", run_id="R", seq=2, at_ms=1)
    stage = Stage(ScriptedModel(["Hello."]))
    await stage.advance()
    # As a newer worker would have written it.
    entries = stage.store._runs[stage.run_id].log._entries  # noqa: SLF001
    (place,) = [place for place, entry in enumerate(entries) if b"iteration.started" in entry.data]
    entries[place] = dataclasses.replace(entries[place], data=b'{"type":"run.dreamt"}')
    client = AsyncClient(store=stage.store, stream=stage.store.stream)
    kinds = [event.type async for event in client.events(stage.run_id)]
    assert kinds[0] == "run.queued"
    assert kinds[-1] == "run.completed"
    assert "run.dreamt" not in kinds
    assert "gap" not in kinds
    assert (await client.result(stage.run_id)).output == "Hello."
