"""The deployment that the chaos tests kill: tools with every effect, and a ledger of what really happened.

A line of the ledger is one `write` to a file that was opened for appending, so lines of many processes do not mix.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from agentq import Agent, AgentQ, Reconciled, ToolContext, ToolError, tool

_LEDGER = os.environ.get("CHAOS_LEDGER", os.devnull)
# What a move writes is looked at when the runs have ended.
MOVED = "chaos:moved:"
_MOVE = "redis.call('INCR', KEYS[1]) redis.call('EXPIRE', KEYS[1], 86400) return ARGV[1]"


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


def use(ctx: ToolContext) -> bool:
    """Use the right to carry out this attempt of a call, as a bank does with a key; False when it was used before."""
    folder = Path(f"{_LEDGER}.keys")
    folder.mkdir(exist_ok=True)
    try:
        (folder / f"{ctx.call_id}.{ctx.attempt}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def find(ctx: ToolContext, arguments: dict[str, Any]) -> str | Reconciled:
    """What became of a payment whose worker died. That worker may be frozen at the door and still come.

    So the attempt is made impossible first, and only then it did not happen.
    """
    if use(ctx):
        return Reconciled.DID_NOT_HAPPEN
    entries = {line.split()[0] for line in Path(_LEDGER).read_text().splitlines() if f" {ctx.call_id} " in line}
    # One that has begun may still be under way.
    return f"{arguments['name']} was paid" if "pay-end" in entries else Reconciled.UNKNOWN


@tool(effect="once", reconcile=find)
def pay(name: str, seconds: float, ctx: ToolContext) -> str:
    """Do something that must not happen twice and can be looked up. Runs in a thread."""
    if not use(ctx):
        raise ToolError("this attempt was called off")
    record("pay-start", ctx)
    ctx.cancel_event.wait(seconds)
    record("pay-end", ctx)
    return f"{name} was paid"


@tool(effect="idempotent")
async def move(name: str, ctx: ToolContext) -> str:
    """Write to Redis exactly once."""
    return str(await ctx.commit_with(_MOVE, [f"{MOVED}{ctx.call_id}"], [f"{name} was moved"]))


@tool(effect="none")
async def refuse(name: str) -> str:
    """Fail."""
    raise ToolError(f"{name} is not to be had")


@tool(effect="idempotent")
async def tally(name: str, ctx: ToolContext) -> str:
    """Count in what the run keeps. The name is the number that it has to come to."""
    ctx.state["n"] = ctx.state.get("n", 0) + 1
    return f"{ctx.state['n']} was counted"


@tool(effect="once", approval=True)
async def grant(name: str, ctx: ToolContext) -> str:
    """Do something that somebody has to allow."""
    record("grant-start", ctx)
    await asyncio.sleep(0.01)
    record("grant-end", ctx)
    return f"{name} was granted"


@tool(effect="once", approval=True, approval_ttl=0.6)
async def permit(name: str, ctx: ToolContext) -> str:
    """Do something that somebody has to allow soon."""
    record("permit-start", ctx)
    record("permit-end", ctx)
    return f"{name} was permitted"


@tool(effect="none")
async def count(name: str, ctx: ToolContext) -> str:
    """Ask how many."""
    record("count-start", ctx)
    return f"{name} counts {await ctx.ask(f'How many {name}?', {'type': 'integer'})}"


@tool(effect="idempotent")
async def ship(name: str, ctx: ToolContext) -> str:
    """Open, wait for a signal, sleep, and close."""
    opened = await ctx.step("open", lambda: _noted("ship-open", ctx))
    came = await ctx.wait_for(f"packed {name}")
    await ctx.sleep(0.1)
    closed = await ctx.step("close", lambda: _noted("ship-close", ctx))
    return f"{name} was shipped: {opened}, {came}, {closed}"


def _noted(what: str, ctx: ToolContext) -> str:
    record(what, ctx)
    return what


tools = [look_up, send, charge, pay, move, refuse, tally, grant, permit, count, ship]
helper = Agent("helper", tools=tools, max_iterations=50, retry_backoff_s=0.05)
app = AgentQ(
    agents=[
        Agent("shop", tools=[*tools, helper.as_tool("ask")], max_iterations=50, retry_backoff_s=0.05),
        helper,
    ]
)
