"""Tools in groups, chosen per run and by user: `python -m examples.toolsets`. Needs no model, key or Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentq import Agent, AgentQ, Toolset, tool

if TYPE_CHECKING:
    from agentq.runs import RunState


@tool(effect="none")
def find(thing: str) -> str:
    """Find a thing in the shop."""
    return f"{thing}: 5 euro"


@tool(effect="once", destructive=True)
def refund(order: str) -> str:
    """Give a customer the money back."""
    return f"order {order} is refunded"


customers = Toolset("shop", [find], prefix="shop_")
staff = Toolset("desk", [refund], prefix="desk_")


def tools_of(run: RunState) -> list[Any]:
    """Refunds are for staff; the run says in its metadata for whom it is."""
    return [customers, staff] if run.metadata.get("staff") else [customers]


app = AgentQ(agents=[Agent("clerk", model="mock", tools=tools_of)])


async def main() -> None:
    """Ask for a refund as a customer, as staff, and as staff that chose to have other tools."""
    prompt = 'call desk_refund {"order": "7"}'
    for metadata, tools in (({}, None), ({"staff": True}, None), ({"staff": True}, ["shop"])):
        result = await app.run("clerk", prompt, metadata=metadata, tools=tools)
        print(result.messages[2].tool_results[0].content)


if __name__ == "__main__":
    asyncio.run(main())
