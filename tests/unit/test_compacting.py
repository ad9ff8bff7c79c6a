"""Runs whose transcripts are too long for their model: what it reads, what is stored, and who pays for summaries."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, AsyncClient, Compaction, InvalidInput, Settings, estimate_tokens, tool
from agentq.errors import ProviderError
from agentq.events.model import ContextCompacted, ReplyCompleted, TextDelta
from agentq.loop.compacting import COMPACTED
from agentq.messages import Message, NoteKind, ReasoningPart, Role, StopReason, TextPart, Usage, unanswered_calls
from agentq.runs import Status
from agentq.stores.memory import MemoryStore
from agentq.testing import ScriptedModel, call
from tests.unit._loop import SlowModel, Stage, outcome_of

if TYPE_CHECKING:
    from agentq.providers.base import ModelRequest, Provider

PAGE = "A page of words. " * 120
TURNS = 8


@tool(effect="none")
def look(at: int) -> str:
    """Look at a page."""
    return f"page {at}: {PAGE}"


def wrote(text: str = "All pages were looked at.", tokens: int = 700, **fields: Any) -> Message:
    usage = Usage(input_tokens=tokens, output_tokens=20)
    return Message(role=Role.ASSISTANT, parts=(TextPart(text=text),), usage=usage, **fields)


def reader() -> ScriptedModel:
    return ScriptedModel([*(call("look", at=at) for at in range(TURNS)), "All read."])


def stage_of(model: Provider, writer: Provider, by: str | None = "writer", **options: Any) -> Stage:
    options = {"max_tokens": 2_500, "preserve_recent": 4, "model": by, **options}
    stage = Stage(model, look, compaction=Compaction(**options), retry_backoff_s=0)
    stage.loop.provider = lambda name: (writer if name == "writer" else model, name)
    return stage


async def compactions(stage: Stage) -> list[ContextCompacted]:
    return [event for event in await stage.events() if isinstance(event, ContextCompacted)]


async def records(stage: Stage) -> list[Message]:
    return [message for message in await stage.messages() if message.compacted is not None]


def sizes(model: ScriptedModel) -> list[int]:
    return [estimate_tokens(request.messages) for request in model.requests]


class TestSummary:
    async def test_the_model_reads_a_summary_and_the_transcript_stays_whole(self):
        model, writer = reader(), ScriptedModel([wrote()])
        stage = stage_of(model, writer)
        run = await stage.play()
        assert run.status is Status.COMPLETED
        assert len(await stage.results()) == TURNS
        assert all(result.content.endswith(PAGE) for result in await stage.results())
        assert max(sizes(model)) < 2_500
        assert len(writer.requests) >= 2
        assert [event.strategy for event in await compactions(stage)] == ["summary"] * len(writer.requests)
        assert [record.text for record in await records(stage)] == ["All pages were looked at."] * len(writer.requests)
        for request in model.requests:
            assert request.messages[0].text == "Take 7 + 9."
            assert not any(message.compacted for message in request.messages)
            assert unanswered_calls(request.messages) == ()
        # The summary is counted with the replies, which took nothing that this model reported.
        assert Usage(**run.usage) == Usage(
            input_tokens=700 * len(writer.requests), output_tokens=20 * len(writer.requests)
        )

    async def test_between_two_summaries_a_request_begins_as_the_one_before_it(self):
        model = reader()
        stage = stage_of(model, ScriptedModel([wrote()]))
        await stage.play()
        fresh = 0
        for before, after in zip(model.requests, model.requests[1:], strict=False):
            fresh += after.messages[: len(before.messages)] != before.messages
        assert fresh == len(await records(stage))

    async def test_viewers_hear_of_it_but_not_what_the_summary_says(self):
        stage = stage_of(reader(), ScriptedModel([wrote()]))
        await stage.play()
        said = "".join(event.text for event in await stage.events() if isinstance(event, TextDelta | ReplyCompleted))
        assert "All pages" not in said
        for event in await compactions(stage):
            assert event.tokens_after < event.tokens_before
            assert event.messages_after < event.messages_before

    async def test_the_one_who_writes_sees_the_messages_as_text_without_tools(self):
        writer = ScriptedModel([wrote()])
        stage = stage_of(reader(), writer)
        await stage.play()
        first: ModelRequest = writer.requests[0]
        assert first.tools == ()
        (asked,) = first.messages
        assert 'assistant calls look {"at":0}' in asked.text
        assert f"look gives: page 0: {PAGE}" in asked.text
        # What was summed up before is summed up again with what came since.
        assert "All pages were looked at." in writer.requests[1].messages[0].text

    async def test_what_is_too_long_for_the_writer_is_shown_from_its_end(self):
        """A session of an agent that read all of it can be many times what fits."""
        writer = ScriptedModel([wrote()])
        stage = stage_of(ScriptedModel(["Fine."]), writer)
        history = tuple(wrote(f"answer {at} {PAGE}") for at in range(40))
        claim = await stage.claim()
        stage_claim = type(claim)(claim.lease, claim.run, claim.messages, claim.journal, history)
        outcome = await stage.loop.begin(stage_claim).run()
        assert outcome.status is Status.COMPLETED
        text = writer.requests[0].messages[0].text
        assert "earlier messages are not shown" in text
        assert "answer 36" in text
        assert "answer 0 " not in text
        assert estimate_tokens(text) <= 2_100

    @pytest.mark.parametrize("strategy", ["tool_results", "whitespace"])
    async def test_nobody_is_asked_where_shorter_results_do(self, strategy: str):
        chars, page = (200, 2_400) if strategy == "tool_results" else (5_000, 3_000)

        @tool(effect="none")
        def read() -> str:
            """Read."""
            return ("word   " * 10 + "\n \n\n  ") * (page // 60)

        model = ScriptedModel([*[call("read")] * 5, "Done."])
        stage = Stage(
            model, read, compaction=Compaction(max_tokens=4_700, preserve_recent=2, max_tool_result_chars=chars)
        )
        assert (await stage.play()).status is Status.COMPLETED
        events = await compactions(stage)
        assert events
        assert {event.strategy for event in events} == {strategy}
        assert len(model.requests) == 6
        last = model.requests[-1].messages
        assert len(last[2].tool_results[0].content) < len((await stage.results())[0].content)
        assert last[-1].tool_results[0] == (await stage.results())[-1]

    async def test_the_agents_own_model_writes_where_no_other_is_named(self):
        def next_reply(request: ModelRequest) -> Any:
            return wrote("Own words.") if request.instructions.startswith("You sum up") else call("look", at=1)

        model = ScriptedModel([next_reply] * (TURNS + 1))
        stage = stage_of(model, model, by=None)
        for _ in range(5):
            await stage.advance()
        assert {record.text for record in await records(stage)} == {"Own words."}

    async def test_what_providers_report_makes_it_earlier(self):
        replies = [
            Message(
                role=Role.ASSISTANT,
                parts=(ReasoningPart(text="Hm."), *_call(at)),
                usage=Usage(input_tokens=3 * 800 * (at + 1)),
            )
            for at in range(3)
        ]
        model = ScriptedModel([*replies, "Done."])
        stage = stage_of(model, ScriptedModel([wrote()]), preserve_recent=2)
        await stage.play()
        assert await compactions(stage)
        assert sizes(model)[-1] < 1_500


class TestFailures:
    async def test_a_summary_that_fails_leaves_the_oldest_out_and_the_log_says_so(
        self, caplog: pytest.LogCaptureFixture
    ):
        model, writer = reader(), ScriptedModel([ProviderError("overloaded", status=529)])
        stage = stage_of(model, writer)
        with caplog.at_level(logging.WARNING, "agentq.loop.compacting"):
            run = await stage.play()
        assert run.status is Status.COMPLETED
        assert {event.strategy for event in await compactions(stage)} == {"dropped"}
        assert "overloaded" in caplog.text
        assert stage.run_id in caplog.text
        assert "earlier messages were left out to fit" in model.requests[-1].messages[1].text
        assert len(await stage.results()) == TURNS

    async def test_a_writer_that_refuses_is_paid_and_not_asked_again(self):
        writer = ScriptedModel([wrote("No.", stop_reason=StopReason.REFUSAL)])
        stage = stage_of(reader(), writer)
        run = await stage.play()
        assert {event.strategy for event in await compactions(stage)} == {"dropped"}
        assert run.usage["input_tokens"] == 700 * len(writer.requests)

    async def test_nothing_is_left_out_for_good_while_no_model_answers(self):
        """An outage takes the summary and the reply: when it is over, there is a summary."""
        is_down = True

        def answer(request: ModelRequest) -> Any:
            return ProviderError("down", status=503) if is_down else "All read."

        def write(request: ModelRequest) -> Any:
            return ProviderError("down", status=503) if is_down else wrote()

        model = ScriptedModel([*(call("look", at=at) for at in range(4)), answer, answer])
        stage = stage_of(model, ScriptedModel([write]))
        for _ in range(5):
            await stage.advance()
        assert [message.note for message in await stage.messages()][-1] is NoteKind.PROVIDER_ERROR
        assert await records(stage) == []
        is_down = False
        stage.pass_time(60)
        await stage.advance()
        assert [record.text for record in await records(stage)] == ["All pages were looked at."]

    async def test_a_summary_stays_where_the_reply_after_it_fails(self):
        writer = ScriptedModel([wrote()])
        model = ScriptedModel([*(call("look", at=at) for at in range(4)), ProviderError("busy", status=503), "Read."])
        stage = stage_of(model, writer)
        run = await stage.play()
        assert (len(writer.requests), len(await records(stage))) == (1, 1)
        assert run.usage["input_tokens"] == 700

    async def test_a_run_that_fails_for_good_has_its_summary_counted_and_a_retry_goes_on_from_it(self):
        writer = ScriptedModel([wrote()])
        replies: list[Any] = [*(call("look", at=at) for at in range(4))]
        failing = ScriptedModel([*replies, ProviderError("no such model", status=404, retryable=False)])
        stage = stage_of(failing, writer)
        run = await stage.play()
        assert (run.status, run.usage["input_tokens"]) == (Status.FAILED, 700)
        client = AsyncClient(store=stage.store, stream=stage.store.stream)
        await client.retry(stage.run_id)
        healthy = ScriptedModel([*replies, "Read."])
        stage.loop.provider = lambda name: (writer if name == "writer" else healthy, name)
        run = await stage.play()
        assert (run.status, run.usage["input_tokens"], len(writer.requests)) == (Status.COMPLETED, 700, 1)
        assert len(await records(stage)) == 1


class TestInterrupts:
    async def to_summary(self) -> tuple[Stage, SlowModel, Any, Any]:
        """A run in whose fifth iteration a summary is being written."""
        writer = SlowModel(["All pages "], ["were looked at."])
        model = ScriptedModel([*(call("look", at=at) for at in range(4)), "Read."])
        stage = stage_of(model, writer)
        for _ in range(4):
            await stage.advance()
        iteration, task = await stage.begin()
        await asyncio.wait_for(writer.waiting.wait(), 5)
        return stage, writer, iteration, task

    async def test_a_cancel_ends_it_at_once(self):
        stage, writer, iteration, task = await self.to_summary()
        await stage.store.cancel(stage.run_id, reason="enough")
        iteration.cancel()
        assert (await outcome_of(task)).status is Status.CANCELLED
        assert writer.left == 1
        assert await records(stage) == []
        assert not any(message.text == "All pages " for message in await stage.messages())

    async def test_a_hand_back_leaves_it_to_the_next_worker(self):
        stage, writer, iteration, task = await self.to_summary()
        iteration.hand_back()
        assert (await outcome_of(task)).kind == "released"
        writer.go.set()
        assert (await stage.play()).status is Status.COMPLETED
        assert [record.text for record in await records(stage)] == ["All pages were looked at."]

    async def test_a_lost_lease_writes_nothing(self):
        stage, _, iteration, task = await self.to_summary()
        writes = len(stage.store.writes)
        iteration.lose()
        assert (await outcome_of(task)).kind == "lost"
        assert stage.store.writes[writes:] == []

    async def test_a_cancel_between_the_summary_and_the_reply_counts_what_was_paid(self):
        writer, model = ScriptedModel([wrote()]), SlowModel(["Well "])
        script = ScriptedModel([*(call("look", at=at) for at in range(4))])
        stage = stage_of(script, writer)
        for _ in range(4):
            await stage.advance()
        stage.loop.provider = lambda name: (writer if name == "writer" else model, name)
        _, task = await stage.begin()
        await asyncio.wait_for(model.waiting.wait(), 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stage.store.cancel(stage.run_id, reason="enough")
        stage.pass_time(9.0)
        # No worker is there: the client ends the run.
        client = AsyncClient(store=stage.store, stream=stage.store.stream)
        await client.cancel(stage.run_id)
        run = await stage.read()
        assert (run.status, run.usage["input_tokens"]) == (Status.CANCELLED, 700)
        assert len(await records(stage)) == 1

    async def test_a_worker_that_dies_after_the_summary_was_journaled_leaves_it_to_the_next(self):
        writer = ScriptedModel([wrote()])
        model = ScriptedModel([*(call("look", at=at) for at in range(4)), "Read."])
        stage = stage_of(model, writer)
        for _ in range(4):
            await stage.advance()
        dead = SlowModel(["Well "])
        stage.loop.provider = lambda name: (writer if name == "writer" else dead, name)
        _, task = await stage.begin()
        await asyncio.wait_for(dead.waiting.wait(), 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        stage.loop.provider = lambda name: (writer if name == "writer" else model, name)
        claim = await stage.lose_lease()
        assert COMPACTED in claim.journal
        await stage.loop.begin(claim).run()
        run = await stage.read()
        assert (run.status, len(writer.requests), run.usage["input_tokens"]) == (Status.COMPLETED, 1, 700)
        assert len(await compactions(stage)) == 1

    async def test_a_record_that_cannot_be_read_is_made_again(self, caplog: pytest.LogCaptureFixture):
        writer = ScriptedModel([wrote()])
        model = ScriptedModel([*(call("look", at=at) for at in range(4)), "Read."])
        stage = stage_of(model, writer)
        for _ in range(4):
            await stage.advance()
        claim = await stage.claim()
        broken = type(claim)(claim.lease, claim.run, claim.messages, {COMPACTED: b"{"}, claim.history)
        assert (await stage.loop.begin(broken).run()).status is Status.COMPLETED
        assert len(writer.requests) == len(await records(stage)) == 1
        assert "cannot be read" in caplog.text


class TestSessions:
    async def test_a_later_run_goes_on_from_the_summary_and_another_agent_reads_all(self):
        model = reader()
        other = ScriptedModel(["I have read it all."])
        writer = ScriptedModel([wrote()])
        later = ScriptedModel(["As I said."])
        answers = {"reader": model, "writer": writer, "other": other, "later": later}
        compaction = Compaction(max_tokens=2_500, preserve_recent=4, model="writer")
        agents = [
            Agent("reader", model="reader", tools=[look], compaction=compaction),
            Agent("later", model="later", tools=[look], compaction=compaction),
            Agent("other", model="other"),
        ]
        app = AgentQ(agents=agents, store=MemoryStore(), settings=Settings(), models=answers)
        await app.run("reader", "Read the pages.", session_id="s")
        paid = len(writer.requests)
        last = model.requests[-1].messages
        await app.run("later", "What did you say?", session_id="s")
        assert len(writer.requests) == paid
        (request,) = later.requests
        assert request.messages[: len(last)] == last
        assert [message.text for message in request.messages[len(last) :]] == ["All read.", "What did you say?"]
        assert request.history_length == len(request.messages) - 1
        result = await app.run("other", "And you?", session_id="s")
        (request,) = other.requests
        assert not any(message.compacted for message in request.messages)
        assert sum(len(message.tool_results) for message in request.messages) == TURNS
        assert request.history_length == len(request.messages) - 1
        assert result.output == "I have read it all."


class TestAgent:
    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"compaction": 8_000}, "compaction"),
            ({"compaction": Compaction(8_000, model="not a model")}, "model"),
            ({"model_settings": {"openai:gpt-4o": {"temperature": 0.0}}}, "model_settings"),
        ],
    )
    def test_what_cannot_be_is_refused(self, given: dict[str, Any], field: str):
        with pytest.raises(InvalidInput) as refused:
            Agent("a", **given)
        assert refused.value.field == field

    def test_the_model_that_writes_may_have_settings_of_its_own(self):
        settings = {"openai:gpt-4o": {"temperature": 0.0}}
        agent = Agent("a", compaction=Compaction(8_000, model="openai:gpt-4o"), model_settings=settings)
        assert agent.settings_of("openai:gpt-4o") == {"temperature": 0.0}


def _call(at: int) -> tuple[Any, ...]:
    from agentq.messages import ToolCallPart

    return (ToolCallPart(call_id="x", name="look", arguments={"at": at}),)
