"""A writer that asks two researchers at once: `python -m examples.agents_as_tools`. Needs no model, key or Redis."""

from __future__ import annotations

import asyncio
import json

from agentq import Agent, AgentQ, tool

ARCHIVE = {"tea": "Tea has been traded since 59 BC.", "soap": "Soap was made in Babylon."}


@tool(effect="none")
async def look_up(topic: str) -> str:
    """Look a topic up in the archive."""
    return ARCHIVE.get(topic, "nothing")


researcher = Agent("researcher", instructions="Find out, and say where.", model="mock", tools=[look_up])
writer = Agent(
    "writer",
    instructions="Write a short piece. Have the researcher check each fact.",
    model="mock",
    tools=[researcher.as_tool("research", description="Have a fact checked; say all that is needed.")],
)
app = AgentQ(agents=[writer])


async def main() -> None:
    """Each call is a run of its own; the results stand in the order of the calls."""
    prompts = [f"call look_up {json.dumps({'topic': topic})}" for topic in ARCHIVE]
    tasks = [f"call research {json.dumps({'prompt': prompt})}" for prompt in prompts]
    result = await app.run("writer", f"{' & '.join(tasks)}\nsay $1 $2")
    print(result.output)


if __name__ == "__main__":
    asyncio.run(main())
