"""Finds the provider of a model that is named `provider:model`."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from agentq.errors import InvalidInput, UnknownProvider
from agentq.providers._vendors import VENDORS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from agentq.providers.base import Provider

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
# Vendors put dots, slashes, colons and @ into the names of models; only white space is never in one.
_MODEL = re.compile(r"\S+")
_HOW_TO_WRITE = "write 'provider:model', such as 'openai:gpt-4o-mini'"

# Where each built-in provider lives. The module is imported when a model of it is first used: an HTTP client costs
# start-up time.
_BUILT_IN = {
    "anthropic": ("agentq.providers.anthropic", "Anthropic"),
    "google": ("agentq.providers.google", "Google"),
    "mock": ("agentq.providers.mock", "MockProvider"),
    "openai": ("agentq.providers.openai", "OpenAI"),
    "openai-chat": ("agentq.providers.openai_chat", "OpenAIChat"),
}
# Where the settings of each are read. No HTTP client there, so that an agent can be built without one.
_SETTINGS = {
    "anthropic": "agentq.providers._anthropic_settings",
    "google": "agentq.providers._google_settings",
    "openai": "agentq.providers._responses_settings",
    "openai-chat": "agentq.providers._chat_settings",
    **dict.fromkeys(VENDORS, "agentq.providers._chat_settings"),
}
# … and those that go by a vendor's name, which is what they are made from.
_VENDORS = ("agentq.providers.openai_chat", "vendor")

_providers: dict[str, Provider] = {}
_registered: set[str] = set()


def parse_model(model: str) -> tuple[str, str]:
    """Split `provider:model` at its first colon. A bare word is a provider without a model name.

    Raises `InvalidInput` for anything else.
    """
    if not isinstance(model, str):
        raise InvalidInput(f"the model must be a string such as 'openai:gpt-4o-mini', not {model!r}", field="model")
    provider, colon, name = model.partition(":")
    if not _NAME.fullmatch(provider) or (colon and not _MODEL.fullmatch(name)):
        raise InvalidInput(f"{model!r} names no model; {_HOW_TO_WRITE}", field="model")
    return provider, name


def resolve(model: str) -> tuple[Provider, str]:
    """The provider of `model` and the name that it knows the model by. One instance per provider and process.

    Raises `InvalidInput`, or `UnknownProvider` when there is no such provider.
    """
    name, model_name = parse_model(model)
    provider = _providers.get(name)
    if provider is None:
        made = _built_in(name) or _installed().provider(name)
        if made is None:
            raise _unknown(name, model)
        # Two threads may both build one; all get the one that was stored first.
        provider = _providers.setdefault(name, made)
    return provider, model_name


def check_settings(model: str, settings: Mapping[str, Any]) -> None:
    """Look at the names and values of the settings of a built-in provider's model; keys are looked for later.

    Raises `InvalidInput` that names the setting.
    """
    name, _ = parse_model(model)
    if name in _SETTINGS and name not in _registered:
        import_module(_SETTINGS[name]).read_settings(name, settings)


def register(name: str, provider: Provider) -> None:
    """Make `name:…` models use `provider`, in this process. The last one registered under a name is used."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot name a provider; use lower-case letters, digits, '-' and '_', a letter first",
            field="name",
        )
    _providers[name] = provider
    _registered.add(name)


def in_use() -> tuple[Provider, ...]:
    """The providers that were resolved or registered in this process so far."""
    return tuple(_providers.values())


def _built_in(name: str) -> Provider | None:
    module, attribute = _BUILT_IN.get(name, _VENDORS if name in VENDORS else ("", ""))
    if not module:
        return None
    make: Callable[..., Provider] = getattr(import_module(module), attribute)
    return make(name) if name in VENDORS else make()


def _installed() -> ModuleType:
    # To read what is installed takes time, which no built-in name needs.
    return import_module("agentq.providers._installed")


def _unknown(name: str, model: str) -> UnknownProvider:
    known = ", ".join(sorted({*_BUILT_IN, *VENDORS, *_installed().names(), *_providers}))
    if ":" in model:
        reason = f"no model provider is called {name!r}"
    else:
        reason = f"{model!r} names no provider; {_HOW_TO_WRITE}"
    return UnknownProvider(f"{reason}; it has: {known}", field="model")
