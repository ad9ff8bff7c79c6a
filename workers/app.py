"""The deployment: agents, tools and settings as one `app`. `agentq worker` loads it; copy this folder for yours."""

from agentq import Agent, AgentQ, Settings
from workers.tools import add_numbers, count_words, multiply_numbers, roll_dice, slow_count, square_root

settings = Settings.load()

calculator = Agent(
    "calculator",
    instructions="You are a careful calculator. Use the tools for every step, and end with one short sentence.",
    # The mock needs no key: it follows a script in the prompt. AGENTQ_MODEL names a real model.
    model=settings.model or "mock",
    tools=[add_numbers, multiply_numbers, square_root, roll_dice, count_words, slow_count],
)

app = AgentQ(agents=[calculator], settings=settings)
