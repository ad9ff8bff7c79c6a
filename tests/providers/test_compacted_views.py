"""What is left of a long transcript goes over every wire: the task, the summary as the user's, calls with results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentq import Compaction, compact
from agentq.messages import Message, Role, TextPart, ToolCallPart, ToolResultPart, results_message, user_message
from tests.providers import anthropic_parts, test_chat_request, test_google_request, test_responses_request


def long_transcript() -> list[Message]:
    found = [user_message("Look around.")]
    for turn in range(1, 7):
        call_id = f"R.{turn}.0"
        found += [
            Message(role=Role.ASSISTANT, parts=(ToolCallPart(call_id=call_id, name="look", arguments={"at": turn}),)),
            results_message([ToolResultPart(call_id=call_id, name="look", content="x" * 2_000)]),
        ]
    return [*found, Message(role=Role.ASSISTANT, parts=(TextPart(text="Seen."),)), user_message("And now?")]


BODIES: dict[str, Any] = {
    "anthropic": anthropic_parts.body_of,
    "google": test_google_request.body_of,
    "openai": test_responses_request.body_of,
    "openai-chat": test_chat_request.body_of,
}


@pytest.mark.parametrize("limit", [1_600, 2_800], ids=["summary", "shorter results"])
@pytest.mark.parametrize("wire", BODIES)
def test_every_wire_takes_it(wire: str, limit: int):
    """The functions check each body against the vendor's own types."""
    compaction = Compaction(limit, preserve_recent=4, max_tool_result_chars=1_000)
    done = compact(long_transcript(), compaction, summarise=lambda old: f"{len(old)} messages of looking.")
    assert done.strategy == ("summary" if limit < 2_000 else "tool_results")
    sent = json.dumps(BODIES[wire](*done.messages))
    assert ("of looking" in sent) == (done.strategy == "summary")
    assert "compacted" not in sent
    assert "And now?" in sent
