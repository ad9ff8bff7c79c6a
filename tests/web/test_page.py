"""The page in a real browser: it moves by itself, takes what people say, and survives a bad network."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from agentq.runs import Status
from tests.helpers import wait_until
from tests.web.browsing import cable, viewing
from tests.web_app.serving import house

if TYPE_CHECKING:
    from playwright.async_api import Route

    from agentq import AsyncClient
    from tests.web.browsing import Viewer

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
TALK = 'call add {"a": 7, "b": 9}\nstream 120 "token " 0.01\nsay All <b>done</b>.'
LONG = 'call add {"a": 7, "b": 9}\nstream 400 "token " 0.01'


async def waits(client: AsyncClient, run_id: str) -> None:
    async def is_waiting() -> bool:
        return await client.status(run_id) == Status.WAITING

    await wait_until(is_waiting, message="the run waits")


async def is_as_loaded_anew(viewer: Viewer) -> str:
    """The timeline, which reads as it does when the page is loaded again."""
    live = await viewer.timeline()
    await viewer.page.reload()
    assert await viewer.timeline() == live
    return live


async def test_the_list_follows_what_happens(redis_url: str):
    async with house(redis_url) as here, viewing() as viewer:
        await viewer.page.goto(here.address)
        await expect(viewer.page.get_by_role("heading", name="No runs yet")).to_be_visible()
        run = await here.client.enqueue("clerk", "say hello")
        row = viewer.page.locator(f"#r-{run.id}")
        await expect(row.get_by_text("completed")).to_be_visible()
        await row.get_by_role("link", name="say hello").click()
        await expect(viewer.page.get_by_role("heading", name="Completed")).to_be_visible()
        await viewer.page.get_by_role("link", name="Runs", exact=True).click()
        await viewer.page.get_by_role("searchbox").fill("nothing like this")
        await viewer.page.keyboard.press("Enter")
        await expect(viewer.page.get_by_role("heading", name="Nothing found")).to_be_visible()


async def test_a_run_is_seen_while_it_happens_and_reads_the_same_afterwards(redis_url: str):
    async with house(redis_url) as here, viewing() as viewer:
        run = await here.client.enqueue("clerk", TALK)
        await viewer.page.goto(f"{here.address}/runs/{run.id}")
        growing = viewer.page.locator(".reply.is-open [aria-live=polite]")
        await expect(growing).to_contain_text("token token token")
        short = len(await growing.inner_text())
        await wait_until(lambda: is_longer(viewer, short), message="the text grows")
        await expect(viewer.page.locator("#state")).to_contain_text("completed")
        await expect(viewer.page.locator("#state")).not_to_contain_text("Cancel")
        await expect(viewer.page).to_have_title(re.compile("^completed"))
        text = await is_as_loaded_anew(viewer)
        assert text.count("token") == 120 + TALK.count("token")
        assert "All <b>done</b>." in text
        assert "16" in text


async def is_longer(viewer: Viewer, than: int) -> bool:
    return len(await viewer.timeline()) > than + 60


async def test_nothing_is_missed_and_nothing_comes_twice_over_a_network_that_breaks(redis_url: str):
    async with house(redis_url) as here, cable(here.address) as wire, viewing(may_go_wrong=True) as viewer:
        run = await here.client.enqueue("clerk", LONG)
        await viewer.page.goto(f"{wire.url}/runs/{run.id}")
        pulled = 0
        while not (await here.client.status(run.id)).is_final:
            await asyncio.sleep(0.25)  # so much is seen between two breaks
            await wire.pull()
            pulled += 1
        await expect(viewer.page.locator("#state")).to_contain_text("completed")
        assert pulled > 4
        text = await is_as_loaded_anew(viewer)
        assert text.count("token") == 400 + LONG.count("token")
        # The network is all that went wrong.
        assert [told for told in viewer.wrong if "net::ERR" not in told and "htmx:sse:error" not in told] == []


async def test_a_call_is_approved_as_it_is_and_with_other_arguments(redis_url: str):
    async with house(redis_url) as here, viewing() as viewer:
        page = viewer.page
        first = await here.client.enqueue("clerk", 'call pay {"amount": 5}\nsay $1')
        await page.goto(f"{here.address}/runs/{first.id}")
        await page.get_by_role("button", name="Approve").click()
        await expect(page.locator("#timeline")).to_contain_text("paid 5")
        second = await here.client.enqueue("clerk", 'call pay {"amount": 6}\nsay $1')
        await waits(here.client, second.id)
        await page.goto(f"{here.address}/inbox")
        await page.get_by_text("Change the arguments").click()
        await page.get_by_label("Arguments as JSON").fill('{"amount": 4}')
        await page.get_by_role("button", name="Approve").click()
        await expect(page.get_by_role("heading", name="Nobody waits for you")).to_be_visible()
        assert (await here.client.result(second.id)).output == "paid 4"
        assert here.done == ["paid 5", "paid 4"]


async def test_a_call_is_denied_with_a_reason(redis_url: str):
    async with house(redis_url) as here, viewing() as viewer:
        run = await here.client.enqueue("clerk", 'call pay {"amount": 5}\nsay then not')
        await viewer.page.goto(f"{here.address}/runs/{run.id}")
        await viewer.page.get_by_label("Why not").fill("too <b>much</b>")
        await viewer.page.get_by_role("button", name="Deny").click()
        await expect(viewer.page.locator("#timeline")).to_contain_text("too <b>much</b>")
        await expect(viewer.page.locator("#state")).to_contain_text("completed")
        assert here.done == []


async def test_a_question_is_answered(redis_url: str):
    async with house(redis_url) as here, viewing() as viewer:
        run = await here.client.enqueue("clerk", "call order {}\nsay $1")
        await viewer.page.goto(f"{here.address}/runs/{run.id}")
        await expect(viewer.page.get_by_text("Which size?").first).to_be_visible()
        await viewer.page.get_by_role("button", name="S", exact=True).click()
        await expect(viewer.page.locator("#state")).to_contain_text("completed")
        assert here.done == ["ordered S"]


async def test_what_is_typed_stays_while_the_page_moves(redis_url: str):
    async with house(redis_url) as here, viewing() as viewer:
        run = await here.client.enqueue("clerk", LONG)
        page = viewer.page
        await page.goto(f"{here.address}/runs/{run.id}")
        box = page.get_by_label("Say something to the run")
        await box.fill("be quick")
        card = page.locator(".card").first
        await card.locator("summary").click()
        await expect(page.locator(".reply.is-open")).to_contain_text("token token")
        await expect(box).to_have_value("be quick")
        await expect(card).to_have_attribute("open", "")
        await page.get_by_role("button", name="Send").click()
        await expect(page.locator("#timeline .prompt").nth(1)).to_contain_text("be quick")
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()
        assert await here.client.status(run.id) == Status.CANCELLED


async def test_a_session_is_a_conversation(redis_url: str):
    async with house(redis_url) as here, viewing() as viewer:
        page = viewer.page
        first = await here.client.enqueue("clerk", "say It is blue.", session_id="sky/1")
        await here.client.result(first.id)
        await page.goto(f"{here.address}/sessions")
        await page.get_by_role("link", name="sky/1").click()
        await expect(page.locator(".conversation")).to_contain_text("It is blue.")
        await page.get_by_label("The next message").fill('stream 80 "token " 0.01')
        await page.get_by_role("button", name="Send").click()
        await expect(page.locator(".conversation .message.is-assistant").nth(1)).to_contain_text("token token")
        assert [run.status async for run in runs_of(here.client, "sky/1")] == [Status.COMPLETED] * 2


async def runs_of(client: AsyncClient, session_id: str):
    for run in await client.list(session_id=session_id):
        yield run


async def test_everything_is_paused_and_goes_on(redis_url: str):
    async with house(redis_url) as here, viewing() as viewer:
        page = viewer.page
        await page.goto(f"{here.address}/workers")
        await page.get_by_role("button", name="Pause everything").click()
        await expect(page.get_by_text("Everything is paused")).to_be_visible()
        assert list(await here.client.pauses()) == ["all"]
        await page.get_by_role("button", name="Resume everything").click()
        await expect(page.get_by_text("Everything is paused")).to_have_count(0)
        assert await here.client.pauses() == {}


async def test_all_of_it_works_without_javascript(redis_url: str):
    token = "a-token-of-the-tests"
    async with house(redis_url, token=token) as here, viewing(java_script_enabled=False) as viewer:
        page = viewer.page
        await page.goto(here.address)
        await page.get_by_label("The token of this server").fill(token)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("link", name="New run").click()
        await page.get_by_label("Prompt").fill('call pay {"amount": 5}\nsay $1')
        await page.get_by_role("button", name="Start").click()
        run_id = page.url.rpartition("/")[2]
        await waits(here.client, run_id)
        await page.goto(f"{here.address}/inbox")
        await page.get_by_role("button", name="Approve").click()
        await here.client.result(run_id)
        await page.goto(f"{here.address}/runs/{run_id}")
        assert "paid 5" in await viewer.timeline()
        other = await here.client.enqueue("clerk", 'call pay {"amount": 6}')
        await waits(here.client, other.id)
        await page.goto(f"{here.address}/runs/{other.id}")
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert here.done == ["paid 5"]


@pytest.mark.parametrize("width", [390, 820, 1440])
async def test_no_page_is_wider_than_its_window(redis_url: str, width: int):
    async with house(redis_url) as here, viewing(viewport={"width": width, "height": 800}) as viewer:
        wide = "an_unbroken_word_" * 30
        waiting = await here.client.enqueue("clerk", f'call pay {{"amount": 5}}\nsay {wide}', session_id=wide[:190])
        done = await here.client.enqueue("clerk", wide, session_id="s", user_id=wide[:190])
        await waits(here.client, waiting.id)
        await here.client.result(done.id)
        paths = (
            "/",
            "/new",
            "/inbox",
            "/sessions",
            "/sessions/s",
            "/workers",
            f"/runs/{waiting.id}",
            f"/runs/{done.id}",
        )
        for path in paths:
            await viewer.page.goto(here.address + path)
            assert await viewer.page.evaluate("document.documentElement.scrollWidth") == width, path


async def test_it_can_be_used_with_the_keyboard_alone(redis_url: str):
    async with house(redis_url) as here, viewing() as viewer:
        page = viewer.page
        run = await here.client.enqueue("clerk", "say hello")
        await here.client.result(run.id)
        await page.goto(here.address)
        await page.keyboard.press("Tab")
        await expect(page.get_by_text("Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        link = page.get_by_role("link", name="say hello")
        for _ in range(20):
            if await link.evaluate("element => element === document.activeElement"):
                break
            await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Completed")).to_be_visible()


async def accessible(viewer: Viewer, address: str) -> list[str]:
    """What axe-core finds wrong with a page, all of it unfolded."""
    await viewer.page.goto(address)
    await viewer.page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    await viewer.page.evaluate(AXE.read_text())
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = await viewer.page.evaluate("rules => axe.run(document, {runOnly: rules})", rules)
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found["violations"]]


@pytest.mark.parametrize("look", ["light", "dark"])
async def test_everybody_can_use_it(redis_url: str, look: str):
    if not AXE.exists():
        pytest.fail("this test needs the npm package axe-core; install it with: make test-web", pytrace=False)
    async with house(redis_url) as here, viewing(color_scheme=look) as viewer:
        client = here.client
        done = await client.enqueue("clerk", 'call add {"a": 1}\ncall add {"a": 1, "b": 2}\nsay done', session_id="s")
        pays = await client.enqueue("clerk", 'call pay {"amount": 5}', user_id="u")
        asks = await client.enqueue("clerk", "call order {}")
        await client.result(done.id)
        for run in (pays, asks):
            await waits(client, run.id)
        runs = [f"/runs/{run.id}" for run in (done, pays, asks)]
        for path in ("/", "/?q=none", "/new", "/inbox", "/sessions", "/sessions/s", "/workers", *runs):
            assert await accessible(viewer, here.address + path) == [], path


async def test_it_is_live_over_a_slow_line_too(redis_url: str):
    async with house(redis_url) as here, viewing() as viewer:

        async def late(route: Route) -> None:
            await asyncio.sleep(0.5)
            await route.continue_()

        await viewer.page.route("**/hx-sse*", late)
        run = await here.client.enqueue("clerk", 'call pay {"amount": 5}')
        await waits(here.client, run.id)
        await viewer.page.goto(f"{here.address}/runs/{run.id}")
        await expect(viewer.page.get_by_role("status")).to_have_text("Live")
