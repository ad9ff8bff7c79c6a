"""An agent that reads the pages of this repository's guide before it answers; no network, no key.

    python -m examples.retrieval "How long is a run kept that has failed?"

The model is `mock`, which echoes: give the agent another one to have an answer made of what was found.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from agentq import Agent, AgentQ, FileRetriever, Retrieval
from agentq.events.model import ContextRetrieved

GUIDE = Path(__file__).parent.parent / "docs" / "guide"

librarian = Agent(
    "librarian",
    instructions="Answer from the passages that were found, and name the source of what you say.",
    retriever=Retrieval(FileRetriever(GUIDE), k=3),
)
app = AgentQ(agents=[librarian])


def show(event: object) -> None:
    if isinstance(event, ContextRetrieved):
        for passage in event.passages:
            print(f"{passage.score:6.2f}  {passage.source}")


async def main(question: str) -> None:
    result = await app.run("librarian", question, on_event=show)
    print(result.output)


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "How long is a run kept that has failed?"))
