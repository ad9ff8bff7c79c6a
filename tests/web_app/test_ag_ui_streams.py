"""AG-UI over HTTP: a run id is one run, cut streams go on after any frame, and answers come with the next run."""

from __future__ import annotations

import json
from typing import Any

from tests.web_app.parts import site
from tests.web_app.serving import House, house

TALK = 'call add {"a": 7, "b": 9}\nstream 20 "token " 0.001'


def frames_in(body: str) -> list[tuple[str, Any]]:
    """Numbers of frames and what they say."""
    blocks = [block.split("\n") for block in body.split("\n\n") if block.startswith("id: ")]
    return [(block[0].removeprefix("id: "), json.loads(block[1].removeprefix("data: "))) for block in blocks]


def types_of(frames: list[tuple[str, Any]]) -> list[str]:
    return [body["type"] for _, body in frames]


def given(text: str = TALK, run_id: str = "r1", **more: Any) -> dict[str, Any]:
    messages = [{"id": "u1", "role": "user", "content": text}]
    return {"threadId": "t1", "runId": run_id, "messages": messages, "tools": [], "context": [], **more}


async def post(here: House, body: dict[str, Any], **headers: str) -> Any:
    return await here.http.post("/ag-ui/clerk", json=body, headers=headers)


async def test_the_same_run_id_attaches_and_every_frame_is_a_place_to_go_on_from(redis_url: str):
    async with house(redis_url) as here:
        first = await post(here, given())
        frames = frames_in(first.text)
        assert types_of(frames)[0] == "RUN_STARTED"
        last = frames[-1][1]
        assert (last["type"], last["outcome"], last["threadId"], last["runId"]) == (
            "RUN_FINISHED", {"type": "success"}, "t1", "r1"
        )  # fmt: skip
        assert "".join(body["delta"] for _, body in frames if body["type"] == "TEXT_MESSAGE_CONTENT") == "token " * 20
        assert frames_in((await post(here, given())).text) == frames
        assert len(await here.client.list(session_id="t1")) == 1
        name = first.headers["x-run-id"]
        for seen, (cursor, _) in enumerate(frames, start=1):
            joined = await here.http.get(f"/ag-ui/clerk/{name}", headers={"Last-Event-ID": cursor})
            assert frames_in(joined.text) == frames[seen:]
        posted = await post(here, given(), **{"Last-Event-ID": frames[3][0]})
        assert frames_in(posted.text) == frames[4:]
        assert (await post(here, given("say something else"))).status_code == 409


async def test_an_approval_ends_the_run_and_the_next_one_brings_the_answer(redis_url: str):
    async with house(redis_url) as here:
        text = 'call pay {"amount": 5}\nsay $1'
        first = frames_in((await post(here, given(text))).text)
        (interrupt,) = first[-1][1]["outcome"]["interrupts"]
        assert interrupt["reason"] == "approval"
        resume = [{"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": True}}]
        answer = await post(here, given(text, "r2", resume=resume))
        second = frames_in(answer.text)
        assert (second[0][1]["type"], second[0][1]["runId"]) == ("RUN_STARTED", "r2")
        assert "TOOL_CALL_RESULT" in types_of(second)
        assert (second[-1][1]["result"]["output"], here.done) == ("paid 5", ["paid 5"])
        assert frames_in((await post(here, given(text, "r2", resume=resume))).text) == second
        joined = await here.http.get(f"/ag-ui/clerk/{answer.headers['x-run-id']}?runId=r2")
        assert frames_in(joined.text) == second
        assert here.done == ["paid 5"]


async def test_other_arguments_and_a_denial_with_a_reason(redis_url: str):
    async with house(redis_url) as here:
        text = 'call pay {"amount": 5} & call pay {"amount": 6}\nsay $1, $2'
        said = given(text)
        first = frames_in((await post(here, said)).text)
        (interrupt,) = first[-1][1]["outcome"]["interrupts"]
        payload: dict[str, Any] = {"approved": True, "arguments": {"amount": 1}}
        resume = [{"interruptId": interrupt["id"], "status": "resolved", "payload": payload}]
        second = frames_in((await post(here, given(text, "r2", resume=resume))).text)
        (interrupt,) = second[-1][1]["outcome"]["interrupts"]
        resume = [
            {"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": False, "reason": "no"}}
        ]
        third = frames_in((await post(here, given(text, "r3", resume=resume))).text)
        assert third[-1][1]["outcome"] == {"type": "success"}
        assert here.done == ["paid 1"]
        assert "denied: no" in third[-1][1]["result"]["output"]


async def test_questions_and_that_nobody_answers_them(redis_url: str):
    async with house(redis_url) as here:
        text = "call order {}\nsay $1"
        (asked,) = frames_in((await post(here, given(text))).text)[-1][1]["outcome"]["interrupts"]
        assert (asked["message"], asked["responseSchema"]) == ("Which size?", {"enum": ["S", "M"]})
        resume = [{"interruptId": asked["id"], "status": "resolved", "payload": "S"}]
        ended = frames_in((await post(here, given(text, "r2", resume=resume))).text)[-1][1]
        assert ended["result"]["output"] == "ordered S"
        other = {**given(text, "r3"), "threadId": "t2"}
        (asked,) = frames_in((await post(here, other)).text)[-1][1]["outcome"]["interrupts"]
        resume = [{"interruptId": asked["id"], "status": "cancelled"}]
        ended = frames_in((await post(here, {**other, "runId": "r4", "resume": resume})).text)[-1][1]
        assert ended["outcome"] == {"type": "cancelled"}


async def test_an_answer_that_comes_twice_is_none_to_the_next_question(redis_url: str):
    async with house(redis_url) as here:
        text = "call measure {}\nsay $1"
        (width,) = frames_in((await post(here, given(text))).text)[-1][1]["outcome"]["interrupts"]
        resume = [{"interruptId": width["id"], "status": "resolved", "payload": 3}]
        bodies = [(await post(here, given(text, "r2", resume=resume))).text for _ in range(2)]
        ((height,), again) = (frames_in(body)[-1][1]["outcome"]["interrupts"] for body in bodies)
        assert (height["message"], again) == ("Height?", [height])
        resume = [{"interruptId": height["id"], "status": "resolved", "payload": 4}]
        await post(here, given(text, "r3", resume=resume))
        assert here.done == ["3 x 4"]


async def test_files_come_along(redis_url: str):
    async with house(redis_url) as here:
        content = [
            {"type": "text", "text": "say hi"},
            {"type": "image", "source": {"type": "data", "value": "iVBORw0KGgo=", "mimeType": "image/png"}},
        ]
        body = given()
        body["messages"][0]["content"] = content
        answer = await post(here, body)
        run_id = answer.headers["x-run-id"]
        (message, *_) = await here.client.messages(run_id)
        (file,) = (part for part in message.parts if part.type == "file")
        assert file.media_type == "image/png"


async def test_bad_requests_are_refused_with_the_field():
    async with site() as (http, _):
        for body, field in (
            ({}, "threadId"),
            ({**given(), "messages": []}, "messages"),
            ({**given(), "messages": [{"role": "user", "content": 5}]}, "messages"),
            ({**given(), "resume": [{"interruptId": "x", "status": "resolved"}]}, "resume"),
            (
                {**given(), "resume": [{"interruptId": "01JD3ZK8W5Q0X9V7T2M4N6P8RA.1.0@4", "status": "cancelled"}]},
                None,
            ),
        ):
            answer = await http.post("/ag-ui/clerk", json=body)
            assert (answer.status_code, answer.json().get("field")) == (422 if field else 404, field)
        assert (await http.get("/ag-ui/clerk/nothing")).status_code == 404
        run = await http.post("/ag-ui/clerk", json=given(), headers={"Last-Event-ID": "x"})
        assert (run.status_code, run.json()["field"]) == (422, "Last-Event-ID")
