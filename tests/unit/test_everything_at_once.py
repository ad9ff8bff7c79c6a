"""An agent that has everything at once, on a worker that dies before or after each of its writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentq import Compaction, Fact, File, Hooks, Passage, Retrieval, SessionMemory, ToolContext, ToolResult, tool
from agentq.context.memory import PREFIX, decode_facts
from agentq.messages import NoteKind, unanswered_calls
from agentq.runs import Status
from agentq.testing import ScriptedModel, call
from tests.unit._loop import LEASE_MS, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

# As many as there are where nobody dies; see the first test.
WRITES = 23


class Died(Exception):
    """The worker is no more."""


class Shelf:
    def __init__(self) -> None:
        self.asked = 0

    async def retrieve(self, query: str, k: int) -> Sequence[Passage]:
        self.asked += 1
        return [Passage("Tea is three euros.", "prices.md")]


class Shop:
    """Passages, memory, compaction, hooks, early calls, files, data, and state of a run and a session."""

    def __init__(self) -> None:
        self.bought: list[str] = []
        self.shelf = Shelf()
        self.model = ScriptedModel(
            [
                [call("look", at="a"), call("look", at="b"), call("buy", what="tea")],
                [call("remember", text="Likes tea."), call("look", at="c")],
                call("buy", what="milk"),
                "Done.",
            ]
        )
        self.writer = ScriptedModel([f"Summary {number}." for number in range(9)])
        self.stage = Stage(
            self.model,
            *self.tools(),
            retriever=Retrieval(self.shelf, place="message"),
            memory=SessionMemory(extract=lambda run, messages, facts: [Fact("Was here.")]),
            compaction=Compaction(max_tokens=600, threshold=0.5, preserve_recent=2, model="writer"),
            hooks=Hooks(after_tool=lambda ctx, call, result: None),
            retry_backoff_s=0,
        )
        self.stage.loop.provider = lambda name: (self.writer if name == "writer" else self.model, name)
        self.writes = 0

    def tools(self) -> tuple[Any, ...]:
        @tool(effect="none")
        async def look(ctx: ToolContext, at: str) -> ToolResult:
            """Look."""
            return ToolResult("x" * 400, files=[File(at.encode() * 20, name=f"{at}.txt")], data={"at": at})

        @tool(effect="once")
        async def buy(ctx: ToolContext, what: str) -> str:
            """Buy."""
            self.bought.append(what)
            ctx.state["count"] = ctx.state.get("count", 0) + 1
            ctx.state.session.setdefault("bought", []).append(what)
            return "bought"

        return look, buy

    def die_at(self, number: int, *, when: str) -> None:
        """Let the worker die before or after its write of that number."""
        store = self.stage.store

        async def count(name: str, what: Any) -> None:
            self.writes += 1
            if when == "before" and self.writes == number:
                raise Died

        store.before = count
        if when == "after":
            for name in ("journal", "commit", "release"):
                setattr(store, name, self.dying(getattr(store, name), number))

    def dying(self, write: Any, number: int) -> Any:
        async def written(*given: Any, **named: Any) -> Any:
            answer = await write(*given, **named)
            if self.writes == number:
                self.writes += 1  # once
                raise Died
            return answer

        return written

    async def play(self) -> None:
        """Have worker after worker go on until the run has ended."""
        stage = self.stage
        await stage.enqueue(session_id="s", user_id="ann")
        while not (run := await stage.read()).status.is_final:
            stage.pass_time(max(run.not_before_ms / 1000 - stage.now_s(), 0))
            try:
                died = (await stage.advance()).kind == "lost"
            except Died:
                died = True
            if died:
                stage.pass_time(LEASE_MS / 1000)


async def test_where_nobody_dies():
    shop = Shop()
    shop.die_at(0, when="before")
    await shop.play()
    assert (shop.writes, len(shop.model.requests), shop.shelf.asked) == (WRITES, 4, 1)
    assert len(shop.writer.requests) == 2
    assert shop.bought == ["tea", "milk"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, WRITES + 1))
async def test_a_worker_that_dies_at_one_write(number: int, when: str):
    shop = Shop()
    shop.die_at(number, when=when)
    await shop.play()
    stage = shop.stage
    messages = await stage.messages()
    assert (await stage.read()).status is Status.COMPLETED
    assert unanswered_calls(messages) == ()
    assert [message.note for message in messages].count(NoteKind.RETRIEVED) == 1
    assert [event.type for event in await stage.events()].count("reply.completed") == 4
    # What was stored is not done again; one thing at most was under way.
    again = len(shop.model.requests) - 4 + len(shop.writer.requests) - 2 + shop.shelf.asked - 1
    assert 0 <= again <= 1
    assert len(set(shop.bought)) == len(shop.bought)
    results = await stage.results()
    assert {result.outcome for result in results if result.name != "buy"} == {"ok"}
    bought = [result for result in results if result.name == "buy" and result.outcome == "ok"]
    assert len(bought) >= 1
    assert {result.outcome for result in results} <= {"ok", "unknown"}
    # Changes stand or fall with the result that they came with.
    assert await stage.store.values("run", stage.run_id) == {"count": b"%d" % len(bought)}
    kept = await stage.store.values("session", "s")
    assert {fact.text for fact in decode_facts(kept).values()} == {"Likes tea.", "Was here."}
    assert {name for name in kept if not name.startswith(PREFIX)} == {"bought"}
    for result in results:
        for file in result.files:
            assert await stage.store.file(stage.run_id, file.digest or "") == result.data["at"].encode() * 20
    for request in (*shop.model.requests, *shop.writer.requests):
        assert unanswered_calls(request.messages) == ()
