"""Secrets of tools: given to the function, and taken out of everything that is stored, shown or logged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pydantic_core

from agentq.errors import InvalidInput

# A shorter one would be found in words that are none.
_MIN_CHARS = 4


class Secrets(Mapping[str, str]):
    """The secrets that a tool asked for, by name. Neither `repr` nor `str` shows them."""

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self._known = dict(known or {})
        # The longest first: one may hold another. In a JSON text a secret stands in JSON form.
        forms = {(form, name) for name, value in self._known.items() for form in (value, _within_json(value))}
        self._forms = sorted((each for each in forms if len(each[0]) >= _MIN_CHARS), key=lambda form: -len(form[0]))

    def __getitem__(self, name: str) -> str:
        try:
            return self._known[name]
        except KeyError:
            raise KeyError(f"the tool did not ask for {name!r}: @tool(secrets=[{name!r}])") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"<Secrets {', '.join(self._known)}>"

    def redact(self, text: str) -> str:
        """The text with the names of the secrets in their place."""
        for form, name in self._forms:
            text = text.replace(form, f"[secret {name}]")
        return text


NO_SECRETS = Secrets()


def secret_of(give: Callable[[str], Any], name: str) -> str | None:
    """What `give` gives; None for nothing. Raises `InvalidInput` where it fails, or gives what is no text."""
    try:
        given = give(name)
    except Exception as error:
        raise InvalidInput(
            f"the secret {name} cannot be had: {type(error).__name__}: {error}", field="secrets"
        ) from error
    if given is not None and not isinstance(given, str):
        raise InvalidInput(f"the secret {name} is of type {type(given).__name__}, not a text", field="secrets")
    return given


def _within_json(value: str) -> str:
    return pydantic_core.to_json(value).decode()[1:-1]
