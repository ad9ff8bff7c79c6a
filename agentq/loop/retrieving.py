"""Passages for a run: found once for each message of the user, journaled, and told to viewers."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from agentq import _json
from agentq.context.retrieval import as_text, found_for, has_found, is_record, last_record, query_of, record_of
from agentq.errors import ContextError, StoreCorrupted
from agentq.events.model import ContextRetrieved, FoundPassage
from agentq.messages import decode_message, encode_message
from agentq.steps import PART
from agentq.stores.base import StepRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq._clock import Clock
    from agentq.context.retrieval import Passage, Retrieval
    from agentq.context.sections import Instructions
    from agentq.decide import Finish
    from agentq.loop.writer import StepWriter
    from agentq.messages import Message
    from agentq.runs import RunState
    from agentq.stores.base import Claim

logger = logging.getLogger(__name__)
# Of no call, so that `read_steps` passes it over.
RETRIEVED = f"{PART}retrieved"
# The event is for people and their screens; the transcript has the passages.
_EXCERPT = 200


class Retrieving:
    """What one iteration knows of the passages of its run."""

    def __init__(self, retrieval: Retrieval | None, claim: Claim, writer: StepWriter, clock: Clock) -> None:
        self._retrieval = retrieval
        self._is_on = retrieval is not None and "retrieval" not in claim.run.without
        self._claim = claim
        self._writer = writer
        self._clock = clock
        # What was found in this iteration and stands in the journal, but not yet in the transcript.
        self._pending = journaled_passages(claim)
        self._text = ""

    async def find(self, run: RunState) -> None:
        """Have the passages ready that the model is to be told. Raises `ContextError` where they are required."""
        retrieval, messages = self._retrieval, self._claim.messages
        if retrieval is None or not self._is_on:
            return
        if retrieval.each_iteration:
            record = await self._look(retrieval, run)
        else:
            record = last_record(messages) or self._pending
            if record is None and (record := await self._look(retrieval, run)) is not None:
                self._pending = record
        self._text = record.text if record is not None and has_found(record) else ""

    async def _look(self, retrieval: Retrieval, run: RunState) -> Message | None:
        query = await query_of(retrieval, run, self._claim.messages)
        if not query:
            return None
        started = self._clock.monotonic()
        passages: list[Passage] = []
        problem = ""
        try:
            passages = await found_for(retrieval, query)
        except ContextError as error:
            if retrieval.required:
                raise
            problem = _json.storable(str(error))
            logger.warning(
                "run %s goes on without passages: %s", run.run_id, error, exc_info=error, extra={"run_id": run.run_id}
            )
        record = record_of(as_text(passages, retrieval.max_chars))
        event = ContextRetrieved(
            query=query[:_EXCERPT],
            passages=tuple(_told(passage) for passage in passages),
            duration_ms=round((self._clock.monotonic() - started) * 1000),
            error=problem,
        )
        if retrieval.each_iteration:
            self._writer.emit(event)
        else:
            # At once: the retriever may cost, and the next worker must tell the model the same.
            await self._writer.write([StepRecord(RETRIEVED, encode_message(record))], [event])
        return record

    def told(self, instructions: Instructions) -> Instructions:
        """The instructions with the passages, where those are a section of them."""
        if self._retrieval is None or self._retrieval.place != "section" or not self._text:
            return instructions
        return instructions.with_dynamic(self._text)

    @property
    def hides(self) -> Callable[[Message], bool] | None:
        """Which messages the model does not read where they stand, if any: it is told of them elsewhere."""
        return None if self._retrieval is None or self._retrieval.place == "message" else is_record

    @property
    def added(self) -> tuple[Message, ...]:
        """What the model reads after the messages."""
        is_message = self._retrieval is not None and self._retrieval.place == "message"
        return (self._pending,) if is_message and self._pending is not None else ()

    def kept(self, finish: Finish) -> Finish:
        """The end of the iteration, with what was found before the reply that has read it."""
        return keep_passages(finish, self._pending)


def keep_passages(finish: Finish, record: Message | None) -> Finish:
    """The end of an iteration with the record of what was found in it."""
    # A commit that appends nothing leaves the journal as it is, for whoever goes on.
    if record is None or not finish.messages:
        return finish
    return replace(finish, messages=(record, *finish.messages))


def journaled_passages(claim: Claim) -> Message | None:
    """The record of what the iteration in flight has found, if any."""
    if RETRIEVED not in claim.journal:
        return None
    try:
        return decode_message(claim.journal[RETRIEVED])
    except StoreCorrupted:
        # It is looked for again; a run must not end for that.
        logger.warning("what was found for run %s cannot be read", claim.run.run_id, exc_info=True)
        return None


def _told(passage: Passage) -> FoundPassage:
    return FoundPassage(
        source=_json.storable(str(passage.source))[:_EXCERPT],
        score=passage.score,
        text=_json.storable(passage.text)[:_EXCERPT],
    )
