"""The page over a real Redis: what is hidden stays hidden, what is long is cut, and what is away is said."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agentq import Agent, AgentQ, AsyncClient, Settings, tool
from agentq.private_redis import free_port
from agentq.runs import Status
from agentq.web import web_app
from tests.helpers import wait_until
from tests.web_app.parts import asking
from tests.web_app.serving import house
from tests.web_app.test_page import HTML, Links, token_of
from tests.worker.harness import working

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


async def waits(client: AsyncClient, run_id: str) -> None:
    async def is_waiting() -> bool:
        return await client.status(run_id) == Status.WAITING

    await wait_until(is_waiting, message="the run waits")


def hide(name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict.fromkeys(arguments, "***")


async def test_redacted_arguments_are_nowhere_and_cannot_be_changed(redis_url: str):
    async with house(redis_url, redact_arguments=hide) as here:
        run = await here.client.enqueue("clerk", 'call pay {"amount": 4711}\nsay paid', session_id="s")
        await waits(here.client, run.id)
        path = f"/runs/{run.id}"
        call_id = (await here.client.read(run.id)).questions[0].call_id
        for address in ("/inbox", path, "/sessions/s"):
            # The prompt of the mock model is a script, which has them, too.
            text = (await here.http.get(address, headers=HTML)).text.replace("call pay {&#34;amount&#34;: 4711}", "")
            assert "4711" not in text, address
            assert "***" in text, address
            assert "Change the arguments" not in text
        token = await token_of(here.http, path)
        form = {"csrf_token": token, "call_id": call_id, "back": "inbox"}
        approved = await here.http.post(f"{path}/approve", data=form)
        assert (approved.status_code, approved.headers["location"]) == (303, "/inbox")
        await here.client.result(run.id)
        assert here.done == ["paid 4711"]
        live = (await here.http.get(f"{path}/live?after=1", headers=HTML)).text
        assert "paid 4711" in live
        assert "amount&#34;: 4711" not in live
        assert "***" in (await here.http.get(f"{path}/arguments/{call_id}")).text
        # Somebody else has decided meanwhile.
        late = await here.http.post(f"{path}/deny", data=form, headers=HTML)
        assert late.status_code == 409
        assert "somebody was faster" in late.text


async def test_arguments_and_answers_that_do_not_fit_are_refused_with_the_reason(redis_url: str):
    async with house(redis_url) as here:
        pays = await here.client.enqueue("clerk", 'call pay {"amount": 5}')
        orders = await here.client.enqueue("clerk", "call order {}\nsay $1")
        for run in (pays, orders):
            await waits(here.client, run.id)
        token = await token_of(here.http, "/inbox")

        async def say(run_id: str, what: str, **fields: str) -> tuple[int, str]:
            call_id = (await here.client.read(run_id)).questions[0].call_id
            number = str((await here.client.read(run_id)).questions[0].number)
            data = {"csrf_token": token, "call_id": call_id, "number": number, **fields}
            answer = await here.http.post(f"/runs/{run_id}/{what}", data=data, headers=HTML)
            return answer.status_code, answer.text

        for arguments, why in (("{", "must be JSON"), ("[1]", "a JSON object"), ('{"amount": "x"}', "do not fit pay")):
            status, text = await say(pays.id, "approve", arguments=arguments)
            assert (status, why in text) == (422, True), arguments
        assert (await say(orders.id, "answer", answer='"XL"'))[0] == 422
        assert (await say(orders.id, "answer", answer="S"))[0] == 422
        assert (await say(orders.id, "answer"))[0] == 422
        assert (await say(orders.id, "answer", answer='"S"'))[0] == 303
        assert (await here.client.result(orders.id)).output == "ordered S"
        assert here.done == ["ordered S"]


async def test_a_long_result_is_cut_and_can_be_had_whole(redis_url: str):
    @tool(effect="none")
    async def read() -> str:
        """Read a lot."""
        return "<b>" + "line\n" * 3000 + "the end"

    app = AgentQ([Agent("reader", model="mock", tools=[read])], settings=Settings(redis_url=redis_url))
    async with working(app), AsyncClient(settings=app.settings) as client, asking(web_app(client)) as http:
        run = await client.enqueue("reader", "call read {}\nsay read")
        await client.result(run.id)
        text = (await http.get(f"/runs/{run.id}", headers=HTML)).text
        assert "the end" not in text
        assert len(text) < 40_000
        address = next(each for each in Links(text).addresses if "/results/" in each)
        whole = await http.get(address)
        assert whole.headers["content-type"] == "text/plain; charset=utf-8"
        assert whole.text.startswith("<b>line")
        assert whole.text.endswith("the end")
        missing = re.sub(r"\.\d+$", ".99", address)
        assert (await http.get(missing, headers=HTML)).status_code == 404


async def test_a_redis_that_is_away_is_said_on_a_page():
    url = f"redis://127.0.0.1:{free_port()}"
    async with AsyncClient(settings=Settings(redis_url=url)) as client, asking(web_app(client), timeout=30) as http:
        answer = await http.get("/", headers=HTML)
        assert answer.status_code == 503
        assert "<h1>" in answer.text
        assert answer.headers["retry-after"] == "2"
