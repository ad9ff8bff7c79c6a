"""Instructions in sections: what is computed when, in which order, and what a section that fails does to a run."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, InvalidInput, Section, tool
from agentq.context import sections
from agentq.context.sections import Instructions, Prompt
from agentq.errors import ContextError
from agentq.messages import NoteKind
from agentq.runs import RunState, Status
from agentq.testing import ScriptedModel
from agentq.testing.models import call
from tests.unit._loop import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = RunState("R", "asker", Status.RUNNING)


@tool(effect="none")
async def add_numbers(a: float, b: float) -> float:
    return a + b


class Counted:
    """A function of a section that says how often it was called, and with what."""

    def __init__(self, text: str = "text") -> None:
        self.text = text
        self.calls: list[tuple[Any, ...]] = []

    def nothing(self) -> str:
        self.calls.append(())
        return f"{self.text} {len(self.calls)}"

    def of(self, value: Any) -> str:
        self.calls.append((value,))
        return f"{self.text} of {value}"


async def text_of(prompt: Prompt, run: RunState = RUN) -> str:
    return (await prompt.compose(run)).text


class TestOrder:
    async def test_what_changes_least_comes_first_whatever_the_order_in_the_list(self):
        prompt = Prompt(
            [
                Section("clock", lambda: "12:00", kind="dynamic"),
                Section("user", lambda user_id: f"You talk to {user_id}.", volatile="user_id"),
                "Be brief.",
                Section("run", lambda run: f"Iteration {run.iteration}", kind="dynamic"),
                Section("rules", lambda: "Be kind."),
            ]
        )
        made = await prompt.compose(replace(RUN, user_id="ann"))
        assert made.text == "Be brief.\n\nBe kind.\n\nYou talk to ann.\n\n12:00\n\nIteration 0"
        assert [made.text[:end] for end in made.stable] == [
            "Be brief.\n\nBe kind.",
            "Be brief.\n\nBe kind.\n\nYou talk to ann.",
        ]

    @pytest.mark.parametrize("given", ["Be brief.", ["Be brief."], [Section("a", "Be brief.")]])
    async def test_a_text_is_stable_to_its_end(self, given: Any):
        assert await Prompt(given).compose(RUN) == Instructions("Be brief.")
        assert (await Prompt(given).compose(RUN)).stable == (9,)

    @pytest.mark.parametrize("nothing", [lambda: None, lambda: "", ""])
    async def test_an_empty_section_leaves_no_gap(self, nothing: Any):
        made = await Prompt(["a", Section("b", nothing), Section("c", lambda: "c", kind="dynamic")]).compose(RUN)
        assert (made.text, made.stable) == ("a\n\nc", (1,))

    async def test_no_instructions_at_all(self):
        assert (await Prompt(()).compose(RUN)) == (await Prompt("").compose(RUN)) == Instructions()
        assert Instructions().stable == ()

    async def test_dynamic_sections_alone_have_no_stable_beginning(self):
        assert (await Prompt([Section("a", lambda: "a", kind="dynamic")]).compose(RUN)).stable == ()

    def test_more_that_is_the_same_for_all_runs_stands_among_what_is(self):
        made = Instructions("a", "b", "c").with_static("Answer in JSON.").with_dynamic("found")
        assert made.text == "a\n\nAnswer in JSON.\n\nb\n\nfound\n\nc"


class TestKept:
    async def test_static_once_dynamic_each_time(self):
        static, dynamic = Counted("static"), Counted("dynamic")
        prompt = Prompt([Section("s", static.nothing), Section("d", dynamic.nothing, kind="dynamic")])
        assert [await text_of(prompt) for _ in range(3)] == [f"static 1\n\ndynamic {n}" for n in (1, 2, 3)]

    async def test_a_volatile_section_is_computed_once_for_each_of_its_keys(self):
        of_user = Counted()
        prompt = Prompt([Section("u", of_user.of, volatile="user_id")])
        runs = [replace(RUN, user_id=user, iteration=n) for n, user in enumerate(["ann", "bob", "ann", None, None])]
        assert [await text_of(prompt, run) for run in runs] == [
            "text of ann", "text of bob", "text of ann", "text of None", "text of None",
        ]  # fmt: skip
        assert of_user.calls == [("ann",), ("bob",), (None,)]

    async def test_volatile_keys_come_in_their_order_and_may_be_metadata(self):
        prompt = Prompt([Section("u", lambda plan, user: f"{user}: {plan}", volatile=["metadata.plan", "user_id"])])
        assert (
            await text_of(prompt, replace(RUN, user_id="ann", metadata={"plan": {"seats": 2}})) == "ann: {'seats': 2}"
        )
        assert await text_of(prompt, replace(RUN, user_id="ann", metadata={})) == "ann: None"

    async def test_texts_of_a_volatile_section_are_bounded_and_the_last_used_stay(self, monkeypatch: Any):
        monkeypatch.setattr(sections, "_KEPT", 2)
        of_user = Counted()
        prompt = Prompt([Section("u", of_user.of, volatile="user_id")])
        for user in ("ann", "bob", "ann", "eve", "ann", "bob"):
            await text_of(prompt, replace(RUN, user_id=user))
        assert of_user.calls == [("ann",), ("bob",), ("eve",), ("bob",)]

    async def test_invalidate_is_for_one_section_or_for_all(self):
        one, two = Counted("one"), Counted("two")
        prompt = Prompt([Section("one", one.nothing), Section("two", two.nothing)])
        assert await text_of(prompt) == "one 1\n\ntwo 1"
        prompt.invalidate("two")
        assert await text_of(prompt) == "one 1\n\ntwo 2"
        prompt.invalidate_all()
        assert await text_of(prompt) == "one 2\n\ntwo 3"

    async def test_invalidate_forgets_the_text_of_every_key(self):
        of_user = Counted()
        prompt = Prompt([Section("u", of_user.of, volatile="user_id"), Section("d", lambda: "d", kind="dynamic")])
        for user in ("ann", "bob"):
            await text_of(prompt, replace(RUN, user_id=user))
        prompt.invalidate("d")
        prompt.invalidate("u")
        await text_of(prompt, replace(RUN, user_id="ann"))
        assert of_user.calls == [("ann",), ("bob",), ("ann",)]

    def test_a_key_that_there_is_not(self):
        with pytest.raises(InvalidInput, match="there is no section 'rule'; there are: rules") as raised:
            Prompt([Section("rules", "x")]).invalidate("rule")
        assert raised.value.field == "key"

    async def test_many_that_ask_at_once_wait_for_one_text(self):
        go, calls = asyncio.Event(), Counted()

        async def slow() -> str:
            await go.wait()
            return calls.nothing()

        prompt = Prompt([Section("s", slow)])
        asking = [asyncio.create_task(text_of(prompt)) for _ in range(50)]
        await asyncio.sleep(0)
        asking[0].cancel()  # whoever asked first takes nobody along
        await asyncio.sleep(0)
        go.set()
        assert await asyncio.gather(*asking[1:]) == ["text 1"] * 49
        assert len(calls.calls) == 1

    async def test_a_text_that_was_begun_before_an_invalidate_is_not_kept(self):
        go, value = asyncio.Event(), ["old"]

        async def slow() -> str:
            seen = value[0]
            await go.wait()
            return seen

        prompt = Prompt([Section("s", slow)])
        begun = asyncio.create_task(text_of(prompt))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        value[0] = "new"
        prompt.invalidate("s")
        go.set()
        assert await begun == "old"
        assert await text_of(prompt) == "new"

    async def test_what_raised_is_not_kept(self):
        answers: list[Any] = [KeyError("away"), "there"]

        def flaky() -> str:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        prompt = Prompt([Section("s", flaky)])
        with pytest.raises(ContextError, match="section 's' of the instructions raised KeyError: 'away'"):
            await text_of(prompt)
        assert await text_of(prompt) == "there"

    def test_two_event_loops_share_what_is_kept(self):
        calls = Counted()

        async def slow() -> str:
            await asyncio.sleep(0)
            return calls.nothing()

        prompt = Prompt([Section("s", slow)])
        assert [asyncio.run(text_of(prompt)) for _ in range(2)] == ["text 1", "text 1"]


class TestFailures:
    async def never(self) -> str:
        await asyncio.Event().wait()
        return ""

    @pytest.mark.parametrize("kind", ["static", "dynamic"])
    async def test_one_that_takes_too_long(self, kind: Any):
        with pytest.raises(ContextError, match="'s' of the instructions took longer than"):
            await text_of(Prompt([Section("s", self.never, kind=kind, timeout_s=0.01)]))

    @pytest.mark.parametrize("kind", ["static", "dynamic"])
    async def test_one_that_ends_the_process_has_only_failed(self, kind: Any):
        def leave() -> str:
            raise SystemExit(3)

        with pytest.raises(ContextError, match="raised SystemExit: 3"):
            await text_of(Prompt([Section("s", leave, kind=kind)]))

    async def test_one_that_gives_no_text(self):
        with pytest.raises(ContextError, match="gave int, not a text"):
            await text_of(Prompt([Section("s", lambda: 7)]))  # type: ignore[arg-type, return-value]

    async def test_half_of_an_emoji_does_not_fail_the_request(self):
        assert await text_of(Prompt([Section("s", lambda: "a\ud83d")])) == "a?"


def two(first: Any, second: Any) -> str:
    return f"{first}{second}"


OFTEN: Any = "often"
SEVEN: Any = 7


@pytest.mark.parametrize(
    ("make", "field", "words"),
    [
        (lambda: Section("a b", "x"), "key", "is not a name"),
        (lambda: Section("a", "x", kind=OFTEN), "kind", "'static' or 'dynamic', not 'often'"),
        (lambda: Section("a", SEVEN), "content", "a text or a function, not int"),
        (lambda: Section("a", lambda run: run.user_id), "content", "volatile='user_id'"),
        (lambda: Section("a", two, kind="dynamic"), "content", "nothing, or the RunState"),
        (lambda: Section("a", two, volatile="user_id"), "content", "must take user_id, in this order"),
        (lambda: Section("a", two, volatile=["user_id", "iteration"]), "volatile", "has 'iteration'"),
        (lambda: Section("a", two, volatile=["user_id", "metadata."]), "volatile", "metadata.<name>"),
        (lambda: Section("a", "x", volatile="user_id"), "volatile", "this text is always the same"),
        (lambda: Section("a", lambda: "x", kind="dynamic", volatile="user_id"), "volatile", "every iteration anyway"),
        (lambda: Section("a", "x", timeout_s=0), "timeout_s", "above 0, not 0"),
        (lambda: Agent("asker", [Section("a", "x"), Section("a", "y")]), "instructions", "two sections 'a'"),
        (lambda: Agent("asker", ["x", SEVEN]), "instructions", "7, which is neither"),
        (lambda: Agent("asker", SEVEN), "instructions", "not int"),
    ],
)
def test_what_is_wrong_is_said_where_it_is_built(make: Callable[[], Any], field: str, words: str):
    with pytest.raises(InvalidInput, match=words) as raised:
        make()
    assert raised.value.field == field


class TestRuns:
    async def test_each_iteration_asks_with_static_first_and_dynamic_anew(self):
        model = ScriptedModel([call("add_numbers", a=7, b=9), "It is 16."])
        static = Counted("static")
        stage = Stage(
            model,
            add_numbers,
            instructions=[
                Section("turn", lambda run: f"Iteration {run.iteration + 1}.", kind="dynamic"),
                Section("rules", static.nothing),
            ],
        )
        assert (await stage.play()).status is Status.COMPLETED
        assert [asked.instructions for asked in model.requests] == [
            "static 1\n\nIteration 1.",
            "static 1\n\nIteration 2.",
        ]
        assert [asked.stable for asked in model.requests] == [(8,), (8,)]

    async def test_a_section_that_raises_fails_the_turn_and_no_model_is_asked(self):
        answers: list[Any] = [ValueError("no answer"), "There.", "There."]
        model = ScriptedModel(["Hello."])

        async def flaky() -> str:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        stage = Stage(model, instructions=[Section("profile", flaky, kind="dynamic")], retry_backoff_s=1.0)
        run = await stage.play()
        note, answer = await stage.messages()
        assert (run.status, answer.text, run.iteration) == (Status.COMPLETED, "Hello.", 1)
        assert note.note is NoteKind.CONTEXT_ERROR
        assert "section 'profile' of the instructions raised ValueError: no answer" in note.text
        assert [asked.instructions for asked in model.requests] == ["There."]
        assert stage.now_s() >= 1  # it was left in peace for a while

    async def test_one_that_always_raises_fails_the_run_with_the_key(self):
        def broken() -> str:
            raise KeyError("user")

        stage = Stage(ScriptedModel([]), instructions=[Section("profile", broken)], max_error_retries=2)
        run = await stage.play()
        assert run.status is Status.FAILED
        assert "3 turns in a row failed" in (run.last_error or "")
        assert "section 'profile' of the instructions raised KeyError" in (run.last_error or "")

    async def test_a_cancel_does_not_wait_for_a_section(self):
        waiting = asyncio.Event()

        async def slow() -> str:
            waiting.set()
            await asyncio.Event().wait()
            return ""

        stage = Stage(ScriptedModel([]), instructions=[Section("slow", slow, kind="dynamic")])
        iteration, running = await stage.begin()
        await waiting.wait()
        await stage.store.cancel(stage.run_id, reason="enough")
        iteration.cancel()
        assert (await running).status is Status.CANCELLED
