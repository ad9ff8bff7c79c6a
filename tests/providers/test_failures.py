"""What a server answers says whether another try is worth it, and when."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentq.providers._failures import excerpt, read_error, refused, retry_after_s

NOW = "Thu, 26 Nov 2026 08:00:00 GMT"


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 520, 524, 529, 599])
def test_what_heals_is_tried_again(status: int):
    assert refused("openai", status, {}, b"").retryable


@pytest.mark.parametrize("status", [301, 400, 401, 402, 403, 404, 405, 413, 422, 501, 505])
def test_what_stays_is_not(status: int):
    error = refused("openai", status, {}, b"")
    assert (error.retryable, error.status, str(error)) == (False, status, f"openai answered {status}")


@pytest.mark.parametrize(
    "error",
    [
        {"code": "insufficient_quota", "type": "insufficient_quota", "message": "You exceeded your quota."},
        {"code": None, "type": "insufficient_quota", "message": "You exceeded your quota."},
        {"code": "credit_balance_exhausted", "message": "You exceeded your quota."},
        {"code": "organization_spend_limit_exceeded", "type": "requests", "message": "You exceeded your quota."},
    ],
)
@pytest.mark.parametrize("headers", [{}, {"retry-after": "1", "x-should-retry": "true"}])
def test_what_has_to_be_paid_is_not_tried_again(error: dict[str, Any], headers: dict[str, str]):
    told = refused("openai", 429, headers, json.dumps({"error": error}).encode())
    assert not told.retryable
    assert "You exceeded your quota" in str(told)


def test_a_rate_limit_is():
    body = {"error": {"code": "rate_limit_exceeded", "type": "tokens", "message": "Slow down."}}
    told = refused("openai", 429, {"retry-after": "7"}, json.dumps(body).encode(), hint="look there")
    assert (told.retryable, told.retry_after_s) == (True, 7)
    assert str(told) == "openai answered 429 (rate_limit_exceeded): Slow down; look there"


@pytest.mark.parametrize(
    ("asked", "status", "expected"), [("true", 400, True), ("false", 503, False), ("?", 503, True)]
)
def test_the_server_may_say_whether_to_try_again(asked: str, status: int, expected: bool):
    assert refused("openai", status, {"x-should-retry": asked}, b"").retryable is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0),
        ({"retry-after": " 30 "}, 30),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 26 Nov 2026 08:02:00 GMT", "date": NOW}, 120),
        ({"retry-after": "Thu, 26 Nov 2026 07:00:00 GMT", "date": NOW}, 0),
        ({"retry-after": "999999999"}, 86_400),
        ({"retry-after": "Sat, 26 Dec 2026 08:00:00 GMT", "date": NOW}, 86_400),
        ({"retry-after": "Thu, 26 Nov 2026 08:02:00 GMT"}, None),
        ({"retry-after": "Thu, 26 Nov 2026 08:02:00", "date": NOW}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "²"}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], expected: float | None):
    """Seconds, milliseconds, or a date by the server's own clock, at most a day; nonsense counts as nothing said."""
    assert retry_after_s(headers) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"message": "no", "code": "bad", "type": "invalid"}}, ("bad", "no")),
        ({"error": {"message": "no", "code": 404, "type": "NotFoundError"}}, ("NotFoundError", "no")),
        ({"error": {"message": "no", "code": 404}}, ("404", "no")),
        ({"error": "model not found"}, ("", "model not found")),
        ({"object": "error", "message": "no", "code": 400}, ("400", "no")),
        ({"detail": "Not Found"}, ("", "Not Found")),
        ({"detail": [{"loc": ["body"], "msg": "wrong"}]}, ("", '[{"loc":["body"],"msg":"wrong"}]')),
        ([{"error": {"message": "no", "code": 429, "status": "UNAVAILABLE"}}], ("UNAVAILABLE", "no")),
        ({"error": {"message": "no", "code": 429, "status": "failed"}}, ("429", "no")),
        ({"error": {"odd": 1}}, ("", '{"odd":1}')),
        ({"error": {"message": {"deep": 1}, "code": True}}, ("", '{"deep":1}')),
        ("text", ("", "text")),
        (7, ("", "7")),
        ([], ("", "[]")),
    ],
)
def test_errors_in_their_usual_shapes(body: Any, expected: tuple[str, str]):
    assert read_error(json.dumps(body).encode()) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", ""),
        (b"upstream\n  connect error", "upstream connect error"),
        (b"<html><head><TITLE> 502 Bad\n Gateway</TITLE></head>...", r"a page titled '502 Bad\n Gateway'"),
        (b"<!doctype html><p>hi", "a page, not JSON"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[" * 100_000, "[" * 499 + "…"),
    ],
)
def test_errors_that_are_no_json(body: bytes, expected: str):
    assert read_error(body) == ("", expected)


def test_an_excerpt_can_stand_in_a_message():
    assert len(excerpt("x" * 10_000)) == 500
