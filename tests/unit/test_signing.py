"""Signatures of webhooks: the known vector, what is refused, and secrets that take each other's place."""

from __future__ import annotations

import pytest

from agentq import InvalidInput, WebhookNotVerified, verify_webhook
from agentq.signing import new_secret, secret_keys, signature_headers
from tests.receiver import OTHER_SECRET, SECRET

# From the test suite of Standard Webhooks.
ID, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HEADERS = {"webhook-id": ID, "webhook-timestamp": str(AT), "webhook-signature": SIGNATURE}


def test_the_known_vector():
    assert signature_headers(secret_keys(SECRET), ID, AT, BODY) == HEADERS
    assert verify_webhook(SECRET, HEADERS, BODY, now=AT) == {"test": 2432232314}
    assert verify_webhook(SECRET, HEADERS, BODY.decode(), now=AT) == {"test": 2432232314}


def test_headers_come_in_any_case():
    headers = {name.title(): value for name, value in HEADERS.items()}
    assert verify_webhook(SECRET, headers, BODY, now=AT) == {"test": 2432232314}


def test_while_secrets_are_rotated_either_side_may_have_either():
    both = signature_headers(secret_keys([SECRET, OTHER_SECRET]), ID, AT, BODY)
    assert both["webhook-signature"].split()[0] == SIGNATURE
    assert len(both["webhook-signature"].split()) == 2
    for secret in (SECRET, OTHER_SECRET, [OTHER_SECRET, SECRET], f"{OTHER_SECRET} {SECRET}"):
        assert verify_webhook(secret, both, BODY, now=AT) == {"test": 2432232314}
    assert verify_webhook([OTHER_SECRET, SECRET], HEADERS, BODY, now=AT) == {"test": 2432232314}


def test_signatures_of_other_versions_are_passed_over():
    headers = HEADERS | {"webhook-signature": f"v1a,{SIGNATURE[3:]} v2,x {SIGNATURE}"}
    assert verify_webhook(SECRET, headers, BODY, now=AT) == {"test": 2432232314}
    with pytest.raises(WebhookNotVerified, match="no signature fits"):
        verify_webhook(SECRET, headers | {"webhook-signature": f"v1a,{SIGNATURE[3:]}"}, BODY, now=AT)


@pytest.mark.parametrize(
    ("change", "body", "secret"),
    [
        ({}, BODY + b" ", SECRET),
        ({}, b"", SECRET),
        ({}, BODY, OTHER_SECRET),
        ({"webhook-id": "msg_other"}, BODY, SECRET),
        ({"webhook-timestamp": str(AT + 1)}, BODY, SECRET),
        ({"webhook-signature": "v1,"}, BODY, SECRET),
        ({"webhook-signature": "ünbekannt"}, BODY, SECRET),
        ({"webhook-signature": "v1,ünbekannt"}, BODY, SECRET),
    ],
)
def test_what_was_changed_or_is_from_somebody_else_is_refused(change: dict[str, str], body: bytes, secret: str):
    with pytest.raises(WebhookNotVerified, match="no signature fits"):
        verify_webhook(secret, HEADERS | change, body, now=AT)


@pytest.mark.parametrize("name", list(HEADERS))
def test_a_missing_header_is_named(name: str):
    with pytest.raises(WebhookNotVerified, match=f"header {name} is missing"):
        verify_webhook(SECRET, {key: value for key, value in HEADERS.items() if key != name}, BODY, now=AT)


def test_an_old_message_is_refused_and_so_is_one_from_the_future():
    assert verify_webhook(SECRET, HEADERS, BODY, now=AT + 300)
    with pytest.raises(WebhookNotVerified, match="301 s old, and 300 s are allowed"):
        verify_webhook(SECRET, HEADERS, BODY, now=AT + 301)
    with pytest.raises(WebhookNotVerified, match="301 s ahead"):
        verify_webhook(SECRET, HEADERS, BODY, now=AT - 301)
    assert verify_webhook(SECRET, HEADERS, BODY, 1_000, now=AT + 999)
    with pytest.raises(WebhookNotVerified, match="old"):
        verify_webhook(SECRET, HEADERS, BODY)


@pytest.mark.parametrize("at", ["1e9", "-1", "١٢٣", "9" * 400, " 1"])
def test_a_time_that_is_none_is_refused(at: str):
    headers = signature_headers(secret_keys(SECRET), ID, at, BODY)  # type: ignore[arg-type]  # what others may send
    with pytest.raises(WebhookNotVerified, match="is no time"):
        verify_webhook(SECRET, headers, BODY, now=AT)


@pytest.mark.parametrize("body", [b"no json", b"[1]", b"\xff"])
def test_a_body_that_is_no_message_is_refused_although_it_is_signed(body: bytes):
    headers = signature_headers(secret_keys(SECRET), ID, AT, body)
    with pytest.raises(WebhookNotVerified, match="is no JSON"):
        verify_webhook(SECRET, headers, body, now=AT)


@pytest.mark.parametrize(
    "secret",
    ["", "   ", [], "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_ü", "whsec_c2hvcnQ=", [SECRET, "x"], [1]],
)
def test_a_secret_that_is_none_says_so_and_is_not_shown(secret: object):
    with pytest.raises(InvalidInput) as raised:
        secret_keys(secret)  # type: ignore[arg-type]
    assert raised.value.field == "secret"
    for part in ("c2hvcnQ", "ü", SECRET[6:]):
        assert part not in str(raised.value)


def test_a_new_secret_is_a_secret_and_another_each_time():
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(secret_keys(secret)[0]) for secret in made} == {32}
