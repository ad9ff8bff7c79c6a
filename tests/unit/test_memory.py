"""Memory: what one run leaves for the next, by tools and by `extract`, and what neither may break."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, Fact, InvalidInput, SessionMemory, Settings, UserMemory, tool
from agentq.context.memory import PREFIX, decode_facts, encode_fact
from agentq.errors import RunFailed, StoreUnavailable
from agentq.messages import NoteKind
from agentq.runs import RunState, Status
from agentq.stores.base import StepRecord
from agentq.stores.memory import MemoryStore
from agentq.stores.values import Change
from agentq.testing import ScriptedModel, call
from agentq.testing._contract import batch, commit_of
from tests.helpers import wait_until
from tests.unit._loop import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq.providers.base import ModelRequest

SEAT = Fact("Likes window seats.")
OSLO = Fact("Opens at 8.", "Oslo office")


@tool(effect="none")
async def look() -> str:
    """Look."""
    return "seen"


def app_of(*replies: Any, store: Any = None, **agent: Any) -> tuple[AgentQ, ScriptedModel]:
    model = ScriptedModel(replies)
    made = Agent("asker", "Be brief.", "scripted:x", retry_backoff_s=0, **agent)
    return AgentQ([made], settings=Settings(), models={"scripted": model}, store=store), model


def names(asked: ModelRequest) -> list[str]:
    return [spec.name for spec in asked.tools]


class TestTools:
    async def test_what_one_run_remembers_the_next_is_told(self):
        app, model = app_of(
            [call("remember", text=SEAT.text), call("remember", text=OSLO.text, about=OSLO.about)], "Noted.",
            memory=SessionMemory(),
        )  # fmt: skip
        for _ in range(2):
            await app.run("asker", "Hello", session_id="s")
        first, second = model.requests[0], model.requests[2]
        assert first.instructions == "Be brief."
        assert second.instructions.startswith("Be brief.\n\nWhat you remember of this conversation.")
        assert second.instructions.endswith(
            f"\n- [{SEAT.fact_id}] Likes window seats.\nAbout Oslo office:\n- [{OSLO.fact_id}] Opens at 8."
        )
        assert names(first) == ["remember", "forget"]

    async def test_it_is_part_of_the_beginning_that_a_cache_keeps(self):
        app, model = app_of([call("remember", text=SEAT.text)], "Noted.", memory=SessionMemory())
        for _ in range(2):
            await app.run("asker", "Hello", session_id="s")
        assert model.requests[2].stable == (9, len(model.requests[2].instructions))

    async def test_forgetting_is_by_id_and_wins_over_what_was_remembered_before(self):
        def forgets(request: ModelRequest) -> Any:
            return [call("forget", fact_id=f"[{SEAT.fact_id}]"), call("remember", text="Likes the aisle.")]

        app, model = app_of(forgets, "Noted.", memory=SessionMemory())
        first, _ = app_of([call("remember", text=SEAT.text)], "Noted.", memory=SessionMemory())
        first._sessions = app._sessions  # noqa: SLF001 - both talk in the same session
        await first.run("asker", "I like window seats", session_id="s")
        await app.run("asker", "No longer", session_id="s")
        await app.run("asker", "Hello", session_id="s")
        assert "window" in model.requests[0].instructions
        assert "window" not in model.requests[2].instructions
        assert "aisle" in model.requests[2].instructions

    async def test_a_call_with_bad_arguments_is_told_and_remembers_nothing(self):
        app, model = app_of(
            [call("remember", text="")], [call("remember", text="x" * 501)], "No.", memory=SessionMemory()
        )
        result = await app.run("asker", "Hello", session_id="s")
        assert [part.outcome for message in result.messages for part in message.tool_results] == ["error", "error"]
        await app.run("asker", "Hello", session_id="s")
        assert model.requests[-1].instructions == "Be brief."

    async def test_a_run_that_fails_keeps_what_was_said_in_it(self):
        app, model = app_of(
            [call("remember", text=SEAT.text)], RuntimeError("broken"), memory=SessionMemory(), max_error_retries=0
        )
        for _ in range(2):
            with pytest.raises(RunFailed):
                await app.run("asker", "Hello", session_id="s")
        assert SEAT.text in model.requests[2].instructions

    async def test_an_empty_fact_is_none(self):
        app, model = app_of([call("remember", text=" \n")], "Noted.", memory=SessionMemory())
        for _ in range(2):
            await app.run("asker", "Hello", session_id="s")
        assert model.requests[2].instructions == "Be brief."


class TestScopes:
    async def test_users_have_their_own_in_all_their_sessions(self):
        app, model = app_of([call("remember", text=SEAT.text)], "Noted.", memory=UserMemory())
        told = []
        for user, session in (("ann", "s1"), ("ann", "s2"), ("bob", "s3")):
            await app.run("asker", "Hello", session_id=session, user_id=user)
            told.append(SEAT.text in model.requests[-2].instructions)
        assert told == [False, True, False]
        assert "What you remember of this user." in model.requests[2].instructions

    @pytest.mark.parametrize(
        ("memory", "given"), [(SessionMemory(), {"user_id": "a"}), (UserMemory(), {"session_id": "s"})]
    )
    async def test_where_there_is_nobody_to_remember_there_are_no_tools(self, memory: Any, given: dict[str, Any]):
        app, model = app_of("Ok.", memory=memory, tools=[look])
        await app.run("asker", "Hello", **given)
        assert names(model.requests[0]) == ["look"]

    async def test_a_run_may_do_without(self):
        app, model = app_of([call("remember", text=SEAT.text)], "Noted.", memory=SessionMemory(), tools=[look])
        await app.run("asker", "Hello", session_id="s")
        await app.run("asker", "Hello", session_id="s", without=["memory"])
        assert model.requests[2].instructions == "Be brief."
        assert names(model.requests[2]) == ["look"]

    async def test_its_tools_are_a_toolset(self):
        app, model = app_of("Ok.", memory=SessionMemory(), tools=[look])
        for tools in (["memory"], ["look"], ["remember", "look"]):
            await app.run("asker", "Hello", session_id="s", tools=tools)
        assert [names(asked) for asked in model.requests] == [["remember", "forget"], ["look"], ["look", "remember"]]

    async def test_tools_that_vary_go_with_it(self):
        app, model = app_of("Ok.", memory=SessionMemory(), tools=lambda run: [look])
        await app.run("asker", "Hello", session_id="s")
        await app.run("asker", "Hello", session_id="s", without=["memory"])
        assert [names(asked) for asked in model.requests] == [["look", "remember", "forget"], ["look"]]


class TestExtract:
    async def test_what_it_finds_in_a_run_the_next_is_told(self):
        seen: list[Any] = []

        async def extract(run: Any, messages: Any, facts: Any) -> list[Fact]:
            seen.append((run.session_id, [message.text for message in messages], [fact.text for fact in facts]))
            return [Fact(f"  Said\n{messages[0].text}  ")]

        app, model = app_of("Ok.", memory=SessionMemory(tools=False, extract=extract))
        for prompt in ("First.", "Second."):
            await app.run("asker", prompt, session_id="s")
        assert seen == [("s", ["First.", "Ok."], []), ("s", ["Second.", "Ok."], ["Said First."])]
        assert names(model.requests[1]) == []
        assert "Use `remember`" not in model.requests[1].instructions
        assert model.requests[1].instructions.endswith("] Said First.")

    async def test_what_the_model_said_goes_before(self):
        memory = SessionMemory(extract=lambda run, messages, facts: [SEAT, OSLO])
        app, model = app_of([call("forget", fact_id=SEAT.fact_id)], "Ok.", memory=memory)
        for _ in range(2):
            await app.run("asker", "Hello", session_id="s")
        assert SEAT.text not in model.requests[2].instructions
        assert OSLO.text in model.requests[2].instructions

    @pytest.mark.parametrize(
        "extract",
        [
            lambda run, messages, facts: 1 / 0,
            lambda run, messages, facts: None,
            lambda run, messages, facts: ["text"],
            lambda run, messages, facts: [Fact("x" * 501)],
            lambda run, messages, facts: [Fact(" ")],
            lambda run, messages, facts: asyncio.Event().wait(),
        ],
    )
    async def test_one_that_fails_costs_its_facts_and_not_the_run(self, extract: Any, caplog: pytest.LogCaptureFixture):
        memory = SessionMemory(extract=extract, timeout_s=0.01)
        app, model = app_of([call("remember", text=SEAT.text)], "Ok.", memory=memory)
        assert (await app.run("asker", "Hello", session_id="s")).output == "Ok."
        assert "extract failed" in caplog.text
        await app.run("asker", "Hello", session_id="s")
        assert SEAT.text in model.requests[2].instructions

    async def test_a_crash_while_it_is_asked_repeats_no_model_call(self):
        asked: list[int] = []

        async def extract(run: Any, messages: Any, facts: Any) -> list[Fact]:
            asked.append(len(messages))
            if len(asked) == 1:
                await asyncio.Event().wait()
            return [SEAT]

        stage = Stage(ScriptedModel(["Ok."]), memory=SessionMemory(extract=extract))
        await stage.enqueue(session_id="s")
        _, task = await stage.begin()
        await wait_until(lambda: bool(asked), message="extract is asked")
        outcome = await stage.loop.begin(await stage.lose_lease()).run()
        task.cancel()
        await asyncio.wait([task])
        assert (outcome.status, asked) == (Status.COMPLETED, [2, 2])
        assert [message.text for message in await stage.messages()] == ["Ok."]
        assert [event.type for event in await stage.events()].count("reply.completed") == 1
        assert decode_facts(await stage.store.values("session", "s")).keys() == {SEAT.fact_id}

    async def test_a_run_that_fails_is_not_asked_about(self):
        memory = SessionMemory(extract=lambda run, messages, facts: [SEAT])
        app, model = app_of(RuntimeError("broken"), memory=memory, max_error_retries=0)
        for _ in range(2):
            with pytest.raises(RunFailed):
                await app.run("asker", "Hello", session_id="s")
        assert SEAT.text not in model.requests[-1].instructions

    async def test_a_shutdown_does_not_wait_for_it(self):
        waiting = asyncio.Event()

        async def extract(run: Any, messages: Any, facts: Any) -> list[Fact]:
            waiting.set()
            await asyncio.Event().wait()
            return []

        stage = Stage(ScriptedModel(["Ok."]), memory=SessionMemory(extract=extract))
        await stage.enqueue(session_id="s")
        iteration, running = await stage.begin()
        await waiting.wait()
        iteration.hand_back()
        assert (await running).status is Status.COMPLETED


class TestLimits:
    async def test_the_oldest_go_when_there_are_too_many(self):
        replies = [[call("remember", text=f"Fact {n}.") for n in range(3)], "Ok."]
        app, model = app_of(*replies, memory=SessionMemory(max_facts=2))
        first, _ = app_of([call("remember", text="Old.")], "Ok.", memory=SessionMemory())
        first._sessions = app._sessions  # noqa: SLF001 - both talk in the same session
        await first.run("asker", "Hello", session_id="s")
        await asyncio.sleep(0.002)  # so that the first fact is the oldest
        await app.run("asker", "Hello", session_id="s")
        await app.run("asker", "Hello", session_id="s")
        assert "Old." not in model.requests[2].instructions
        assert model.requests[2].instructions.count("- [") == 2

    def test_the_newest_are_told_as_many_as_there_is_room_for(self):
        facts = [Fact(f"Fact {n}.", at_ms=n) for n in (3, 1, 2)]
        section = SessionMemory(max_chars=45).section(facts)
        assert [line.partition("] ")[2] for line in section.splitlines()[1:]] == ["Fact 2.", "Fact 3."]
        assert SessionMemory(max_chars=5).section(facts) == SessionMemory().section([]) == ""


class TestCrashes:
    async def test_nothing_is_written_before_the_run_ends_and_then_once(self):
        stage = Stage(ScriptedModel([call("remember", text=SEAT.text), "Ok."]), memory=SessionMemory())
        await stage.enqueue(session_id="s")
        await stage.advance()
        assert await stage.store.values("session", "s") == {}

        async def dies(name: str, what: Any) -> None:
            if name == "commit":
                stage.store.before = None
                raise SystemExit

        stage.store.before = dies
        with pytest.raises(SystemExit):
            await stage.advance()
        assert await stage.store.values("session", "s") == {}
        stage.pass_time(9.0)
        await stage.advance()
        assert list(decode_facts(await stage.store.values("session", "s"))) == [SEAT.fact_id]

    async def test_a_worker_that_lost_the_run_writes_nothing(self):
        waiting, go = asyncio.Event(), asyncio.Event()

        async def extract(run: Any, messages: Any, facts: Any) -> list[Fact]:
            waiting.set()
            await go.wait()
            return [SEAT]

        stage = Stage(ScriptedModel(["Ok."]), memory=SessionMemory(extract=extract))
        await stage.enqueue(session_id="s")
        _, running = await stage.begin()
        await waiting.wait()
        await stage.lose_lease()
        go.set()
        assert (await running).kind == "lost"
        assert await stage.store.values("session", "s") == {}

    async def test_a_memory_that_cannot_be_read_puts_the_turn_off(self):
        class Away(MemoryStore):
            fails = 1

            async def values(self, scope: Any, of: str) -> Any:
                if self.fails:
                    self.fails -= 1
                    raise StoreUnavailable
                return await super().values(scope, of)

        app, model = app_of("Ok.", store=Away(), memory=SessionMemory())
        result = await app.run("asker", "Hello", session_id="s")
        assert result.output == "Ok."  # the read was repeated, as writes are
        assert NoteKind.CONTEXT_ERROR not in [message.note for message in result.messages]
        assert len(model.requests) == 1

    async def test_values_of_others_and_of_newer_versions_are_left_alone(self):
        stage = Stage(ScriptedModel(["Ok."]), memory=SessionMemory(extract=lambda run, messages, facts: [SEAT]))
        await stage.enqueue(session_id="s")
        claim = await stage.claim()
        changes = tuple(
            Change("session", name, value)
            for name, value in {"cart": b"[1]", f"{PREFIX}new": b'{"what": 1}', f"{PREFIX}odd": b"{"}.items()
        )
        await stage.store.journal(claim.lease, [StepRecord("#x", b"1", changes=changes)], batch(1))
        await stage.store.commit(claim.lease, commit_of(claim, Status.QUEUED))
        await stage.play()
        values = await stage.store.values("session", "s")
        assert set(values) == {"cart", f"{PREFIX}new", f"{PREFIX}odd", PREFIX + SEAT.fact_id}


def test_facts_come_back_from_their_stored_form():
    fact = Fact("Grüße", "Zoë", 7)
    assert decode_facts({PREFIX + fact.fact_id: encode_fact(fact)}) == {fact.fact_id: fact}
    assert Fact(" Likes  window\nseats. ").fact_id == SEAT.fact_id != OSLO.fact_id


def test_whose_memory_a_run_has():
    run = RunState("R", "asker", Status.RUNNING, session_id="s", without=("retrieval",))
    assert SessionMemory().is_on(run)
    assert not UserMemory().is_on(run)


NOTHING: Any = "x"


@pytest.mark.parametrize(
    ("make", "field", "words"),
    [
        (lambda: SessionMemory(tools=False), "tools", "needs tools or extract"),
        (lambda: SessionMemory(extract=NOTHING), "extract", "must be a function"),
        (lambda: UserMemory(max_facts=0), "max_facts", "above 0, not 0"),
        (lambda: UserMemory(max_facts=0.5), "max_facts", "a whole number above 0, not 0.5"),  # type: ignore[arg-type]
        (lambda: UserMemory(timeout_s=True), "timeout_s", "above 0, not True"),
        (lambda: Agent("a", memory=NOTHING), "memory", "a SessionMemory or UserMemory, not str"),
        (lambda: Agent("a", memory=SessionMemory(), tools=[look.renamed("remember")]), "tools", "remember"),
    ],
)
def test_what_is_wrong_is_said_where_it_is_built(make: Callable[[], Any], field: str, words: str):
    with pytest.raises(InvalidInput, match=words) as raised:
        make()
    assert raised.value.field == field
