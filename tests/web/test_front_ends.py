"""The front ends of examples/, built and driven in a real Chromium: they answer, ask, and survive a reload."""

from __future__ import annotations

import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import async_playwright, expect
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from agentq.web import web_app
from tests.helpers import ROOT
from tests.web.conftest import HERE
from tests.web_app.serving import House, house, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Page

FRONT_ENDS = ROOT / "examples" / "front_ends"
CHROMIUM = "/usr/bin/chromium"
TALK = 'call add {"a": 7, "b": 9}\nstream 40 "token " 0.02'


@pytest.fixture(scope="session")
def public(node: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built with the packages of the tests, which are those of the example."""
    folder = tmp_path_factory.mktemp("public")
    (esbuild,) = HERE.glob("node_modules/@esbuild/*/bin/esbuild")
    command = [str(esbuild), "use_chat.jsx", "ag_ui.js", "--bundle", "--format=esm", "--jsx=automatic"]
    subprocess.run(
        [*command, f"--outdir={folder / 'built'}", "--log-level=warning"],
        cwd=FRONT_ENDS,
        env={"NODE_PATH": str(HERE / "node_modules"), "PATH": ""},
        check=True,
    )
    for page in (FRONT_ENDS / "public").glob("*.*"):
        (folder / page.name).write_text(page.read_text())
    return folder


@asynccontextmanager
async def browsing(redis_url: str, public: Path) -> AsyncIterator[tuple[House, Page, str]]:
    """A page of a browser that has not been asked for anything, and the address of the example's server."""
    async with house(redis_url) as here:
        app = Starlette(
            routes=[Mount("/agentq", web_app(here.client)), Mount("/", StaticFiles(directory=public, html=True))]
        )
        async with served(app) as address, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = await browser.new_page()
            wrong: list[str] = []
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
            try:
                yield here, page, address
                assert wrong == []
            finally:
                await browser.close()


async def say(page: Page, text: str) -> None:
    await page.get_by_label("Message").fill(text)
    await page.get_by_role("button", name="Send").click()


def last(page: Page) -> Any:
    return page.locator("article.assistant").last


async def test_use_chat_answers_asks_and_survives_a_reload(redis_url: str, public: Path):
    async with browsing(redis_url, public) as (here, page, address):
        await page.goto(f"{address}/use_chat.html?agent=clerk")
        await say(page, 'stream 40 "token " 0.03')
        await expect(last(page)).to_contain_text("token token")
        await page.reload()
        await expect(last(page).locator("p")).to_have_text("token " * 40, timeout=15_000)
        await expect(page.locator("article.assistant")).to_have_count(1)
        await say(page, 'call pay {"amount": 5}')
        await last(page).get_by_role("button", name="Approve").click()
        await expect(last(page).locator("output")).to_have_text("paid 5")
        assert here.done == ["paid 5"]
        await page.reload()
        await expect(last(page).locator("output")).to_have_text("paid 5")
        await expect(page.locator("article.assistant")).to_have_count(2)
        await expect(page.locator("main")).to_have_attribute("data-status", "ready")
        await say(page, "call order {}")
        await last(page).get_by_role("button", name="M").click()
        await expect(last(page).locator("output")).to_have_text("ordered M")


async def test_ag_ui_answers_and_asks(redis_url: str, public: Path):
    async with browsing(redis_url, public) as (here, page, address):
        await page.goto(f"{address}/ag_ui.html?agent=clerk")
        await say(page, 'stream 40 "token " 0.01')
        await expect(last(page)).to_have_text("token " * 40)
        await say(page, 'call pay {"amount": 5}')
        await page.get_by_role("button", name="Approve").click()
        await expect(page.locator("article.tool").last).to_have_text("paid 5")
        assert here.done == ["paid 5"]
        await say(page, "call order {}")
        await page.get_by_role("button", name="S", exact=True).click()
        await expect(page.locator("article.tool").last).to_have_text("ordered S")


async def test_events_need_no_library(redis_url: str, public: Path):
    async with browsing(redis_url, public) as (here, page, address):
        run = await here.client.enqueue("clerk", TALK)
        await page.goto(f"{address}/events.html?run={run.id}")
        await expect(page.locator("#text")).to_have_text("token " * 40, timeout=15_000)
        await expect(page.locator("#events li").last).to_contain_text("run.completed")
