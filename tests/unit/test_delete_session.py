"""Deleting a session whose runs do not stand still while they are looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq import AsyncClient, Settings
from agentq.errors import SessionBusy, SessionNotFound
from agentq.runs import RunState, Status
from agentq.stores.memory import MemoryStore
from agentq.testing._contract import batch, claimed, queued
from tests.unit._loop import NotedWakeups

if TYPE_CHECKING:
    from agentq.stores.base import Claim
    from agentq.stores.filters import RunFilter


class Restless(MemoryStore):
    """Its run goes back into the queue just when those in the queue have been listed."""

    claim_of: Claim | None = None

    async def list(self, which: RunFilter) -> tuple[RunState, ...]:
        found = await super().list(which)
        if which.status is Status.QUEUED and self.claim_of is not None:
            claim, self.claim_of = self.claim_of, None
            await self.release(claim.lease, batch(1))
        return found


async def test_a_run_that_changes_its_status_meanwhile_is_cancelled_too():
    store = Restless()
    client = AsyncClient(settings=Settings(), store=store, executor=NotedWakeups())
    run_id = await queued(store, session_id="s")
    await queued(store, session_id="s")
    store.claim_of = await claimed(store, run_id)
    with pytest.raises(SessionBusy):
        await client.delete_session("s")
    await client.delete_session("s", cancel=True)
    with pytest.raises(SessionNotFound):
        await client.session("s")
    assert await client.list() == ()
