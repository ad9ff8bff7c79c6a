"""Checks a Gemini body against Google's SDK, and decodes streams with it.

The SDK's types are pydantic models that take names in snake case as well, any case of an enum and both kinds of base64:
the check reads the body by its names on the wire alone, has the SDK's own client send what it read, and compares.
"""

from __future__ import annotations

import base64
import functools
import json
from typing import TYPE_CHECKING, Any

import httpx
from google import genai
from google.genai import types
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from collections.abc import Sequence

_IN_BASE64 = ("thoughtSignature", "data")
_END = b'data: {"candidates":[{"finishReason":"STOP"}]}\n\n'
# Set for our own use of the SDK; it is not sent.
_NO_CALLS: Any = {"disable": True}


class _Body(BaseModel):
    """The keys of a request; the SDK has no type for it, and spreads them over one of its own."""

    model_config = ConfigDict(extra="forbid")

    contents: list[types.Content] = Field(min_length=1)
    system_instruction: types.Content | None = Field(default=None, alias="systemInstruction")
    tools: list[types.Tool] | None = None
    tool_config: types.ToolConfig | None = Field(default=None, alias="toolConfig")
    generation_config: types.GenerationConfig | None = Field(default=None, alias="generationConfig")
    safety_settings: list[types.SafetySetting] | None = Field(default=None, alias="safetySettings")
    cached_content: str | None = Field(default=None, alias="cachedContent")


def check_google(body: dict[str, Any]) -> None:
    """Raise ValidationError or AssertionError where the SDK would not send exactly this body."""
    read = _Body.model_validate_json(json.dumps(body), strict=True, by_alias=True, by_name=False)
    config = types.GenerateContentConfig(
        system_instruction=read.system_instruction,
        tools=list(read.tools) if read.tools is not None else None,
        tool_config=read.tool_config,
        safety_settings=read.safety_settings,
        cached_content=read.cached_content,
        automatic_function_calling=_NO_CALLS,
        **(read.generation_config.model_dump(exclude_unset=True) if read.generation_config else {}),
    )
    client, sent = _client()
    sent.clear()
    list(client.models.generate_content_stream(model="gemini-x", contents=list(read.contents), config=config))
    (theirs,) = sent
    if theirs.get("generationConfig") == {}:
        del theirs["generationConfig"]  # sent in any case
    assert _decoded(theirs) == _decoded(body)


def sdk_parts(stream: bytes) -> list[dict[str, Any]]:
    """The parts of the reply that the SDK reads from a stream, as it would write them on the wire."""
    client, sent = _client()
    sent[:] = [stream]
    responses = client.models.generate_content_stream(model="gemini-x", contents="Hi")
    found: list[types.Part] = []
    for response in responses:
        for candidate in response.candidates or ():
            found += (candidate.content and candidate.content.parts) or ()
    return [part.model_dump(mode="json", by_alias=True, exclude_none=True) for part in found]


@functools.cache
def _client() -> tuple[genai.Client, list[Any]]:
    """A client of the SDK without a network, and what it was told to send; before, what it is to be answered."""
    sent: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        stream = sent.pop() if sent else _END
        sent.append(json.loads(request.content))
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=stream)

    transport = httpx.Client(transport=httpx.MockTransport(answer))
    return genai.Client(api_key="test", http_options=types.HttpOptions(httpx_client=transport)), sent


def decoded(parts: Sequence[dict[str, Any]]) -> Any:
    """Parts in a form in which those of the SDK, which writes the other kind of base64, can be compared with ours."""
    return [_decoded(part) for part in parts]


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(each) for each in value]
    if not isinstance(value, dict):
        return value
    # The SDK writes some names in snake case, which the server takes as well.
    return {
        to_camel(name): base64.b64decode(each, "-_" if {*"-_"} & {*each} else "+/", validate=True)
        if name in _IN_BASE64 and isinstance(each, str)
        else _decoded(each)
        for name, each in value.items()
    }
