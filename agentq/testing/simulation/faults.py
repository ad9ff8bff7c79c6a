"""What can go wrong in a simulated world, how likely it is, and what has gone wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import random


T = TypeVar("T")


class Fate(Enum):
    """What befalls one call to the store, and who makes it."""

    PASS = auto()
    CRASH_BEFORE = auto()
    CRASH_AFTER = auto()
    PAUSE_BEFORE = auto()
    PAUSE_AFTER = auto()
    STALL = auto()
    LOST_REPLY = auto()
    REFUSED = auto()
    STRAY = auto()


@dataclass(frozen=True, slots=True)
class Chances:
    """How likely each fault is: of one call to the store, of one callback, or of one wake-up.

    `crash`: the process is killed before the call leaves it, or once it has left. `pause`: the process stands still
    there for a while, up to several leases. `stall`: its event loop does (a blocking tool), while the thread that
    renews goes on. `lost_reply`: the call is carried out, and the caller hears that the store is away. `refused`: the
    same, and it is not carried out. `stray`: the same, and it is carried out much later. `slow`: it takes a thousand
    times as long as usual. `anywhere`: after any callback, its process crashes, pauses or stalls.

    Of the queue: `lost_wakeup`, `doubled_wakeup`, and `stale_wakeup`, of a run that needs none. Of pub/sub:
    `lost_notice`, and `rumour`: a worker hears of the cancel of a run that nobody has cancelled.
    """

    crash: float = 0.006
    pause: float = 0.004
    stall: float = 0.002
    lost_reply: float = 0.02
    refused: float = 0.01
    stray: float = 0.004
    slow: float = 0.02
    anywhere: float = 0.0003
    lost_wakeup: float = 0.05
    doubled_wakeup: float = 0.05
    stale_wakeup: float = 0.1
    lost_notice: float = 0.2
    rumour: float = 0.2

    def times(self, factor: float) -> Chances:
        """All of them, so many times as likely."""
        return Chances(**{field.name: min(0.5, getattr(self, field.name) * factor) for field in fields(self)})


CALM = Chances(*[0.0] * len(fields(Chances)))


@dataclass(slots=True)
class Figures:
    """Counts of one world or of many. `iterations` are commits, `takeovers` claims of runs whose worker had lost them,
    `children` are runs that others started, `questions` runs that waited for a person.

    Of what came from outside: `decisions` on calls, `expiries` where none came in time, `answers`, `signals`, messages
    that `steered` runs, `holds` of runs or more that somebody paused, runs whose place in a session was `replaced`.

    `late_starts` are tools with an effect that were announced before a cancel and entered after it had returned.
    """

    worlds: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    runs: int = 0
    children: int = 0
    iterations: int = 0
    calls: int = 0
    tools: int = 0
    events_seen: int = 0
    crashes: int = 0
    hand_overs: int = 0
    pauses: int = 0
    stalls: int = 0
    lost_replies: int = 0
    refused: int = 0
    strays: int = 0
    lost_wakeups: int = 0
    doubled_wakeups: int = 0
    stale_wakeups: int = 0
    takeovers: int = 0
    questions: int = 0
    decisions: int = 0
    expiries: int = 0
    answers: int = 0
    signals: int = 0
    steered: int = 0
    holds: int = 0
    replaced: int = 0
    retries: int = 0
    cancels: int = 0
    unknown_outcomes: int = 0
    late_starts: int = 0
    violations: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)})


class Fates:
    """Draws what befalls the calls. Once `calm`, nothing does any more."""

    def __init__(self, chances: Chances, numbers: random.Random) -> None:
        self.chances = chances
        self._numbers = numbers
        self._table = _table(chances)

    def calm(self) -> None:
        self.chances, self._table = CALM, []

    def limit_to(self, **changes: float) -> None:
        """From now on these chances are other ones."""
        self.chances = replace(self.chances, **changes)
        self._table = _table(self.chances)

    def draw(self) -> Fate:
        number = self._numbers.random()
        if self._table and number < self._table[-1][0]:
            return next(fate for below, fate in self._table if number < below)
        return Fate.PASS

    def happens(self, chance: float) -> bool:
        return chance > 0 and self._numbers.random() < chance

    def steps_between(self, chance: float, *, at_most: int) -> int:
        """After how many steps something of this chance happens next."""
        if chance <= 0:
            return at_most
        return min(at_most, 1 + int(self._numbers.expovariate(chance)))

    def one_of(self, *choices: T) -> T:
        return self._numbers.choice(choices)

    def latency_s(self) -> float:
        """How long one way takes: 50 to 500 µs, or a thousand times that."""
        usual = self._numbers.uniform(0.00005, 0.0005)
        return usual * 1000 if self.happens(self.chances.slow) else usual

    def between(self, low: float, high: float) -> float:
        return self._numbers.uniform(low, high)


def _table(chances: Chances) -> list[tuple[float, Fate]]:
    """Upper ends of the ranges of a number between 0 and 1 that mean each fate."""
    shares = (
        (Fate.CRASH_BEFORE, chances.crash / 2),
        (Fate.CRASH_AFTER, chances.crash / 2),
        (Fate.PAUSE_BEFORE, chances.pause / 2),
        (Fate.PAUSE_AFTER, chances.pause / 2),
        (Fate.STALL, chances.stall),
        (Fate.LOST_REPLY, chances.lost_reply),
        (Fate.REFUSED, chances.refused),
        (Fate.STRAY, chances.stray),
    )
    table: list[tuple[float, Fate]] = []
    for fate, share in shares:
        if share:
            table.append(((table[-1][0] if table else 0.0) + share, fate))
    return table
