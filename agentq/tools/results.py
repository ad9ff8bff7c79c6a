"""What a tool may return beside a plain value, and the forms in which what it returned is kept."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.attachments import Attachable, Attached, File, read_files
from agentq.context.shortening import cut
from agentq.errors import InvalidInput, ToolError
from agentq.messages import STORED_FILE
from agentq.tools.function import dump_result
from agentq.tools.secrets import NO_SECRETS, Secrets

if TYPE_CHECKING:
    from agentq.messages import FilePart, ToolResultPart
    from agentq.settings import Settings


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A result of a tool that is more than one value.

    The model reads `content` and gets the `files`: paths, bytes, URLs or `File` objects. `data` is for programs: any
    value that has a JSON form. It stands in the transcript and in the event; the model sees nothing of it, unless there
    is no `content`: then it reads `data` as JSON.
    """

    content: Any = None
    files: Iterable[Attachable] = ()
    data: Any = None


@dataclass(frozen=True, slots=True)
class Returned:
    """What a tool returned, as it is kept: `contents` are those of the stored files among `files`, by digest."""

    content: str
    files: tuple[FilePart, ...] = ()
    contents: Mapping[str, bytes] = field(default_factory=dict)
    data: Any = None


async def returned(value: Any, limits: Settings, secrets: Secrets = NO_SECRETS) -> Returned:
    """What is to be kept of the value that a tool returned, without its secrets; files are read in a thread.

    Raises `ToolError` for a value that has no JSON form, and for files that cannot be read or are too large.
    """
    content, files, data = _divided(value)
    if data is None and not files:
        return Returned(secrets.redact(content))
    try:
        data = _json.checked(data, field="data")
        attached = await asyncio.to_thread(_read, files, limits, secrets)
    except InvalidInput as error:
        raise ToolError(f"the tool has run, but what it returned cannot be kept: {error}") from error
    return Returned(secrets.redact(content), attached.parts, attached.contents, _without(secrets, data))


def _read(files: Iterable[Attachable], limits: Settings, secrets: Secrets) -> Attached:
    attached = read_files(files, limits)
    if not secrets:
        return attached
    parts: list[FilePart] = []
    contents: dict[str, bytes] = {}
    for part in attached.parts:
        changed: dict[str, Any] = {"url": secrets.redact(part.url), "name": part.name and secrets.redact(part.name)}
        if part.digest is not None:
            # Bytes that are no UTF-8 come back as they were.
            text = attached.contents[part.digest].decode("utf-8", "surrogateescape")
            content = secrets.redact(text).encode("utf-8", "surrogateescape")
            digest = hashlib.sha256(content).hexdigest()
            contents[digest] = content
            changed |= {"url": STORED_FILE + digest, "size": len(content)}
        parts.append(part.model_copy(update=changed))
    return Attached(tuple(parts), contents)


def _without(secrets: Secrets, data: Any) -> Any:
    """Data of JSON without the secrets in its texts."""
    match data:
        case str():
            return secrets.redact(data)
        case list() if secrets:
            return [_without(secrets, each) for each in data]
        case dict() if secrets:
            return {secrets.redact(name): _without(secrets, each) for name, each in data.items()}
        case _:
            return data


def returned_text(value: Any) -> Returned:
    """As `returned`, of a value without files. Raises `ToolError` for files too."""
    content, files, data = _divided(value)
    if files:
        raise ToolError("files cannot be given here; give a text and data: ToolResult('...', data=...)")
    try:
        return Returned(content, data=_json.checked(data, field="data"))
    except InvalidInput as error:
        raise ToolError(str(error)) from error


def _divided(value: Any) -> tuple[str, Iterable[Attachable], Any]:
    """The text for the model, the files, and what of the data the text does not say."""
    match value:
        case ToolResult(content=None, data=None):
            return "", value.files, None
        case ToolResult(content=None):
            return dump_result(value.data), value.files, None
        case ToolResult():
            return dump_result(value.content), value.files, value.data
        case File():
            return "", (value,), None
        case list() | tuple() if any(isinstance(item, File) for item in value):
            texts = [dump_result(item) for item in value if not isinstance(item, File)]
            return "\n".join(texts), [item for item in value if isinstance(item, File)], None
        case Mapping() if any(isinstance(item, File) for item in value.values()):
            raise ToolError("a dict cannot hold files; return ToolResult(data={...}, files=[...])")
        case _:
            return dump_result(value), (), None


def within_limits(result: ToolResultPart, max_chars: int, max_data_bytes: int) -> ToolResultPart:
    """A result that is too large to be stored is cut: the call has been made, so it must not fail for that.

    Data has a limit of its own, since a tool's `max_result_chars` is about what the model reads. It is kept whole or
    not at all: half of it is no JSON.
    """
    changed: dict[str, Any] = {}
    content = result.content
    if len(content) > max_chars:
        content = cut(content, max_chars)
        changed["content"] = content
    if result.data is not None and (size := len(_json.dumps(result.data))) > max_data_bytes:
        notice = f"[Data left out: {size} bytes of JSON, more than the {max_data_bytes} of AGENTQ_MAX_VALUE_BYTES]"
        changed |= {"content": f"{content}\n{notice}", "data": None}
    return result.model_copy(update=changed) if changed else result
