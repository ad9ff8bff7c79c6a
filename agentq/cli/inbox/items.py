"""What stands on the screen of the inbox: things that wait, in an order that does not change under somebody's hands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from agentq.cli import _inbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq.deciding import Waiting

# What was missing once may be on its way from one call of its run to the next.
_MISSED = 2
# What is done stands there so long, for whoever looks up what they did.
_KEPT_MS = 60_000


@dataclass
class Item:
    """One thing, and what became of it."""

    waits: Waiting
    state: Literal["open", "skipped", "done", "gone"] = "open"
    note: str = ""
    since_ms: float = 0.0
    missed: int = 0

    @property
    def is_open(self) -> bool:
        return self.state in ("open", "skipped")

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from all others: a call may ask several things, one after the other."""
        return self.waits.question.call_id, self.waits.question.number


@dataclass
class Items:
    """The things in their order, and the one that is selected. New ones come last, and nothing moves by itself."""

    all: list[Item] = field(default_factory=list)
    _selected: tuple[str, int] | None = None

    @property
    def at(self) -> int:
        """The number of the selected one; 0 also where there is none."""
        return next((number for number, item in enumerate(self.all) if item.key == self._selected), 0)

    @property
    def selected(self) -> Item | None:
        return self.all[self.at] if self.all else None

    @property
    def open_count(self) -> int:
        return sum(item.is_open for item in self.all)

    def take(self, found: Sequence[Waiting], now_ms: float) -> None:
        """What waits now, the longest first."""
        known = {item.key: item for item in self.all}
        seen = set()
        for waits in found:
            item = Item(waits)
            seen.add(item.key)
            before = known.get(item.key)
            if before is None:
                self.all.append(item)
            elif before.state != "done":  # what was decided does not wait again: it was read before that
                before.waits, before.missed = waits, 0
                before.state = "open" if before.state == "gone" else before.state
        for item in self.all:
            if item.is_open and item.key not in seen:
                item.missed += 1
                if item.missed >= _MISSED:
                    self.end(item, "gone", "does not wait any more", now_ms)
        self._forget(now_ms)
        self._keep_selection()

    def move(self, by: int) -> None:
        """Select the one that is so many further on."""
        if self.all:
            self._selected = self.all[min(max(self.at + by, 0), len(self.all) - 1)].key

    def next_open(self) -> None:
        """Select the next one that waits: first those that were not skipped, from here on and around."""
        around = [*self.all[self.at + 1 :], *self.all[: self.at + 1]]
        for state in ("open", "skipped"):
            for item in around:
                if item.state == state:
                    self._selected = item.key
                    return

    def skip(self) -> None:
        if (item := self.selected) is not None and item.is_open:
            item.state = "skipped"
        self.next_open()

    def end(self, item: Item, state: Literal["done", "gone"], note: str, now_ms: float) -> None:
        item.state, item.note, item.since_ms = state, note, now_ms

    def clear(self) -> None:
        """Forget what is done, and what was skipped counts again."""
        keep = self.selected
        if keep is not None and not keep.is_open:
            self.next_open()
        self.all = [item for item in self.all if item.is_open]
        for item in self.all:
            item.state = "open"
        self._keep_selection()

    def _forget(self, now_ms: float) -> None:
        self.all = [
            item for item in self.all if item.is_open or item.key == self._selected or now_ms - item.since_ms < _KEPT_MS
        ]

    def _keep_selection(self) -> None:
        if self.all and self._selected not in {item.key for item in self.all}:
            self._selected = None
            self._selected = next((item.key for item in self.all if item.is_open), self.all[0].key)


def kind_of(item: Item) -> str:
    """approval, input or outcome."""
    return item.waits.question.kind


def since(item: Item) -> int:
    return _inbox.since_ms(item.waits)
