"""What no store may take, whatever the state of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.errors import InvalidInput
from agentq.messages import unanswered_calls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq.messages import Message
    from agentq.stores.base import Commit


def check_answered(messages: Sequence[Message]) -> None:
    """Refuse messages that would leave a call without a result (promise P5). Raises `InvalidInput`."""
    if left := unanswered_calls(messages):
        raise InvalidInput(f"these calls would be stored without a result: {', '.join(left)}", field="messages")


def check_commit(commit: Commit) -> None:
    """Refuse what no commit may do, whatever the run's state. Raises `InvalidInput`."""
    check_answered(commit.messages)
    if commit.status.is_final and commit.ttl_ms < 1:
        raise InvalidInput("a run that ends needs a time to live of at least 1 ms", field="ttl_ms")
