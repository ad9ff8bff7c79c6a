"""Tools: typed functions that a model may call, what they say of themselves, and what they get to know."""

from __future__ import annotations

import asyncio
import threading
from typing import Annotated

from pydantic import BaseModel, Field

from agentq import Agent, AgentQ, RunResult, Tool, ToolContext, ToolError, tool


async def run(prompt: str, *tools: Tool) -> RunResult:
    """Carry a prompt to its answer by an agent that has these tools."""
    return await AgentQ(agents=[Agent("assistant", model="mock", tools=tools)]).run("assistant", prompt)


async def test_the_model_sees_name_docstring_and_types():
    @tool(effect="none")
    def roll_dice(sides: Annotated[int, Field(ge=2, description="How many sides.")] = 6) -> int:
        """Roll a die."""
        return sides

    assert (roll_dice.name, roll_dice.description) == ("roll_dice", "Roll a die.")
    sides = roll_dice.parameters["properties"]["sides"]
    assert sides == {"type": "integer", "minimum": 2, "default": 6, "description": "How many sides."}
    assert (await run("call roll_dice", roll_dice)).output == "6"


async def test_a_tool_can_still_be_called_as_the_function_that_it_is():
    @tool(effect="none")
    async def double(number: int) -> int:
        """Double a number."""
        return 2 * number

    assert await double(4) == 8


async def test_arguments_may_be_models():
    class Address(BaseModel):
        street: str
        city: str

    @tool(effect="none")
    def label(address: Address) -> str:
        """Print a label."""
        return f"{address.street}, {address.city}"

    result = await run('call label {"address": {"street": "Elm 1", "city": "Oslo"}}', label)
    assert result.output == "Elm 1, Oslo"


async def test_wrong_arguments_go_back_to_the_model_and_are_no_failure():
    @tool(effect="once")
    def pay(cents: int) -> str:
        """Pay."""
        raise AssertionError("not with these arguments")

    result = await run('call pay {"cents": "much"}\nsay Sorry.', pay)
    assert result.output == "Sorry."
    (refused,) = result.messages[2].tool_results
    assert refused.is_error
    assert "cents" in refused.content


async def test_a_tool_that_raises_is_told_to_the_model_which_may_try_another_way():
    @tool(effect="none")
    def divide(a: float, b: float) -> float:
        """Divide a by b."""
        if b == 0:
            raise ToolError("nothing can be divided by zero")
        return a / b

    result = await run('call divide {"a": 1, "b": 0}\ncall divide {"a": 1, "b": 2}\nsay $2', divide)
    assert result.output == "0.5"
    note = next(message for message in result.messages if message.role == "system")
    assert "nothing can be divided by zero" in note.text


async def test_a_tool_says_what_repeating_a_call_does():
    @tool(effect="idempotent")
    def set_price(cents: int) -> None:
        """Set the price."""

    @tool
    def send_mail(to: str) -> None:
        """Send a mail."""

    assert set_price.effect == "idempotent"
    # Forgetting to say must not send a mail twice.
    assert (send_mail.effect, send_mail.declared_effect) == ("once", False)


async def test_every_call_has_a_key_of_its_own_to_hand_on():
    keys = []

    @tool(effect="idempotent")
    def charge(ctx: ToolContext, cents: int) -> str:
        """Charge the card."""
        keys.append(ctx.idempotency_key)
        return "ok"

    assert "ctx" not in charge.parameters["properties"]
    await run('call charge {"cents": 5} & call charge {"cents": 5}', charge)
    assert len(set(keys)) == 2


async def test_calls_that_only_read_run_at_the_same_time():
    meeting = asyncio.Barrier(2)

    @tool(effect="none")
    async def look(name: str) -> str:
        """Look something up."""
        await meeting.wait()  # passes only when both are here
        return name

    result = await run('call look {"name": "a"} & call look {"name": "b"}\nsay $1 $2', look)
    assert result.output == "a b"


async def test_a_function_that_blocks_runs_in_a_thread():
    threads = []

    @tool(effect="none")
    def read_file() -> str:
        """Read a file."""
        threads.append(threading.current_thread())
        return "text"

    await run("call read_file", read_file)
    assert threads[0] is not threading.main_thread()


async def test_a_tool_may_have_a_time_limit():
    @tool(effect="none", timeout=0.05)
    async def wait_for_ever() -> None:
        """Wait."""
        await asyncio.Event().wait()

    result = await run("call wait_for_ever\nsay It took too long.", wait_for_ever)
    assert result.messages[2].tool_results[0].content == "wait_for_ever did not finish within 0.05 s"


async def test_a_tool_may_bring_a_json_schema_of_its_own():
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    weather = Tool("weather", "Tell the weather.", parameters, lambda city: f"rain in {city}", effect="none")
    assert (await run('call weather {"city": "Oslo"}', weather)).output == "rain in Oslo"
