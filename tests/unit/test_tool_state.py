"""What tools keep from call to call, share with all workers, and must not let out."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq import Agent, AgentQ, Settings, ToolContext, tool
from agentq._redis.connection import Connection
from agentq.errors import InvalidInput, RunFailed, ToolError
from agentq.executors.local import LocalExecutor
from agentq.loop import Loop
from agentq.runs import Status
from agentq.stores._memory_shared import MemoryShared
from agentq.stores.redis import RedisStore
from agentq.testing import FakeClock, ScriptedModel, call
from agentq.testing._contract import queued
from agentq.tools.secrets import Secrets
from agentq.tools.state import MAX_VALUE_BYTES, State, Values
from tests.unit._loop import Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisStore]:
    connection = Connection(redis_url)
    store = RedisStore(connection)
    yield store
    await store.aclose()
    await connection.aclose()


def results_of(messages: Any) -> list[tuple[str, str]]:
    return [(each.outcome, each.content) for message in messages for each in message.tool_results]


class TestValues:
    def test_they_are_read_and_assigned_like_a_dict(self):
        values = Values({"a": b"1", "b": b"[2]"})
        values["c"] = {"d": None}
        values["a"] = 5
        del values["b"]
        assert dict(values) == {"a": 5, "c": {"d": None}}
        assert "b" not in values
        assert len(values) == 2
        assert values.changes() == {"b": None, "a": b"5", "c": b'{"d":null}'}
        with pytest.raises(KeyError):
            values["b"]
        with pytest.raises(KeyError):
            del values["b"]

    def test_a_change_within_a_value_counts(self):
        values = Values({"cart": b"[]", "other": b"[]"})
        values["cart"].append("tea")
        assert values["other"] == []
        assert values.changes() == {"cart": b'["tea"]'}

    def test_what_is_put_back_is_no_change(self):
        values = Values({"a": b"1"})
        values["a"] = 2
        values["a"] = 1
        del values["a"]
        values["a"] = 1
        assert values.changes() == {}
        values["new"] = 1
        del values["new"]
        assert values.changes() == {}

    @given(
        st.dictionaries(st.text(min_size=1, max_size=5), st.integers() | st.text(max_size=3), max_size=4),
        st.lists(st.tuples(st.text(min_size=1, max_size=5), st.none() | st.integers()), max_size=8),
    )
    def test_stored_and_changes_give_what_was_seen(self, before: dict[str, Any], steps: list[tuple[str, Any]]):
        first = Values({})
        first.update(before)
        stored = {name: value for name, value in first.changes().items() if value is not None}
        values = Values(stored)
        for name, value in steps:
            if value is None:
                values.pop(name, None)
            else:
                values[name] = value
        for name, value in values.changes().items():
            if value is None:
                del stored[name]
            else:
                stored[name] = value
        assert dict(Values(stored)) == dict(values)

    @pytest.mark.parametrize(
        ("name", "value", "problem"),
        [
            ("", 1, "1 to 200 characters"),
            ("x" * 201, 1, "1 to 200 characters"),
            (7, 1, "1 to 200 characters"),
            ("\ud800", 1, "1 to 200 characters"),
            ("a", object(), "no JSON form"),
            ("a", "x" * MAX_VALUE_BYTES, "at most 100000 are kept"),
        ],
    )
    def test_what_cannot_be_kept_is_named(self, name: Any, value: Any, problem: str):
        values = Values({})
        with pytest.raises(InvalidInput, match=problem) as raised:
            values[name] = value
        assert raised.value.field == "state"
        assert values.changes() == {}

    def test_there_is_an_end_to_names(self):
        values = Values({str(number): b"1" for number in range(1000)})
        values["0"] = 2
        with pytest.raises(InvalidInput, match="1000 names already"):
            values["more"] = 1

    def test_a_context_that_no_loop_made_has_some(self):
        ctx = ToolContext(run_id="R", call_id="R.1.0")
        ctx.state["a"] = 1
        ctx.state.session["b"] = 2
        assert [values.changes() for _, values in ctx.state.scopes] == [{"a": b"1"}, {"b": b"2"}, {}]
        assert ctx.wait(ctx.cache.get("a", 7)) == 7


@tool(effect="none")
async def note(ctx: ToolContext, word: str) -> list[str]:
    """Note a word, and return all of them."""
    ctx.state.setdefault("words", []).append(word)
    if ctx.session_id:
        ctx.state.session["last"] = word
    if ctx.user_id:
        ctx.state.user["count"] = ctx.state.user.get("count", 0) + 1
    return list(ctx.state["words"])


class TestState:
    @pytest.mark.parametrize("kind", ["memory", "redis"])
    async def test_it_is_there_in_later_calls_and_stored_with_the_result(self, kind: str, store: RedisStore):
        model = ScriptedModel([call("note", word="a"), call("note", word="b"), "Done."])
        stage = Stage(model, note)
        where: Any = stage.store if kind == "memory" else store
        loop = Loop({"calculator": stage.agent}, where, LocalExecutor(), Settings(), resolve_model=stage.loop.provider)
        run_id = await queued(where, session_id="s", user_id="u")
        for _ in range(3):
            await loop.advance(run_id, owner="worker-1")
        assert (await where.read(run_id)).status is Status.COMPLETED
        assert results_of(await where.messages(run_id)) == [("ok", '["a"]'), ("ok", '["a","b"]')]
        assert await where.values("run", run_id) == {"words": b'["a","b"]'}
        assert await where.values("session", "s") == {"last": b'"b"'}
        assert await where.values("user", "u") == {"count": b"2"}

    async def test_one_after_the_other_sees_what_the_one_before_changed(self):
        alone = tool(note.function, name="note", effect="idempotent")
        model = ScriptedModel([[call("note", word=word) for word in "abc"], "Done."])
        stage = Stage(model, alone)
        await stage.play()
        assert [content for _, content in results_of(await stage.messages())][-1] == '["a","b","c"]'
        assert await stage.store.values("run", stage.run_id) == {"words": b'["a","b","c"]'}

    async def test_a_call_that_fails_changes_nothing(self):
        seen: list[int] = []

        @tool(effect="idempotent", retries=1, retry_backoff_s=0)
        async def count(ctx: ToolContext) -> int:
            """Count."""
            ctx.state["n"] = ctx.state.get("n", 0) + 1
            seen.append(ctx.state["n"])
            if len(seen) < 4:
                raise ConnectionError("gone")
            return int(ctx.state["n"])

        stage = Stage(ScriptedModel([call("count"), call("count"), "Done."]), count)
        await stage.play()
        assert seen == [1, 1, 1, 1]
        assert await stage.store.values("run", stage.run_id) == {"n": b"1"}

    async def test_it_outlives_the_worker_with_the_result(self):
        """The worker dies after a result was journaled: the change is there, and made once."""
        gone = asyncio.Event()

        @tool(effect="idempotent")
        async def die(ctx: ToolContext) -> None:
            """Die the first time."""
            if ctx.attempt == 1:
                gone.set()
                await asyncio.Event().wait()

        count = tool(note.function, name="note", effect="idempotent")
        stage = Stage(ScriptedModel([[call("note", word="a"), call("die")], "Done."]), count, die)
        _, task = await stage.begin()
        await asyncio.wait_for(gone.wait(), 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await stage.store.values("run", stage.run_id) == {"words": b'["a"]'}
        stage.pass_time(9.0)
        await stage.play()
        assert await stage.store.values("run", stage.run_id) == {"words": b'["a"]'}

    async def test_a_run_without_a_session_is_told_so(self):
        @tool(effect="none")
        def keep(ctx: ToolContext) -> None:
            """Keep."""
            ctx.state.session["a"] = 1

        stage = Stage(ScriptedModel([call("keep"), "Done."]), keep)
        await stage.play()
        ((outcome, content),) = results_of(await stage.messages())
        assert outcome == "error"
        assert "ctx.state.session needs a run with session_id=" in content

    async def test_sessions_and_users_find_theirs_again(self):
        app = AgentQ(
            [Agent("a", model="scripted", tools=[note])],
            settings=Settings(),
            models={"scripted": ScriptedModel([call("note", word="x"), "Done."])},
        )
        for session in ("s1", "s1", "s2"):
            await app.run("a", "go", session_id=session, user_id="u")

        @tool(effect="none", name="note")
        async def look(ctx: ToolContext, word: str) -> list[Any]:
            """Look."""
            return [dict(ctx.state), dict(ctx.state.session), dict(ctx.state.user)]

        app.agents = {"a": Agent("a", model="scripted", tools=[look])}
        result = await app.run("a", "go", session_id="s1", user_id="u")
        assert results_of(result.messages) == [("ok", '[{},{"last":"x"},{"count":3}]')]


class TestCache:
    async def test_in_memory_what_is_over_goes(self):
        clock = FakeClock()
        shared = MemoryShared(clock.now_ms)
        for number in range(1000):
            await shared.set(f"k{number}", b"1", ttl_ms=1000)
            clock.advance(0.1)
        assert [await shared.get("k990"), await shared.get("k991"), await shared.get("k999")] == [None, b"1", b"1"]
        assert len(shared._held) < 250  # noqa: SLF001 - what it holds on to

    @pytest.mark.parametrize("is_sync", [True, False])
    async def test_workers_share_it(self, store: RedisStore, *, is_sync: bool):
        asked: list[int] = []

        def rate(ctx: ToolContext) -> float:
            """The rate of the day."""
            known = ctx.wait(ctx.cache.get("rate"))
            if known is None:
                asked.append(1)
                known = 1.5
                ctx.wait(ctx.cache.set("rate", known, ttl_s=60))
            return float(known)

        async def rate_too(ctx: ToolContext) -> float:
            """The rate of the day."""
            known = await ctx.cache.get("rate")
            if known is None:
                asked.append(1)
                known = 1.5
                await ctx.cache.set("rate", known, ttl_s=60)
            return float(known)

        made = tool(rate if is_sync else rate_too, name="rate", effect="none")
        for _ in range(2):
            stage = Stage(ScriptedModel([call("rate"), "Done."]), made)
            loop = Loop(
                {"calculator": stage.agent}, store, LocalExecutor(), Settings(), resolve_model=stage.loop.provider
            )
            run_id = await queued(store)
            await loop.advance(run_id, owner="worker-1")
            assert results_of(await store.messages(run_id)) == [("ok", "1.5")]
        assert asked == [1]
        assert 0 < int(await store.pipeline.execute("PTTL", "agentq:shared:cache:rate")) <= 60_000

    async def test_what_it_does_not_take(self):
        cache = ToolContext(run_id="R", call_id="R.1.0").cache
        await cache.set("a", [1])
        assert await cache.get("a") == [1]
        await cache.delete("a")
        assert await cache.get("a") is None
        for key, value, ttl_s, field in [
            ("", 1, 1, "key"),
            ("a", object(), 1, "value"),
            ("a", "x" * 1_000_001, 1, "value"),
            ("a", 1, 0, "ttl_s"),
            ("a", 1, True, "ttl_s"),
            ("a", 1, 1e9, "ttl_s"),
        ]:
            with pytest.raises(InvalidInput) as raised:
                await cache.set(key, value, ttl_s=ttl_s)
            assert raised.value.field == field

    async def test_an_async_tool_awaits(self):
        ctx = ToolContext(run_id="R", call_id="R.1.0")
        with pytest.raises(InvalidInput, match="an async tool awaits it"):
            ctx.wait(ctx.cache.get("a"))


SECRET = 'sk-"live"-1234'


class TestSecrets:
    async def run(self, made: Any, secrets: Any, caplog: pytest.LogCaptureFixture) -> tuple[Any, str]:
        events: list[Any] = []
        app = AgentQ(
            [Agent("a", model="scripted", tools=[made], retry_backoff_s=0)],
            settings=Settings(),
            models={"scripted": ScriptedModel([call("pay"), "Done."])},
            secrets=secrets,
        )
        with caplog.at_level(logging.DEBUG):
            result = await app.run("a", "go", on_event=events.append)
        return result, f"{result.messages!r}{events!r}{caplog.text}"

    async def test_a_tool_finds_those_that_it_asked_for(self, caplog: pytest.LogCaptureFixture):
        @tool(effect="once", secrets=["PAY_KEY"])
        async def pay(ctx: ToolContext) -> str:
            """Pay."""
            assert SECRET not in repr(ctx)
            assert "OTHER" not in ctx.secrets
            with pytest.raises(KeyError, match="did not ask for"):
                ctx.secrets["OTHER"]
            return f"length {len(ctx.secrets['PAY_KEY'])}"

        result, _ = await self.run(pay, {"PAY_KEY": SECRET, "OTHER": "x" * 9}, caplog)
        assert results_of(result.messages) == [("ok", f"length {len(SECRET)}")]

    @pytest.mark.parametrize("how", ["returns", "returns it within", "raises", "says", "reports"])
    @pytest.mark.parametrize("retries", [0, 1])
    async def test_they_get_out_nowhere(self, caplog: pytest.LogCaptureFixture, how: str, retries: int):
        @tool(effect="idempotent", secrets=["PAY_KEY"], retries=retries, retry_backoff_s=0)
        async def pay(ctx: ToolContext) -> Any:
            """Pay."""
            key = ctx.secrets["PAY_KEY"]
            if how == "reports":
                await ctx.progress(f"with {key}")
            if how == "raises":
                raise ConnectionError(f"401 for {key}")
            if how == "says":
                raise ToolError(f"401 for {key}")
            return {"key": key} if how == "returns it within" else key

        result, everything = await self.run(pay, {"PAY_KEY": SECRET}.get, caplog)
        assert "[secret PAY_KEY]" in results_of(result.messages)[0][1]
        assert SECRET not in everything
        assert SECRET.replace('"', '\\"') not in everything

    @pytest.mark.parametrize("hook", ["validate", "permission"])
    async def test_nor_where_a_hook_says_them(self, caplog: pytest.LogCaptureFixture, hook: str):
        def refuse(ctx: ToolContext, arguments: Any) -> Any:
            why = f"403 for {ctx.secrets['PAY_KEY']}"
            if hook == "validate":
                raise ValueError(why)
            return why

        hooks: Any = {hook: refuse}

        @tool(effect="once", secrets=["PAY_KEY"], **hooks)
        async def pay() -> str:
            """Pay."""
            return "paid"

        result, everything = await self.run(pay, {"PAY_KEY": SECRET}, caplog)
        assert "403 for [secret PAY_KEY]" in results_of(result.messages)[0][1]
        assert SECRET not in everything

    async def test_nor_in_a_question_to_a_person(self, monkeypatch: pytest.MonkeyPatch):
        @tool(effect="once", secrets=["AGENT_TEST_KEY"])
        async def pay(ctx: ToolContext) -> str:
            """Pay."""
            return str(await ctx.ask(f"May I use {ctx.secrets['AGENT_TEST_KEY']}?"))

        monkeypatch.setenv("AGENT_TEST_KEY", SECRET)
        stage = Stage(ScriptedModel([call("pay"), "Done."]), pay)
        await stage.advance()
        (question,) = (await stage.read()).questions
        assert question.text == "May I use [secret AGENT_TEST_KEY]?"

    @pytest.mark.parametrize("gives", [OSError("the vault is shut"), 7])
    async def test_whoever_cannot_give_one_fails_the_call_and_not_the_run(
        self, caplog: pytest.LogCaptureFixture, gives: Any
    ):
        def vault(name: str) -> Any:
            if isinstance(gives, Exception):
                raise gives
            return gives

        @tool(effect="once", secrets=["PAY_KEY"])
        async def pay() -> str:
            """Pay."""
            return "paid"

        result, _ = await self.run(pay, vault, caplog)
        assert results_of(result.messages) == [("error", "pay was not called: its secret PAY_KEY is not set here")]
        assert ("the vault is shut" if gives != 7 else "is of type int") in caplog.text
        app = AgentQ([Agent("a", model="mock", tools=[pay])], settings=Settings(), secrets=vault)
        with pytest.raises(InvalidInput, match="the secret PAY_KEY") as raised:
            app.check_ready()
        assert raised.value.field == "secrets"

    async def test_one_that_is_not_set(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
        @tool(effect="once", secrets=["AGENT_TEST_KEY"])
        async def pay() -> str:
            """Pay."""
            return "paid"

        monkeypatch.delenv("AGENT_TEST_KEY", raising=False)
        app = AgentQ([Agent("a", model="mock", tools=[pay], max_error_retries=0)], settings=Settings())
        with pytest.raises(InvalidInput, match="needs the secret AGENT_TEST_KEY, which is not set") as raised:
            app.check_ready()
        assert raised.value.field == "secrets"
        with pytest.raises(RunFailed, match="its secret AGENT_TEST_KEY is not set here"):
            await app.run("a", "call pay {}")
        monkeypatch.setenv("AGENT_TEST_KEY", "k")
        app.check_ready()
        assert results_of((await app.run("a", "call pay {}\nsay done")).messages) == [("ok", "paid")]

    @pytest.mark.parametrize("secrets", ["KEY", [""], [7]])
    def test_names_that_are_none(self, secrets: Any):
        with pytest.raises(InvalidInput) as raised:
            tool(secrets=secrets)(note.function)
        assert raised.value.field == "secrets"

    def test_a_short_one_is_not_looked_for(self):
        assert Secrets({"PIN": "12"}).redact("at 12:12") == "at 12:12"
        assert Secrets({"A": "abcdef", "B": "abcd"}).redact("abcdef abcd") == "[secret A] [secret B]"


async def test_a_tool_whose_state_cannot_be_stored_has_run_and_is_not_called_again():
    entered: list[int] = []

    @tool(effect="idempotent", retries=3, retry_backoff_s=0)
    async def keep(ctx: ToolContext) -> str:
        """Keep something."""
        entered.append(ctx.attempt)
        ctx.state.setdefault("list", []).append(object())
        return "kept"

    app = AgentQ([Agent("a", model="mock", tools=[keep])], settings=Settings())
    ((outcome, content),) = results_of((await app.run("a", "call keep {}\nsay done")).messages)
    assert (outcome, entered) == ("error", [1])
    assert content.startswith(
        "the tool has run, but what it keeps cannot be stored: ctx.state['list'] has no JSON form"
    )


def test_state_starts_anew_for_another_attempt():
    state = State({"a": b"1"}, session=Values(why_not="no session"))
    state["a"] = 2
    assert dict(state.unread()) == {"a": 1}
    with pytest.raises(InvalidInput, match="no session"):
        state.unread().session["x"] = 1
