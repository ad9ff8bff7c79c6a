"""Providers of other distributions, by their entry points in the group `agentq.providers`. Looked up when asked for.

An entry point is a class or a function without arguments that makes a provider, or the provider itself.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from agentq.errors import InvalidInput, UnknownProvider

if TYPE_CHECKING:
    from agentq.providers.base import Provider

GROUP = "agentq.providers"


def provider(name: str) -> Provider | None:
    """The provider of that name, None where nobody has one.

    Raises `UnknownProvider` for one that cannot be loaded, and `InvalidInput` where two distributions have the name.
    """
    found = list(metadata.entry_points(group=GROUP, name=name))
    if not found:
        return None
    by = sorted({_distribution(each) for each in found})
    if len({each.value for each in found}) > 1:
        raise InvalidInput(f"two distributions have a provider {name!r}: {' and '.join(by)}; remove one", field="model")
    try:
        loaded = found[0].load()
        made: Provider = loaded if _is_provider(loaded) else loaded()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UnknownProvider(
            f"the provider {name!r} of {by[0]} cannot be loaded ({found[0].value}): {reason}", field="model"
        ) from error
    if not _is_provider(made):
        raise InvalidInput(
            f"the provider {name!r} of {by[0]} ({found[0].value}) has no `stream` method or no `name`", field="model"
        )
    return made


def names() -> tuple[str, ...]:
    """The names that there are."""
    return tuple(metadata.entry_points(group=GROUP).names)


def _distribution(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown distribution"


def _is_provider(value: object) -> bool:
    return not isinstance(value, type) and callable(getattr(value, "stream", None)) and hasattr(value, "name")
