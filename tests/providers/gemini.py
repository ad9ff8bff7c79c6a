"""What Gemini says: responses of a stream, their parts, and errors."""

from __future__ import annotations

from typing import Any

USAGE = {
    "promptTokenCount": 100,
    "cachedContentTokenCount": 20,
    "candidatesTokenCount": 4,
    "thoughtsTokenCount": 3,
    "totalTokenCount": 107,
}
# As replies have them: standard base64, with the two characters that the other kind writes differently.
FIRST, SECOND = "+/+//A==", "U0lHX0I="


def response(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One frame of a stream: parts of the reply, and why it ended."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "gemini-x-001", "responseId": "r1", **more}


def text(words: str, signature: str | None = None) -> dict[str, Any]:
    return {"text": words} | ({} if signature is None else {"thoughtSignature": signature})


def thought(words: str, signature: str | None = None) -> dict[str, Any]:
    return text(words, signature) | {"thought": True}


def call(name: str, args: Any = None, call_id: str | None = None, signature: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "args": {} if args is None else args}
    if call_id is not None:
        made["id"] = call_id
    return {"functionCall": made} | ({} if signature is None else {"thoughtSignature": signature})


def end(*parts: dict[str, Any], finish: str = "STOP") -> dict[str, Any]:
    """The last frame; Gemini says STOP even where the reply calls tools."""
    return response(*parts, finish=finish, usageMetadata=USAGE)


def says(*words: str) -> list[dict[str, Any]]:
    return [*(response(text(word)) for word in words), end(text(""))]


def quota(
    quota_id: str = "GenerateRequestsPerMinutePerProjectPerModel", *, delay: str = "46s", limit: str = "20"
) -> Any:
    """The body of a 429."""
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    violation = {"quotaMetric": metric, "quotaId": quota_id} | ({} if limit == "0" else {"quotaValue": limit})
    error = {
        "code": 429,
        "message": f"You exceeded your current quota.\n* Quota exceeded for metric: {metric}, limit: {limit}, model: x",
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
        ],
    }
    return {"error": error}
