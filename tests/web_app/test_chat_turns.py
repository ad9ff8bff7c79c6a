"""Turns of a chat: whole, told again without a model, and ended by lines whatever fails on the way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agentq import AsyncClient
from agentq.errors import InvalidInput
from agentq.web import ChatHooks, ChatIdentity, chat_turn
from tests.web_app.parts import site
from tests.web_app.serving import House, house

if TYPE_CHECKING:
    from agentq.web import ChatResult

ME = ChatIdentity("clerk", "s1", "t1", user_id="ann")
TALK = 'call add {"a": 7, "b": 9}\nsay It is $1.'


async def told(here: House, message: str = TALK, hooks: ChatHooks | None = None, of: ChatIdentity = ME) -> list[Any]:
    return [line async for line in chat_turn(of, message, hooks, client=here.client)]


def types(lines: list[Any]) -> list[str]:
    """Types of lines, those of parts once."""
    return list(dict.fromkeys(line["type"] for line in lines))


async def test_a_turn_is_told_whole_and_then_again_as_its_result(redis_url: str):
    async with house(redis_url) as here:
        lines = await told(here)
        assert types(lines) == ["session.run.started", "message.part.updated", "result", "session.run.completed"]
        run_id = lines[0]["data"]["run_id"]
        assert {line["data"]["run_id"] for line in lines} == {run_id}
        assert (lines[-2]["data"]["output"], lines[-2]["data"]["session_id"]) == ("It is 16.", "s1")
        (again,) = await told(here)
        assert again == {"type": "result", "data": {**lines[-2]["data"], "replayed": True}}
        assert [run.run_id for run in await here.client.list(session_id="s1")] == [run_id]
        assert (await here.client.read(run_id)).user_id == "ann"
        other = await told(here, of=ChatIdentity("clerk", "s1", "t2", user_id="ann"))
        assert other[0]["data"]["run_id"] != run_id


async def test_a_failed_turn_ends_with_what_went_wrong_now_and_later(redis_url: str):
    async with house(redis_url) as here:
        lines = await told(here, "fail! 401")
        assert types(lines)[-2:] == ["error", "session.run.failed"]
        assert (lines[-2]["data"]["code"], "401" in lines[-2]["data"]["message"]) == ("run_failed", True)
        assert types(await told(here, "fail! 401")) == ["error", "session.run.failed"]


async def cut_short(here: House, message: str) -> list[Any]:
    """The lines of a turn whose run is cancelled once it speaks."""
    lines: list[Any] = []
    async for line in chat_turn(ME, message, client=here.client):
        lines.append(line)
        if len(lines) == 3:
            await here.client.cancel(line["data"]["run_id"], reason="enough")
    return lines


async def test_a_cancelled_turn_ends_as_failed(redis_url: str):
    async with house(redis_url) as here:
        lines = await cut_short(here, 'stream 500 "x" 0.01')
        assert types(lines)[-2:] == ["error", "session.run.failed"]
        assert lines[-2]["data"]["code"] == "run_cancelled"


async def test_a_run_that_was_taken_up_again_is_told_to_its_end(redis_url: str):
    message = 'stream 500 "x" 0.01\nstream 50 "y" 0.01'
    async with house(redis_url) as here:
        lines = await cut_short(here, message)
        await here.client.retry(lines[0]["data"]["run_id"])
        again = await told(here, message)
        assert types(again) == ["session.run.started", "message.part.updated", "result", "session.run.completed"]
        assert again[-2]["data"]["output"] == "y" * 50


class TestHooks:
    async def test_they_change_keep_and_redact(self, redis_url: str):
        kept: list[ChatResult] = []

        async def post_process(result: ChatResult) -> str:
            return f"{result.output} Anything else?"

        def transform(line: Any) -> Any:
            if line["type"] == "message.part.updated":
                return None if line["data"]["part"]["type"] == "tool" else line
            return json.loads(json.dumps(line).replace("16", "**"))

        hooks = ChatHooks(transform=transform, post_process=post_process, persist=kept.append)
        async with house(redis_url) as here:
            lines = await told(here, hooks=hooks)
            assert lines[-2]["data"]["output"] == "It is **. Anything else?"
            assert not [line for line in lines if line["data"].get("part", {}).get("type") == "tool"]
            assert [(result.output, result.replayed) for result in kept] == [("It is 16. Anything else?", False)]
            await told(here, hooks=hooks)
            assert [result.replayed for result in kept] == [False, True]
            assert kept[0].run_id == kept[1].run_id

    async def test_one_that_throws_ends_nothing_and_lets_nothing_out(
        self, redis_url: str, caplog: pytest.LogCaptureFixture
    ):
        def broken(_: Any) -> Any:
            raise ValueError("a bug of the application")

        async with house(redis_url) as here:
            for name in ("post_process", "persist"):
                lines = await told(here, hooks=ChatHooks(**{name: broken}), of=ChatIdentity("clerk", "s1", name))
                assert types(lines)[-2:] == ["error", "session.run.completed"] or types(lines)[-1] == "error"
                assert [line["data"]["output"] for line in lines if line["type"] == "result"] == ["It is 16."]
                (fault,) = (line["data"] for line in lines if line["type"] == "error")
                assert (fault["code"], name in fault["message"], "a bug" in fault["message"]) == (
                    "hook_failed", True, False
                )  # fmt: skip
            hooks = ChatHooks(transform=broken)
            lines = await told(here, hooks=hooks, of=ChatIdentity("clerk", "s1", "transform"))
            assert types(lines) == ["session.run.started", "error", "result", "session.run.completed"]
            assert "16" not in json.dumps([line for line in lines if line["type"] == "result"])
            assert len([line for line in lines if line["type"] == "error"]) == 1
            for odd in (lambda _: 5, lambda _: {"no": "type"}):
                of = ChatIdentity("clerk", "s1", "transform")
                assert [line["type"] for line in await told(here, hooks=ChatHooks(transform=odd), of=of)] == [
                    "result", "error"
                ]  # fmt: skip
        assert "a bug of the application" in caplog.text

    def test_what_is_none_is_refused_at_once(self):
        client: Any = None
        with pytest.raises(InvalidInput) as raised:
            ChatHooks(persist="yes")  # type: ignore[arg-type]
        assert raised.value.field == "persist"
        with pytest.raises(InvalidInput) as raised:
            ChatIdentity("clerk", "s1", "")
        assert raised.value.field == "turn_id"
        with pytest.raises(InvalidInput) as raised:
            chat_turn("s1", "hi", client=client)  # type: ignore[arg-type]
        assert raised.value.field == "identity"
        with pytest.raises(InvalidInput) as raised:
            chat_turn(ME, "hi", {}, client=client)  # type: ignore[arg-type]
        assert raised.value.field == "hooks"


class TestTrouble:
    async def test_input_that_is_refused_becomes_lines(self):
        async with site() as (_, client):
            lines = [line async for line in chat_turn(ME, "", client=client)]
            assert [line["type"] for line in lines] == ["error", "session.run.failed"]
            assert lines[0]["data"]["code"] == "invalid_input"

    async def test_a_redis_that_is_away_becomes_lines(self):
        async with AsyncClient("redis://127.0.0.1:1/0") as client:
            lines = [line async for line in chat_turn(ME, "hi", client=client)]
        assert [line["type"] for line in lines] == ["error", "session.run.failed"]
        assert lines[0]["data"]["code"] == "store_unavailable"

    async def test_a_bug_becomes_lines_that_tell_nothing_of_it(self, caplog: pytest.LogCaptureFixture):
        class Broken:
            async def enqueue(self, *_: Any, **__: Any) -> None:
                raise RuntimeError("the password is 1234")

        broken: Any = Broken()
        lines = [line async for line in chat_turn(ME, "hi", client=broken)]
        assert [line["type"] for line in lines] == ["error", "session.run.failed"]
        assert "1234" not in json.dumps(lines)
        assert "the password is 1234" in caplog.text


async def test_over_http_a_turn_is_lines_of_json(redis_url: str):
    async with house(redis_url) as here:
        body = {"session_id": "s1", "turn_id": "t1", "message": TALK}
        answer = await here.http.post("/lines/clerk", json=body)
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        lines = [json.loads(line) for line in answer.text.splitlines() if line]
        assert types(lines) == ["session.run.started", "message.part.updated", "result", "session.run.completed"]
        again = await here.http.post("/lines/clerk", json=body)
        assert [json.loads(line)["type"] for line in again.text.splitlines() if line] == ["result"]
        missing = await here.http.post("/lines/clerk", json={"session_id": "s1", "turn_id": "t1"})
        assert (missing.status_code, missing.json()["field"]) == (422, "message")
