"""Letters at most two a second, and a service that is left in peace: `python -m examples.limits`. Needs no Redis."""

from __future__ import annotations

import asyncio
import logging

from agentq import Agent, AgentQ, CircuitBreaker, tool


@tool(effect="once", rate_limit="2/second")
async def send_letter(to: str) -> str:
    """Send a letter."""
    return f"sent to {to}"


@tool(effect="none", breaker=CircuitBreaker(failures=2, pause_s=60))
async def look_up_address(name: str) -> str:
    """Ask a service that is down."""
    raise ConnectionError("the address service does not answer")


app = AgentQ(agents=[Agent("clerk", model="mock", tools=[send_letter, look_up_address])])


async def main() -> None:
    """The third letter waits for the next second; the third question is not asked."""
    logging.getLogger("agentq").setLevel(logging.ERROR)  # the service is down, as it should be
    letters = " & ".join(f'call send_letter {{"to": "{name}"}}' for name in ("Ann", "Bob", "Cem"))
    result = await app.run("clerk", f"{letters}\nsay $1, $2, $3")
    print(result.output)
    asked = "\n".join(['call look_up_address {"name": "Ann"}'] * 3)
    result = await app.run("clerk", f"{asked}\nsay no luck")
    for message in result.messages:
        for answer in message.tool_results:
            print(answer.content.partition(", and it")[0])


if __name__ == "__main__":
    asyncio.run(main())
