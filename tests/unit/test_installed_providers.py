"""Distributions bring providers of their own, by entry points that are looked up when a name is not known."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from agentq import Agent, AgentQ
from agentq.errors import InvalidInput, UnknownProvider
from agentq.providers import registry
from agentq.providers.mock import MockProvider
from agentq.providers.registry import resolve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CODE = """
from agentq.providers.base import ReplyEnd, StopReason, TextChunk

class Provider:
    name = "acme"

    async def stream(self, request):
        yield TextChunk(f"{request.model} says hello")
        yield ReplyEnd(StopReason.END)

made = Provider()

def make():
    return Provider()

def needs(argument):
    return Provider()

def breaks():
    raise ValueError("no licence")

nothing = object()
"""


@pytest.fixture(autouse=True)
def _fresh_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_providers", {})
    monkeypatch.setattr(registry, "_registered", set())


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a distribution where Python finds it, as an installer does."""
    (tmp_path / "acme_models.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "acme_models", raising=False)

    def install(value: str, *, name: str = "acme", distribution: str = "acme-models") -> None:
        info = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[agentq.providers]\n{name} = {value}\n")

    return install


@pytest.mark.parametrize("value", ["acme_models:Provider", "acme_models:make", "acme_models:made"])
async def test_a_provider_of_another_distribution_is_found_by_its_name(install: Callable[..., None], value: str):
    """A class, a function that makes it, or the object. One instance per process."""
    install(value)
    assert (await AgentQ([Agent("a", model="acme:anvil")]).run("a", "hi")).output == "anvil says hello"
    assert resolve("acme:x")[0] is resolve("acme:y")[0]


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ("acme_models:breaks", UnknownProvider, "of acme-models cannot be loaded .*: ValueError: no licence"),
        ("acme_models:missing", UnknownProvider, "of acme-models cannot be loaded .*: AttributeError"),
        ("nowhere_at_all:x", UnknownProvider, "of acme-models cannot be loaded .*: ModuleNotFoundError"),
        ("acme_models:needs", UnknownProvider, "of acme-models cannot be loaded .*: TypeError"),
        ("acme_models:nothing", UnknownProvider, "of acme-models cannot be loaded .*: TypeError"),
        ("builtins:dict", InvalidInput, "of acme-models .* has no `stream` method"),
    ],
)
def test_a_broken_one_is_told_with_the_name_of_its_distribution(
    install: Callable[..., None], value: str, kind: type[InvalidInput], words: str
):
    install(value)
    with pytest.raises(kind, match=words) as caught:
        resolve("acme:anvil")
    assert caught.value.field == "model"


def test_two_distributions_with_one_name_are_told_apart_by_nobody(install: Callable[..., None]):
    install("acme_models:Provider")
    install("acme_models:make", distribution="acme-other")
    with pytest.raises(InvalidInput, match="'acme': acme-models and acme-other; remove one"):
        resolve("acme:anvil")


def test_a_built_in_name_stays_what_it_is(install: Callable[..., None]):
    install("acme_models:Provider", name="mock")
    assert isinstance(resolve("mock")[0], MockProvider)


def test_an_unknown_name_is_told_those_that_are_installed(install: Callable[..., None]):
    install("acme_models:Provider")
    with pytest.raises(UnknownProvider, match="no model provider is called 'acne'; it has: acme, "):
        resolve("acne:anvil")


def test_nothing_is_looked_up_for_a_name_that_is_built_in(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "entry_points", None)
    assert isinstance(resolve("mock")[0], MockProvider)
    assert resolve("ollama:llama3.2")[1] == "llama3.2"
