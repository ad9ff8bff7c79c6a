"""How lengths of time and numbers are put into words, for people."""

from __future__ import annotations


def duration(ms: float) -> str:
    """A length of time for people: `12 ms`, `1.4 s`, `2 m 05 s`, `1 h 02 m`."""
    if ms < 1000:
        return f"{max(round(ms), 0)} ms"
    seconds = ms / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} m"


def age(ms: float) -> str:
    """How long ago, in one unit: `8 s`, `5 m`, `3 h`, `12 d`."""
    seconds = max(int(ms / 1000), 0)
    for limit, unit, size in ((60, "s", 1), (3600, "m", 60), (86_400, "h", 3600)):
        if seconds < limit:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86_400} d"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
