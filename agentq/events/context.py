"""Events about what the model reads: passages that were found for it, and what it reads less of."""

from __future__ import annotations

from typing import Literal

from agentq.events._event import Numbered
from agentq.messages import Data


class FoundPassage(Data):
    """A passage that was found: where it comes from, the retriever's score, and the beginning of its text."""

    source: str = ""
    score: float | None = None
    text: str = ""


class ContextRetrieved(Numbered):
    """A retriever was asked before the model. `error` says why nothing came of it; the run goes on without."""

    type: Literal["context.retrieved"] = "context.retrieved"
    query: str
    passages: tuple[FoundPassage, ...] = ()
    duration_ms: int = 0
    error: str = ""


class ContextCompacted(Numbered):
    """The transcript was too long for the model, which reads less of it from here on. Tokens are estimates.

    `strategy` says how: results of tools were cut (`tool_results`), their white space collapsed (`whitespace`), old
    messages summed up (`summary`) or, because that failed, left out (`dropped`).
    """

    type: Literal["context.compacted"] = "context.compacted"
    strategy: str
    messages_before: int
    messages_after: int
    tokens_before: int
    tokens_after: int
