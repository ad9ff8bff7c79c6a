"""A shop that remembers: `python -m examples.tool_state`. Needs no model, key or Redis."""

from __future__ import annotations

import asyncio

from agentq import Agent, AgentQ, ToolContext, tool


@tool(effect="idempotent")
async def add_to_cart(ctx: ToolContext, item: str) -> list[str]:
    """Put an item into the cart of the conversation."""
    cart: list[str] = ctx.state.session.setdefault("cart", [])
    if item not in cart:
        cart.append(item)
    ctx.state.user["last_item"] = item
    return cart


@tool(effect="once", secrets=["PAY_KEY"])
async def pay(ctx: ToolContext) -> str:
    """Pay for what is in the cart, and empty it."""
    cart = ctx.state.session.pop("cart", [])
    return f"paid for {len(cart)} with {ctx.secrets['PAY_KEY']}"  # the key does not get out


@tool(effect="none")
async def greet(ctx: ToolContext) -> str:
    """Greet a customer who comes back."""
    return f"Welcome back! More {ctx.state.user.get('last_item', 'of anything')}?"


app = AgentQ(
    agents=[Agent("clerk", model="mock", tools=[add_to_cart, pay, greet])],
    secrets={"PAY_KEY": "sk-live-1234"},
)


async def main() -> None:
    """Two conversations of the same customer."""
    for session, script in (
        ("monday", 'call add_to_cart {"item": "tea"}'),
        ("monday", 'call add_to_cart {"item": "soap"}'),
        ("monday", "call pay {}"),
        ("friday", "call greet {}"),
    ):
        result = await app.run("clerk", f"{script}\nsay $1", session_id=session, user_id="ann")
        print(result.output)


if __name__ == "__main__":
    asyncio.run(main())
