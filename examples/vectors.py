"""A retriever over vectors: what is closest in meaning, as far as the embedding knows meaning.

    python -m examples.vectors "Can I get my money back?"

`hashed_words` stands in for an embedding model so that this runs without one: it counts words, so it knows no synonyms.
Replace it by a function that calls your model; the rest stays. For more than some ten thousand passages replace the
list by a vector database: `retrieve` is all that agentq wants.
"""

from __future__ import annotations

import asyncio
import math
import re
import sys
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

from agentq import Agent, AgentQ, Passage
from agentq.events.model import ContextRetrieved

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Vector = list[float]
    # Many texts at once, as embedding models take them.
    Embed = Callable[[Sequence[str]], Awaitable[list[Vector]]]

SIZE = 512


async def hashed_words(texts: Sequence[str]) -> list[Vector]:
    """A vector per text: its words, each counted in the place that its hash gives, at length 1."""
    return [_counted(text) for text in texts]


def _counted(text: str) -> Vector:
    vector = [0.0] * SIZE
    for word in re.findall(r"\w+", text.casefold()):
        vector[zlib.crc32(word.encode()) % SIZE] += 1.0
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [value / length for value in vector]


class VectorRetriever:
    """Finds the passages whose vectors point most nearly where the query's does (cosine)."""

    def __init__(self, passages: Sequence[Passage], embed: Embed = hashed_words) -> None:
        self._passages = tuple(passages)
        self._embed = embed
        self._vectors: list[Vector] | None = None

    async def retrieve(self, query: str, k: int) -> list[Passage]:
        if self._vectors is None:
            self._vectors = await self._embed([passage.text for passage in self._passages])
        (asked,) = await self._embed([query])
        scored = [
            (sum(x * y for x, y in zip(asked, vector, strict=True)), passage)
            for vector, passage in zip(self._vectors, self._passages, strict=True)
        ]
        best = sorted(scored, key=lambda pair: -pair[0])[:k]
        return [replace(passage, score=score) for score, passage in best if score > 0]


KNOWN = [
    Passage("You get your money back within 30 days, up to 50 euros.", "refunds"),
    Passage("A parcel takes three days; express takes one.", "shipping"),
    Passage("The shop is closed on Sundays.", "hours"),
]
clerk = Agent("clerk", instructions="Answer from the passages.", retriever=VectorRetriever(KNOWN))
app = AgentQ(agents=[clerk])


def show(event: object) -> None:
    if isinstance(event, ContextRetrieved):
        for passage in event.passages:
            print(f"{passage.score:6.2f}  {passage.source}: {passage.text}")


async def main(question: str) -> None:
    result = await app.run("clerk", question, on_event=show)
    print(result.output)


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "Can I get my money back?"))
