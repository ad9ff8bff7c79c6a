"""Makes the screenshots of the guide: a site with a support desk's runs, looked at with Debian's Chromium.

python scripts/page_screenshots.py docs/guide/web-page        # the two of the guide
python scripts/page_screenshots.py --all FOLDER               # every page, at three sizes, light and dark
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from PIL import Image
from playwright.async_api import async_playwright

from agentq import Agent, AgentQ, AsyncClient, Settings, ToolContext, ToolError, tool
from agentq.messages import Message, ReasoningPart, Role, TextPart, ToolCallPart, Usage
from agentq.private_redis import free_port, private_redis
from agentq.providers.base import TextChunk
from agentq.testing import ScriptedModel, call
from agentq.web import web_app
from agentq.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.providers.base import Chunk, ModelRequest

CHROMIUM = "/usr/bin/chromium"
SIZES = {"phone": (390, 844), "tablet": (820, 1100), "desk": (1440, 900)}
ANSWER = (
    "I have refunded 129.00 EUR for order A-1047 to the card it was paid with. It takes two to three working days to "
    "arrive. The parcel service confirms that the box was crushed on the way, so you need not send anything back.\n\n"
    "Two things you may want to know:\n\n"
    "- The refund covers the shipping fee, too.\n"
    '- A replacement can leave the warehouse tomorrow; answer with "replace" and I order it.'
)


class Slow(ScriptedModel):
    """A scripted model that takes its time, so that there is something to see."""

    pause_s = 0.0

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        async for chunk in super().stream(request):
            if isinstance(chunk, TextChunk):
                await asyncio.sleep(self.pause_s)
            yield chunk


@tool(effect="none")
async def find_order(number: str) -> dict[str, Any]:
    """Look an order up."""
    await asyncio.sleep(0.11)
    return {
        "number": number,
        "customer": "Ines Duarte",
        "paid_cents": 12_900,
        "currency": "EUR",
        "status": "delivered",
        "items": [{"sku": "LAMP-3", "name": "Desk lamp, brass", "count": 1}],
    }


@tool(effect="none")
async def track_parcel(ctx: ToolContext, number: str) -> str:
    """Ask the parcel service."""
    for step, words in enumerate(("asking the service", "reading the report"), 1):
        await ctx.progress(words, step / 3)
        await asyncio.sleep(0.15)
    return "delivered on 24 November with visible damage; the driver took photographs"


@tool(effect="none")
async def stock(sku: str) -> str:
    """Look into the warehouse."""
    raise ToolError(f"the warehouse does not answer about {sku} (timeout after 3 s)")


@tool(effect="once", approval=True, approvers=["finance"])
async def refund(order: str, cents: int, reason: str) -> str:
    """Give a customer the money back."""
    return f"refunded {cents} cents for {order}"


@tool(effect="once")
async def ask_customer(ctx: ToolContext, question: str) -> str:
    """Ask the customer something."""
    answer: str = await ctx.ask(question, schema={"enum": ["replace", "refund", "keep it"]})
    return answer


def _reply(text: str, *calls: tuple[str, dict[str, Any]], thought: str = "") -> Message:
    parts: list[Any] = [ReasoningPart(text=thought)] if thought else []
    parts += [TextPart(text=text)] if text else []
    parts += [ToolCallPart(call_id="", name=name, arguments=arguments) for name, arguments in calls]
    usage = Usage(
        input_tokens=1840 + 320 * len(calls), output_tokens=140, cached_input_tokens=1500, cost_nanousd=2_310_000
    )
    return Message(role=Role.ASSISTANT, parts=tuple(parts), usage=usage, model="gpt-5-mini")


def _app(settings: Settings) -> AgentQ:
    look = _reply(
        "I look the order up, and ask the parcel service what happened.",
        ("find_order", {"number": "A-1047"}),
        ("track_parcel", {"number": "A-1047"}),
        ("stock", {"sku": "LAMP-3"}),
        thought="The customer says the lamp arrived broken. I need the order and the report.",
    )
    pay = _reply(
        "The report confirms the damage.",
        ("refund", {"order": "A-1047", "cents": 12900, "reason": "arrived damaged, confirmed by the parcel service"}),
    )
    full: list[Any] = [look, pay, _reply(ANSWER)]
    models = {
        "desk": ScriptedModel(full),
        "live": Slow([look, _reply(ANSWER)]),
        "asks": ScriptedModel(
            [call("ask_customer", question="Shall we send another lamp, or the money back?"), "Good."]
        ),
        "chat": ScriptedModel([_reply("Your order A-1047 was delivered on 24 November. What is wrong with it?")]),
        "bad": ScriptedModel([]),
        "sum": ScriptedModel(
            [_reply("Support had 214 cases this week, 12 % fewer than last week; damage in transit leads.")]
        ),
    }
    Slow.pause_s = 0.05
    tools = [find_order, track_parcel, stock, refund, ask_customer]
    agents = [
        Agent("support", instructions="Help customers.", model="desk:gpt-5-mini", tools=tools),
        Agent("support-live", model="live:gpt-5-mini", tools=tools),
        Agent("support-asks", model="asks:gpt-5-mini", tools=tools),
        Agent("support-chat", model="chat:gpt-5-mini", tools=tools),
        Agent("reports", model="sum:gpt-5-mini", queue="slow"),
        Agent("imports", model="bad:gpt-5-mini", max_error_retries=0),
    ]
    return AgentQ(agents, settings=settings, models=models)


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """The site behind a server; gives its address."""
    port = free_port()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


async def _until(client: AsyncClient, run_id: str, *wanted: str) -> None:
    while (await client.status(run_id)) not in wanted:  # noqa: ASYNC110 - Redis is asked
        await asyncio.sleep(0.05)


async def _runs(client: AsyncClient) -> dict[str, str]:
    """Some runs of each kind; the ids of those that are looked at."""
    broken = "My lamp (order A-1047) arrived broken. Can I have my money back?"
    for text in ("Weekly summary of support cases", "Monthly summary of support cases"):
        await _until(client, (await client.enqueue("reports", text)).id, "completed")
    failed = await client.enqueue("imports", "Import the price list of 27 November", user_id="ops")
    await _until(client, failed.id, "failed")
    chat = await client.enqueue("support-chat", "Where is my order A-1047?", session_id="ines-2026-11", user_id="ines")
    await _until(client, chat.id, "completed")
    done = await client.enqueue(
        "support", broken, session_id="ines-2026-11", user_id="ines", metadata={"channel": "mail"}
    )
    await _until(client, done.id, "waiting")
    await client.approve(done.id, by="maria@finance", source="page")
    await _until(client, done.id, "completed")
    delayed = await client.enqueue("reports", "Summary of the quarter, when it is over", delay=3 * 86_400)
    asks = await client.enqueue("support-asks", "The customer of A-1051 has not said what they want", user_id="tom")
    waits = await client.enqueue("support", broken.replace("1047", "1062"), session_id="jo-17", user_id="jo")
    await _until(client, asks.id, "waiting")
    await _until(client, waits.id, "waiting")
    paused = await client.enqueue("reports", "A report that nobody needs before Monday", delay=60)
    await client.pause(paused.id, reason="not before Monday", by="maria")
    return {"done": done.id, "waits": waits.id, "asks": asks.id, "failed": failed.id, "delayed": delayed.id}


def _shrink(path: Path) -> None:
    """Few colours are enough, and make the file a third as large."""
    with Image.open(path) as image:
        image.convert("RGB").quantize(96).save(path, optimize=True)


async def _shoot(folder: Path, *, is_all: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch, private_redis(Path(scratch)) as redis:
        settings = Settings.load(redis_url=redis.url)
        app = _app(settings)
        worker = Worker(app, queues=["default", "slow"], name="worker-1.eu")
        working = asyncio.create_task(worker.run())
        async with (
            AsyncClient(settings=settings) as client,
            served(web_app(app)) as address,
            async_playwright() as playwright,
        ):
            ids = await _runs(client)
            browser = await playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"]
            )
            pages = {
                "runs": "/", "run": f"/runs/{ids['done']}", "waits": f"/runs/{ids['waits']}",
                "failed": f"/runs/{ids['failed']}",
                "inbox": "/inbox", "sessions": "/sessions", "session": "/sessions/ines-2026-11", "workers": "/workers",
                "new": "/new", "missing": "/runs/01JD3ZK8W5Q0X9V7T2M4N6P8RA", "none": "/?q=nothing-like-this",
            }  # fmt: skip
            if is_all:
                for look in ("light", "dark"):
                    for size, (width, height) in SIZES.items():
                        view = await browser.new_page(viewport={"width": width, "height": height}, color_scheme=look)
                        view.on("console", lambda message: print("console:", message.text))
                        for name, path in pages.items():
                            await view.goto(address + path)
                            await view.screenshot(path=folder / f"{name}-{size}-{look}.png", full_page=True)
                        live = await client.enqueue("support-live", "My lamp (order A-1047) arrived broken.")
                        await view.goto(f"{address}/runs/{live.id}")
                        await view.get_by_text("two to three").wait_for()
                        await view.screenshot(path=folder / f"live-{size}-{look}.png", full_page=True)
                        await view.close()
            else:
                view = await browser.new_page(viewport={"width": 1180, "height": 800}, color_scheme="light")
                for name in ("runs", "run"):
                    await view.goto(address + pages[name])
                    await view.screenshot(path=folder / f"{name}.png")
                    _shrink(folder / f"{name}.png")
            await browser.close()
        worker.stop()
        await working


def main() -> None:
    """Parse the command line and make them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", dest="is_all")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(_shoot(given.folder, is_all=given.is_all))


if __name__ == "__main__":
    main()
