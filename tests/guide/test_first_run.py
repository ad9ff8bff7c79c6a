"""First run: an agent, a prompt, an answer; in this process, then through a queue and a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq import Agent, AgentQ, Client, RunFailed, tool

if TYPE_CHECKING:
    from collections.abc import Callable


@tool(effect="none")
def add_numbers(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


# The mock model does what the prompt says, one line a turn. $1 is the first result.
PROMPT = """\
call add_numbers {"a": 7, "b": 9}
say The answer is $1.
"""


async def test_run_carries_a_prompt_to_its_answer_in_this_process():
    app = AgentQ(agents=[Agent("calculator", model="mock", tools=[add_numbers])])
    result = await app.run("calculator", PROMPT)
    assert result.output == "The answer is 16."


async def test_a_result_has_the_whole_transcript_and_what_was_used():
    app = AgentQ(agents=[Agent("calculator", model="mock", tools=[add_numbers])])
    result = await app.run("calculator", PROMPT)
    assert [message.role for message in result.messages] == ["user", "assistant", "tool", "assistant"]
    (call,) = result.messages[1].tool_calls
    assert (call.name, call.arguments) == ("add_numbers", {"a": 7, "b": 9})
    assert result.usage.output_tokens > 0


async def test_a_run_that_comes_to_no_answer_raises():
    app = AgentQ(agents=[Agent("calculator", model="mock", tools=[add_numbers], max_iterations=1)])
    with pytest.raises(RunFailed, match="max_iterations=1"):
        await app.run("calculator", PROMPT)


async def test_a_model_call_that_fails_is_tried_again():
    app = AgentQ(agents=[Agent("calculator", model="mock", retry_backoff_s=0)])
    result = await app.run("calculator", "fail 503\nsay Better now.")
    assert result.output == "Better now."
    assert result.messages[1].text.startswith("The last model call failed")


def test_a_client_enqueues_and_a_worker_does_the_rest(redis_url: str, work: Callable[[], None]):
    with Client(redis_url) as client:
        run = client.enqueue("calculator", PROMPT)
        assert run.status() == "queued"
        work()
        assert run.result(timeout=10).output == "The answer is 16."


def test_the_command_line_does_the_same(agentq: Callable[..., str], work: Callable[[], None]):
    run_id = agentq("enqueue", "calculator", PROMPT).strip()
    work()
    assert "The answer is 16." in agentq("tail", run_id)
    assert run_id in agentq("ls", "--status", "completed")
