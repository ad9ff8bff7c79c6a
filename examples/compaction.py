"""An agent that reads more pages than its model can hold; no network, no key.

    python -m examples.compaction

Two scripted models play the one that reads and the one that sums up. With real ones, name them as `provider:model`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentq import Agent, AgentQ, Compaction, estimate_tokens, tool
from agentq.events.model import ContextCompacted
from agentq.testing import ScriptedModel, call

if TYPE_CHECKING:
    from agentq.providers.base import ModelRequest

PAGES = 12


@tool(effect="none")
def read_page(number: int) -> str:
    """Read a page of the log book."""
    return f"Day {number}: " + "wind from the west, all well on board. " * 30


def sum_up(request: ModelRequest) -> str:
    pages = request.messages[0].text.count("read_page gives")
    return f"Read {pages} more pages of the log book. The wind was from the west."


reader = ScriptedModel([*(call("read_page", number=number) for number in range(1, PAGES + 1)), "A quiet voyage."])
clerk = ScriptedModel([sum_up])
app = AgentQ(
    agents=[
        Agent(
            "reader",
            model="reader",
            tools=[read_page],
            compaction=Compaction(max_tokens=2_500, preserve_recent=4, model="clerk"),
        )
    ],
    models={"reader": reader, "clerk": clerk},
)


def show(event: object) -> None:
    if isinstance(event, ContextCompacted):
        print(f"{event.strategy}: about {event.tokens_before} tokens → {event.tokens_after}")


async def main() -> None:
    result = await app.run("reader", "Read the log book and tell me of the voyage.", on_event=show)
    print(result.output)
    print(f"largest request: {max(estimate_tokens(request.messages) for request in reader.requests)} tokens")
    print(f"stored: {estimate_tokens(result.messages)} tokens, every page of it")


if __name__ == "__main__":
    asyncio.run(main())
