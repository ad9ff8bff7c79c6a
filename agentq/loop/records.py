"""Whether a transcript holds records of what was left out of it: they are long and only grow, so it is remembered."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq.messages import Message

_RUNS_SEEN = 10_000


class Records:
    """Run → how many of its messages were looked through, and whether a record was among them."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[int, bool]] = OrderedDict()

    def are_in(self, run_id: str, messages: Sequence[Message]) -> bool:
        """Whether there is one in `messages`, which are those of an earlier call and more."""
        seen, found = self._seen.get(run_id, (0, False))
        if seen == len(messages):
            return found
        self._seen.pop(run_id, None)
        if seen > len(messages):
            seen, found = 0, False
        for message in messages[seen:]:
            found = found or message.compacted is not None
        self._seen[run_id] = (len(messages), found)
        if len(self._seen) > _RUNS_SEEN:
            self._seen.popitem(last=False)
        return found
