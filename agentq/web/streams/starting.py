"""Starting the run of a turn: once, however often its request comes."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.attachments import File
from agentq.errors import InvalidInput
from agentq.runs import RunState, Status
from agentq.web.access import Action

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request

    from agentq.web.site import Site


@dataclass(frozen=True, slots=True)
class Prompt:
    """What somebody says: text and files."""

    text: str
    files: Sequence[File] = field(default_factory=tuple)


async def start(
    site: Site,
    request: Request,
    agent: str,
    prompt: Prompt,
    *,
    session_id: str | None,
    key: Sequence[Any],
    metadata: Mapping[str, Any] | None = None,
) -> RunState:
    """Enqueue a run, or find the one that the same `key` of the same user made. Raises `InvalidInput`."""
    if not prompt.text and not prompt.files:
        raise InvalidInput("messages: there is no message of a user with text or files", field="messages")
    proposed = RunState("", agent, Status.QUEUED, prompt.text[:200], session_id=session_id)
    who = await site.access.allow(request, Action.START, proposed)
    digest = hashlib.sha256(_json.dumps([who, agent, session_id, *key])).hexdigest()[:40]
    run = await site.client.enqueue(
        agent,
        prompt.text or "See the files.",
        session_id=session_id,
        user_id=who or None,
        files=prompt.files,
        idempotency_key=f"web:{digest}",
        metadata=metadata,
    )
    return await site.client.read(run.id)


def file_of(url: str, media_type: str | None, name: str | None = None) -> File:
    """A file by its URL; those of `data:` bring their content. Raises `InvalidInput`."""
    if not url.startswith("data:"):
        return File(url=url, media_type=media_type, name=name)
    head, _, data = url.removeprefix("data:").partition(",")
    if not head.endswith(";base64"):
        raise InvalidInput("messages: the URL of a file must be https:, or data: in Base64", field="messages")
    return data_file(data, media_type or head.removesuffix(";base64") or None, name)


def data_file(data: str, media_type: str | None, name: str | None = None) -> File:
    """A file with its content, in Base64. Raises `InvalidInput`."""
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"messages: a file is no Base64: {error}", field="messages") from error
    return File(content=content, media_type=media_type, name=name)
