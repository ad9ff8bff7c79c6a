"""The contract of `EventStream` as a suite. Subclass it in your tests and give the fixtures `store` and `stream`."""
# ruff: noqa: S101

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agentq._ids import new_run_id
from agentq.errors import InvalidInput, RunNotFound
from agentq.events.encoding import numbered
from agentq.events.fold import fold, ranges
from agentq.events.model import (
    AttemptReset,
    Event,
    FoldedRange,
    IterationFinished,
    ReasoningDelta,
    ReplyCompleted,
    RunCompleted,
    TextDelta,
    ToolCalled,
    ToolProgress,
)
from agentq.events.voids import with_voided
from agentq.runs import Status
from agentq.testing._contract import (
    SHORT_LEASE_S,
    SHORT_MS,
    PassTime,
    batch,
    claimed,
    commit_of,
    completed,
    deltas_of,
    events_of,
    fold_batch,
    running,
    texts,
    types_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.events.stream import EventStream
    from agentq.stores.base import Lease, Store

# Far above what any of these waits takes; reached only when an event never comes.
_PATIENCE_S = 20


@pytest.mark.asyncio
class StreamContract:
    """What every event stream does. Fixtures as in `StoreContract`."""

    @pytest.fixture
    def store(self) -> Store:
        """An empty store."""
        raise NotImplementedError("give a fixture `store`")

    @pytest.fixture
    def stream(self, store: Store) -> EventStream:
        """The event stream of `store`."""
        raise NotImplementedError("give a fixture `stream`")

    @pytest.fixture
    def pass_time(self) -> PassTime:
        """Let so many seconds pass on the store's clock. Unless overridden, waits."""
        return asyncio.sleep

    # replay

    async def test_a_run_that_is_unknown_cannot_be_followed(self, stream: EventStream) -> None:
        for live in (True, False):
            with pytest.raises(RunNotFound):
                await anext(stream.follow(new_run_id(), live=live))

    async def test_a_cursor_past_the_last_event_is_refused(self, store: Store, stream: EventStream) -> None:
        run_id = (await running(store)).lease.run_id
        for live in (True, False):
            with pytest.raises(InvalidInput):
                await anext(stream.follow(run_id, after=3, live=live))
        assert await events_of(stream, run_id, after=2) == []

    async def test_events_come_back_whole(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        call = ToolCalled(call_id="c", name="add_numbers", arguments={"a": 7.5, "b": [None, {"ü": True}]}, attempt=2)
        progress = ToolProgress(call_id="c", name="add_numbers", message="\U0001f600 half", fraction=0.5)
        delta = TextDelta(text="a\x00b\u2028\r\n" + "é" * 100_000)
        written: tuple[Event, ...] = (call, progress, delta)
        appended = await store.journal(claim.lease, [], batch(1, *written))
        assert await events_of(stream, claim.lease.run_id, after=2) == [
            numbered(event, run_id=claim.lease.run_id, seq=seq, at_ms=appended.at_ms)
            for seq, event in enumerate(written, start=3)
        ]

    async def test_folded_deltas_come_back_as_they_were_from_every_cursor(
        self, store: Store, stream: EventStream, pass_time: PassTime
    ) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        mixed: tuple[tuple[Event, ...], ...] = (
            (ReasoningDelta(text="Thinking "), ReasoningDelta(text="ähm \U0001f469\u200d\U0001f680"), *texts("7 ")),
            (ToolProgress(call_id="c", name="roll_dice"), *texts("\U0001f600", "", "e\u0301")),
            (ReasoningDelta(text="more"), *texts("+ 9")),
            (ToolProgress(call_id="c", name="roll_dice"),),
        )
        for number, events in enumerate(mixed, start=1):
            await store.journal(claim.lease, [], batch(number, *events))
            await pass_time(0.01)
        before = {after: await events_of(stream, run_id, after=after) for after in range(13)}
        assert [event.seq for event in before[0]] == list(range(1, 13))

        appended = await store.journal(claim.lease, [], await fold_batch(stream, run_id, 5))
        assert appended.last_seq == 13
        for after, earlier in before.items():
            now = await events_of(stream, run_id, after=after)
            assert [event.seq for event in now] == list(range(after + 1, 14))
            assert now[:-1] == earlier
            assert now[-1].type == "reply.completed"

    async def test_a_commit_folds_too(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        await store.journal(claim.lease, [], batch(1, *texts("It is ", "16.")))
        before = await events_of(stream, run_id)
        await store.commit(
            claim.lease,
            commit_of(
                claim,
                Status.COMPLETED,
                batch=await fold_batch(stream, run_id, 2),
                closing=(RunCompleted(output="It is 16."),),
            ),
        )
        assert await events_of(stream, run_id) == [*before, *await events_of(stream, run_id, after=4)]
        assert types_of(await events_of(stream, run_id, after=2)) == [
            "text.delta", "text.delta", "reply.completed", "run.completed"
        ]  # fmt: skip

    async def test_replies_fold_one_after_the_other(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        await store.journal(claim.lease, [], batch(1, *texts("a", "b")))
        await store.journal(claim.lease, [], await fold_batch(stream, run_id, 2))
        await store.journal(claim.lease, [], batch(3, *texts("c", "d")))
        before = await events_of(stream, run_id)
        second = [delta for delta in deltas_of(before) if delta.seq > 5]
        await store.journal(claim.lease, [], batch(4, completed(second, turn=2), replaced=ranges(second)))
        for after in range(9):
            assert (await events_of(stream, run_id, after=after))[:-1] == before[after:]

    async def test_deltas_beside_their_reply_are_numbered_and_seen(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        first = await _write(store, claim.lease, 1, "It ")
        progress = ToolProgress(call_id="c", name="roll_dice")
        reply = ReplyCompleted(
            turn=1,
            text="It is \U0001f600 16.",
            reasoning="hm",
            deltas=(
                *fold(first),
                # As a worker writes them: so many before the reply, at its time.
                FoldedRange(first=-4, kind="text", lengths=(3,), at_ms=()),
                FoldedRange(first=-2, kind="reasoning", lengths=(2,), at_ms=()),
                FoldedRange(first=-1, kind="text", lengths=(5,), at_ms=()),
            ),
        )
        viewer = stream.follow(run_id, after=2)
        assert await _next(viewer) == first[0]
        written: tuple[Event, ...] = (
            TextDelta(text="is "),
            progress,
            ReasoningDelta(text="hm"),
            TextDelta(text="\U0001f600 16."),
            reply,
        )
        appended = await store.journal(claim.lease, [], batch(2, *written, replaced=ranges(first)))
        assert appended.last_seq == 8
        seen = [
            *first,
            *(
                numbered(event, run_id=run_id, seq=seq, at_ms=appended.at_ms)
                for seq, event in enumerate(written, start=4)
            ),
        ]
        last = seen[-1]
        assert isinstance(last, ReplyCompleted)
        assert [(piece.first, piece.at_ms) for piece in last.deltas] == [
            (3, (first[0].at_ms,)), (4, (appended.at_ms,)), (6, (appended.at_ms,)), (7, (appended.at_ms,))
        ]  # fmt: skip
        for after in range(2, 9):
            assert await events_of(stream, run_id, after=after) == seen[after - 2 :]
        # They were never stored, so the end of the lease drops nothing.
        await store.release(claim.lease, batch(3))
        assert await events_of(stream, run_id, after=2) == seen
        assert [await _next(viewer) for _ in range(5)] == seen[1:]
        await claimed(store, run_id)
        await store.cancel(run_id)
        assert (await _next(viewer)).type == "cancel.requested"

    async def test_a_late_viewer_gets_every_piece(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        pieces = [f"{number} " for number in range(1_000)]
        for number in range(10):
            await store.journal(claim.lease, [], batch(number + 1, *texts(*pieces[number * 100 : number * 100 + 100])))
        await store.journal(claim.lease, [], await fold_batch(stream, run_id, 11))
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, closing=(RunCompleted(output="done"),)))
        events = await _all(stream.follow(run_id))
        assert [event.text for event in events if isinstance(event, TextDelta)] == pieces
        assert [event.seq for event in events] == list(range(1, len(pieces) + 5))

    async def test_deltas_of_an_abandoned_attempt_are_not_replayed(
        self, store: Store, stream: EventStream, pass_time: PassTime
    ) -> None:
        claim = await running(store, lease_ms=SHORT_MS)
        run_id = claim.lease.run_id
        await store.journal(claim.lease, [], batch(1, *texts("a", "b")))
        await pass_time(SHORT_LEASE_S)
        claim = await claimed(store, run_id)
        await store.journal(claim.lease, [], batch(1, *texts("c", "d")))
        before = await events_of(stream, run_id)
        assert [event.seq for event in before] == [1, 2, 5, 6, 7, 8]
        await store.journal(claim.lease, [], await fold_batch(stream, run_id, 2))
        for after in range(9):
            expected = [event for event in before if event.seq > after]
            assert (await events_of(stream, run_id, after=after))[:-1] == expected

    async def test_deltas_of_an_abandoned_attempt_come_back_empty_where_that_is_asked_for(
        self, store: Store, stream: EventStream, pass_time: PassTime
    ) -> None:
        claim = await running(store, lease_ms=SHORT_MS)
        run_id = claim.lease.run_id
        progress = ToolProgress(call_id="c", name="roll_dice")
        thoughts = (ReasoningDelta(text="hm"), ReasoningDelta(text="so"))
        await store.journal(claim.lease, [], batch(1, *thoughts, *texts("a"), progress))
        await store.journal(claim.lease, [], batch(2, *texts("b"), ReasoningDelta(text="or")))
        live = await events_of(stream, run_id)
        await pass_time(SHORT_LEASE_S)
        await claimed(store, run_id)
        late = [event async for event in with_voided(stream.follow(run_id, live=False))]
        assert [(event.seq, event.type) for event in late[: len(live)]] == [(event.seq, event.type) for event in live]
        assert [event.text for event in late if isinstance(event, TextDelta | ReasoningDelta)] == [""] * 5
        reset = late[len(live)]
        assert isinstance(reset, AttemptReset)
        assert (reset.first, reset.last, reset.kept, reset.reasoning) == (3, 8, (6,), ((3, 4), (8, 8)))
        for after in range(len(live)):
            part = [event async for event in with_voided(stream.follow(run_id, after=after, live=False), after)]
            assert part == late[after:]

    async def test_a_reset_may_be_written_by_the_worker(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        await store.journal(claim.lease, [], batch(1, *texts("a", "b")))
        reset = AttemptReset(first=3, last=4, reason="provider_error")
        await store.journal(claim.lease, [], batch(2, reset, replaced=((3, 4),)))
        await store.journal(claim.lease, [], batch(3, *texts("c")))
        # The reset closed them: the release drops `c` only.
        await store.release(claim.lease, batch(4))
        events = await events_of(stream, run_id)
        assert [(event.seq, event.type) for event in events] == [
            (1, "run.queued"), (2, "run.started"), (5, "attempt.reset"), (7, "attempt.reset")
        ]  # fmt: skip
        last = events[-1]
        assert isinstance(last, AttemptReset)
        assert (last.first, last.last) == (6, 6)

    # live

    async def test_a_viewer_sees_events_as_they_come_until_the_run_ends(
        self, store: Store, stream: EventStream
    ) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        viewer = stream.follow(run_id, after=1)
        assert (await _next(viewer)).type == "run.started"
        for number, piece in enumerate(("a", "b", "c"), start=1):
            coming = asyncio.create_task(_next(viewer))
            await asyncio.sleep(0)
            appended = await store.journal(claim.lease, [], batch(number, *texts(piece)))
            expected = TextDelta(run_id=run_id, seq=appended.last_seq, at_ms=appended.at_ms, text=piece)
            assert await coming == expected
        await store.journal(claim.lease, [], await fold_batch(stream, run_id, 4))
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, closing=(RunCompleted(output="abc"),)))
        rest = await _all(viewer)
        assert [(event.seq, event.type) for event in rest] == [(6, "reply.completed"), (7, "run.completed")]

    async def test_a_viewer_stays_while_the_run_rests(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        viewer = asyncio.create_task(_all(stream.follow(run_id, after=2)))
        finished = IterationFinished(iteration=1)
        await store.commit(claim.lease, commit_of(claim, Status.WAITING, batch=batch(1, finished)))
        await store.cancel(run_id)
        claim = await claimed(store, run_id)
        await store.commit(claim.lease, commit_of(claim, Status.CANCELLED, batch=batch(1, finished)))
        assert types_of(await viewer) == ["iteration.finished", "cancel.requested", "iteration.finished"]

    async def test_viewers_of_a_run_that_has_ended_do_not_wait(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, closing=(RunCompleted(output="16"),)))
        run_id = claim.lease.run_id
        assert [types_of(await _all(stream.follow(run_id, after=after))) for after in (1, 2, 3)] == [
            ["run.started", "run.completed"],
            ["run.completed"],
            [],
        ]

    async def test_a_replay_does_not_wait(self, store: Store, stream: EventStream) -> None:
        claim = await running(store)
        assert types_of(await _all(stream.follow(claim.lease.run_id, live=False))) == ["run.queued", "run.started"]

    async def test_a_viewer_that_saw_abandoned_deltas_sees_the_reset(
        self, store: Store, stream: EventStream, pass_time: PassTime
    ) -> None:
        claim = await running(store, lease_ms=SHORT_MS)
        run_id = claim.lease.run_id
        await store.journal(claim.lease, [], batch(1, *texts("a")))
        viewer = stream.follow(run_id, after=1)
        seen = [await _next(viewer), await _next(viewer)]
        await store.journal(claim.lease, [], batch(2, *texts("b")))
        seen.append(await _next(viewer))
        await pass_time(SHORT_LEASE_S)
        claim = await claimed(store, run_id)
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, closing=(RunCompleted(output="16"),)))
        seen += await _all(viewer)
        assert [(event.seq, event.type) for event in seen] == [
            (2, "run.started"), (3, "text.delta"), (4, "text.delta"), (5, "attempt.reset"), (6, "run.recovered"),
            (7, "run.completed"),
        ]  # fmt: skip

    async def test_viewers_with_any_cursor_see_the_same_whatever_is_folded_meanwhile(
        self, store: Store, stream: EventStream
    ) -> None:
        claim = await running(store)
        run_id = claim.lease.run_id
        viewers = [asyncio.create_task(_all(stream.follow(run_id)))]
        number = 0
        for _ in range(4):
            written: list[TextDelta] = []
            for pieces in (("a", "b"), ("c",), ("d", "e", "f")):
                number += 1
                written += await _write(store, claim.lease, number, *pieces)
                viewers.append(asyncio.create_task(_all(stream.follow(run_id, after=written[-1].seq))))
            number += 1
            await store.journal(claim.lease, [], batch(number, completed(written), replaced=ranges(written)))
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, closing=(RunCompleted(output="16"),)))
        whole = await events_of(stream, run_id)
        assert [event.seq for event in whole] == list(range(1, len(whole) + 1))
        for seen in await asyncio.gather(*viewers):
            assert seen
            assert seen == whole[-len(seen) :]
        assert await viewers[0] == whole


async def _write(store: Store, lease: Lease, number: int, *pieces: str) -> list[TextDelta]:
    """Write deltas; returns them numbered."""
    appended = await store.journal(lease, [], batch(number, *texts(*pieces)))
    first = appended.last_seq - len(pieces) + 1
    return [
        TextDelta(run_id=lease.run_id, seq=seq, at_ms=appended.at_ms, text=piece)
        for seq, piece in enumerate(pieces, start=first)
    ]


async def _next(viewer: AsyncIterator[Event]) -> Event:
    async with asyncio.timeout(_PATIENCE_S):
        return await anext(viewer)


async def _all(viewer: AsyncIterator[Event]) -> list[Event]:
    async with asyncio.timeout(_PATIENCE_S):
        return [event async for event in viewer]
