"""Puts the parts of `agentq dev` together, says where everything is, and takes it all down in order."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from agentq.cli import _logs
from agentq.cli._errors import ExitCode
from agentq.cli._output import OutputClosed, count, remark, stdout
from agentq.cli.dev.crew import Crew
from agentq.cli.dev.everything import Everything
from agentq.cli.dev.files import Files
from agentq.cli.dev.place import Place, place
from agentq.cli.dev.web import web_here
from agentq.client_async import AsyncClient
from agentq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.cli._group import Options
    from agentq.cli._watch import Look

_TEND_S = 0.1
_FILES_S = 0.3
_ANSWER_S = 2.0
# Where nothing limits a line.
_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Plan:
    """How many workers, with which arguments, and whether they follow the code."""

    workers: int
    arguments: tuple[str, ...]
    reloads: bool
    queues: tuple[str, ...] = ()


async def develop(options: Options, plan: Plan, look: Look) -> ExitCode:
    """Run until a signal or a broken app ends it."""
    _logs.remarks(as_json=look.json, debug=options.debug)
    signals = _Signals()
    project = Path.cwd()
    with ExitStack() as stack:
        here = stack.enter_context(place(project, options.named_redis))
        if here.warning:
            remark("redis", here.warning, as_json=look.json)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="agentq-dev-")))
        crew = Crew(plan.workers, folder, _environ(options, here), plan.arguments, _teller(look))
        signals.listen(stack)
        try:
            async with (
                AsyncClient(settings=options.settings(redis_url=here.url)) as client,
                web_here(client) as web,
            ):
                return await _Stage(options, plan, look, here, crew, client, signals, web).run(project)
        finally:
            await _stop(crew, signals, look)


class _Stage:
    """What goes on between the start and the end."""

    def __init__(
        self,
        options: Options,
        plan: Plan,
        look: Look,
        here: Place,
        crew: Crew,
        client: AsyncClient,
        signals: _Signals,
        web: str,
    ) -> None:
        self._options = options
        self._plan = plan
        self._look = look
        self._here = here
        self._crew = crew
        self._client = client
        self._signals = signals
        self._web = web
        # What was published before the workers that are awaited; None when they are ready.
        self._before: Mapping[str, Any] | None = None
        self._following: asyncio.Task[None] | None = None

    async def run(self, project: Path) -> ExitCode:
        files = Files(project) if self._plan.reloads else None
        everything = Everything(self._client, stdout(), self._look)
        await everything.look_back()
        self._before = await self._published()
        await asyncio.to_thread(self._crew.start)
        try:
            while not self._signals.received:
                was_broken = self._crew.broken
                await asyncio.to_thread(self._crew.tend)
                if self._crew.broken and files is None:
                    return ExitCode.USAGE
                if self._crew.broken and not was_broken:
                    self._say("broken", "no worker can start like this; waiting for the code to change")
                if files is not None:
                    await self._follow_code(files)
                await self._look_for_agents(everything)
                await asyncio.wait({self._signals.waiting()}, timeout=_TEND_S)
        finally:
            if self._following is not None:
                self._following.cancel()
                await asyncio.gather(self._following, return_exceptions=True)
        return ExitCode.INTERRUPTED if signal.SIGINT in self._signals.received else ExitCode.OK

    async def _look_for_agents(self, everything: Everything) -> None:
        """Say when the workers are ready, and from the first time on show what happens."""
        if self._following is not None and self._following.done():
            self._following.result()
        if self._before is None or not (agents := await self._published_since(self._before)):
            return
        self._before = None
        if self._following is not None:
            self._say("ready", "ready again")
            return
        self._greet(agents)
        self._following = asyncio.create_task(everything.follow())

    async def _follow_code(self, files: Files) -> None:
        changed = await asyncio.to_thread(files.changed)
        if not changed:
            return
        # An editor, or a checkout, writes many files in a moment.
        while more := await self._changed_soon(files):
            changed = sorted({*changed, *more})
        names = ", ".join(str(path) for path in changed[:3]) + (" and more" if len(changed) > 3 else "")
        self._say("reload", f"{names} changed: starting again")
        self._before = await self._published()
        await asyncio.to_thread(self._crew.renew)

    def _say(self, kind: str, words: str) -> None:
        remark(kind, words, as_json=self._look.json, style="dim")

    async def _changed_soon(self, files: Files) -> list[Path]:
        await asyncio.sleep(_FILES_S)
        return await asyncio.to_thread(files.changed, at_once=True)

    async def _published(self) -> Mapping[str, Any]:
        """The agents that workers have published; none where Redis is away, for it must not hold the workers up."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._client.agents()
        except (StoreUnavailable, TimeoutError):
            return {}

    async def _published_since(self, before: Mapping[str, Any]) -> Mapping[str, Any]:
        """Those that were published again since `before`. By no clock: Redis has one of its own."""
        return {name: each for name, each in (await self._published()).items() if each != before.get(name)}

    def _greet(self, agents: Mapping[str, Any]) -> None:
        """Where everything is, and what to try next."""
        if self._look.json:
            remark("ready", f"REDIS_URL={self._here.shown_url}", as_json=True)
            remark("web", self._web, as_json=True)
            return
        out = stdout()
        workers = count(self._plan.workers, "worker")
        out.line(f"{out.style('agentq dev', 'bold')}: {workers}{', with --reload' if self._plan.reloads else ''}\n")
        facts = [("redis", self._here.about), ("web", self._web)]
        for name, manifest in sorted(agents.items()):
            known = [each["name"] for each in manifest["tools"]]
            # Tools of MCP servers, and those that a function of the run names, are known only in a run.
            more = [*manifest.get("toolsets", ()), "…"] if manifest.get("tools_vary") else []
            tools = ", ".join([*known, *more]) or "no tools"
            facts.append(("agent", f"{name} on {manifest['model']}: {tools}"))
        if any(manifest["model"] == "mock" for manifest in agents.values()):
            facts.append(("", out.style("mock needs no key: it echoes, or plays a script (docs/mock.md)", "dim")))
        for label, text in facts:
            for line in wrap(text, (out.width or _WIDTH) - 9):
                out.line(f"  {out.style(f'{label:<6}', 'dim')} {line}")
                label = ""  # noqa: PLW2901 - further lines have none
        first = min(agents)
        own = agents[first].get("queue") or self._options.settings().queue
        served = self._plan.queues or (own,)
        queue = "" if own in served else f" -q {served[0]}"
        out.line("\nIn another terminal:\n")
        for step in (
            f"export REDIS_URL={self._here.shown_url}",
            f"agentq enqueue {first}{queue} 'Hello there.'",
            "agentq ls",
        ):
            out.line(f"  {step}")
        out.line(f"\n{out.style('What happens, until Ctrl-C:', 'dim')}\n")


class _Signals:
    """SIGINT and SIGTERM, in the order in which they came."""

    def __init__(self) -> None:
        self.received: list[signal.Signals] = []
        self._came = asyncio.Event()
        self._waiting: asyncio.Task[bool] | None = None

    def listen(self, stack: ExitStack) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._take, number)
            stack.callback(loop.remove_signal_handler, number)

    def waiting(self) -> asyncio.Task[bool]:
        """A task that ends with the next signal."""
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.create_task(self._came.wait())
        return self._waiting

    async def another(self) -> None:
        """Return with the next signal."""
        self._came.clear()
        await self._came.wait()

    def _take(self, number: signal.Signals) -> None:
        self.received.append(number)
        self._came.set()


async def _stop(crew: Crew, signals: _Signals, look: Look) -> None:
    """End the workers: warmly, or at once with another signal."""
    if not crew.is_there:
        return
    if signals.received:
        with suppress(OutputClosed, OSError):  # the terminal may be gone; the workers are to be stopped all the same
            if not look.json and (out := stdout()).is_tty:
                out.line()  # the terminal has written ^C
            remark("stopping", "stopping the workers; again to hurry", as_json=look.json, style="dim")
    hurry = asyncio.create_task(signals.another())
    stopping = asyncio.create_task(asyncio.to_thread(crew.stop))
    await asyncio.wait({hurry, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        await asyncio.to_thread(crew.stop, hurry=True)
    hurry.cancel()
    await asyncio.gather(hurry, stopping, return_exceptions=True)


def _environ(options: Options, here: Place) -> dict[str, str]:
    environ = {**os.environ, "REDIS_URL": here.url}
    if options.app:
        environ["AGENTQ_APP"] = options.app
    return environ


def _teller(look: Look) -> Any:
    def tell(line: str) -> None:
        remark("worker", line, as_json=look.json)

    return tell
