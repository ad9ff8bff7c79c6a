"""From what a server answers to a `ProviderError`: is another try worth it, when, and in which words. Pure."""

from __future__ import annotations

import math
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

# Timeouts, conflicts, "too early" and rate limits heal; so do faults of the server, apart from these two.
_RETRYABLE = frozenset({408, 409, 425, 429})
_LASTING = frozenset({501, 505})
# OpenAI's codes and types for a limit that waiting does not lift: somebody has to pay, or to raise it.
_MONEY = frozenset(
    {
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "contract_spend_limit_reached",
        "credit_balance_exhausted",
        "enforced_spend_limit_reached",
        "insufficient_quota",
        "linked_organization_billing_unavailable",
        "linked_organization_spend_limit_reached",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
    }
)
# Headers in which the vendors send the id of a request.
_REQUEST_IDS = ("x-request-id", "request-id", "x-goog-request-id")
# Errors inside a stream come without a status; these say that the request is at fault.
_OUR_FAULT = frozenset(
    {
        "authentication_error",
        "invalid_request_error",
        "not_found_error",
        "permission_error",
        "request_too_large",
        # of OpenAI's Responses
        "bio_policy",
        "context_length_exceeded",
        "data_residency_mismatch",
        "empty_image_file",
        "image_content_policy_violation",
        "image_file_not_found",
        "image_file_too_large",
        "image_parse_error",
        "image_too_large",
        "image_too_small",
        "invalid_base64_image",
        "invalid_image",
        "invalid_image_format",
        "invalid_image_mode",
        "invalid_image_url",
        "invalid_prompt",
        "misalignment_policy_violation",
        "unsupported_image_media_type",
    }
)
# Longer than a day is a daily quota or a mistake; the run looks again after a day.
_LONGEST_WAIT_S = 86_400.0
_EXCERPT_CHARS = 500
_BLANKS = re.compile(r"\s+")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"\d{1,9}(\.\d*)?")
# Google's limits of a day, and of nothing at all: a wait of hours, whatever the error asks for.
_LONG_DELAY_S = 3_600.0
_NO_LIMIT_LEFT = re.compile(r"\blimit: 0(?!\.?\d)")


def refused(provider: str, status: int, headers: Mapping[str, str], body: bytes, *, hint: str = "") -> ProviderError:
    """The error for an answer that was no success. `headers` in lower case; `hint` says what to look at."""
    code, message = read_error(body)
    told = " ".join(part for part in (f"{provider} answered {status}", f"({code})" if code else "") if part)
    text = f"{told}: {message}" if message else told
    wait_s = retry_after_s(headers)
    error = error_in(body)
    if wait_s is None:
        wait_s = _delay_s(error)
    request_id = next((headers[name] for name in _REQUEST_IDS if headers.get(name)), "")
    notes = [note for note in (hint, f"request {request_id}" if request_id else "") if note]
    return ProviderError(
        f"{text.rstrip('.')}; {'; '.join(notes)}" if notes else text,
        provider=provider,
        status=status,
        retryable=_is_retryable(status, headers, code) and not _is_used_up(error),
        retry_after_s=wait_s,
        code=code,
        request_id=request_id,
    )


def told_in_stream(provider: str, error: Any) -> ProviderError:
    """The error for what a server sent in the middle of a stream; its headers are gone by then."""
    code, message = _fields(error)
    number = _text(error.get("code")) if isinstance(error, dict) else ""
    status = int(number) if re.fullmatch("[45][0-9]{2}", number) else None
    is_retryable = code not in _MONEY | _OUR_FAULT and (status is None or is_worth_another_try(status))
    told = f"{provider} broke the reply off{f' ({code})' if code else ''}"
    return ProviderError(
        f"{told}: {message}" if message else told,
        provider=provider,
        status=status,
        retryable=is_retryable and not _is_used_up(error),
        retry_after_s=_delay_s(error),
        code=code,
    )


def is_worth_another_try(status: int) -> bool:
    """Whether the same request may get another answer later."""
    return status in _RETRYABLE or (status >= 500 and status not in _LASTING)


def _is_retryable(status: int, headers: Mapping[str, str], code: str) -> bool:
    if code in _MONEY:
        return False
    # What the vendors' own SDKs obey.
    asked = headers.get("x-should-retry", "").strip().lower()
    return asked == "true" if asked in ("true", "false") else is_worth_another_try(status)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the server asks to wait, at most a day; None where it does not say. RFC 9110, 10.2.3."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return min(milliseconds / 1000, _LONGEST_WAIT_S)
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is None and text:
        until, now = _date(text), _date(headers.get("date", ""))
        # Against the server's own clock: this machine's may be wrong.
        seconds = (until - now).total_seconds() if until and now else None
    return None if seconds is None else min(max(seconds, 0.0), _LONGEST_WAIT_S)


def error_in(body: bytes) -> Any:
    """The error of a JSON document that tells of one, which may stand in a list; None of any other."""
    try:
        value = _json.loads(body)
    except ValueError:
        return None
    if isinstance(value, list) and value:
        value = value[0]
    return value.get("error") if isinstance(value, dict) else None


def _delay_s(error: Any) -> float | None:
    """How long Google asks to wait: it sends `google.rpc.RetryInfo` in the body in place of a header."""
    for detail in _details(error):
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and (seconds := _number(delay.removesuffix("s"))) is not None:
            return min(seconds, _LONGEST_WAIT_S)
    return None


def _is_used_up(error: Any) -> bool:
    """Whether a quota of a day is used up, or is 0: the delay that Google asks for may be a minute all the same."""
    if (_delay_s(error) or 0.0) >= _LONG_DELAY_S:
        return True
    for detail in _details(error):
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict) and (
                "PerDay" in _text(violation.get("quotaId")) or _text(violation.get("quotaValue")) == "0"
            ):
                return True
    return bool(_details(error)) and _NO_LIMIT_LEFT.search(_text(error.get("message"))) is not None


def _details(error: Any) -> list[dict[str, Any]]:
    """What Google says of an error beside its message."""
    details = error.get("details") if isinstance(error, dict) else None
    return [each for each in details if isinstance(each, dict)] if isinstance(details, list) else []


def _number(text: str | None) -> float | None:
    return float(text) if text and _NUMBER.fullmatch(text.strip()) and math.isfinite(float(text)) else None


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo is not None else None


def read_error(body: bytes) -> tuple[str, str]:
    """Code and message of an error body: JSON in one of the usual shapes, a page, or any text."""
    try:
        value = _json.loads(body)
    except ValueError:
        return "", excerpt(body.decode("utf-8", "replace"))
    if isinstance(value, list) and value:
        value = value[0]  # as Gemini's compatible server wraps it
    if isinstance(value, dict) and value.get("error"):
        value = value["error"]
    return _fields(value)


def _fields(error: Any) -> tuple[str, str]:
    if not isinstance(error, dict):
        return "", excerpt(error if isinstance(error, str) else _json.dumps(error).decode())
    code = _text(error.get("code"))
    kind = _text(error.get("type"))
    details = error.get("details")
    for detail in details.values() if isinstance(details, dict) else ():
        if isinstance(detail, str) and detail in _MONEY:
            code, kind = "", detail
    if not kind and isinstance(status := error.get("status"), str) and status.isupper():
        kind = status  # Google's word, such as RESOURCE_EXHAUSTED
    # An HTTP status as the code says nothing new beside a type that has a name.
    if kind and (not code or code.isdecimal() or kind in _MONEY):
        code = kind
    message = error.get("message") or error.get("detail") or error.get("error") or error
    return code, excerpt(message if isinstance(message, str) else _json.dumps(message).decode())


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def excerpt(text: str) -> str:
    """`text` on one line, of a length that can stand in a message; of a page its title."""
    if text.lstrip()[:1] == "<":
        title = _TITLE.search(text)
        text = f"a page titled {title[1].strip()!r}" if title else "a page, not JSON"
    line = _BLANKS.sub(" ", text).strip()
    return line if len(line) <= _EXCERPT_CHARS else f"{line[: _EXCERPT_CHARS - 1]}…"
