"""Putting units into Redis: their parts are staged, and become a run or a session all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq._ids import new_token
from agentq._redis.scripts import Script, script
from agentq.errors import StoreUnavailable
from agentq.stores._records import fields_of_ended_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq.archive.records import RunRecord, SessionRecord

_KINDS = ("messages", "events", "files")
# A slow pipe may take its time between two parts; what an import left behind when it was killed is gone after this.
_STAGED_TTL_MS = 3_600_000
# One script takes no more than this at a time, so that it holds up nobody.
_BATCH = 500
_BATCH_BYTES = 1_000_000


class Restorer:
    """The scripts that make runs and sessions of staged parts."""

    def __init__(self, pipeline: Pipeline, keys: Keys, *, scripts: Callable[[str], Script] = script) -> None:
        self.pipeline = pipeline
        self.keys = keys
        self.scripts = scripts

    async def has_run(self, run_id: str) -> bool:
        return bool(await self.pipeline.execute("EXISTS", self.keys.run(run_id)))

    async def has_session(self, session_id: str) -> bool:
        return bool(await self.pipeline.execute("EXISTS", self.keys.session(session_id)))

    async def run(self, run: RunRecord, staged: Staged, ttl_ms: int) -> bool:
        """Make the staged parts a run; False when it is there already.

        Raises `IdempotencyConflict`, `SessionConflict`.
        """
        await staged.flush()
        messages, events, files = staged.keys
        (restored,) = await self.pipeline.run(
            self.scripts("restore"),
            about=f"run {run.run_id}",
            run=self.keys.run(run.run_id),
            messages=self.keys.messages(run.run_id),
            events=self.keys.events(run.run_id),
            files=self.keys.files(run.run_id),
            key=self.keys.idempotency(run.idempotency_key),
            staged_messages=messages,
            staged_events=events,
            staged_files=files,
            prefix=self.keys.prefix,
            run_id=run.run_id,
            ttl_ms=ttl_ms,
            counts=" ".join(str(count) for count in staged.counts),
            token=staged.token,
            fields=fields_of_ended_run(run.state, run.request_hash),
            values=_stored(run.values),
        )
        return _was_restored(restored, f"run {run.run_id}")

    async def session(self, session: SessionRecord, staged: Staged, ttl_ms: int) -> bool:
        """Make the staged parts a session; False when it is there already."""
        await staged.flush()
        session_id = session.session_id
        messages, _, files = staged.keys
        fields = {
            "created": session.created_ms, "used": session.used_ms, "runs": session.run_count, "open": 0,
            **({"user": session.user_id} if session.user_id is not None else {}),
        }  # fmt: skip
        (restored,) = await self.pipeline.run(
            self.scripts("restore_session"),
            about=f"session {session_id!r}",
            session=self.keys.session(session_id),
            messages=self.keys.session_messages(session_id),
            files=self.keys.files("", session_id),
            staged_messages=messages,
            staged_files=files,
            prefix=self.keys.prefix,
            session_id=session_id,
            user=session.user_id or "",
            used=session.used_ms,
            ttl_ms=ttl_ms,
            counts=f"{staged.counts[0]} {staged.counts[2]}",
            token=staged.token,
            fields=[str(item) for pair in fields.items() for item in pair],
            values=_stored(session.values),
        )
        return _was_restored(restored, f"session {session_id!r}")


class Staged:
    """The parts of one unit on their way in. `of` is the key of what they will be."""

    def __init__(self, restorer: Restorer, of: str) -> None:
        self.token = new_token()
        self.keys = tuple(restorer.keys.staged(of, self.token, kind) for kind in _KINDS)
        self.counts = [0, 0, 0]
        self._restorer = restorer
        self._empty()

    def _empty(self) -> None:
        self._contents: list[bytes] = []
        self._entries: list[bytes | str] = []
        self._blobs: list[bytes | str] = []
        self._size = 0

    async def message(self, content: bytes) -> None:
        self._contents.append(content)
        await self._took(0, len(content))

    async def event(self, seq: int, letter: str, data: bytes, at_ms: int) -> None:
        self._entries += (f"{seq}-0", letter, data, str(at_ms))
        await self._took(1, len(data))

    async def file(self, digest: str, content: bytes) -> None:
        self._blobs += (digest, content)
        await self._took(2, len(content))

    async def _took(self, kind: int, size: int) -> None:
        self.counts[kind] += 1
        self._size += size
        if self._size >= _BATCH_BYTES or len(self._contents) + len(self._entries) // 4 >= _BATCH:
            await self.flush()

    async def flush(self) -> None:
        """Send what has been gathered."""
        if not (self._contents or self._entries or self._blobs):
            return
        messages, events, files = self.keys
        contents, entries, blobs = self._contents, self._entries, self._blobs
        self._empty()
        await self._restorer.pipeline.run(
            self._restorer.scripts("stage"),
            messages=messages,
            events=events,
            files=files,
            counts=" ".join(str(count) for count in self.counts),
            ttl_ms=_STAGED_TTL_MS,
            contents=contents,
            entries=entries,
            blobs=blobs,
        )

    async def discard(self) -> None:
        """Delete what is still staged."""
        self._empty()
        if any(self.counts):
            await self._restorer.pipeline.execute("UNLINK", *self.keys)


def _stored(values: Mapping[str, Any]) -> list[str | bytes]:
    """Names and values in turn, as tools keep them."""
    return [item for name, value in values.items() for item in (name, _json.dumps(value))]


def _was_restored(answer: int, what: str) -> bool:
    if answer == 2:
        raise StoreUnavailable(f"{what}: Redis has lost what this import had put there; import again")
    return answer == 1
