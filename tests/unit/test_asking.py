"""Which model is asked, where an agent has several, and answers of a given form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from agentq import Agent, AgentQ, RunFailed, Settings
from agentq.errors import InvalidInput, ProviderError, StoreUnavailable
from agentq.events.model import AttemptReset, ModelReplaced, ModelRetried, TextDelta
from agentq.loop import Loop
from agentq.loop.resting import Resting
from agentq.messages import NoteKind, Usage
from agentq.providers.base import ReplyEnd, Retried, TextChunk
from agentq.runs import Status
from agentq.testing import FakeClock, ScriptedModel
from tests.helpers import wait_until
from tests.unit._loop import Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.providers.base import Chunk, ModelRequest, Provider

BUSY = ProviderError("busy", status=503)
GONE = ProviderError("no such model", status=404, retryable=False)


class Answer(BaseModel):
    """What is asked for."""

    total: int = Field(ge=0)
    unit: str


class Trying:
    """Says something, finds that it must be said again, and says something else."""

    name = "trying"

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        yield TextChunk("Wrong")
        yield Retried(2, 0.0, "the line broke")
        yield TextChunk("Right")
        yield ReplyEnd("end", Usage(input_tokens=1))  # type: ignore[arg-type]


class Promising(ScriptedModel):
    """Has an API that can be told of a schema."""

    def promises_output(self, request: ModelRequest) -> bool:
        return request.output is not None


def app_of(*models: Provider, **agent: Any) -> AgentQ:
    named = {f"m{number}": model for number, model in enumerate(models)}
    made = Agent("asker", model=[f"{name}:x" for name in named], retry_backoff_s=0, **agent)
    return AgentQ([made], settings=Settings(), models=named)


def stage_of(*models: Provider) -> Stage:
    """A worker's loop, which several runs share, with an agent that has several models."""
    named = {f"m{number}:x": model for number, model in enumerate(models)}
    stage = Stage(models[0])
    agents = {"calculator": Agent("calculator", model=list(named))}
    stage.loop = Loop(
        agents,
        stage.store,
        stage.executor,
        stage.settings,
        clock=stage.clock,
        resolve_model=lambda name: (named[name], name),
    )
    return stage


class TestOtherModels:
    async def test_the_next_model_is_asked_where_the_first_fails(self):
        first, second = ScriptedModel([BUSY, BUSY]), ScriptedModel(["It is 16."])
        events: list[Any] = []
        result = await app_of(first, second).run("asker", "7 + 9?", on_event=events.append)
        assert result.output == "It is 16."
        (told,) = [event for event in events if isinstance(event, ModelReplaced)]
        assert (told.model, told.by, told.reason) == ("m0:x", "m1:x", "busy")
        assert [message.note for message in result.messages] == [None, None]

    async def test_what_the_first_had_said_is_void(self):
        first, second = ScriptedModel([["It is 1", BUSY]]), ScriptedModel(["It is 16."])
        events: list[Any] = []
        result = await app_of(first, second).run("asker", "7 + 9?", on_event=events.append)
        assert result.output == "It is 16."
        said = "".join(event.text for event in events if isinstance(event, TextDelta))
        resets = [event for event in events if isinstance(event, AttemptReset)]
        assert said.endswith("It is 16.")
        assert bool(resets) == said.startswith("It is 1It")

    async def test_a_model_that_failed_rests_for_a_while(self):
        first, second = ScriptedModel([BUSY, "late"]), ScriptedModel(["one", "two"])
        app = app_of(first, second)
        for _ in range(2):
            await app.run("asker", "Hello")
        # Each run of an app without a store has a loop of its own; workers share one.
        assert len(first.requests) == 2
        clock = FakeClock()
        resting = Resting(clock)
        resting.add("a", 30)
        assert resting.last(("a", "b")) == ("b", "a")
        resting.add("b", 60)
        assert resting.last(("a", "b")) == ("a", "b")
        clock.advance(31)
        assert resting.last(("a", "b")) == ("a", "b")

    @pytest.mark.parametrize(
        ("error", "following"),
        [
            (BUSY, ("m1:x", "m0:x")),
            (ProviderError("cannot take scan.tiff", status=400, retryable=False), ("m0:x", "m1:x")),
        ],
    )
    async def test_only_a_model_in_trouble_rests(self, error: ProviderError, following: tuple[str, ...]):
        """What is wrong with the request of one run must not take the model from the other runs of the worker."""
        stage = stage_of(ScriptedModel([error]), ScriptedModel(["yes"]))
        await stage.advance()
        assert stage.loop.resting.last(("m0:x", "m1:x")) == following

    async def test_a_run_waits_for_a_model_that_may_come_back(self):
        """Though the other one will never answer."""
        first = ScriptedModel([ProviderError("busy", status=503, retry_after_s=7), "late"])
        second = ScriptedModel([GONE, GONE])
        stage = stage_of(first, second)
        await stage.advance()
        run = await stage.read()
        assert run.status is Status.QUEUED
        assert 7 <= run.not_before_ms / 1000 - stage.now_s() <= 7.7
        (note,) = await stage.notes()
        assert "busy; and m1:x failed: no such model" in note
        assert (await stage.play()).status is Status.COMPLETED
        assert (await stage.messages())[-1].text == "late"

    async def test_the_failure_of_the_last_one_counts_where_both_may_pass(self):
        first, second = ScriptedModel([BUSY]), ScriptedModel([ProviderError("overloaded", status=529)])
        stage = stage_of(first, second)
        await stage.advance()
        (note,) = await stage.notes()
        assert "overloaded" in note
        assert "busy" not in note

    @pytest.mark.parametrize("errors", [(GONE, GONE), (ProviderError("wrong key", retryable=False), GONE)])
    async def test_where_none_may_pass_the_run_fails_at_once(self, errors: tuple[ProviderError, ...]):
        models = [ScriptedModel([error]) for error in errors]
        with pytest.raises(RunFailed, match="no such model"):
            await app_of(*models).run("asker", "Hello")
        assert [len(model.requests) for model in models] == [1, 1]

    async def test_a_run_with_a_model_of_its_own_has_no_other(self):
        first, second = ScriptedModel([ProviderError("no", retryable=False)]), ScriptedModel(["yes"])
        with pytest.raises(RunFailed, match="no"):
            await app_of(first, second).run("asker", "Hello", model="m0:x")

    async def test_each_model_gets_its_own_settings(self):
        first, second = ScriptedModel([BUSY]), ScriptedModel(["yes"])
        settings = {"max_tokens": 10, "m1:x": {"max_tokens": 20, "verbosity": "low"}}
        await app_of(first, second, model_settings=settings).run("asker", "Hello")
        assert first.requests[0].settings == {"max_tokens": 10}
        assert second.requests[0].settings == {"max_tokens": 20, "verbosity": "low"}

    @pytest.mark.parametrize(
        ("model", "settings", "field"),
        [
            ([], {}, "model"),
            (["mock", "no model"], {}, "model"),
            (["mock:a"], {"mock:b": {}}, "model_settings"),
        ],
    )
    def test_wrong_models_are_refused(self, model: Any, settings: Any, field: str):
        with pytest.raises(InvalidInput) as raised:
            Agent("asker", model=model, model_settings=settings)
        assert raised.value.field == field

    @pytest.mark.parametrize(
        ("model", "settings", "words"),
        [
            ("anthropic:claude-opus-5-5", {"max_token": 5}, "anthropic has no such setting, did you mean 'max_tokens'"),
            ("openai:gpt-6-sol", {"stop": "END"}, "which has none"),
            ("google:gemini-3-flash", {"parallel_tool_calls": False}, "cannot keep a model from calling several"),
            ("ollama:llama3.2", {"temperature": "hot"}, "model_settings.temperature"),
            (["mock", "openai-chat:x"], {"openai-chat:x": {"top_p": 2.0}}, "model_settings.top_p"),
        ],
    )
    def test_wrong_settings_fail_where_the_agent_is_built(self, model: Any, settings: Any, words: str):
        with pytest.raises(InvalidInput, match=words):
            Agent("asker", model=model, model_settings=settings)

    def test_every_model_is_checked(self):
        app = AgentQ([Agent("asker", model=["mock", "nobody:x"])], settings=Settings())
        with pytest.raises(InvalidInput, match="nobody"):
            app.check_models()


async def test_a_provider_that_asks_again_takes_back_what_it_said():
    events: list[Any] = []
    result = await app_of(Trying()).run("asker", "Hello", on_event=events.append)
    assert result.output == "Right"
    assert [event.reason for event in events if isinstance(event, ModelRetried)] == ["the line broke"]


async def test_a_store_that_is_away_while_the_model_is_asked_fails_no_turn():
    class Busy:
        name = "busy"

        async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
            yield TextChunk("Half a")
            await wait_until(lambda: bool(stage.store.writes), message="the piece is stored")
            is_away.append(True)
            raise ProviderError("busy", retryable=True)

    async def before(name: str, what: Any) -> None:
        if is_away:
            stage.clock.advance(400)
            raise StoreUnavailable("Redis is away")

    is_away: list[bool] = []
    stage = stage_of(Busy(), ScriptedModel(["Never."]))
    stage.store.before = before
    outcome = await stage.advance()
    assert (outcome.kind, outcome.error) == ("failed_to_store", "Redis is away")
    assert (await stage.read()).status is Status.RUNNING


class TestOutput:
    async def test_an_answer_that_fits(self):
        model = Promising(['{"total": 16, "unit": "kg"}'])
        result = await app_of(model, output_type=Answer).run("asker", "7 + 9?")
        assert result.parse(Answer) == Answer(total=16, unit="kg")
        (asked,) = model.requests
        assert asked.output is not None
        assert asked.output.name == "Answer"
        assert set(asked.output.schema["required"]) == {"total", "unit"}
        assert asked.instructions == ""

    async def test_a_model_whose_api_knows_no_schema_is_told_in_words(self):
        model = ScriptedModel(['```json\n{"total": 16, "unit": "kg"}\n```'])
        result = await app_of(model, output_type=Answer, instructions="Be brief.").run("asker", "7 + 9?")
        assert result.parse(Answer).total == 16
        (asked,) = model.requests
        assert asked.instructions.startswith("Be brief.\n\nGive your answer as JSON")
        assert '"total"' in asked.instructions

    async def test_an_answer_that_does_not_fit_goes_back_to_the_model(self):
        model = Promising(["It is 16.", '{"total": -1, "unit": "kg"}', '{"total": 16, "unit": "kg"}'])
        result = await app_of(model, output_type=Answer).run("asker", "7 + 9?")
        assert result.parse(Answer).total == 16
        notes = [message.text for message in result.messages if message.note is NoteKind.OUTPUT_INVALID]
        assert len(notes) == 2
        assert "Invalid JSON" in notes[0]
        assert "total: Input should be greater than or equal to 0" in notes[1]

    async def test_a_model_that_does_not_learn_fails_the_run(self):
        model = Promising(["no"] * 3)
        with pytest.raises(RunFailed, match="Invalid JSON"):
            await app_of(model, output_type=Answer, max_error_retries=2).run("asker", "7 + 9?")
        assert len(model.requests) == 3

    def test_the_result_says_what_is_wrong_with_it(self):
        from agentq.output import parse

        with pytest.raises(InvalidInput, match="the output is no Answer: unit: Field required"):
            parse(Answer, '{"total": 1}')

    @pytest.mark.parametrize("kind", [int, list[Answer], lambda: None, "Answer"])
    def test_types_that_no_provider_promises(self, kind: Any):
        with pytest.raises(InvalidInput, match="output_type"):
            Agent("asker", output_type=kind)
