"""The items of a reply of OpenAI's Responses as parts of a message, and the same items again from the parts. Pure.

`native` of a part holds what its text or its arguments cannot give back; the item comes out as it was sent, without
the keys that were null. An item of a kind that has no part of its own travels whole, in a part of reasoning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.messages import Message, Origin, ReasoningPart, TextPart, ToolCallPart
from agentq.providers.reply import parse_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

API = "openai-responses"
# Several summaries of one item stand in one part, with this between them.
BETWEEN = "\n\n"
# The part goes on in the next part of its kind, which has the native of both.
GOES_ON = "goes_on"
# A whole item; its verbatim form in place of what the text gives; and how the text of a part falls into pieces.
_ITEM, _CONTENT, _SUMMARY, _LENGTHS, _SOURCE, _PART = "item", "content", "summary", "lengths", "source", "part"
_USUAL: dict[str, Any] = {"annotations": []}


def origin_of(model: str) -> Origin:
    """Whose the native parts of a reply are when `model` was asked for."""
    return Origin(api=API, model=model)


def without_nulls(value: Any) -> Any:
    """The value without keys that are null: the wire sends them and does not take them."""
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


# --- from items to parts


def part_native(part: dict[str, Any]) -> dict[str, Any]:
    """The native of one content part of a message, without its text."""
    is_refusal = part.get("type") == "refusal"
    rest = {name: value for name, value in part.items() if name != ("refusal" if is_refusal else "text")}
    if not is_refusal:
        rest.pop("type", None)
    return {} if rest == _USUAL else {_PART: rest}


def message_native(item: dict[str, Any], told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The native of the last part of a message. `told` is its content as its parts will give it back."""
    native = {name: value for name, value in item.items() if name not in ("type", "role", _CONTENT)}
    content = item.get(_CONTENT, [])
    if not told or list(told) != content:
        native[_CONTENT] = content
        return native
    return native | part_native(told[-1])


def reasoning_native(item: dict[str, Any], text: str | None) -> dict[str, Any]:
    """The native of a part of reasoning whose text is `text`; None: its text is not that of the item."""
    native = {name: value for name, value in item.items() if name not in ("type", _SUMMARY, _CONTENT)}
    summary, content = item.get(_SUMMARY) or [], item.get(_CONTENT)
    if _is_told(summary, "summary_text", text):
        native |= _lengths(summary, text)
        if content is not None:
            native[_CONTENT] = content
    elif content and _is_told(content, "reasoning_text", text):
        native |= {_SOURCE: _CONTENT} | _lengths(content, text)
        if summary:
            native[_SUMMARY] = summary
    else:
        native[_SUMMARY] = summary
        if content is not None:
            native[_CONTENT] = content
    return native


def call_native(item: dict[str, Any], arguments: str) -> dict[str, Any]:
    """The native of a tool call whose arguments came as the text `arguments`."""
    native = {name: value for name, value in item.items() if name not in ("type", "call_id", "name", "arguments")}
    if arguments.strip() and _json.dumps(parse_arguments(arguments)[0]).decode() != arguments:
        native["arguments"] = arguments
    return native


def other_native(item: dict[str, Any]) -> dict[str, Any]:
    """The native that holds a whole item."""
    return {_ITEM: item}


def texts_of(parts: Any) -> list[str]:
    """The texts of the summaries, or of the reasoning, of an item."""
    texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return [text for text in texts if isinstance(text, str)]


def _is_told(parts: Any, kind: str, text: str | None) -> bool:
    return parts == [_of(kind, each) for each in texts_of(parts)] and BETWEEN.join(texts_of(parts)) == text


def _lengths(parts: list[dict[str, Any]], text: str | None) -> dict[str, Any]:
    """How long each piece is, where the text alone does not say."""
    return {} if len(parts) == (1 if text else 0) else {_LENGTHS: [len(part["text"]) for part in parts]}


# --- from parts to items


def items_of(
    message: Message, call_id_of: Callable[[ToolCallPart], str], *, is_exact: bool, is_encrypted: bool
) -> list[dict[str, Any]]:
    """The items of a reply that this API and model sent.

    Reasoning is only taken together with the item that followed it, and the ids of those only with the reasoning:
    where some cannot be sent, the whole reply goes as what it says. `is_exact`: also arguments that are not JSON go as
    they came; not every server bears that. `is_encrypted`: encrypted reasoning is sent.
    """
    items: list[dict[str, Any]] = []
    begun: list[TextPart] = []
    for part in message.parts:
        match part:
            case ReasoningPart(native={"goes_on": True}):
                pass
            case ReasoningPart():
                item = _reasoning(part, is_encrypted=is_encrypted)
                if item is None:
                    return plain_items(message, call_id_of)
                items.append(item)
            case TextPart(native={"goes_on": True}):
                begun.append(part)
            case TextPart() if part.native is not None:
                items.append(_message(part.native, [*begun, part]))
                begun = []
            case TextPart() if part.text:
                items.append(said(part.text))
            case ToolCallPart():
                items.append(_call(part, call_id_of(part), is_exact=is_exact))
            case _:
                pass
    if begun:
        return plain_items(message, call_id_of)
    while items and items[-1]["type"] == "reasoning":
        items.pop()  # its end was cut off
    return items


def plain_items(message: Message, call_id_of: Callable[[ToolCallPart], str]) -> list[dict[str, Any]]:
    """What a reply says, without what only its own server understands."""
    items: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case TextPart() if part.text:
                phase = (part.native or {}).get("phase")
                items.append(said(part.text) | ({"phase": phase} if phase else {}))
            case ToolCallPart():
                items.append(_call(part.model_copy(update={"native": None}), call_id_of(part), is_exact=False))
            case _:
                pass
    return items


def said(text: str) -> dict[str, Any]:
    """A message of the model, whoever it was."""
    return {"type": "message", "role": "assistant", "content": text}


def _message(native: dict[str, Any], parts: Sequence[TextPart]) -> dict[str, Any]:
    rest = {name: value for name, value in native.items() if name not in (_PART, _CONTENT)}
    content = native[_CONTENT] if _CONTENT in native else [content_part(part.text, part.native) for part in parts]
    return {"type": "message", "role": "assistant", _CONTENT: content, **rest}


def content_part(text: str, native: dict[str, Any] | None) -> dict[str, Any]:
    """A content part of a message."""
    rest: dict[str, Any] = (native or {}).get(_PART, _USUAL)
    if rest.get("type") == "refusal":
        return {"refusal": text, **rest}
    return {"type": "output_text", "text": text, **rest}


def _reasoning(part: ReasoningPart, *, is_encrypted: bool) -> dict[str, Any] | None:
    """The item; None where it cannot be sent, since the server has kept nothing of it."""
    native = dict(part.native or {})
    if not is_encrypted:
        native.pop("encrypted_content", None)
    if _ITEM in native:
        whole: dict[str, Any] = native[_ITEM]
        return whole
    source, lengths = native.pop(_SOURCE, _SUMMARY), native.pop(_LENGTHS, None)
    if source not in native:
        kind = "summary_text" if source == _SUMMARY else "reasoning_text"
        native[source] = [_of(kind, text) for text in _pieces(part.text, lengths)]
    if not native.get("encrypted_content") and not native.get(_CONTENT):
        return None
    return {"type": "reasoning", _SUMMARY: []} | native


def _pieces(text: str, lengths: Sequence[int] | None) -> list[str]:
    if lengths is None:
        return [text] if text else []
    begin, pieces = 0, []
    for length in lengths:
        pieces.append(text[begin : begin + length])
        begin += length + len(BETWEEN)
    return pieces


def _of(kind: str, text: str) -> dict[str, str]:
    return {"type": kind, "text": text}


def _call(part: ToolCallPart, call_id: str, *, is_exact: bool) -> dict[str, Any]:
    native = dict(part.native or {})
    given = native.pop("arguments", None)
    if given is None or (part.arguments_error and not is_exact):
        given = _json.dumps(part.arguments).decode()
    return {"type": "function_call", "call_id": call_id, "name": part.name, "arguments": given} | native
