"""The tools of the calculator agent. Any typed function can be a tool: the model sees its docstring and its types."""

import asyncio
import math
import random
from typing import Annotated

from pydantic import Field

from agentq import ToolContext, ToolError, tool


@tool(effect="none")
async def add_numbers(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


@tool(effect="none")
async def multiply_numbers(a: float, b: float) -> float:
    """Multiply two numbers."""
    return a * b


@tool(effect="none")
async def square_root(x: float) -> float:
    """Take the square root of a number that is not negative."""
    if x < 0:
        raise ToolError(f"{x:g} is negative and has no real square root")
    return math.sqrt(x)


@tool(effect="none")
async def roll_dice(
    sides: Annotated[int, Field(ge=2, le=1000)] = 6, count: Annotated[int, Field(ge=1, le=100)] = 1
) -> list[int]:
    """Roll dice and return what each of them shows.

    Args:
        sides: How many sides each die has.
        count: How many dice to roll.
    """
    return [random.randint(1, sides) for _ in range(count)]


@tool(effect="none")
def count_words(text: str) -> int:
    """Count the words of a text, which are separated by white space."""
    return len(text.split())


@tool(effect="none", timeout=900)
async def slow_count(ctx: ToolContext, seconds: Annotated[float, Field(gt=0, le=600)] = 5.0) -> str:
    """Count slowly, one step about every second, and report each step.

    Args:
        seconds: How long to count.
    """
    steps = math.ceil(seconds)
    for step in range(1, steps + 1):
        await asyncio.sleep(seconds / steps)
        await ctx.progress(f"{step} of {steps}", step / steps)
    return f"Counted to {steps} in {seconds:g} seconds."
