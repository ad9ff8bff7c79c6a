"""Commits: what an iteration leaves behind, and the end of runs that cannot be read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from agentq.errors import LeaseLost
from agentq.events.model import RunFailedEvent
from agentq.messages import encode_message
from agentq.runs import Status
from agentq.steps import REPLY
from agentq.stores import _arguments, _quotes
from agentq.stores._checks import check_commit
from agentq.stores._records import fields_of_commit
from agentq.stores.base import SESSION_TTL_MS, Committed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq._redis.scripts import Script
    from agentq.errors import StoreCorrupted
    from agentq.stores._retention import Retention
    from agentq.stores._transcripts import Transcripts
    from agentq.stores.base import Commit, Lease, Wakeup

# More than any run gets: nothing that was sent into a run that cannot be read changes that it ends.
_ALL_SIGNALS = 2**53

# How `commit.lua` is told to take a message from the journal.
_IN_JOURNAL = f"={REPLY}".encode()

logger = logging.getLogger(__name__)


class Commits:
    """Commits to runs of one store, and keeps `transcripts` up to date."""

    def __init__(
        self,
        pipeline: Pipeline,
        keys: Keys,
        scripts: Callable[[str], Script],
        transcripts: Transcripts,
        retention: Retention,
        known_agents: Callable[[], Awaitable[Mapping[str, Mapping[str, Any]]]],
    ) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._script = scripts
        self._transcripts = transcripts
        self._retention = retention
        self._known_agents = known_agents

    async def commit(self, lease: Lease, commit: Commit, wake: Wakeup | None) -> Committed:
        """See `Store.commit`."""
        check_commit(commit)
        # What the journal holds may have been written by another version, in other words than ours: nothing is quoted
        # from it.
        contents = [
            _IN_JOURNAL if message is commit.reply_in_journal else encode_message(message)
            for message in commit.messages
        ]
        items, closing = _arguments.items(commit.batch.events), _arguments.items(commit.closing)
        told, quotes = _quotes.without_repeats(items + closing, commit.batch.events + commit.closing, contents)
        keeps = self._transcripts.begin_commit(lease.run_id, lease.fence, commit.messages)
        try:
            status, last, woken, next_run_id, parent_run_id = await self._run(
                lease,
                keeps=int(keeps),
                status=commit.status,
                signals=commit.signals_seen,
                delay_ms=commit.delay_ms,
                ttl_ms=commit.ttl_ms,
                session_ttl_ms=commit.session_ttl_ms,
                remembers=int(commit.remembers),
                wakeup=_arguments.template(wake),
                fields=fields_of_commit(commit),
                contents=contents,
                items=told[: len(items)],
                closing=told[len(items) :],
                ranges=_arguments.ranges(commit.batch),
                quotes=quotes,
                changes=_arguments.changes(commit.changes),
                spent=_arguments.spent(commit),
            )
        except LeaseLost:
            self._transcripts.drop(lease.run_id)
            raise
        outcome = Committed(
            Status(status.decode()), last, bool(woken), next_run_id.decode() or None, parent_run_id.decode() or None
        )
        if outcome.status is Status.QUEUED:
            self._transcripts.end_commit(lease.run_id, lease.fence)
        else:
            self._transcripts.drop(lease.run_id)
        return outcome

    async def set_aside(self, lease: Lease, state: Mapping[bytes, bytes], why: StoreCorrupted) -> None:
        """End a claimed run that cannot be read as failed; `state` is its hash."""
        run_id, reason = lease.run_id, str(why)
        logger.error("run %s is set aside: %s", run_id, why, extra={"run_id": run_id, "worker": lease.owner})
        try:
            await self._run(
                lease,
                status=Status.FAILED,
                signals=_ALL_SIGNALS,
                ttl_ms=self._retention.of_broken(state, await self._known_agents()),
                session_ttl_ms=self._retention.session_ms,
                # What cannot be read must not spoil the runs that come after.
                remembers=0,
                fields=("last_error", reason),
                closing=_arguments.items((RunFailedEvent(reason=reason),)),
            )
        except LeaseLost:
            logger.info("run %s was taken over before it could be set aside", run_id)

    async def _run(self, lease: Lease, **arguments: Any) -> Any:
        run_id = lease.run_id
        nothing = {
            "delay_ms": 0, "session_ttl_ms": SESSION_TTL_MS, "remembers": 1, "keeps": 0, "wakeup": b"",
            "fields": (), "contents": (), "items": (), "closing": (), "ranges": (),
            "quotes": (), "changes": (), "spent": (),
        }  # fmt: skip
        return await self._pipeline.run(
            self._script("commit"),
            about=f"run {run_id}",
            run=self._keys.run(run_id),
            messages=self._keys.messages(run_id),
            journal=self._keys.journal(run_id),
            events=self._keys.events(run_id),
            prefix=self._keys.prefix,
            run_id=run_id,
            fence=lease.fence,
            owner=lease.owner,
            **(nothing | arguments),
        )
