"""A network that breaks at the worst moments: it cuts, swallows, delays, refuses, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from agentq import AsyncClient, Settings
from agentq._ids import new_token
from agentq.errors import StoreUnavailable
from agentq.runs import Status
from agentq.stores.base import StepRecord
from agentq.stores.filters import RunFilter
from agentq.testing import FaultProxy
from agentq.testing._contract import batch, claimed, commit_of, new_run, queued, reply_message, running, texts
from agentq.testing.proxy import command_words, message_end, runs_script
from agentq.wiring import redis_parts
from tests._redis_server import RedisServer
from tests.helpers import wait_until
from tests.worker.harness import Gate, app_at, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from agentq.wiring import Parts


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FaultProxy]:
    with FaultProxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
async def parts(proxy: FaultProxy) -> AsyncIterator[Parts]:
    parts = redis_parts(Settings(redis_url=proxy.url))
    yield parts
    await parts.aclose()


class TestProxy:
    def test_a_command_that_is_cut_before_was_never_there(self, proxy: FaultProxy, redis_url: str):
        with redis.Redis.from_url(proxy.url, retry=None) as client:
            client.ping()
            proxy.cut_before("INCRBY")
            with pytest.raises(redis.ConnectionError):
                client.incr("n")
            assert client.incr("n") == 1
        assert proxy.fired == 1

    def test_a_command_that_is_cut_after_was_carried_out(self, proxy: FaultProxy, redis_url: str):
        with redis.Redis.from_url(proxy.url, retry=None) as client:
            proxy.cut_after("INCRBY", nth=2)
            assert client.incr("n") == 1
            with pytest.raises(redis.ConnectionError):
                client.incr("n")
            assert client.get("n") == b"2"

    def test_in_a_pipeline_what_came_before_is_answered(self, proxy: FaultProxy):
        with redis.Redis.from_url(proxy.url, retry=None) as client, client.pipeline(transaction=False) as pipeline:
            proxy.cut_after(lambda words: words[:2] == (b"SET", b"b"))
            with pytest.raises(redis.ConnectionError):
                pipeline.set("a", 1).set("b", 2).set("c", 3).execute()
            assert client.mget("a", "b") == [b"1", b"2"]

    def test_a_black_hole_answers_nobody(self, proxy: FaultProxy):
        with redis.Redis.from_url(proxy.url, retry=None, socket_timeout=0.2) as client:
            with proxy.black_hole(), pytest.raises(redis.TimeoutError):
                client.ping()
            client.close()
            assert client.ping()

    def test_while_it_refuses_there_are_no_connections(self, proxy: FaultProxy):
        with redis.Redis.from_url(proxy.url, retry=None) as client:
            client.ping()
            with proxy.refuse(), pytest.raises(redis.ConnectionError):
                client.ping()
            assert client.ping()

    def test_it_takes_its_time(self, proxy: FaultProxy):
        with redis.Redis.from_url(proxy.url, retry=None) as client:
            client.ping()
            proxy.latency_s = 0.1
            began = time.monotonic()
            client.ping()
            assert time.monotonic() - began >= 0.2

    def test_another_scheme_is_refused(self):
        with pytest.raises(ValueError, match=r"redis://…, not 'rediss:"), FaultProxy("rediss://127.0.0.1"):
            pass


RESP = st.recursive(
    st.sampled_from([b"+OK\r\n", b"-ERR no\r\n", b":42\r\n", b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"#t\r\n", b",1.5\r\n"])
    | st.binary(max_size=20).map(lambda data: b"$%d\r\n%s\r\n" % (len(data), data)),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: b"*%d\r\n" % len(items) + b"".join(items))
        | st.lists(st.tuples(inner, inner), max_size=2).map(
            lambda pairs: b"%%%d\r\n" % len(pairs) + b"".join(key + value for key, value in pairs)
        )
    ),
    max_leaves=8,
)


@given(RESP, RESP, st.data())
def test_a_message_ends_where_the_next_begins(first: bytes, second: bytes, data: st.DataObject):
    whole = bytearray(first + second)
    assert message_end(whole, 0) == len(first)
    assert message_end(whole, len(first)) == len(whole)
    cut = data.draw(st.integers(0, len(first) - 1))
    assert message_end(bytearray(first[:cut]), 0) is None


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=5))
def test_the_words_of_a_command(words: list[bytes]):
    sent = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    assert command_words(bytearray(sent), 0) == tuple(words)


async def _create(parts: Parts) -> Any:
    run_ids = {(await parts.store.create(new)).run_id for new in [new_run(idempotency_key=new_token())] * 2}
    return len(run_ids)


async def _journal(parts: Parts) -> Any:
    claim = await running(parts.store)
    appended = await parts.store.journal(claim.lease, [StepRecord("reply", b"1")], batch(1, *texts("a", "b")))
    return appended.last_seq


async def _commit(parts: Parts) -> Any:
    claim = await running(parts.store)
    committed = await parts.store.commit(claim.lease, commit_of(claim, Status.QUEUED, reply_message("said")))
    return committed.status, committed.last_seq


async def _release(parts: Parts) -> Any:
    claim = await running(parts.store)
    return await parts.store.release(claim.lease, batch(1), wake=parts.executor.wakeup)


async def _cancel(parts: Parts) -> Any:
    return await parts.store.cancel(await queued(parts.store), reason="enough")


async def _claim(parts: Parts) -> Any:
    await parts.store.create(new_run(), wake=parts.executor.wakeup)
    taken = await parts.store.claim_wakeups(
        parts.executor.source(), owner="w", claim_id="c1", lease_ms=60_000, count=10
    )
    return [claim.run.recoveries for claim in taken.claims]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("script", "work"),
    [
        ("create", _create), ("journal", _journal), ("commit", _commit), ("release", _release), ("cancel", _cancel),
        ("claim", _claim),
    ],
)  # fmt: skip
async def test_redis_py_sends_again_and_the_work_is_done_once(
    proxy: FaultProxy, parts: Parts, script: str, work: Any, when: str
):
    """On a real connection that breaks: the client library connects again and sends the command once more."""
    reference = await work(parts)
    getattr(proxy, f"cut_{when}")(runs_script(script))
    again = await work(parts)
    assert proxy.fired == 1
    assert again == reference
    for run in await parts.store.list(RunFilter()):
        assert run.recoveries == 0
        assert run.fence <= 1
        assert run.message_count <= 2
        assert run.seq <= 4


@pytest.mark.parametrize("fault", ["cut", "black hole", "refuse", "latency"])
async def test_a_worker_sits_a_broken_network_out(
    proxy: FaultProxy, redis_url: str, fault: str, caplog: pytest.LogCaptureFixture
):
    """Runs with payments go on while their worker's network breaks; every payment is made once."""
    gate = Gate()
    gate.open.set()
    async with working(app_at(proxy.url, gate, lease_ms=3_000)), AsyncClient(redis_url) as client:
        runs = [
            await client.enqueue("echo", 'call look {} & call pay {}\ncall pay {}\nstream 20 "word " 0.01')
            for _ in range(10)
        ]
        dice = random.Random(1)
        for _ in range(4):
            await asyncio.sleep(dice.uniform(0.05, 0.2))
            if fault == "cut":
                proxy.cut_all()
            elif fault == "latency":
                proxy.latency_s = 0.02
            else:
                with proxy.black_hole() if fault == "black hole" else proxy.refuse():
                    await asyncio.sleep(0.4)
        ends = [await run.result(timeout=30) for run in runs]
        assert {end.output for end in ends} == {"word " * 20}
        assert gate.entered.count("pay") == 20
        for run in runs:
            state = await run.read()
            assert (state.iteration, state.errors, state.recoveries) == (3, 0, 0)
            results = [result for message in await run.messages() for result in message.tool_results]
            assert {result.outcome for result in results} == {"ok"}
    assert "Traceback" not in caplog.text


async def test_a_failover_to_a_replica(server: RedisServer, tmp_path: Path):
    """The primary dies; connections go to its replica, which first refuses writes and is then promoted."""
    folder = tmp_path / "replica"
    folder.mkdir()
    replica = RedisServer(folder)
    replica.start()
    replica.command(f"REPLICAOF 127.0.0.1 {server.port}")
    gate = Gate()
    try:
        with FaultProxy(server.url) as proxy:
            async with working(app_at(proxy.url, gate, lease_ms=3_000)), AsyncClient(proxy.url) as client:
                runs = [await client.enqueue("echo", "call pay {}\nsay Done.") for _ in range(5)]
                await wait_until(lambda: len(gate.entered) == 5, timeout=10)
                await wait_until(lambda: server.is_copied_to(replica), timeout=20)
                server.kill()
                proxy.retarget(replica.url)
                gate.open.set()
                with pytest.raises(StoreUnavailable):
                    await client.enqueue("echo", "hello")
                await asyncio.sleep(0.5)
                replica.command("REPLICAOF NO ONE")
                assert {(await run.result(timeout=30)).output for run in runs} == {"Done."}
                assert gate.entered.count("pay") == 5
    finally:
        replica.kill()


async def test_a_redis_that_is_full_for_a_while(server: RedisServer):
    gate = Gate()
    async with working(app_at(server.url, gate, lease_ms=3_000)), AsyncClient(server.url) as client:
        runs = [await client.enqueue("echo", "call pay {}\nsay Done.") for _ in range(5)]
        await wait_until(lambda: len(gate.entered) == 5, timeout=10)
        server.command("CONFIG SET maxmemory 1")
        gate.open.set()
        with pytest.raises(StoreUnavailable, match=r"out of memory|writes nothing"):
            await client.enqueue("echo", "hello")
        await asyncio.sleep(0.5)
        server.command("CONFIG SET maxmemory 0")
        assert {(await run.result(timeout=30)).output for run in runs} == {"Done."}
        assert gate.entered.count("pay") == 5


async def test_a_claim_whose_answer_was_lost_holds_no_run_for_nobody(proxy: FaultProxy, parts: Parts):
    run_id = await queued(parts.store)
    proxy.cut_after(runs_script("claim"))
    claim = await claimed(parts.store, run_id)
    assert (claim.lease.fence, proxy.fired) == (1, 1)
