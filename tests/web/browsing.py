"""A real Chromium that looks at the page, and a cable between the two that can be pulled out."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import async_playwright, expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, ConsoleMessage, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
_CHUNK = 65_536
# A machine that is busy with other tests is slow, not wrong.
_TIMEOUT_MS = 20_000
expect.set_options(timeout=_TIMEOUT_MS)


@dataclass
class Viewer:
    """A browser with one window. What went wrong in it is kept: errors of scripts, of the console, of the policy."""

    browser: Browser
    page: Page
    wrong: list[str] = field(default_factory=list)

    async def timeline(self) -> str:
        """What can be read in the timeline, each run of white space as one space."""
        return " ".join((await self.page.locator("#timeline").inner_text()).split())

    def listen(self) -> None:
        def told(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.wrong.append(message.text)

        self.page.on("console", told)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))


@asynccontextmanager
async def viewing(*, may_go_wrong: bool = False, **options: Any) -> AsyncIterator[Viewer]:
    """A viewer. The block fails when anything went wrong in it, unless that was to be expected."""
    program = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.fail("these tests need Chromium; install it with: make test-web", pytrace=False)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=_ARGS)
        try:
            viewer = Viewer(browser, await browser.new_page(**options))
            viewer.page.set_default_timeout(_TIMEOUT_MS)
            viewer.listen()
            yield viewer
        finally:
            await browser.close()
        assert may_go_wrong or viewer.wrong == []


@dataclass
class Cable:
    """Carries bytes between a browser and a server; `pull` ends all connections at once, in the middle of anything."""

    address: str
    url: str = ""
    made: int = 0
    _links: set[asyncio.Task[Any]] = field(default_factory=set)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        self.made += 1
        where = urlsplit(self.address)
        from_server, to_server = await asyncio.open_connection(where.hostname, where.port)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(reader, to_server))
                pumps.create_task(_pump(from_server, writer))
        except (ExceptionGroup, asyncio.CancelledError):
            pass  # the cable was pulled, or one end has gone
        finally:
            writer.transport.abort()
            to_server.transport.abort()
            self._links.discard(link)

    async def pull(self) -> None:
        links = tuple(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


@asynccontextmanager
async def cable(address: str) -> AsyncIterator[Cable]:
    """A `Cable` to the server at this address."""
    made = Cable(address)
    server = await asyncio.start_server(made.connected, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        await made.pull()
