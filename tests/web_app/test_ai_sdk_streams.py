"""The AI SDK over HTTP: one message is one run, cut streams go on from any chunk, and approvals go on with the turn."""

from __future__ import annotations

import json
from typing import Any

from agentq.runs import Status
from tests.helpers import wait_until
from tests.web_app.parts import site
from tests.web_app.serving import House, house

TALK = 'call add {"a": 7, "b": 9}\nstream 20 "token " 0.001'


def chunks_in(body: str) -> list[Any]:
    data = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    return [json.loads(each) for each in data if each != "[DONE]"]


def user(text: str, message_id: str = "u1", **more: Any) -> dict[str, Any]:
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}], **more}


async def post(here: House, *messages: Any, **more: Any) -> Any:
    return await here.http.post("/ai-sdk/clerk", json={"id": "chat-1", "messages": messages, **more})


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta")


async def test_a_message_is_answered_once_however_often_it_is_sent(redis_url: str):
    async with house(redis_url) as here:
        first = await post(here, user(TALK))
        assert first.headers["x-vercel-ai-ui-message-stream"] == "v1"
        chunks = chunks_in(first.text)
        assert first.text.endswith("data: [DONE]\n\n")
        assert (chunks[0]["type"], chunks[-1]["type"]) == ("start", "finish")
        assert text_of(chunks) == "token " * 20
        assert [chunk["output"] for chunk in chunks if chunk["type"] == "tool-output-available"] == ["16"]
        again = await post(here, user(TALK))
        assert again.headers["x-workflow-run-id"] == first.headers["x-workflow-run-id"] == chunks[0]["messageId"]
        assert chunks_in(again.text) == chunks
        edited = await post(here, user("stream 1 x 0"))
        assert edited.headers["x-workflow-run-id"] != first.headers["x-workflow-run-id"]
        assert len(await here.client.list(session_id="chat-1")) == 2


async def test_to_answer_again_is_another_run(redis_url: str):
    async with house(redis_url) as here:
        names = {(await post(here, user("say hi"))).headers["x-workflow-run-id"]}
        again: dict[str, Any] = {"trigger": "regenerate-message"}
        for more in ({}, {}, {"messageId": "a1"}, {"messageId": "a2"}, {"messageId": "a2"}):
            names.add((await post(here, user("say hi"), **again, **more)).headers["x-workflow-run-id"])
        assert len(names) == 5


async def test_a_stream_goes_on_from_every_chunk(redis_url: str):
    async with house(redis_url) as here:
        first = await post(here, user('call add {"a": 7, "b": 9}\nsay It is $1.'))
        name, chunks = first.headers["x-workflow-run-id"], chunks_in(first.text)
        for start in range(len(chunks) + 1):
            again = await here.http.get(f"/ai-sdk/clerk/{name}/stream?startIndex={start}")
            assert chunks_in(again.text) == chunks[start:]
        tail = await here.http.get(f"/ai-sdk/clerk/{name}/stream?startIndex=-3")
        assert (chunks_in(tail.text), tail.headers["x-workflow-stream-tail-index"]) == (
            chunks[-3:],
            str(len(chunks) - 1),
        )
        cursors = [line.removeprefix("id: ") for line in first.text.splitlines() if line.startswith("id: ")]
        for seen, cursor in enumerate(cursors, start=1):
            again = await here.http.get(f"/ai-sdk/clerk/{name}/stream", headers={"Last-Event-ID": cursor})
            assert chunks_in(again.text) == chunks[seen:]
        assert (await here.http.get(f"/ai-sdk/clerk/{name}/stream?startIndex=x")).status_code == 422


async def test_a_chat_that_is_idle_has_no_stream(redis_url: str):
    async with house(redis_url) as here:
        assert (await here.http.get("/ai-sdk/clerk/chat-1/stream")).status_code == 204
        await post(here, user("say hi"))
        assert (await here.http.get("/ai-sdk/clerk/chat-1/stream")).status_code == 204


async def test_an_approval_ends_the_turn_and_the_next_one_goes_on_in_the_same_message(redis_url: str):
    async with house(redis_url) as here:
        first = chunks_in((await post(here, user('call pay {"amount": 5}\nsay $1'))).text)
        assert [chunk["type"] for chunk in first[-3:]] == ["tool-approval-request", "finish-step", "finish"]
        request = first[-3]
        # A browser that comes back sees what is waiting.
        replayed = await here.http.get("/ai-sdk/clerk/chat-1/stream")
        assert chunks_in(replayed.text) == first
        approval = {"id": request["approvalId"], "approved": True}
        part = {"type": "tool-pay", "toolCallId": request["toolCallId"], "state": "approval-responded"}
        answered = {"id": first[0]["messageId"], "role": "assistant", "parts": [{**part, "approval": approval}]}
        second = await post(here, user('call pay {"amount": 5}\nsay $1'), answered)
        chunks = chunks_in(second.text)
        assert chunks[0] == first[0]
        assert [chunk["type"] for chunk in chunks[1:3]] == ["tool-approval-response", "tool-output-available"]
        assert (text_of(chunks), here.done) == ("paid 5", ["paid 5"])
        # Sent twice: the same turn again, and nothing is paid twice.
        assert chunks_in((await post(here, user("x"), answered)).text) == chunks
        name = second.headers["x-workflow-run-id"]
        for start in range(len(chunks)):
            again = await here.http.get(f"/ai-sdk/clerk/{name}/stream?startIndex={start}")
            assert chunks_in(again.text) == chunks[start:]
        assert here.done == ["paid 5"]


async def test_a_denial_is_told(redis_url: str):
    async with house(redis_url) as here:
        request = chunks_in((await post(here, user('call pay {"amount": 5}\nsay fine'))).text)[-3]
        approval = {"id": request["approvalId"], "approved": False, "reason": "too much"}
        part = {"type": "tool-pay", "toolCallId": request["toolCallId"], "approval": approval}
        answered = {"id": "a", "role": "assistant", "parts": [part]}
        chunks = chunks_in((await post(here, user("x"), answered)).text)
        assert [chunk["type"] for chunk in chunks[1:3]] == ["tool-approval-response", "tool-output-denied"]
        assert here.done == []


async def test_a_question_is_answered_with_the_next_request(redis_url: str):
    async with house(redis_url) as here:
        first = chunks_in((await post(here, user("call order {}\nsay $1"))).text)
        (asked,) = (chunk["data"] for chunk in first if chunk["type"] == "data-agentq-input")
        assert (asked["text"], asked["schema"]) == ("Which size?", {"enum": ["S", "M"]})
        wrong = await post(here, resume=[{"interruptId": asked["interruptId"], "payload": "XL"}])
        assert (wrong.status_code, "XL" in wrong.json()["detail"]) == (422, True)
        resume = [{"interruptId": asked["interruptId"], "payload": "M"}]
        second = chunks_in((await post(here, resume=resume)).text)
        assert (text_of(second), here.done) == ("ordered M", ["ordered M"])
        assert chunks_in((await post(here, resume=resume)).text) == second


async def test_a_failed_run_says_why_and_finishes(redis_url: str):
    async with house(redis_url) as here:
        run = await here.client.enqueue("clerk", "fail! 401", session_id="chat-1", idempotency_key=None)
        await wait_until(lambda: _is_final(here, run.id), message="the end")
        chunks = chunks_in((await here.http.get(f"/ai-sdk/clerk/{run.id}/stream?startIndex=0")).text)
        assert [chunk["type"] for chunk in chunks[-2:]] == ["error", "finish"]
        assert "401" in chunks[-2]["errorText"]


async def _is_final(here: House, run_id: str) -> bool:
    return (await here.client.status(run_id)) in (Status.FAILED, Status.COMPLETED)


async def test_bad_requests_are_refused_with_the_field():
    async with site() as (http, _):
        for body, field in (
            ({"id": "c", "messages": []}, "messages"),
            ({"id": "c", "messages": [{"role": "user"}]}, "messages"),
            ({"id": "c", "messages": [{"parts": []}]}, "messages.0.role"),
            ({"id": "c", "resume": [{"interruptId": "x", "payload": 1}]}, "resume"),
        ):
            answer = await http.post("/ai-sdk/clerk", json=body)
            assert (answer.status_code, answer.json()["field"]) == (422, field)
        assert (await http.post("/ai-sdk/clerk", content=b"{")).json()["code"] == "malformed"
        assert (await http.post("/ai-sdk/clerk", data={"a": "b"})).status_code == 415
    async with site(read_only=True) as (http, _):
        answer = await http.post("/ai-sdk/clerk", json={"id": "c", "messages": [user("hi")]})
        assert (answer.status_code, answer.json()["code"]) == (403, "read_only")
