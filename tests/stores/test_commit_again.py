"""Commits that meet what another version or another moment left: a resent one, a reply in other words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agentq._redis.connection import Connection
from agentq.events.model import ToolFinished
from agentq.messages import (
    Message,
    Role,
    ToolCallPart,
    ToolResultPart,
    decode_message,
    encode_message,
    results_message,
)
from agentq.runs import Status
from agentq.steps import REPLY
from agentq.stores.base import StepRecord
from agentq.testing._contract import batch, claimed, commit_of, events_of, reply_message, running
from tests.stores.redis_parts import TimedParts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[TimedParts]:
    parts = TimedParts(Connection(redis_url))
    yield parts
    await parts.aclose()


async def test_a_commit_that_is_sent_again_after_the_next_claim_leaves_the_transcript_right(parts: TimedParts):
    first = await running(parts.store)
    commit = commit_of(first, Status.QUEUED, reply_message("one"), reply_message("two"))
    answer = await parts.store.commit(first.lease, commit)
    second = await claimed(parts.store, first.lease.run_id)
    assert await parts.store.commit(first.lease, commit) == answer
    await parts.store.commit(second.lease, commit_of(second, Status.QUEUED, reply_message("three")))
    third = await claimed(parts.store, first.lease.run_id)
    assert [message.text for message in third.messages[1:]] == ["one", "two", "three"]
    assert third.messages == await parts.store.messages(first.lease.run_id)


async def test_a_journaled_reply_in_other_words_spoils_no_event(parts: TimedParts):
    """Another version wrote the reply, with its fields in another order; a tool echoes what it was asked."""
    claim = await running(parts.store)
    call_id = f"{claim.lease.run_id}.1.0"
    text = "A long sentence that the tool says again. " * 9
    call = ToolCallPart(call_id=call_id, name="echo", arguments={"text": text})
    reply = Message(role=Role.ASSISTANT, parts=(call,))
    other = json.dumps(dict(reversed(json.loads(encode_message(reply)).items()))).encode()
    assert other != encode_message(reply)
    assert decode_message(other) == reply
    result = ToolResultPart(call_id=call_id, name="echo", content=text)
    await parts.store.journal(claim.lease, [StepRecord(REPLY, other)], batch(1))
    await parts.store.commit(
        claim.lease,
        commit_of(
            claim,
            Status.QUEUED,
            reply,
            results_message([result]),
            batch=batch(2, ToolFinished(call_id=call_id, name="echo", content=text)),
            reply_in_journal=reply,
        ),
    )
    events = await events_of(parts.stream, claim.lease.run_id)
    assert [event.content for event in events if isinstance(event, ToolFinished)] == [text]
    assert (await parts.store.messages(claim.lease.run_id))[1:] == (reply, results_message([result]))
