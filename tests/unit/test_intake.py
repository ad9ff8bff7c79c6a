"""Everything that an enqueue takes is checked before anything is stored; each error names its field and the fix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest

from agentq import _ids
from agentq.attachments import Attached
from agentq.errors import InvalidInput
from agentq.intake import new_run
from agentq.messages import FilePart, TextPart
from agentq.settings import Settings

SETTINGS = Settings(max_value_bytes=1000, queue="house")


def test_a_run_has_a_new_id_and_its_prompt_as_first_message():
    run = new_run(SETTINGS, "calculator", "What is 7 + 9?", session_id="s", user_id="u", metadata={"a": [1, None]})
    assert _ids.is_run_id(run.run_id)
    assert [message.text for message in run.messages] == ["What is 7 + 9?"]
    assert (run.agent, run.session_id, run.user_id, run.metadata) == ("calculator", "s", "u", {"a": [1, None]})
    assert new_run(SETTINGS, "calculator", "x").run_id != run.run_id


def test_without_a_queue_the_settings_name_it():
    assert new_run(SETTINGS, "a", "x").queue == "house"
    assert new_run(SETTINGS, "a", "x", queue="other").queue == "other"


def test_a_delay_becomes_milliseconds():
    assert new_run(SETTINGS, "a", "x", delay=1.5).delay_ms == 1500
    assert new_run(SETTINGS, "a", "x").delay_ms == 0


def test_times_to_live_are_one_length_or_by_outcome():
    assert new_run(SETTINGS, "a", "x", ttl_s=1.5).ttl_ms == {"completed": 1500, "failed": 1500, "cancelled": 1500}
    assert new_run(SETTINGS, "a", "x", ttl_s={"failed": 60}).ttl_ms == {"failed": 60_000}
    assert new_run(SETTINGS, "a", "x").ttl_ms == {}


def test_files_stand_before_the_text_that_speaks_of_them():
    part = FilePart(url="agentq:abc", media_type="image/png")
    run = new_run(SETTINGS, "a", "What is it?", attached=Attached((part,), {"abc": b"x"}))
    assert run.messages[0].parts == (part, TextPart(text="What is it?"))
    assert run.files == {"abc": b"x"}


def test_metadata_is_stored_as_json_gives_it_back_and_not_shared():
    given: dict[str, Any] = {"tags": ("a", "b")}
    run = new_run(SETTINGS, "a", "x", metadata=given)
    given["later"] = 1
    assert run.metadata == {"tags": ["a", "b"]}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("agent", "no such name", "is not a name: use letters"),
        ("agent", "", "is not a name"),
        ("agent", None, "is not a name"),
        ("queue", "a b", "is not a name"),
        ("queue", "", "is not a name"),
        ("prompt", 7, "must be text, not int"),
        ("prompt", None, "must be text, not NoneType"),
        ("prompt", " \n", "is empty; say what"),
        ("prompt", "é" * 501, "has 1002 bytes, more than the 1000 that are allowed; attach large data as a file"),
        ("prompt", "half \ud83d of it", "not valid Unicode at character 5"),
        ("session_id", "", "is empty; leave it out"),
        ("session_id", 7, "must be text, not int; use str(...)"),
        ("session_id", "x" * 201, "has 201 characters, more than 200; use a hash"),
        ("user_id", "a\nb", "holds control characters; remove them"),
        ("user_id", "a\ud83d", "holds control characters"),
        ("idempotency_key", "a\x00", "holds control characters"),
        ("model", "", "is empty"),
        ("tenant", "", "is empty; leave it out"),
        ("tenant", 7, "must be text, not int; use str(...)"),
        ("tenant", "x" * 201, "has 201 characters, more than 200; use a hash"),
        ("tenant", "a\nb", "holds control characters; remove them"),
        ("priority", "urgent", "must be high, normal, low or None, not 'urgent'"),
        ("priority", 1, "must be high, normal, low or None, not 1"),
        ("priority", ["high"], "must be high, normal, low or None, not ['high']"),
        ("metadata", [1], "must be a dict, not list"),
        ("metadata", {1: "x"}, "has the key 1, which is not a str"),
        ("metadata", {"f": object()}, "cannot be stored as JSON"),
        ("metadata", {"f": "half \ud83d"}, "cannot be stored as JSON"),
        ("metadata", {"f": "x" * 1000}, "has 1008 bytes, more than the 1000"),
        ("delay", -1, "must be between 0 and 31622400 seconds, not -1"),
        ("delay", float("nan"), "must be between"),
        ("delay", float("inf"), "must be between"),
        ("delay", 1e12, "must be between"),
        ("delay", "1", "must be a number of seconds, not str"),
        ("delay", True, "must be a number of seconds, not bool"),
        ("ttl_s", 0, "must be between 0.001 and 316224000 seconds, not 0"),
        ("ttl_s", "1", "must be between"),
        ("ttl_s", float("nan"), "must be between"),
        ("ttl_s", {"done": 1}, "has 'done'; a run ends as: completed, failed, cancelled"),
        ("ttl_s", {"failed": -1}, "must be between"),
    ],
)
def test_bad_input_names_its_field_and_the_fix(field: str, value: object, words: str):
    arguments: dict[str, Any] = {"agent": "calculator", "prompt": "x", field: value}
    with pytest.raises(InvalidInput) as caught:
        new_run(SETTINGS, **arguments)
    assert caught.value.field == field
    assert str(caught.value).startswith(field)
    assert words in str(caught.value)


def test_metadata_that_contains_itself_is_refused():
    loop: dict[str, Any] = {}
    loop["self"] = loop
    with pytest.raises(InvalidInput, match="metadata cannot be stored as JSON"):
        new_run(SETTINGS, "a", "x", metadata=loop)


class TestRequestHash:
    BASE: ClassVar[dict[str, Any]] = {"agent": "a", "prompt": "x", "metadata": {"a": 1, "b": 2}}

    def _hash(self, **changes: Any) -> str:
        return new_run(SETTINGS, **{**self.BASE, **changes}).request_hash

    def test_the_same_input_has_the_same_hash(self):
        assert self._hash() == self._hash()

    def test_the_order_of_metadata_does_not_count(self):
        assert self._hash(metadata={"b": 2, "a": 1}) == self._hash()

    def test_the_key_and_the_delay_do_not_count(self):
        assert self._hash(idempotency_key="k", delay=5) == self._hash()

    def test_the_default_queue_does_not_count(self):
        """A deployment that changes it is no conflict for a key that is used again."""
        other = replace(SETTINGS, queue="other")
        assert new_run(other, **self.BASE).request_hash == self._hash()

    @pytest.mark.parametrize(
        "change",
        [
            {"agent": "b"},
            {"prompt": "y"},
            {"session_id": "s"},
            {"user_id": "s"},
            {"tenant": "s"},
            {"metadata": {"a": 1}},
            {"metadata": None},
            {"queue": "house"},
            {"model": "mock"},
            {"ttl_s": 60},
            {"attached": Attached((FilePart(url="https://example.org/a.png", media_type="image/png"),))},
        ],
    )
    def test_everything_else_counts(self, change: dict[str, Any]):
        assert self._hash(**change) != self._hash()
