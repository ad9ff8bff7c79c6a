"""The deployment that the chaos tests kill: tools with every effect, and a ledger of what really happened.

A line of the ledger is one `write` to a file that was opened for appending, so lines of many processes do not mix.
"""

from __future__ import annotations

import asyncio
import os

from agentq import Agent, AgentQ, ToolContext, tool

_LEDGER = os.environ.get("CHAOS_LEDGER", os.devnull)


def record(what: str, ctx: ToolContext) -> None:
    line = f"{what} {ctx.run_id} {ctx.call_id} {ctx.attempt} {os.getpid()}\n".encode()
    ledger = os.open(_LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, line)
    finally:
        os.close(ledger)


@tool(effect="none")
async def look_up(name: str, seconds: float, ctx: ToolContext) -> str:
    """Read something, slowly."""
    await asyncio.sleep(seconds)
    record("read", ctx)
    return f"{name} is there"


@tool(effect="idempotent")
async def send(name: str, seconds: float, ctx: ToolContext) -> str:
    """Do something that may be done again with the same key."""
    record("send-start", ctx)
    await asyncio.sleep(seconds)
    record("send-end", ctx)
    return f"{name} was sent"


@tool(effect="once")
async def charge(name: str, seconds: float, ctx: ToolContext) -> str:
    """Do something that must not happen twice."""
    record("charge-start", ctx)
    await asyncio.sleep(seconds)
    record("charge-end", ctx)
    return f"{name} was charged"


app = AgentQ(agents=[Agent("shop", tools=[look_up, send, charge], max_iterations=50, retry_backoff_s=0.05)])
