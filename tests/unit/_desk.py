"""An app whose calls wait for people, and runs of it on a real Redis, for the tests of the command line."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner, Result

from agentq import Agent, AgentQ, AsyncClient, Settings, ToolContext, tool
from agentq.cli import cli
from agentq.cli._group import Options
from agentq.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@tool(effect="once", approval=True, approval_ttl=3600, approvers=["finance"])
async def refund(order: str, cents: int) -> str:
    """Give a customer the money back."""
    return f"refunded {cents} for {order}"


@tool(effect="none", approval=True)
async def look_up(word: str) -> str:
    """Look a word up."""
    return f"nothing about {word}"


@tool(effect="once")
async def ship(ctx: ToolContext, order: str) -> str:
    """Ship an order."""
    size = await ctx.ask("Which box?", schema={"enum": ["small", "large"]})
    labels = await ctx.ask("How many labels?", schema={"type": "integer"})
    packed: Any = await ctx.wait_for("packed")
    return f"{order} in a {size} box, {labels} labels, packed by {packed}"


REFUND = 'call refund {"order": "A-17", "cents": 25000}\nsay $1'
SHIP = 'call ship {"order": "C-9"}\nsay $1'


@dataclass
class At(Options):
    url: str = ""

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[AsyncClient]:
        async with AsyncClient(self.url) as client:
            yield client


@dataclass
class Desk:
    """The app at one Redis: enqueues, works, and types command lines."""

    url: str
    app: AgentQ = field(init=False)

    def __post_init__(self) -> None:
        agents = [Agent("clerk", model="mock", tools=[refund, look_up]), Agent("shipper", model="mock", tools=[ship])]
        self.app = AgentQ(agents, settings=Settings(redis_url=self.url))

    def enqueue(self, agent: str, prompt: str, **options: Any) -> str:
        """A run that has been worked on until it rests."""

        async def main() -> str:
            async with AsyncClient(self.url) as client:
                return (await client.enqueue(agent, prompt, **options)).id

        run_id = asyncio.run(main())
        self.work()
        return run_id

    def work(self) -> None:
        """Advance runs until all of them rest or have ended."""
        asyncio.run(Worker(self.app, burst=True).run())

    def say(self, *args: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(cli, args, obj=At(url=self.url), input=stdin)

    def output(self, run_id: str) -> str:
        async def main() -> str:
            async with AsyncClient(self.url) as client:
                return str((await client.result(run_id, timeout=10)).output)

        return asyncio.run(main())
