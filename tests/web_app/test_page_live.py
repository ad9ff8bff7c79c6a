"""The timeline live: from every cursor on, the fragments lead to the very page that is rendered in one piece."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from agentq.events import model
from agentq.messages import NoteKind, Usage, user_message
from agentq.runs import RunState, Status
from agentq.web import web_app
from agentq.web.page.live import Fragments
from agentq.web.page.rendering import render
from tests.web_app.parts import memory_client
from tests.web_app.serving import house
from tests.web_app.test_own_streams import events_in

if TYPE_CHECKING:
    from agentq.events.model import Event

RUN = RunState("01JD3ZK8W5Q0X9V7T2M4N6P8RA", "clerk", Status.RUNNING, "hi", created_ms=1000)
_EVENTS: tuple[Any, ...] = (
    model.RunQueued(agent="clerk", prompt="Pay <b>"),
    model.RunStarted(agent="clerk"),
    model.IterationStarted(iteration=1, worker="w", fence=1),
    # A reply that was given up: its deltas come back without their text.
    model.ReasoningDelta(text=""),
    model.TextDelta(text=""),
    model.AttemptReset(first=4, last=5, reason="the worker was lost"),
    model.ReasoningDelta(text="hm "),
    model.ReasoningDelta(text="<i> "),
    model.TextDelta(text=" I & "),
    model.TextDelta(text="you\n\n"),
    model.TextDelta(text="  pay"),
    model.ReplyCompleted(turn=1, text=" I & you\n\n  pay", reasoning="hm <i> ", model="m", usage=Usage(input_tokens=3)),
    model.RunWaiting(call_id="R.1.0", name="pay", text="", arguments={"a": "<u>"}, kind="approval"),
    model.RunAnswered(call_id="R.1.0", name="pay", answer="approved", by="ann", arguments={"a": 2}),
    model.IterationStarted(iteration=1, worker="w", fence=2),
    model.ToolCalled(call_id="R.1.0", name="pay", arguments={"a": 2}),
    model.ToolCalled(call_id="R.1.1", name="look"),
    model.ToolProgress(call_id="R.1.1", name="look", message="half", fraction=0.5),
    model.ToolFinished(call_id="R.1.0", name="pay", content="paid\r\n<u>"),
    model.ToolFailed(call_id="R.1.1", name="look", content="no <eyes>"),
    model.Note(kind=NoteKind.TOOL_ERROR, text="look: no", errors=1, max_error_retries=10),
    model.IterationFinished(iteration=1, duration_ms=5),
    model.Gap(first=23, last=24, messages=(user_message("<b>"),)),
    model.RunSteered(text="quick", by="ann"),
    model.IterationStarted(iteration=2, worker="v", fence=3),
    model.TextDelta(text="do"),
    model.TextDelta(text="ne"),
    model.ReplyCompleted(turn=2, text="done", model="m"),
    model.IterationFinished(iteration=2, duration_ms=5),
    model.RunCompleted(output="done", iterations=2),
)
EVENTS = [event.model_copy(update={"seq": seq, "at_ms": 1000 + seq}) for seq, event in enumerate(_EVENTS, 1)]
_APP = web_app(memory_client())


def a_request() -> Request:
    scope = {"type": "http", "app": _APP, "agentq_root": "", "path": "/", "headers": [], "method": "GET"}
    return Request(scope)


class Page:
    """As much of a browser as there is to the fragments: entries in order, and what is put where."""

    def __init__(self, run: RunState = RUN) -> None:
        self.run = run
        self.entries: dict[str, str] = {}

    def show(self, events: list[Event]) -> Fragments:
        """The page as it is rendered after these events."""
        fragments = Fragments(a_request(), self.run)
        for event in events:
            fragments.see(event)
        for entry in fragments.timeline.entries.values():
            self.append(render(a_request(), "_entry.html", entry=entry, run=self.run))
        return fragments

    def append(self, text: str) -> None:
        for entry in re.findall(r"<li .*?</li>", text, re.DOTALL):
            found = re.search(r'<li [^>]*id="([^"]+)"', entry)
            assert found is not None
            assert found[1] not in self.entries, "an entry is there twice"
            self.entries[found[1]] = entry

    def put(self, text: str) -> None:
        """Put fragments in their places, each of which must be there."""
        pattern = r'<hx-partial hx-target="#([^"]+)" hx-swap="(\w+)">(.*?)</hx-partial>'
        for target, swap, inner in re.findall(pattern, text, re.DOTALL):
            if target in ("state", "asks", "say"):
                continue
            if target == "timeline":
                self.append(inner)
            elif swap == "delete":
                del self.entries[target]
            elif swap == "outerMorph":
                assert target in self.entries
                self.entries[target] = re.findall(r"<li .*?</li>", inner, re.DOTALL)[0]
            else:
                entry_id = target.rpartition("-")[0]
                before, mark, after = self.entries[entry_id].partition(f'id="{target}"')
                assert mark, f"{target} has no place"
                self.entries[entry_id] = before + mark + after.replace("</p>", inner + "</p>", 1)

    def words(self) -> dict[str, str]:
        """What can be read."""
        return {entry_id: re.sub("<[^>]*>", "", text) for entry_id, text in self.entries.items()}


@given(st.integers(0, len(EVENTS)), st.lists(st.integers(1, 6), min_size=len(EVENTS)))
def test_from_every_cursor_and_in_any_pieces_the_page_is_the_same(cursor: int, sizes: list[int]):
    whole, page = Page(), Page()
    whole.show(EVENTS)
    fragments = page.show(EVENTS[:cursor])
    left = EVENTS[cursor:]
    for size in sizes:
        for event in left[:size]:
            fragments.take(event)
        left = left[size:]
        page.put(fragments.flush())
    assert page.words() == whole.words()
    assert list(page.entries) == list(whole.entries)


def test_what_was_streamed_is_taken_back_when_its_reply_is_given_up():
    page = Page()
    told = [event if event.seq not in (4, 5) else event.model_copy(update={"text": "gone "}) for event in EVENTS]
    fragments = page.show(told[:4])
    fragments.take(told[4])
    page.put(fragments.flush())
    assert "gone gone" in re.sub(r"\s+", " ", " ".join(page.words().values())).replace("Thought ", "")
    fragments.take(told[5])
    page.put(fragments.flush())
    assert "gone" not in " ".join(page.words().values())
    assert "the reply was started again" in " ".join(page.words().values())


async def test_over_http_a_viewer_that_comes_at_any_cursor_ends_with_the_whole_page(redis_url: str):
    async with house(redis_url) as here:
        run = await here.client.enqueue("clerk", 'call add {"a": 7, "b": 9}\nstream 40 "word " 0.001')
        assert (await here.client.result(run.id)).output.count("word") == 40
        events = [event async for event in here.client.events(run.id, voided=True)]
        state = await here.client.read(run.id)
        whole = Page(state)
        whole.show(events)
        for cursor in range(len(events) + 1):
            page = Page(state)
            page.show(events[:cursor])
            headers = {"Last-Event-ID": str(cursor)} if cursor % 2 else {}
            answer = await here.http.get(f"/runs/{run.id}/live?after={0 if headers else cursor}", headers=headers)
            *fragments, done = events_in_lines(answer.text)
            assert done["event"] == "done"
            for each in fragments:
                page.put(each["data"])
            assert [int(each["id"]) for each in fragments if "id" in each][-1] == len(events)
            assert page.words() == whole.words()
            assert list(page.entries) == list(whole.entries)


async def test_whoever_is_ahead_of_the_run_loads_the_page_again(redis_url: str):
    async with house(redis_url) as here:
        run = await here.client.enqueue("clerk", "hi")
        await here.client.result(run.id)
        answer = await here.http.get(f"/runs/{run.id}/live?after=999")
        assert events_in(answer.text) == [{"event": "reload", "data": "-"}]
        assert (await here.http.get(f"/runs/{run.id}/live?after=x")).status_code == 422


def events_in_lines(body: str) -> list[dict[str, str]]:
    """The server-sent events of a body; data may have several lines."""
    found: list[dict[str, str]] = []
    for block in body.split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, colon, value = line.partition(":")
            if name and colon:
                value = value.removeprefix(" ")
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        if fields:
            found.append(fields)
    return found
