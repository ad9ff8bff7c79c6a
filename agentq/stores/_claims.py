"""Claims: from what `claim.lua` answers, with the transcripts that this process knows already."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentq.errors import StoreCorrupted
from agentq.messages import decode_message
from agentq.runs import SCHEMA_VERSION
from agentq.stores._records import run_of_hash
from agentq.stores._sessions import read_session_messages
from agentq.stores._transcripts import Transcript, Transcripts
from agentq.stores.base import Claim, Lease

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq._redis.scripts import Script
    from agentq.messages import Message
    from agentq.runs import RunState


@dataclass(frozen=True, slots=True)
class WakeupSource:
    """Where wake-ups wait: RQ lists in order of urgency, the prefix of RQ's job hashes, and the names of the queues."""

    queue_keys: tuple[str, ...]
    job_prefix: str
    queues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimedWakeups:
    """What was claimed, how many wake-ups were taken off the lists, and the job ids that are not ours.

    `suspect` is a run that lost its worker again and again: the caller is to claim it alone, by name, once it is idle.
    `paused` are the lists from which nothing is taken, since their queue, or everything, is paused.
    """

    claims: tuple[Claim, ...]
    popped: int
    foreign: tuple[str, ...]
    suspect: str | None = None
    paused: tuple[str, ...] = ()


class Claims:
    """Claims runs of one store. `set_aside` ends a run that this version cannot read."""

    def __init__(
        self,
        pipeline: Pipeline,
        keys: Keys,
        scripts: Callable[[str], Script],
        transcripts: Transcripts,
        set_aside: Callable[[Lease, Mapping[bytes, bytes], StoreCorrupted], Awaitable[None]],
    ) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._script = scripts
        self._transcripts = transcripts
        self._set_aside = set_aside

    async def take(
        self,
        source: WakeupSource,
        run_ids: Sequence[str],
        *,
        owner: str,
        claim_id: str,
        lease_ms: int,
        count: int,
        agents: Sequence[str] | None,
        is_idle: bool = True,
    ) -> ClaimedWakeups:
        """Claim runs by name, then those of up to `count` wake-ups of the queues."""
        claims, popped, foreign, suspect, paused = await self._pipeline.run(
            self._script("claim"),
            batch=self._keys.batch(owner),
            queues=source.queue_keys,
            prefix=self._keys.prefix,
            owner=owner,
            claim_id=claim_id,
            lease_ms=lease_ms,
            count=count,
            job_prefix=source.job_prefix,
            version=SCHEMA_VERSION,
            idle=int(is_idle),
            agents=agents or (),
            run_ids=run_ids,
            names=source.queues,
        )
        readable = [await self._readable(owner, claim) for claim in claims]
        return ClaimedWakeups(
            tuple(claim for claim in readable if claim is not None),
            popped,
            tuple(job_id.decode(errors="backslashreplace") for job_id in foreign),
            suspect.decode() or None,
            tuple(source.queue_keys[number] for number in paused),
        )

    async def _readable(self, owner: str, answer: list[Any]) -> Claim | None:
        """The claim, or None when this version cannot read the run: then the run has failed, and says so.

        One bad run must not keep the others of its batch, nor go from worker to worker for ever.
        """
        try:
            return await self._read(owner, answer)
        except StoreCorrupted as error:
            state = dict(zip(answer[1][::2], answer[1][1::2], strict=True))
            await self._set_aside(Lease(answer[0].decode(), int(state[b"fence"]), owner), state, error)
            return None

    async def _read(self, owner: str, answer: list[Any]) -> Claim:
        """The claim. Raises `StoreCorrupted` when this version cannot read the run."""
        run_id, state, journal, contents, first, earlier = answer
        run = run_of_hash(run_id.decode(), state)
        before = await self._before(run, first, earlier)
        messages = before.messages + tuple(decode_message(content) for content in contents)
        self._transcripts.put(run.run_id, run.committed, Transcript(before.history, messages))
        steps = {name.decode(): value for name, value in zip(journal[::2], journal[1::2], strict=True)}
        return Claim(Lease(run.run_id, run.fence, owner), run, messages, steps, before.history)

    async def _before(self, run: RunState, first: int, earlier: list[bytes]) -> Transcript:
        """The session's messages, and the run's own up to index `first`, from the cache where they are there."""
        if first == 0:
            return Transcript(tuple(decode_message(content) for content in earlier), ())
        known = self._transcripts.get(run.run_id, run.committed, first)
        if known is not None:
            return known
        contents, history = await asyncio.gather(
            self._pipeline.execute("LRANGE", self._keys.messages(run.run_id), 0, first - 1), self._history(run)
        )
        return Transcript(history, tuple(decode_message(content) for content in contents))

    async def _history(self, run: RunState) -> tuple[Message, ...]:
        if run.session_id is None or run.history_length == 0:
            return ()
        return await read_session_messages(self._pipeline, self._keys, run.session_id, 0, run.history_length - 1)
