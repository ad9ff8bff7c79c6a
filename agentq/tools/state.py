"""What tools keep for later calls: read and assigned like a dict, stored together with the result of the call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Literal

from agentq import _json
from agentq.errors import InvalidInput

Scope = Literal["run", "session", "user"]
# All of them are read when a tool takes the context.
_MAX_NAMES = 1000
_MAX_NAME_CHARS = 200
MAX_VALUE_BYTES = 100_000


class Values(MutableMapping[str, Any]):
    """JSON values by name. What is changed, also within a value, is stored when the tool returns; not when it raises.

    `stored` is what was there before, None where nothing can be kept, for the reason `why_not`. Raises `InvalidInput`
    for a name that is none, and a value that has no JSON form or is larger than 100 kB.
    """

    def __init__(self, stored: Mapping[str, bytes] | None = None, *, why_not: str = "") -> None:
        self._stored = stored
        self._why_not = why_not
        self._held: dict[str, Any] = {}
        self._deleted: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name not in self._held:
            if name in self._deleted:
                raise KeyError(name)
            self._held[name] = _json.loads(self._readable[name])
        return self._held[name]

    def __setitem__(self, name: str, value: Any) -> None:
        readable = self._readable
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME_CHARS or name != _json.storable(name):
            raise InvalidInput(
                f"a name in ctx.state has 1 to {_MAX_NAME_CHARS} characters, not {name!r}", field="state"
            )
        if name not in readable and name not in self._held and len(self) >= _MAX_NAMES:
            raise InvalidInput(f"ctx.state has {_MAX_NAMES} names already; keep lists under one name", field="state")
        _encoded(name, value)
        self._held[name] = value
        self._deleted.discard(name)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._held.pop(name, None)
        self._deleted.add(name)

    def __contains__(self, name: object) -> bool:
        return name in self._held or (name in self._readable and name not in self._deleted)

    def __iter__(self) -> Iterator[str]:
        names = dict.fromkeys(self._readable) | dict.fromkeys(self._held)
        return (name for name in names if name not in self._deleted)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {sorted(self)}>" if self._stored is not None else f"<{type(self).__name__}>"

    @property
    def _readable(self) -> Mapping[str, bytes]:
        if self._stored is None:
            raise InvalidInput(self._why_not, field="state")
        return self._stored

    def changes(self) -> dict[str, bytes | None]:
        """What is other than it was, encoded; None for what was deleted."""
        if not (self._held or self._deleted):
            return {}
        stored = self._stored or {}
        changed: dict[str, bytes | None] = {name: None for name in sorted(self._deleted) if name in stored}
        for name, value in self._held.items():
            encoded = _encoded(name, value)
            if stored.get(name) != encoded:
                changed[name] = encoded
        return changed

    def unread(self) -> Values:
        """The same as it was before anything was changed."""
        return Values(self._stored, why_not=self._why_not)


class State(Values):
    """What a run keeps; `session` is what its session keeps and `user` what is kept for its user, across sessions."""

    def __init__(
        self, stored: Mapping[str, bytes] | None = None, *, session: Values | None = None, user: Values | None = None
    ) -> None:
        super().__init__({} if stored is None else stored)
        self.session = Values({}) if session is None else session
        self.user = Values({}) if user is None else user

    @property
    def scopes(self) -> tuple[tuple[Scope, Values], ...]:
        """All of it, by whose it is."""
        return (("run", self), ("session", self.session), ("user", self.user))

    def unread(self) -> State:
        """The same as it was before anything was changed."""
        return State(self._stored, session=self.session.unread(), user=self.user.unread())


def _encoded(name: str, value: Any) -> bytes:
    try:
        encoded = _json.dumps(_json.checked(value, field="state"))
    except InvalidInput as error:
        raise InvalidInput(f"ctx.state[{name!r}] has no JSON form: {error}", field="state") from error
    if len(encoded) > MAX_VALUE_BYTES:
        raise InvalidInput(
            f"ctx.state[{name!r}] has {len(encoded)} bytes, and at most {MAX_VALUE_BYTES} are kept; keep a reference",
            field="state",
        )
    return encoded
