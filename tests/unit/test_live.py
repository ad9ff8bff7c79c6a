"""`make live`, with scripted models in place of real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentq.errors import ProviderError
from agentq.messages import Usage
from agentq.providers._vendors import VENDORS
from agentq.testing import ScriptedModel, call
from scripts import live
from scripts.live import MODELS, Asking, Told, chosen, line

if TYPE_CHECKING:
    from agentq.providers.base import ModelRequest

GOOD: dict[str, list[Any]] = {
    "pong": ["Pong."],
    "7 + 9": [[call("add", a=7, b=9), call("multiply", a=3, b=4)], call("multiply", a=16, b=12), "It is 192."],
    "nerve agent": ["I can't help with that."],
    "Eiffel": ['{"city": "Paris", "country": "France"}'],
}


class Pupil(ScriptedModel):
    """Answers by what it is asked."""

    def __init__(self, answers: dict[str, list[Any]]) -> None:
        super().__init__([])
        self._answers = answers

    async def stream(self, request: ModelRequest) -> Any:
        prompt = request.messages[0].text
        replies = next(replies for word, replies in self._answers.items() if word in prompt)
        async for chunk in ScriptedModel(replies).stream(request):
            yield chunk


async def asked(answers: dict[str, list[Any]]) -> dict[str, str | None]:
    told = await Asking("pupil:x", {"pupil": Pupil(answers)}).ask()
    return {each.what: each.problem for each in told}


async def test_a_model_that_does_everything_well():
    assert await asked(GOOD) == dict.fromkeys(["text", "tools", "refusal", "structured"])


@pytest.mark.parametrize(
    ("word", "replies", "what", "problem"),
    [
        ("pong", ["Ping."], "text", "it said 'Ping.'"),
        ("pong", [ProviderError("no such model", retryable=False)], "text", "no such model"),
        ("7 + 9", ["192, I think."], "tools", "it called []"),
        ("nerve agent", ["First, take " + "x" * 5000], "refusal", "seems to have answered"),
        ("Eiffel", ['{"city": "Rome", "country": "Italy"}'], "structured", "it said city='Rome'"),
    ],
)
async def test_what_goes_wrong_is_told(word: str, replies: list[Any], what: str, problem: str):
    problems = await asked(GOOD | {word: replies})
    assert problem in str(problems.pop(what))
    assert set(problems.values()) == {None}


def test_models_are_those_that_there_is_a_key_for():
    models, left_out = chosen({"ANTHROPIC_API_KEY": "k", "DEEPSEEK_API_KEY": "k"})
    assert models == ["anthropic:claude-haiku-5-5", f"deepseek:{VENDORS['deepseek'].example}"]
    assert "openai (OPENAI_API_KEY)" in left_out
    assert len(left_out) == len(MODELS) - 2
    assert chosen({"AGENTQ_LIVE": "ollama:llama3.2, mock"}) == (["ollama:llama3.2", "mock"], [])


def test_the_line_of_a_model():
    told = [
        Told("text", 0.5, Usage(input_tokens=10, output_tokens=2, cost_nanousd=1_500_000)),
        Told("tools", 1.25, Usage(input_tokens=30, output_tokens=9), problem="it called []", remark="0 calls"),
    ]
    assert line("m:x", told) == "m:x: text ok 0.5 s · tools FAILED 1.2 s (0 calls) · 40 + 11 tokens, $0.0015"


async def test_without_a_key_it_says_what_it_skipped(capsys: pytest.CaptureFixture[str]):
    assert await live.main({}) == 0
    out = capsys.readouterr().out
    assert "skipped, no key: openai (OPENAI_API_KEY), anthropic (ANTHROPIC_API_KEY), google (GEMINI_API_KEY)" in out
    assert "nothing was asked" in out
