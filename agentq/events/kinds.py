"""The kinds of events by name, for whoever asks for some of them only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from agentq.errors import InvalidInput
from agentq.events.model import Event

# Every kind of event, by the name in its `type`.
KINDS = tuple(kind.model_fields["type"].default for kind in get_args(get_args(Event)[0]))
# What must not be missed by whoever asked for these: which deltas to forget.
_DELTA_KINDS = frozenset({"text.delta", "reasoning.delta"})


def checked_kinds(kinds: Iterable[str]) -> frozenset[str]:
    """The kinds that whoever asks for `kinds` gets; of none named, all. Raises `InvalidInput`.

    `gap` comes with every kind, for it says that some are missing, and `attempt.reset` with the deltas that it undoes.
    """
    if isinstance(kinds, str):
        raise InvalidInput(f"kinds must be a list of names: [{kinds!r}]", field="kinds")
    given = tuple(kinds) if isinstance(kinds, Iterable) else (kinds,)
    if odd := [kind for kind in given if not isinstance(kind, str)]:
        raise InvalidInput(f"kinds must be a list of names; {odd[0]!r:.80} is none", field="kinds")
    asked = frozenset(given)
    if unknown := sorted(asked.difference(KINDS)):
        raise InvalidInput(f"kinds has {unknown[0]!r}; events are: {', '.join(KINDS)}", field="kinds")
    if not asked:
        return frozenset(KINDS)
    return asked | {"gap"} | ({"attempt.reset"} if asked & _DELTA_KINDS else set())
