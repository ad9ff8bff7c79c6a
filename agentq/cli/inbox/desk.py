"""The inbox on a terminal: reads what waits again and again, and finds its way by keys."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from agentq.cli import _words
from agentq.cli._errors import ExitCode, describe
from agentq.cli._inbox import call_order
from agentq.cli.inbox import view
from agentq.cli.inbox.acts import Acts
from agentq.cli.inbox.items import Items
from agentq.cli.inbox.terminal import Terminal
from agentq.errors import AgentQError, StoreUnavailable
from agentq.events.model import ReplyCompleted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.cli._inbox import Wanted
    from agentq.cli.inbox.items import Item
    from agentq.cli.inbox.keys import Key
    from agentq.cli.inbox.line import Line
    from agentq.client import AsyncClient
    from agentq.deciding import Waiting

_EVERY_S = 1.0
# Reading takes no more than such a part of the time, however much waits.
_READING_SHARE = 20
# What happened stands there so long.
_TOLD_MS = 15_000
_TRANSCRIPT_MOST = 2000


class Desk:
    """One person at one inbox. `by` is who decides, `source` from where."""

    def __init__(self, client: AsyncClient, wanted: Wanted, *, by: str, source: str, where: str) -> None:
        self._client = client
        self._wanted = wanted
        self._items = Items()
        self._scene = view.Scene(self._items, where=where)
        self._acts = Acts(client, self, by=by, source=source)
        # None is no key: there is something to draw.
        self._keys: asyncio.Queue[Key | None] = asyncio.Queue()
        self._look = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None
        self._tally: dict[str, int] = {}
        self._told_ms = 0.0
        self._was_away = self._is_ended = False
        self._terminal = Terminal(on_key=self._keys.put_nowait, on_change=self._changed, on_end=self._end)

    async def run(self) -> ExitCode:
        """Work until somebody quits, or a signal comes. Raises `StoreUnavailable` where Redis is away at the start."""
        self._take(await self._wanted.read(self._client))
        self._scene.does = await self._learned()
        self._task = asyncio.current_task()
        with self._terminal:
            reading = asyncio.create_task(self._read(), name="agentq-inbox")
            # A screen that never changes again looks like one on which nothing happens.
            reading.add_done_callback(lambda ended: None if ended.cancelled() else self._end())
            try:
                await self._work()
            except asyncio.CancelledError:
                if not self._is_ended or self._task is None:
                    raise
                self._task.uncancel()
                if reading.done():
                    reading.result()
                return ExitCode.INTERRUPTED
            else:
                return ExitCode.OK
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    @property
    def summary(self) -> str:
        """What was done, and what is left."""
        done = [f"{number} {word}" for word, number in self._tally.items()]
        waits = self._items.open_count
        left = f"{waits} still {'waits' if waits == 1 else 'wait'}" if waits else "nothing waits"
        return f"{', '.join(done)}; {left}" if done else left

    # What is asked of a `Person`.

    @property
    def width(self) -> int:
        return self._terminal.size[0] - len(" y/n") - 1

    async def sure(self, question: str) -> bool:
        self._forget_keys()
        self._scene.ask = f"{question} y/n"
        try:
            while True:
                self._draw()
                key = await self._keys.get()
                if key is not None and not key.is_pasted:
                    return key.text in ("y", "Y")
        finally:
            self._scene.ask = ""

    async def type(self, question: str, line: Line) -> bool:
        self._scene.ask, self._scene.line = question, line
        try:
            while True:
                self._draw()
                key = await self._keys.get()
                if key is None or line.take(key):
                    continue
                if key.name in ("enter", "escape"):
                    return key.name == "enter"
        finally:
            self._scene.ask, self._scene.line = "", None

    async def edit(self, text: str) -> str | None:
        import click

        problem = ""
        with self._terminal.lent():
            try:
                edited = await asyncio.to_thread(click.edit, text, extension=".json")
            except click.ClickException as error:
                edited, problem = None, f"the editor failed (EDITOR names another): {error.format_message()}"
        if edited is None:
            self.tell(problem or "nothing was changed", "red" if problem else "")
        return edited

    def tell(self, text: str, style: str = "") -> None:
        self._scene.status, self._scene.status_style = text, style
        self._told_ms = _now_ms()
        self._draw()

    def ended(self, item: Item, word: str, *, is_done: bool) -> None:
        self._items.end(item, "done" if is_done else "gone", word, _now_ms())
        if is_done:
            self._tally[word] = self._tally.get(word, 0) + 1
        self._scene.pages = None
        self._items.next_open()
        self._look.set()
        self._forget_keys()

    async def _work(self) -> None:
        while True:
            self._draw()
            key = await self._keys.get()
            if key is not None and not await self._pressed(key):
                return

    async def _read(self) -> None:
        """Look for what is new again and again, and say when Redis is away."""
        took_s = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(_EVERY_S, took_s * _READING_SHARE)):
                    await self._look.wait()
            self._look.clear()
            began = time.monotonic()
            try:
                found = await self._wanted.read(self._client)
                self._scene.does = self._scene.does or await self._learned()
                self._take(found)
            except StoreUnavailable:
                self._was_away = True
                self._scene.status, self._scene.status_style = "Redis is away; trying again", "red"
            except AgentQError as error:
                self._scene.status, self._scene.status_style = describe(error)[1], "red"
            took_s = time.monotonic() - began
            self._changed()

    async def _learned(self) -> Mapping[tuple[str, str], str]:
        """What tools do, as workers have published it."""
        agents: Mapping[str, Mapping[str, Any]] = await self._client.agents()
        return {
            (agent, tool["name"]): str(tool.get("description") or "").split("\n")[0]
            for agent, manifest in agents.items()
            for tool in manifest.get("tools", ())
        }

    def _take(self, found: list[Waiting]) -> None:
        had = len(self._items.all)
        self._items.take(found, _now_ms())
        scene, more = self._scene, len(self._items.all) - had
        if self._was_away:
            self._was_away = False
            scene.status, scene.status_style, self._told_ms = "Redis is back", "green", _now_ms()
        elif _now_ms() - self._told_ms > _TOLD_MS:
            scene.status = ""
        scene.news += max(more, 0) if had else 0

    def _changed(self) -> None:
        self._keys.put_nowait(None)

    def _end(self) -> None:
        if self._task is not None and not self._is_ended:
            self._is_ended = True
            self._task.cancel()

    def _draw(self) -> None:
        if self._terminal.is_lent:
            return
        self._scene.now_ms = _now_ms()
        width, height = self._terminal.size
        frame = view.draw(self._scene, self._terminal.out, width, height)
        self._terminal.draw(frame.lines, frame.cursor)

    def _forget_keys(self) -> None:
        """What was typed meanwhile was meant for something else."""
        while not self._keys.empty():
            self._keys.get_nowait()

    async def _pressed(self, key: Key) -> bool:
        """Do what the key says; False for quit."""
        if key.is_pasted:  # a text that is dropped here by accident must decide nothing
            return True
        name, scene = key.name or key.text, self._scene
        scene.news = 0
        if scene.has_help:
            scene.has_help = False
        elif scene.pages is not None:
            await self._paging(name)
        elif name == "q":
            return False
        else:
            await self._listing(name)
        return True

    async def _listing(self, name: str) -> None:
        items = self._items
        match name:
            case "up" | "k" | "page up":
                items.move(-1 if name != "page up" else -10)
            case "down" | "j" | "page down":
                items.move(1 if name != "page down" else 10)
            case "home" | "g":
                items.move(-len(items.all))
            case "end" | "G":
                items.move(len(items.all))
            case "s":
                items.skip()
            case "r":
                items.clear()
                self._look.set()
                self.tell("")
            case "redraw":
                self._terminal.redraw()
            case "?" | "h":
                self._scene.has_help = True
            case "enter" | " ":
                await self._open()
            case _:
                await self._act(name)

    async def _paging(self, name: str) -> None:
        scene = self._scene
        page = max(self._terminal.size[1] - view.MARGIN, 1)
        last = max(len(scene.pages or ()) - page, 0)
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "enter": 1, "page up": -page, "page down": page, " ": page}
        match name:
            case "q" | "escape":
                scene.pages = None
            case "home" | "g":
                scene.top = 0
            case "end" | "G":
                scene.top = last
            case _ if name in steps:
                scene.top = min(max(scene.top + steps[name], 0), last)
            case _:
                await self._act(name)

    async def _act(self, name: str) -> None:
        if (item := self._items.selected) is not None and item.is_open:
            await self._acts.act(name, item)

    async def _said(self, item: Item) -> str:
        """The text of the reply that asks for the call: it is in no transcript before all of its calls have ended."""
        turn = call_order(item.waits.question.call_id)[:1]
        text = ""
        run_id = item.waits.run.run_id
        async with contextlib.aclosing(self._client.events(run_id, live=False, kinds=["reply.completed"])) as events:
            async for event in events:
                if isinstance(event, ReplyCompleted) and (event.turn,) == turn:
                    text = event.text
        return text.strip()

    async def _open(self) -> None:
        """Everything about the selected thing: what it is, and the run's transcript."""
        item = self._items.selected
        if item is None:
            return
        out, (width, _) = self._terminal.out, self._terminal.size
        lines = list(view.describe(self._scene, item, out, width, limit=None))
        try:
            said = await self._said(item)
            messages = await self._client.messages(item.waits.run.run_id)
        except AgentQError as error:
            lines += ["", out.style(describe(error)[1], "red")]
        else:
            if said:
                lines += ["", out.style("the model says", "bold"), *view.paragraphs(said, width)]
            lines += ["", out.style("what was said before", "bold")]
            for line in _words.transcript(messages[-_TRANSCRIPT_MOST:], out, width=None):
                lines += view.folded(line, width)
        self._scene.pages, self._scene.top = lines, 0


def _now_ms() -> float:
    return time.time() * 1000
