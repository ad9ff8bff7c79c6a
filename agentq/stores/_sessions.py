"""Reading sessions from Redis: the state of one, the transcript that its runs left, lists."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

from agentq.errors import SessionNotFound
from agentq.messages import Message, decode_message
from agentq.runs import SessionState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq._redis.scripts import Script
    from agentq.stores.filters import SessionFilter

_AT_ONCE = 50
# So many runs are deleted in one script: Redis serves nobody else meanwhile.
_DELETED = 100


async def read_session(pipeline: Pipeline, keys: Keys, session_id: str) -> SessionState:
    """The state of a session. Raises `SessionNotFound`."""
    state = await _find(pipeline, keys, session_id)
    if state is None:
        raise SessionNotFound(f"session {session_id!r}: {SessionNotFound().args[0]}")
    return state


async def read_session_messages(
    pipeline: Pipeline, keys: Keys, session_id: str, start: int, end: int = -1
) -> tuple[Message, ...]:
    """The messages of a session from index `start` to `end`, that one included."""
    contents = await pipeline.execute("LRANGE", keys.session_messages(session_id), start, end)
    return tuple(decode_message(content) for content in contents)


async def list_sessions(pipeline: Pipeline, keys: Keys, which: SessionFilter) -> tuple[SessionState, ...]:
    """The sessions that `which` asks for. Those that have expired stand in the listing until a sweep; left out here."""
    found: list[SessionState] = []
    at, listing = which.offset, keys.sessions(which.user_id)
    while len(found) < which.limit:
        page: list[bytes] = await pipeline.execute("ZREVRANGE", listing, at, at + _AT_ONCE - 1)
        states = await asyncio.gather(*[_find(pipeline, keys, member.decode()) for member in page])
        found += [state for state in states if state is not None]
        if len(page) < _AT_ONCE:
            break
        at += _AT_ONCE
    return tuple(found[: which.limit])


async def delete_session(pipeline: Pipeline, keys: Keys, script: Script, session_id: str) -> None:
    """Delete a session and its runs. Raises `SessionBusy`."""
    newest: list[bytes] = await pipeline.execute("ZREVRANGE", keys.listing("session", session_id), 0, 0)
    for part in count():
        runs_are_left = await pipeline.run(
            script,
            about=f"session {session_id!r}",
            session=keys.session(session_id),
            prefix=keys.prefix,
            name=session_id,
            upto=newest[0] if newest else b"",
            limit=_DELETED,
            part=part,
        )
        if not runs_are_left:
            return


async def _find(pipeline: Pipeline, keys: Keys, session_id: str) -> SessionState | None:
    raw: Mapping[bytes, bytes] = await pipeline.execute("HGETALL", keys.session(session_id))
    if not raw:
        return None

    def text(name: bytes) -> str | None:
        value = raw.get(name)
        return value.decode() if value else None

    def number(name: bytes) -> int:
        return int(raw.get(name) or 0)

    return SessionState(
        session_id=session_id,
        user_id=text(b"user"),
        live_run_id=text(b"live"),
        run_count=number(b"runs"),
        open_runs=number(b"open"),
        message_count=await pipeline.execute("LLEN", keys.session_messages(session_id)),
        created_ms=number(b"created"),
        used_ms=number(b"used"),
    )
