"""Signatures of webhooks, as Standard Webhooks has them: https://github.com/standard-webhooks/standard-webhooks.

Pure but for the clock. Who receives messages needs this module alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from agentq.errors import InvalidInput, WebhookNotVerified

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PREFIX = "whsec_"
# The specification: between 192 and 512 bits.
_MIN_BYTES, _MAX_BYTES = 24, 64
_NEW_BYTES = 32
ID_HEADER, TIME_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"


def new_secret() -> str:
    """A secret that nobody can guess: `whsec_` and 32 random bytes in base64."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_NEW_BYTES)).decode()


def secret_keys(secret: str | Sequence[str], *, field: str = "secret") -> tuple[bytes, ...]:
    """The keys of one or several secrets, which may also stand in one text with spaces. Raises `InvalidInput`.

    What it says never holds a secret.
    """
    given = [secret] if isinstance(secret, str) else secret
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise InvalidInput(f"{field} must be a text such as whsec_..., or several", field=field)
    keys = tuple(_key(word, field) for each in given for word in each.split())
    if not keys:
        raise InvalidInput(f"{field} is empty; `agentq webhooks secret` makes one", field=field)
    return keys


def signature_headers(keys: Sequence[bytes], message_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The three headers of a message; with several keys several signatures, so that a receiver may know either."""
    signatures = (f"v1,{_signature(key, message_id, str(at_s), body)}" for key in keys)
    return {ID_HEADER: message_id, TIME_HEADER: str(at_s), SIGNATURE_HEADER: " ".join(signatures)}


def verify_webhook(
    secret: str | Sequence[str],
    headers: Mapping[str, str],
    body: bytes | str,
    tolerance: float = 300,
    *,
    now: float | None = None,
) -> dict[str, Any]:
    """The message, if it is from who has the secret, unchanged, and no older or newer than `tolerance` seconds.

    `headers` are those of the request, in any case of letters; `body` is the body as it came, not what a framework
    read from it. Of several secrets any will do. `now` are seconds since 1970, for tests. Raises `WebhookNotVerified`,
    and `InvalidInput` for a secret that is none.
    """
    keys = secret_keys(secret)
    content = body.encode() if isinstance(body, str) else bytes(body)
    of = {name.lower(): value for name, value in headers.items()}
    message_id, at, given = (_header(of, name) for name in (ID_HEADER, TIME_HEADER, SIGNATURE_HEADER))
    # Without a short-cut, so that the time that it takes tells nothing.
    expected = [_signature(key, message_id, at, content).encode() for key in keys]
    signatures = [word.partition(",")[2].encode() for word in given.split() if word.startswith("v1,")]
    matches = [hmac.compare_digest(mine, theirs) for mine in expected for theirs in signatures]
    if not any(matches):
        raise WebhookNotVerified(
            "no signature fits: the secret is another one, or the body is not as it came (read it raw, before JSON)"
        )
    late_s = (time.time() if now is None else now) - _seconds(at)
    if abs(late_s) > tolerance:
        word = "old" if late_s > 0 else "ahead of this clock"
        raise WebhookNotVerified(f"the message is {abs(late_s):.0f} s {word}, and {tolerance:g} s are allowed")
    try:
        message = json.loads(content)
    except ValueError as error:
        raise WebhookNotVerified("the body is signed, but is no JSON") from error
    if not isinstance(message, dict):
        raise WebhookNotVerified("the body is signed, but is no JSON object")
    return message


def _key(word: str, field: str) -> bytes:
    try:
        key = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not word.startswith(_PREFIX) or not _MIN_BYTES <= len(key) <= _MAX_BYTES:
        raise InvalidInput(
            f"{field} must be whsec_ and {_MIN_BYTES} to {_MAX_BYTES} bytes in base64; `agentq webhooks secret` "
            "makes one",
            field=field,
        ) from None
    return key


def _signature(key: bytes, message_id: str, at: str, body: bytes) -> str:
    signed = f"{message_id}.{at}.".encode() + body
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _header(headers: Mapping[str, str], name: str) -> str:
    if not (value := headers.get(name)):
        raise WebhookNotVerified(f"the header {name} is missing: this is no message of a webhook")
    return value


def _seconds(text: str) -> int:
    # isdecimal() alone would let digits of other scripts pass, and a number of any length.
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        raise WebhookNotVerified(f"the header {TIME_HEADER} is no time: {text!r:.40}")
    return int(text)
