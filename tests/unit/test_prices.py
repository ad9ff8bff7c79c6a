"""What replies cost, where the price of the model is known."""

from __future__ import annotations

import pytest

from agentq import Agent, AgentQ, Settings
from agentq.events.model import ReplyCompleted, RunCompleted
from agentq.messages import Message, Role, StopReason, TextPart, Usage
from agentq.providers import prices
from agentq.providers.prices import priced
from agentq.testing import ScriptedModel

TOKENS = Usage(input_tokens=1_000_000, output_tokens=100_000)


def reply(usage: Usage | None = TOKENS) -> Message:
    return Message(
        role=Role.ASSISTANT, parts=(TextPart(text="Hi"),), model="gpt-4o-mini", stop_reason=StopReason.END, usage=usage
    )


def test_a_known_model_has_a_cost_and_says_by_which_prices():
    usage = priced(reply(), "openai", "gpt-4o-mini").usage
    assert usage is not None
    # 0.15 and 0.60 dollars a million.
    assert usage.cost_usd == pytest.approx(0.21)
    assert usage.prices is not None
    assert usage.prices.startswith("genai-prices ")


def test_tokens_of_the_cache_cost_less():
    cached = priced(reply(TOKENS.model_copy(update={"cached_input_tokens": 900_000})), "openai", "gpt-4o-mini").usage
    whole = priced(reply(), "openai", "gpt-4o-mini").usage
    assert cached is not None
    assert whole is not None
    assert (cached.cost_nanousd or 0) < (whole.cost_nanousd or 0)


@pytest.mark.parametrize(
    ("provider", "model", "usage"),
    [
        ("openai", "no-such-model", TOKENS),
        ("nobody", "gpt-4o-mini", TOKENS),
        ("openai-chat", "gpt-4o-mini", TOKENS),  # any server may call its model so
        ("openai", "gpt-4o-mini", None),
        ("openai", "gpt-4o-mini", Usage()),
    ],
)
def test_what_is_not_known_is_not_guessed(provider: str, model: str, usage: Usage | None):
    message = reply(usage)
    assert priced(message, provider, model) is message


def test_without_the_package_nothing_is_priced(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prices, "_prices", lambda: None)
    message = reply()
    assert priced(message, "openai", "gpt-4o-mini") is message


def test_costs_sum_where_they_are_known():
    one, other = Usage(cost_nanousd=5, prices="p 1"), Usage(input_tokens=1)
    assert (one + other).cost_nanousd == 5
    assert (other + other).cost_nanousd is None
    assert (one + one).cost_nanousd == 10
    assert (one + other).prices == "p 1"


async def test_the_run_and_its_events_tell_the_cost():
    model = ScriptedModel([reply()])
    model.name = "openai"
    app = AgentQ([Agent("a", model="openai:gpt-4o-mini")], settings=Settings(), models={"openai": model})
    events: list[object] = []
    result = await app.run("a", "Hello", on_event=events.append)
    assert result.usage.cost_usd == pytest.approx(0.21)
    told = [event.usage for event in events if isinstance(event, ReplyCompleted | RunCompleted)]
    assert [usage is not None and usage.cost_nanousd for usage in told] == [210_000_000, 210_000_000]
