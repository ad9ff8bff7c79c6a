"""Names of models find their provider, and wrong ones a message that helps."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agentq.errors import InvalidInput, UnknownProvider
from agentq.providers import registry
from agentq.providers._vendors import VENDORS
from agentq.providers.mock import MockProvider
from agentq.providers.openai import OpenAI
from agentq.providers.openai_chat import OpenAIChat
from agentq.providers.registry import parse_model, register, resolve
from agentq.testing.models import ScriptedModel
from tests.helpers import ROOT


@pytest.fixture(autouse=True)
def _fresh_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_providers", {})
    monkeypatch.setattr(registry, "_registered", set())


@pytest.mark.parametrize(
    ("model", "parsed"),
    [
        ("mock", ("mock", "")),
        ("mock:anything", ("mock", "anything")),
        ("openai:gpt-4o-mini", ("openai", "gpt-4o-mini")),
        ("openai-chat:llama3:8b", ("openai-chat", "llama3:8b")),
        ("openai-chat:org/model@v1", ("openai-chat", "org/model@v1")),
    ],
)
def test_a_model_is_split_at_the_first_colon(model, parsed):
    assert parse_model(model) == parsed


@pytest.mark.parametrize(
    "model",
    ["", ":", ":gpt", "openai:", "mock:", " mock", "OpenAI:gpt", "open ai:gpt", "openai:gpt 4", "mock:\n", "gpt/4"],
)
def test_malformed_names_are_refused(model):
    """The field is named, and the message shows the right form."""
    with pytest.raises(InvalidInput, match="'provider:model'") as caught:
        resolve(model)
    assert caught.value.field == "model"


def test_a_model_must_be_a_string():
    with pytest.raises(InvalidInput, match="not 7") as caught:
        resolve(7)  # type: ignore[arg-type]
    assert caught.value.field == "model"


def test_mock_is_built_once():
    """One instance per process, whatever the model is called."""
    provider, name = resolve("mock")
    assert isinstance(provider, MockProvider)
    assert name == ""
    assert resolve("mock:anything") == (provider, "anything")


def test_an_unknown_provider_is_told_which_there_are():
    register("local", ScriptedModel([]))
    with pytest.raises(
        UnknownProvider, match=r"no model provider is called 'opnai'; it has: .*local, .*mock, .*openai,"
    ):
        resolve("opnai:gpt-4o-mini")


def test_a_model_without_provider_is_told_how_to_write_it():
    with pytest.raises(UnknownProvider, match="'gpt-4o-mini' names no provider; write 'provider:model'"):
        resolve("gpt-4o-mini")


def test_registered_providers_are_found():
    """A registered provider answers with and without a model name; the last one registered counts."""
    first, second = ScriptedModel([]), ScriptedModel([])
    register("scripted", first)
    assert resolve("scripted:x") == (first, "x")
    register("scripted", second)
    assert resolve("scripted") == (second, "")


@pytest.mark.parametrize(("name", "kind"), [("openai", OpenAI), ("openai-chat", OpenAIChat)])
def test_openai_is_spoken_in_two_ways(name: str, kind: type[OpenAI | OpenAIChat]):
    provider, model = resolve(f"{name}:gpt-4o-mini")
    assert isinstance(provider, kind)
    assert (provider.name, model) == (name, "gpt-4o-mini")


@pytest.mark.parametrize("name", sorted(VENDORS))
def test_vendors_are_spoken_to_by_the_same_adapter_under_their_own_name(name: str):
    provider, model = resolve(f"{name}:{VENDORS[name].example}")
    assert isinstance(provider, OpenAIChat)
    assert (provider.name, model) == (name, VENDORS[name].example)


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_name_that_is_built_in_or_planned_can_be_registered(name: str):
    model = ScriptedModel([])
    register(name, model)
    assert resolve(f"{name}:gpt-4o-mini") == (model, "gpt-4o-mini")


def test_no_http_client_is_imported_before_a_model_needs_it():
    """It costs start-up time, and the command line and the mock do without."""
    code = (
        "import sys; from agentq import Agent, AgentQ; AgentQ([Agent('a')]).check_models();"
        "assert not {'httpx', 'aiohttp', 'openai'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("name", ["", "My", "a:b", "a b", "1a"])
def test_a_provider_needs_a_proper_name(name):
    with pytest.raises(InvalidInput, match="cannot name a provider") as caught:
        register(name, ScriptedModel([]))
    assert caught.value.field == "name"
