"""What a webhook may be, and what its messages hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentq import Agent, AgentQ, InvalidInput, Settings, Webhook
from agentq.webhooks import MAX_TEXT, Delivery, Taken, body_of
from tests.receiver import OTHER_SECRET, SECRET

URL = "https://example.com/hooks/T0/secret-path?key=1"


def app(*webhooks: Webhook, **fields: Any) -> AgentQ:
    return AgentQ([Agent("writer", model="mock")], settings=Settings(), webhooks=webhooks, **fields)


def test_it_has_its_host_as_a_name_and_hears_of_everything():
    webhook = Webhook(URL, SECRET)
    assert (webhook.name, webhook.where, webhook.agents) == ("example.com", "https://example.com", ())
    assert webhook.events == ("run.completed", "run.failed", "run.cancelled", "run.waiting")
    assert Webhook("http://[::1]:8000", SECRET).name == "1"
    assert Webhook("https://example.com", SECRET).url == "https://example.com/"


def test_it_shows_neither_its_secret_nor_its_address():
    shown = repr(Webhook(URL, [SECRET, OTHER_SECRET])) + repr(Webhook(URL, secret_name="HOOK_SECRET"))
    stored = Webhook(URL, SECRET).registration().decode()
    for text in (shown, stored):
        assert "secret-path" not in text
        assert SECRET[6:] not in text
        assert "key=1" not in text


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"url": "ftp://example.com"}, "url", "https://"),
        ({"url": "https://"}, "url", "a host"),
        ({"url": "https://example.com/a b"}, "url", "ASCII"),
        ({"url": "https://example.com/" + "x" * 3_000}, "url", "2000"),
        ({"url": "https://ann:word@example.com"}, "url", "user or a password"),
        ({"url": "https://example.com/#part"}, "url", "fragment"),
        ({"url": "https://example.com:port"}, "url", "cannot be read"),
        ({"url": "https://[::1"}, "url", "cannot be read"),
        ({"url": "http://example.com"}, "url", "allow_http=True"),
        ({"url": "http://127.example.com"}, "url", "allow_http=True"),
        ({"url": None}, "url", "address"),
        ({"events": []}, "events", "nothing to tell"),
        ({"events": "run.failed"}, "events", "list"),
        ({"events": ["run.started"]}, "events", "run.completed, run.failed"),
        ({"agents": "writer"}, "agents", "list"),
        ({"agents": ["no name"]}, "agents", "not a name"),
        ({"name": "no name"}, "name", "not a name"),
        ({"secret": ()}, "secret", "secret_name="),
        ({"secret_name": "HOOK_SECRET"}, "secret", "one of the two"),
        ({"secret": "hunter2"}, "secret", "whsec_"),
        ({"secret": 5}, "secret", "must be a text"),
        ({"secret": b"whsec_"}, "secret", "must be a text"),
        ({"secret": (), "secret_name": 5}, "secret_name", "must be text"),
        ({"url": "http://example.com", "allow_http": "false"}, "url", "allow_http=True"),
        ({"allow_http": "false"}, "allow_http", "True or False"),
        ({"with_output": "no"}, "with_output", "True or False"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], field: str, words: str):
    with pytest.raises(InvalidInput, match=words) as raised:
        Webhook(**{"url": URL, "secret": SECRET} | fields)
    assert raised.value.field == field
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://localhost:8000/x", "http://127.0.0.1/x", "http://127.9.9.9", "http://[::1]/"])
def test_http_is_for_this_machine(url: str):
    assert Webhook(url, SECRET, name="local").where.startswith("http://")


def test_http_elsewhere_has_to_be_allowed():
    assert Webhook("http://hooks.internal/", SECRET, allow_http=True).name == "hooks.internal"


@pytest.mark.parametrize(
    ("webhooks", "words"),
    [
        ((Webhook(URL, SECRET), Webhook(URL, SECRET)), "two webhooks are named 'example.com'"),
        ((Webhook(URL, SECRET, agents=["nobody"]),), "'nobody'; this app has: writer"),
        (("https://example.com",), "must be a list of Webhook"),
        ([Webhook(URL, SECRET, name=f"w{n}") for n in range(51)], "at most 50"),
    ],
)
def test_an_app_says_what_is_wrong_with_its_webhooks(webhooks: Any, words: str):
    with pytest.raises(InvalidInput, match=words) as raised:
        app(*webhooks)
    assert raised.value.field == "webhooks"


def test_a_secret_comes_from_where_secrets_of_tools_come_from(monkeypatch: pytest.MonkeyPatch):
    named = app(Webhook(URL, secret_name="HOOK_SECRET", name="orders"))
    with pytest.raises(InvalidInput, match="webhook orders needs the secret HOOK_SECRET, which is not set"):
        named.check_ready()
    monkeypatch.setenv("HOOK_SECRET", "hunter2")
    with pytest.raises(InvalidInput, match="HOOK_SECRET must be whsec_"):
        named.check_ready()
    monkeypatch.setenv("HOOK_SECRET", f"{SECRET} {OTHER_SECRET}")
    named.check_ready()
    assert len(named.webhook_keys("orders")) == 2
    given = app(Webhook(URL, secret_name="HOOK_SECRET", name="orders"), secrets={"HOOK_SECRET": OTHER_SECRET})
    assert len(given.webhook_keys("orders")) == 1


def taken(kind: str = "run.completed", *, seq: int = 7, **parts: Any) -> Taken:
    delivery = Delivery("orders", "msg_R_2", kind, "R", "writer", 1_767_225_600_123, seq=seq, session_id="s")
    return Taken(delivery, "token", **parts)


def body(message: Taken, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(body_of(message, Webhook(URL, SECRET, **fields)))
    return made


def test_the_message_of_a_run_that_completed():
    event = json.dumps({"type": "run.completed", "output": "16", "usage": {"input_tokens": 3}, "iterations": 2})
    assert body(taken(event=event.encode(), metadata=b'{"order":7}')) == {
        "id": "msg_R_2",
        "type": "run.completed",
        "timestamp": "2026-01-01T00:00:00.123Z",
        "data": {
            "run_id": "R",
            "agent": "writer",
            "status": "completed",
            "seq": 7,
            "session_id": "s",
            "user_id": None,
            "parent_run_id": None,
            "output": "16",
            "output_is_cut": False,
            "usage": {"input_tokens": 3},
            "iterations": 2,
        },
    }


def test_a_long_output_is_cut_and_says_so():
    event = json.dumps({"type": "run.completed", "output": "ü" * (MAX_TEXT + 1)}).encode()
    data = body(taken(event=event))["data"]
    assert (len(data["output"]), data["output_is_cut"]) == (MAX_TEXT, True)


def test_without_output_nothing_that_the_run_said_goes_along():
    event = json.dumps({"type": "run.completed", "output": "private"}).encode()
    failed = json.dumps({"type": "run.failed", "reason": "private"}).encode()
    asks = json.dumps([{"call_id": "R.1.0", "kind": "input", "text": "private"}]).encode()
    for message in (taken(event=event), taken("run.failed", event=failed), taken("run.waiting", asks=asks)):
        assert "private" not in str(body(message, with_output=False))
        assert "private" in str(body(message))


def test_metadata_goes_along_where_it_is_wanted_and_small():
    assert body(taken(metadata=b'{"order":7}'), with_metadata=True)["data"]["metadata"] == {"order": 7}
    large = json.dumps({"a": "x" * 20_000}).encode()
    assert body(taken(metadata=large), with_metadata=True)["data"]["metadata"] is None


def test_the_message_of_a_run_that_failed_tells_why():
    event = json.dumps({"type": "run.failed", "reason": "no such model"}).encode()
    data = body(taken("run.failed", event=event))["data"]
    assert (data["status"], data["reason"]) == ("failed", "no such model")


def test_the_message_of_a_run_that_is_gone_has_what_is_known_of_it():
    data = body(taken())["data"]
    assert (data["run_id"], data["status"], data["output"]) == ("R", "completed", None)
    # Another event at that number: what Redis holds is from another life of the run.
    event = json.dumps({"type": "run.failed", "reason": "x"}).encode()
    assert body(taken(event=event))["data"]["output"] is None


def test_the_message_of_a_run_that_waits_has_its_questions():
    asks = json.dumps([{"call_id": "R.1.0", "number": 0, "kind": "approval", "tool": "pay", "text": "May it?"}])
    data = body(taken("run.waiting", asks=asks.encode()))["data"]
    assert data["status"] == "waiting"
    assert [each["text"] for each in data["questions"]] == ["May it?"]
