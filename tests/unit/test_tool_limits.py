"""How often a tool may be called, and when it is left in peace; a run that has to wait holds no worker."""

from __future__ import annotations

import asyncio
import itertools
import sys
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, CircuitBreaker, RateLimit, Settings, private_redis, tool
from agentq._ids import new_token
from agentq._redis.connection import Connection
from agentq.client_async import AsyncClient
from agentq.errors import InvalidInput, NotWaiting, StoreUnavailable, ToolError
from agentq.events.model import RunDelayed, ToolCalled
from agentq.loop import Loop
from agentq.runs import LIMIT, Question, Status
from agentq.stores._memory_shared import MemoryShared
from agentq.stores._rates import Rates
from agentq.stores.base import EventBatch, Rest
from agentq.stores.redis import RedisStore
from agentq.stores.values import BreakerRule
from agentq.testing import FakeClock, ScriptedModel, call
from agentq.testing._contract import queued
from agentq.tools import rates
from tests.helpers import wait_until
from tests.stores.redis_parts import TimedParts
from tests.unit._loop import NotedWakeups, Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

RULE = BreakerRule(failures=3, pause_ms=1000, window_ms=5000)


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[TimedParts]:
    parts = TimedParts(Connection(redis_url))
    yield parts
    await parts.aclose()


@pytest.fixture(params=["memory", "redis"])
def shared(request: pytest.FixtureRequest, parts: TimedParts) -> tuple[Any, Any]:
    """What workers share, and how time passes there."""
    if request.param == "redis":
        return parts.store.shared, parts.pass_time
    clock = FakeClock()

    async def pass_time(seconds: float) -> None:
        clock.advance(seconds)

    return MemoryShared(clock.now_ms), pass_time


class TestBreakers:
    async def fail(self, shared: Any, *tokens: str) -> None:
        for token in tokens:
            await shared.tell_breaker("t", RULE, failed=True, token=token)

    async def test_failures_in_a_row_stop_calls_for_a_while(self, shared: tuple[Any, Any]):
        breaker, pass_time = shared
        await self.fail(breaker, "a", "b")
        assert await breaker.ask_breaker("t", RULE, token=new_token()) == 0
        await self.fail(breaker, "c")
        assert await breaker.ask_breaker("t", RULE, token=new_token()) > 0
        assert await breaker.ask_breaker("other", RULE, token="x") == 0
        await pass_time(1.1)
        # One may try, the others wait for what comes of it.
        assert await breaker.ask_breaker("t", RULE, token=new_token()) == 0
        assert await breaker.ask_breaker("t", RULE, token=new_token()) > 0
        await self.fail(breaker, "d")
        assert await breaker.ask_breaker("t", RULE, token=new_token()) > 0
        await pass_time(1.1)
        assert await breaker.ask_breaker("t", RULE, token=new_token()) == 0
        await breaker.tell_breaker("t", RULE, failed=False, token="e")
        assert [await breaker.ask_breaker("t", RULE, token=new_token()) for _ in range(3)] == [0, 0, 0]

    async def test_the_one_that_tries_may_ask_twice(self, shared: tuple[Any, Any]):
        breaker, pass_time = shared
        await self.fail(breaker, "a", "b", "c")
        await pass_time(1.1)
        assert [await breaker.ask_breaker("t", RULE, token="d") for _ in range(2)] == [0, 0]
        assert await breaker.ask_breaker("t", RULE, token="e") > 0

    async def test_a_success_in_between_begins_anew(self, shared: tuple[Any, Any]):
        breaker, _ = shared
        await self.fail(breaker, "a", "b")
        await breaker.tell_breaker("t", RULE, failed=False, token="c")
        await self.fail(breaker, "d", "e")
        assert await breaker.ask_breaker("t", RULE, token=new_token()) == 0

    async def test_what_is_told_twice_counts_once(self, shared: tuple[Any, Any]):
        breaker, _ = shared
        await self.fail(breaker, "a", "a", "b", "b")
        assert await breaker.ask_breaker("t", RULE, token=new_token()) == 0

    async def test_a_failure_is_forgotten(self, shared: tuple[Any, Any]):
        breaker, pass_time = shared
        await self.fail(breaker, "a", "b")
        await pass_time(6.1)
        await self.fail(breaker, "c")
        assert await breaker.ask_breaker("t", RULE, token=new_token()) == 0

    async def test_a_tool_that_keeps_failing_is_left_in_peace(self):
        entered: list[int] = []

        @tool(effect="none", breaker=CircuitBreaker(failures=2, pause_s=60))
        async def ask(number: int) -> str:
            """Ask."""
            entered.append(number)
            raise ConnectionError("gone")

        stage = Stage(ScriptedModel([call("ask", number=number) for number in range(4)] + ["Done."]), ask)
        await stage.play()
        assert entered == [0, 1]
        contents = [result.content for result in await stage.results()]
        assert contents[:2] == ["ConnectionError: gone"] * 2
        assert all(
            content.startswith("ask was not called: its last 2 calls failed, and it is left in peace for ")
            for content in contents[2:]
        )
        called = [event for event in await stage.events() if isinstance(event, ToolCalled)]
        assert len(called) == 2
        stage.pass_time(61)
        assert (await stage.read()).errors == 0

    async def test_what_a_tool_says_is_no_failure(self):
        @tool(effect="none", breaker=CircuitBreaker(failures=1))
        async def ask() -> str:
            """Ask."""
            raise ToolError("there is no such day")

        stage = Stage(ScriptedModel([call("ask"), call("ask"), "Done."]), ask)
        await stage.play()
        assert [result.content for result in await stage.results()] == ["there is no such day"] * 2

    async def test_a_call_that_took_too_long_is_one(self):
        @tool(effect="none", timeout=0.01, breaker=CircuitBreaker(failures=1))
        async def ask() -> str:
            """Ask."""
            await asyncio.Event().wait()
            return "never"

        stage = Stage(ScriptedModel([call("ask"), call("ask"), "Done."]), ask)
        await stage.play()
        first, second = [result.content for result in await stage.results()]
        assert "did not finish within" in first
        assert "was not called" in second

    async def test_what_came_of_a_call_is_safe_before_its_breaker_is_told(self, monkeypatch: pytest.MonkeyPatch):
        @tool(effect="once", breaker=CircuitBreaker())
        async def pay() -> str:
            """Pay."""
            return "paid"

        async def crash(*_: Any, **__: Any) -> None:
            raise RuntimeError("the worker dies here")

        stage = Stage(ScriptedModel([call("pay"), "Done."]), pay)
        with monkeypatch.context() as patched:
            patched.setattr(stage.loop.shared, "tell_breaker", crash)
            with pytest.raises(RuntimeError, match="dies here"):
                await stage.advance()
        await stage.loop.begin(await stage.lose_lease()).run()
        assert [(result.outcome, result.content) for result in await stage.results()] == [("ok", "paid")]


class TestRates:
    async def test_uses_are_counted_for_all_workers(self, redis_url: str):
        connections = [Connection(redis_url) for _ in range(2)]
        one, other = (Rates(each.client.connection_pool, prefix="agentq:limits") for each in connections)
        assert [await each.take("2/minute", ["t", "tool", ""]) for each in (one, other)] == [0, 0]
        wait_s = await one.take("2/minute", ["t", "tool", ""])
        assert 50 < wait_s <= 60
        assert await other.take("2/minute", ["another", "tool", ""]) == 0
        for connection in connections:
            await connection.aclose()

    async def test_they_are_counted_over_a_unix_socket_too(self, tmp_path: Path):
        program = private_redis.find_program()
        assert program is not None
        socket = tmp_path / "redis.sock"
        arguments = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(tmp_path)]
        server = await asyncio.create_subprocess_exec(program, *arguments, stdout=asyncio.subprocess.DEVNULL)
        await wait_until(socket.exists, message="the server listens")
        store = RedisStore(connection := Connection(f"unix://{socket}"))
        assert await store.shared.take("1/minute", ["t"]) == 0
        assert await store.shared.take("1/minute", ["t"]) > 50
        await store.aclose()
        await connection.aclose()
        server.terminate()
        await server.wait()

    @pytest.mark.parametrize("is_shared", [True, False])
    async def test_those_who_wait_come_back_one_after_the_other(self, redis_url: str, *, is_shared: bool):
        connection = Connection(redis_url)
        rates = Rates(connection.client.connection_pool if is_shared else None, prefix="agentq:limits")
        assert [await rates.take("2/minute", ["t"]) for _ in range(2)] == [0, 0]
        waits = [await rates.take("2/minute", ["t"]) for _ in range(100)]
        assert all(29 < later - earlier < 31 for earlier, later in itertools.pairwise(waits))
        # A run of another user waits for nobody.
        await rates.take("1/minute", ["t", "user", "ann"])
        assert await rates.take("1/minute", ["t", "user", "ann"]) <= 60
        await connection.aclose()

    async def test_several_limits_hold_together(self):
        counted = Rates()
        assert await counted.take("1/second; 2/hour", ["t"]) == 0
        assert 0 < await counted.take("1/second; 2/hour", ["t"]) <= 1

    async def test_keys_end_with_their_window(self, parts: TimedParts):
        await parts.store.shared.take("2/minute", ["t", "tool", ""])
        keys = [key async for key in parts.connection.client.scan_iter("agentq:limits*")]
        assert keys
        assert all([0 < await parts.connection.client.ttl(key) <= 60 for key in keys])

    async def test_a_redis_that_is_away_is_said_to_be(self):
        store = RedisStore(connection := Connection("redis://127.0.0.1:1/0"))
        with pytest.raises(StoreUnavailable):
            await store.shared.take("2/minute", ["t"])
        await store.aclose()
        await connection.aclose()

    async def test_a_run_that_has_to_wait_holds_no_worker(self):
        done: list[str] = []

        @tool(effect="once", rate_limit="2/minute")
        async def send(to: str) -> str:
            """Send."""
            done.append(to)
            return f"sent to {to}"

        @tool(effect="once")
        async def tidy() -> str:
            """Tidy up."""
            done.append("tidy")
            return "tidy"

        stage = Stage(ScriptedModel([[*[call("send", to=to) for to in "abc"], call("tidy")], "Done."]), send, tidy)
        outcome = await stage.advance()
        assert (outcome.kind, outcome.status) == ("released", Status.WAITING)
        run = await stage.read()
        assert run.question is not None
        assert (run.question.kind, run.question.text) == (LIMIT, "send may be called 2/minute")
        # What comes after it may depend on it.
        assert done == ["a", "b"]
        (delayed,) = [event for event in await stage.events() if isinstance(event, RunDelayed)]
        assert 50_000 < delayed.delay_ms <= 66_000
        assert (await stage.told("send")).count("tool.called") == 2
        assert stage.executor.woken[-1][1] > 50

        assert await stage.store.claim([stage.run_id], owner="w", claim_id="early", lease_ms=9_000) == ()
        stage.pass_time(67)
        # The window has not passed by the clock that counts, so it waits again; nothing is made twice.
        await stage.advance()
        assert (await stage.read()).status is Status.WAITING
        assert done == ["a", "b"]

    async def test_it_goes_on_by_itself(self):
        seen: list[float] = []

        @tool(effect="none", rate_limit="1/second")
        async def look(number: int) -> int:
            """Look."""
            seen.append(asyncio.get_running_loop().time())
            return number

        app = AgentQ(
            [Agent("a", model="scripted", tools=[look])],
            settings=Settings(),
            models={"scripted": ScriptedModel([[call("look", number=1), call("look", number=2)], "Done."])},
        )
        result = await asyncio.wait_for(app.run("a", "go"), 20)
        assert result.output == "Done."
        assert [each.content for message in result.messages for each in message.tool_results] == ["1", "2"]
        assert seen[1] - seen[0] > 0.9

    async def test_a_sweep_wakes_it(self, parts: TimedParts):
        @tool(effect="none", rate_limit="1/minute")
        async def look() -> str:
            """Look."""
            return "seen"

        model = ScriptedModel([[call("look"), call("look")], "Done."])
        executor = NotedWakeups()
        loop = Loop(
            {"calculator": Agent("calculator", model="mock", tools=[look])},
            parts.store,
            executor,
            Settings(lease_ms=9_000),
            resolve_model=lambda name: (model, name),
        )
        run_id = await queued(parts.store)
        await loop.advance(run_id, owner="w")
        assert (await parts.store.read(run_id)).status is Status.WAITING
        await parts.pass_time(30)
        assert (await parts.store.sweep(lease_ms=9_000)).to_wake == ()
        await parts.pass_time(40)
        assert (await parts.store.sweep(lease_ms=9_000)).to_wake == (run_id,)
        run = await parts.store.read(run_id)
        assert (run.status, run.question, run.not_before_ms) == (Status.QUEUED, None, 0)

    async def test_a_claim_by_name_takes_it_when_its_time_has_come(self, parts: TimedParts):
        stage_run = await queued(parts.store)
        (claim,) = await parts.store.claim([stage_run], owner="w", claim_id="1", lease_ms=9_000)
        rest = Rest((Question(call_id="c", tool="t", text="x", kind=LIMIT),), claim.run.signals, within_ms=10_000)
        assert (await parts.store.release(claim.lease, EventBatch(1), rest=rest)).status is Status.WAITING
        assert await parts.store.claim([stage_run], owner="w", claim_id="2", lease_ms=9_000) == ()
        await parts.pass_time(11)
        (again,) = await parts.store.claim([stage_run], owner="w", claim_id="3", lease_ms=9_000)
        assert (again.run.question, again.run.status) == (None, Status.RUNNING)

    async def test_it_can_be_cancelled_and_is_no_question(self):
        @tool(effect="once", rate_limit="1/minute")
        async def send() -> str:
            """Send."""
            return "sent"

        stage = Stage(ScriptedModel([[call("send"), call("send")]]), send)
        await stage.advance()
        client = AsyncClient(store=stage.store, stream=stage.store.stream, executor=stage.executor)
        with pytest.raises(NotWaiting, match="waits for no answer"):
            await client.answer(stage.run_id, "sent")
        await stage.store.cancel(stage.run_id)
        await stage.advance()
        assert (await stage.read()).status is Status.CANCELLED
        assert [result.outcome for result in await stage.results()] == ["ok", "cancelled"]

    async def test_users_are_counted_apart(self):
        @tool(effect="none", rate_limit=RateLimit("1/minute", per="user"))
        async def look() -> str:
            """Look."""
            return "seen"

        stage = Stage(ScriptedModel([call("look"), "Done."]), look)
        for user in ("ann", "bob"):
            await stage.enqueue(user_id=user)
            assert (await stage.advance()).status is Status.QUEUED
        await stage.enqueue(user_id="ann")
        assert (await stage.advance()).status is Status.WAITING


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"rate_limit": "often"}, "rate_limit"),
        ({"rate_limit": 5}, "rate_limit"),
        ({"rate_limit": "0/minute"}, "rate_limit"),
        ({"breaker": 5}, "breaker"),
    ],
)
def test_options_that_are_none(options: dict[str, Any], field: str):
    async def look() -> None:
        """Look."""

    with pytest.raises(InvalidInput) as raised:
        tool(**options)(look)
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("made", "field"),
    [
        (lambda: RateLimit("1/minute", per="moon"), "rate_limit"),  # type: ignore[arg-type]
        (lambda: CircuitBreaker(failures=0), "breaker"),
        (lambda: CircuitBreaker(failures=True), "breaker"),
        (lambda: CircuitBreaker(pause_s=0), "breaker"),
        (lambda: CircuitBreaker(window_s=float("inf")), "breaker"),
    ],
)
def test_rules_that_are_none(made: Any, field: str):
    with pytest.raises(InvalidInput) as raised:
        made()
    assert raised.value.field == field


def test_without_the_library_the_line_is_named_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    rates.parsed.cache_clear()
    monkeypatch.setitem(sys.modules, "limits", None)
    with pytest.raises(InvalidInput, match=r"pip install 'agentq-redis\[limits\]'"):
        RateLimit("1/minute")
