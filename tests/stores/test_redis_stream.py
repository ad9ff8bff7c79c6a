"""Viewers on a real Redis: through lost connections, restarts and trimmed streams, each sees every event once."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from agentq._ids import new_run_id
from agentq._redis.connection import Connection
from agentq._redis.hub import Hub, Mark
from agentq.errors import InvalidInput, RunNotFound, StoreUnavailable
from agentq.events.fold import ranges
from agentq.events.model import Gap, RunCompleted, TextDelta, ToolProgress
from agentq.messages import user_message
from agentq.runs import Status
from agentq.stores.base import EventBatch
from agentq.testing._contract import (
    claimed,
    commit_of,
    completed,
    deltas_of,
    events_of,
    new_run,
    running,
    types_of,
)
from tests.helpers import wait_until
from tests.stores.redis_parts import TimedParts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.events.model import Event
    from agentq.stores.base import Claim
    from tests._redis_server import RedisServer


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[TimedParts]:
    made = TimedParts(Connection(redis_url))
    yield made
    await made.aclose()


@pytest.fixture
async def fragile(server: RedisServer) -> AsyncIterator[TimedParts]:
    """Parts on a server that the test may take away."""
    made = TimedParts(Connection(server.url))
    yield made
    await made.aclose()


class Viewer:
    """Collects what a viewer sees, in a task."""

    def __init__(self, parts: TimedParts, run_id: str, after: int = 0) -> None:
        self.seen: list[Event] = []
        self.task = asyncio.create_task(self._watch(parts, run_id, after))

    async def _watch(self, parts: TimedParts, run_id: str, after: int) -> None:
        async for event in parts.stream.follow(run_id, after=after):
            self.seen.append(event)

    @property
    def numbers(self) -> list[int]:
        return [event.seq for event in self.seen]

    async def ended(self) -> list[Event]:
        """Everything that was seen, once the stream has ended by itself."""
        await asyncio.wait_for(self.task, 30)
        return self.seen


class Author:
    """Writes events of one run, again and again while Redis is away."""

    def __init__(self, parts: TimedParts, claim: Claim) -> None:
        self.parts = parts
        self.claim = claim
        self.run_id = claim.lease.run_id
        self.batch = 0
        self.said: list[TextDelta] = []

    async def say(self, *pieces: str) -> None:
        """Deltas in one batch."""
        self.batch += 1
        batch = EventBatch(self.batch, tuple(TextDelta(text=piece) for piece in pieces))
        appended = await _patiently(lambda: self.parts.store.journal(self.claim.lease, [], batch))
        first = appended.last_seq - len(pieces) + 1
        self.said += [
            TextDelta(run_id=self.run_id, seq=seq, at_ms=appended.at_ms, text=piece)
            for seq, piece in enumerate(pieces, start=first)
        ]

    async def tell(self) -> None:
        """One event that is not folded."""
        self.batch += 1
        batch = EventBatch(self.batch, (ToolProgress(call_id="c", name="roll_dice"),))
        await _patiently(lambda: self.parts.store.journal(self.claim.lease, [], batch))

    async def fold(self) -> None:
        """Complete the reply: its deltas are deleted."""
        self.batch += 1
        batch = EventBatch(self.batch, (completed(self.said),), ranges(self.said))
        await _patiently(lambda: self.parts.store.journal(self.claim.lease, [], batch))
        self.said = []

    async def trim(self, before: int) -> None:
        """Drop the events before a number, as a byte limit does."""
        events = self.parts.store.keys.events(self.run_id)
        await self.parts.connection.client.xtrim(events, minid=f"{before}-0", approximate=False)

    async def end(self) -> None:
        closing = (RunCompleted(output="16"),)
        commit = commit_of(self.claim, Status.COMPLETED, closing=closing, batch=EventBatch(self.batch + 1))
        await _patiently(lambda: self.parts.store.commit(self.claim.lease, commit))


async def _patiently(write: Any) -> Any:
    while True:
        try:
            return await write()
        except StoreUnavailable:
            await asyncio.sleep(0.05)


async def author(parts: TimedParts) -> Author:
    return Author(parts, await running(parts.store))


class TestHub:
    async def test_listeners_that_come_while_the_connection_is_made_are_heard(self, parts: TimedParts):
        """Two runs watched at once: the second viewer asks before the first one's connection stands."""
        hub = Hub(parts.connection)

        async def listen(number: int) -> list[bytes | Mark | None]:
            for _ in range(number):
                await asyncio.sleep(0)
            async with hub.listen(f"channel-{number}") as inbox:
                first = await inbox.get(timeout_s=20)
                await parts.connection.client.publish(f"channel-{number}", "hello")
                return [first, await inbox.get(timeout_s=20)]

        heard = await asyncio.gather(*(listen(number) for number in range(25)))
        assert heard == [[Mark.RESYNC, b"hello"]] * 25
        await hub.aclose()

    async def test_listeners_that_leave_while_the_connection_is_made_leave_no_subscription(self, parts: TimedParts):
        async def listen(number: int) -> None:
            async with parts.hub.listen(f"channel-{number}"):
                for _ in range(number):
                    await asyncio.sleep(0)

        async with parts.hub.listen("stays") as inbox:
            await asyncio.gather(*(listen(number) for number in range(25)))
            assert await inbox.get(timeout_s=20) is Mark.RESYNC
            await wait_until(lambda: _is_all(parts, "stays"))

    async def test_many_viewers_share_one_connection_and_leave_no_channel_behind(self, parts: TimedParts):
        authors = [await author(parts) for _ in range(10)]
        viewers = [Viewer(parts, each.run_id) for each in authors for _ in range(20)]
        for each in authors:
            await each.say("a")
        await wait_until(lambda: all(viewer.numbers[-1:] == [3] for viewer in viewers))
        clients = await parts.connection.client.client_list(_type="pubsub")
        assert len(clients) == 1
        for each in authors:
            await each.end()
        for viewer in viewers:
            assert [event.seq for event in await viewer.ended()] == [1, 2, 3, 4]
        await wait_until(lambda: _is_all(parts))

    async def test_a_viewer_who_leaves_takes_nobody_elses_channel(self, parts: TimedParts):
        writer = await author(parts)
        first, second = Viewer(parts, writer.run_id), Viewer(parts, writer.run_id)
        await wait_until(lambda: first.seen and second.seen)
        first.task.cancel()
        await asyncio.gather(first.task, return_exceptions=True)
        await writer.say("a")
        await wait_until(lambda: second.numbers[-1] == 3)
        await writer.end()
        assert [event.seq for event in await second.ended()] == [1, 2, 3, 4]


async def _is_all(parts: TimedParts, *names: str) -> bool:
    """Whether only these channels are subscribed, beside the hub's own."""
    subscribed: list[bytes] = await parts.store.pipeline.execute("PUBSUB", "CHANNELS")
    return [name for name in subscribed if not name.startswith(b"hub:")] == [name.encode() for name in names]


class TestLostConnections:
    async def test_viewers_see_everything_once_while_connections_are_cut_again_and_again(self, parts: TimedParts):
        writer = await author(parts)
        viewers = [Viewer(parts, writer.run_id)]
        # Not through the store's own connections, which are not to be cut.
        knife = Connection(parts.connection.url)
        cuts = 0
        # Not by cancelling it: in Python 3.11 `asyncio.wait_for`, by which redis-py sends, may keep that for itself.
        is_over = asyncio.Event()

        async def cut() -> None:
            nonlocal cuts
            while not is_over.is_set():
                cuts += await knife.client.client_kill_filter(_type="pubsub")
                await asyncio.sleep(0.03)

        cutting = asyncio.create_task(cut())
        for number in range(120):
            await writer.say(f"{number} ", "and ")
            if number % 10 == 3:
                await writer.tell()
            if number % 25 == 20:
                viewers.append(Viewer(parts, writer.run_id, after=writer.said[-1].seq))
                await writer.fold()
            await asyncio.sleep(0.005)
        await writer.fold()
        await writer.end()
        whole = await events_of(parts.stream, writer.run_id)
        assert [event.seq for event in whole] == list(range(1, len(whole) + 1))
        for viewer in viewers:
            seen = await viewer.ended()
            assert seen == whole[-len(seen) :]
        assert await viewers[0].ended() == whole
        is_over.set()
        await cutting
        assert cuts >= 3
        await knife.aclose()

    async def test_viewers_live_through_a_restart(self, server: RedisServer, fragile: TimedParts):
        writer = await author(fragile)
        viewer = Viewer(fragile, writer.run_id)
        await writer.say("a", "b")
        await wait_until(lambda: viewer.numbers == [1, 2, 3, 4])
        await asyncio.to_thread(server.restart)
        await writer.say("c")
        await wait_until(lambda: viewer.numbers[-1:] == [5])
        await writer.fold()
        await writer.end()
        assert [event.seq for event in await viewer.ended()] == list(range(1, 8))

    async def test_viewers_wait_while_redis_is_away(self, server: RedisServer, fragile: TimedParts):
        writer = await author(fragile)
        viewer = Viewer(fragile, writer.run_id)
        await wait_until(lambda: viewer.numbers == [1, 2])
        await asyncio.to_thread(server.kill)
        with pytest.raises(StoreUnavailable):
            await anext(fragile.stream.follow(writer.run_id))
        # Past the pause after which an idle viewer asks.
        await asyncio.sleep(1.5)
        assert not viewer.task.done()
        await asyncio.to_thread(server.start)
        await writer.say("a")
        await writer.end()
        assert [event.seq for event in await viewer.ended()] == [1, 2, 3, 4]

    async def test_viewers_wait_while_redis_does_not_answer(self, server: RedisServer, fragile: TimedParts):
        writer = await author(fragile)
        viewer = Viewer(fragile, writer.run_id)
        await wait_until(lambda: viewer.numbers == [1, 2])
        server.pause()
        speaking = asyncio.create_task(writer.say("a"))
        # As above.
        await asyncio.sleep(1.5)
        assert not viewer.task.done()
        server.resume()
        await speaking
        await writer.end()
        assert [event.seq for event in await viewer.ended()] == [1, 2, 3, 4]


class TestSlowViewers:
    async def test_a_viewer_far_behind_reads_the_stream_in_place_of_what_it_missed(self, parts: TimedParts):
        writer = await author(parts)
        slow = parts.stream.follow(writer.run_id)
        quick = Viewer(parts, writer.run_id)
        seen = [await anext(slow)]
        # Its inbox holds a thousand messages.
        for number in itertools.count():
            await writer.say(*(f"{number}.{piece} " for piece in range(3)))
            if number % 400 == 399:
                await writer.fold()
            if number == 1_500:
                break
        await writer.fold()
        await writer.end()
        whole = await quick.ended()
        assert [event.seq for event in whole] == list(range(1, len(whole) + 1))
        async with asyncio.timeout(30):
            seen += [event async for event in slow]
        assert seen == whole

    async def test_a_late_viewer_reads_page_after_page(self, parts: TimedParts):
        """More than two pages of events, and a fold on the last that stands for deltas of all of them."""
        writer = await author(parts)
        for number in range(12):
            await writer.say(*(f"{number}.{piece} " for piece in range(200)))
            await writer.tell()
        before = await events_of(parts.stream, writer.run_id)
        assert len(before) == 2 + 12 * 201
        await writer.fold()
        await writer.end()
        for after in (0, 1, 2, 500, 999, 1_000, 1_001, 2_000, len(before)):
            seen = await events_of(parts.stream, writer.run_id, after=after)
            assert seen[:-2] == before[after:]
            assert types_of(seen[-2:]) == ["reply.completed", "run.completed"]


class TestCursors:
    async def test_a_viewer_resumes_where_it_was(self, parts: TimedParts):
        writer = await author(parts)
        await writer.say("a", "b", "c")
        viewers = {after: Viewer(parts, writer.run_id, after) for after in range(6)}
        await writer.fold()
        await writer.end()
        for after, viewer in viewers.items():
            assert [event.seq for event in await viewer.ended()] == list(range(after + 1, 8))

    async def test_a_viewer_may_come_when_all_is_over(self, parts: TimedParts):
        writer = await author(parts)
        await writer.end()
        for after in range(4):
            assert [event.seq for event in await Viewer(parts, writer.run_id, after).ended()] == [1, 2, 3][after:]
        with pytest.raises(InvalidInput):
            await anext(parts.stream.follow(writer.run_id, after=4))

    async def test_a_run_that_is_not_there_yet_is_not_waited_for(self, parts: TimedParts):
        run_id = new_run_id()
        with pytest.raises(RunNotFound):
            await anext(parts.stream.follow(run_id))
        await parts.store.create(new_run(run_id=run_id))
        assert (await anext(parts.stream.follow(run_id))).type == "run.queued"

    async def test_viewers_of_a_run_that_vanishes_are_told(self, parts: TimedParts):
        writer = await author(parts)
        viewer = Viewer(parts, writer.run_id)
        await wait_until(lambda: viewer.numbers == [1, 2])
        await parts.connection.client.flushdb()
        with pytest.raises(RunNotFound):
            await viewer.ended()


class TestGaps:
    async def test_what_was_trimmed_is_announced_with_the_transcript(self, parts: TimedParts):
        writer = await author(parts)
        await writer.tell()
        await writer.tell()
        await writer.trim(before=4)
        viewer = Viewer(parts, writer.run_id)
        await wait_until(lambda: viewer.seen)
        await writer.end()
        gap, *rest = await viewer.ended()
        assert isinstance(gap, Gap)
        assert (gap.first, gap.last, gap.seq) == (1, 3, 3)
        assert gap.messages == (user_message("Take 7 + 9."),)
        assert [event.seq for event in rest] == [4, 5]

    async def test_what_was_trimmed_before_a_viewer_came_back_is_announced_too(self, parts: TimedParts):
        writer = await author(parts)
        for _ in range(4):
            await writer.tell()
        await writer.end()
        await writer.trim(before=6)
        seen = await events_of(parts.stream, writer.run_id, after=3)
        assert [(event.type, event.seq) for event in seen] == [("gap", 5), ("tool.progress", 6), ("run.completed", 7)]

    @pytest.mark.parametrize("live", [True, False])
    @pytest.mark.parametrize("after", [0, 2])
    async def test_a_finished_run_whose_events_are_gone_ends_with_a_gap(
        self, parts: TimedParts, live: bool, after: int
    ):
        """As after an eviction: no event follows that would show it, and nobody waits for one."""
        writer = await author(parts)
        await writer.end()
        await parts.connection.client.delete(parts.store.keys.events(writer.run_id))
        async with asyncio.timeout(20):
            seen = [event async for event in parts.stream.follow(writer.run_id, after=after, live=live)]
        assert [(event.type, event.seq) for event in seen] == [("gap", 3)]

    async def test_a_viewer_of_a_run_whose_events_vanish_as_it_ends_is_let_go(self, parts: TimedParts):
        writer = await author(parts)
        viewer = Viewer(parts, writer.run_id)
        await wait_until(lambda: viewer.numbers == [1, 2])
        # Neither the message nor the stream tells of the end.
        await parts.connection.client.delete(parts.store.keys.events(writer.run_id))
        run = parts.store.keys.run(writer.run_id)
        await parts.connection.client.hset(run, mapping={"status": "completed", "seq": "5"})
        assert [(event.type, event.seq) for event in (await viewer.ended())[2:]] == [("gap", 5)]

    async def test_a_gap_whose_transcript_cannot_be_read_yet_loses_nothing(
        self, parts: TimedParts, monkeypatch: pytest.MonkeyPatch
    ):
        writer = await author(parts)
        await writer.tell()
        await writer.tell()
        await writer.trim(before=3)
        read, failures = parts.store.messages, iter([True, True, False])

        async def fail_first(run_id: str) -> Any:
            if next(failures, False):
                raise StoreUnavailable
            return await read(run_id)

        monkeypatch.setattr(parts.stream, "_messages", fail_first)
        viewer = Viewer(parts, writer.run_id)
        await writer.end()
        assert [(event.type, event.seq) for event in await viewer.ended()] == [
            ("gap", 2), ("tool.progress", 3), ("tool.progress", 4), ("run.completed", 5)
        ]  # fmt: skip


async def test_a_viewer_who_was_behind_at_a_take_over_passes_over_what_was_voided(parts: TimedParts):
    claim = await running(parts.store, lease_ms=300)
    writer = Author(parts, claim)
    viewer = Viewer(parts, writer.run_id)
    await wait_until(lambda: viewer.numbers == [1, 2])
    await writer.say("a")
    await wait_until(lambda: viewer.numbers == [1, 2, 3])
    knife = Connection(parts.connection.url)
    await knife.client.client_kill_filter(_type="pubsub")
    await writer.say("b", "c")
    await parts.pass_time(1)
    newer = Author(parts, await claimed(parts.store, writer.run_id, owner="worker-2"))
    await newer.say("d")
    await newer.fold()
    await newer.end()
    seen = await viewer.ended()
    late = await events_of(parts.stream, writer.run_id)
    assert [event.text for event in deltas_of(late)] == ["d"]
    assert [event for event in seen if event.seq not in (3, 4, 5)] == late
    await knife.aclose()


async def test_a_viewer_goes_on_when_redis_comes_back_with_an_older_state(parts: TimedParts) -> None:
    """A failover, or the last second of a log: the numbers begin again, and nobody waits for ever for the old ones."""
    claim = await running(parts.store)
    run_id = claim.lease.run_id
    await parts.store.journal(
        claim.lease, (), EventBatch(1, (ToolProgress(call_id="c", name="roll_dice", message="kept"),))
    )
    key = parts.store.keys
    dumped = [(name, await parts.connection.client.dump(name)) for name in (key.run(run_id), key.events(run_id))]
    await parts.store.journal(
        claim.lease,
        (),
        EventBatch(
            2,
            (
                ToolProgress(call_id="c", name="roll_dice", message="lost"),
                ToolProgress(call_id="c", name="roll_dice", message="lost too"),
            ),
        ),
    )
    viewer = Viewer(parts, run_id)
    await wait_until(lambda: len(viewer.seen) == 5)

    for name, value in dumped:
        assert value is not None
        await parts.connection.client.restore(name, 0, value, replace=True)
    await wait_until(lambda: any(isinstance(event, Gap) for event in viewer.seen))
    gap = next(event for event in viewer.seen if isinstance(event, Gap))
    assert (gap.seq, gap.first, gap.last) == (3, 4, 5)
    await parts.store.commit(
        claim.lease, commit_of(claim, status=Status.COMPLETED, ttl_ms=60_000, closing=(RunCompleted(output="Done."),))
    )
    await viewer.ended()
    assert (viewer.seen[-1].type, viewer.seen[-1].seq) == ("run.completed", 4)
