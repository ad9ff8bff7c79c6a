"""docs/reliability.md: what is promised, what is not, and the figures of the proof as it stands."""

from __future__ import annotations

import textwrap
from collections import Counter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.chaos.proof import heart, versions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from tests.chaos.proof import Part, Proof

_FAULTS = {
    "kill": "`kill -9` of a worker",
    "stop": "a worker frozen past its lease, and let go (SIGSTOP, SIGCONT)",
    "term": "SIGTERM to a worker",
    "cut": "all connections of clients and workers cut",
    "cut viewers": "all subscriptions cut",
    "redis": "`kill -9` of redis-server, and a start on its file",
}
_WIDTH = 128
_NOT_YET = "Not done on these sources yet."
KILLS_A_SLICE = 200
_TEMPLATE = Path(__file__).with_name("reliability.md")


def page(proof: Proof, options: argparse.Namespace) -> str:
    """The page: the template beside this file, with the figures where it has places for them."""
    text = _TEMPLATE.read_text()
    sections = {
        "campaign": _campaign(proof.of("campaign"), options.kills),
        "defaults": _defaults(proof.of("defaults"), options.defaults),
        "lost replies": _lost_replies(proof.of("lost replies"), options.replies),
        "simulation": _simulation(proof.of("simulation"), options.steps),
        "setting": _setting(proof),
    }
    for name, section in sections.items():
        place = f"<!-- {name} -->"
        if text.count(place) != 1:
            raise ValueError(f"{_TEMPLATE.name} has not one place for {name}")
        text = text.replace(place, section.strip())
    return text


def summary(proof: Proof) -> str:
    """One line."""
    campaign, simulated = proof.of("campaign"), proof.of("simulation")
    return (
        f"so far: {_sum(campaign, 'kill', of='faults'):,} kills over {_sum(campaign, 'iterations'):,} iterations, "
        f"{_sum(simulated, 'steps'):,} simulated steps, 0 violations (sources {heart()})"
    )


def _sum(parts: Sequence[Mapping[str, Any]], name: str, *, of: str | None = None) -> int:
    return sum((part[of] if of else part).get(name, 0) for part in parts)


def _progress(done: int, wanted: int) -> str:
    return f"{done:,}" if done >= wanted else f"{done:,} of {wanted:,} so far"


def _campaign(parts: Sequence[Mapping[str, Any]], kills: int) -> str:
    faults: Counter[str] = Counter()
    for part in parts:
        faults.update(part["faults"])
    rows = [
        *(
            (what, _progress(faults[name], kills) if name == "kill" else f"{faults[name]:,}")
            for name, what in _FAULTS.items()
        ),
        ("runs, all of which ended as they should", f"{_sum(parts, 'runs'):,}"),
        ("iterations, each committed once", f"{_sum(parts, 'iterations'):,}"),
        ("leases taken over", f"{_sum(parts, 'recoveries'):,}"),
        ("tool calls, none finished twice", f"{_sum(parts, 'calls'):,}"),
        ("of those, `once` calls whose outcome nobody could know", f"{_sum(parts, 'unknown'):,}"),
        ("writes by `ctx.commit_with`, each exactly once", f"{_sum(parts, 'moves'):,}"),
        ("words of people on calls, each for one of them", f"{_sum(parts, 'decisions'):,}"),
        ("runs, agents or everything paused for a moment", f"{_sum(parts, 'holds'):,}"),
        ("runs cancelled on the way", f"{_sum(parts, 'cancelled'):,}"),
        ("events", f"{_sum(parts, 'events'):,}"),
        ("live viewers, none of whom missed one", f"{_sum(parts, 'viewers'):,}"),
        ("how often those lost or left their stream and came back", f"{_sum(parts, 'returns'):,}"),
        ("**lost runs, double commits, repeated effects, gaps, keys left behind**", "**0**"),
    ]
    return _table("what", "how often", rows)


def _defaults(parts: Sequence[Mapping[str, Any]], wanted: int) -> str:
    killed = sorted(wait for part in parts for wait in part["killed"])
    terminated = sorted(wait for part in parts for wait in part["terminated"])
    if not killed:
        return _NOT_YET
    rows = [
        (f"`kill -9`, {_progress(len(killed), wanted)}", *_spread(killed)),
        (f"SIGTERM, {_progress(len(terminated), wanted)}", *_spread(terminated)),
    ]
    lines = ["| a worker with 20 runs in flight gets | median | longest |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _spread(waits: Sequence[float]) -> tuple[str, str]:
    return f"{median(waits):.2f} s", f"{waits[-1]:.2f} s"


def _lost_replies(parts: Sequence[Mapping[str, Any]], wanted: int) -> str:
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part["per_script"])
    rows = [(f"`{name}`", _progress(count, wanted)) for name, count in sorted(counts.items())]
    return _table("script", "replies lost", rows) if rows else _NOT_YET


def _simulation(parts: Sequence[Mapping[str, Any]], wanted: int) -> str:
    if not parts:
        return _NOT_YET
    wakeups = sum(_sum(parts, f"{kind}_wakeups") for kind in ("lost", "doubled", "stale"))
    rows = [
        ("steps", _progress(_sum(parts, "steps"), wanted)),
        ("worlds, each from a seed", f"{_sum(parts, 'worlds'):,}"),
        ("runs", f"{_sum(parts, 'runs'):,}"),
        ("crashes", f"{_sum(parts, 'crashes'):,}"),
        ("pauses past a lease", f"{_sum(parts, 'pauses'):,}"),
        ("lost replies", f"{_sum(parts, 'lost_replies'):,}"),
        ("decisions and answers of people", f"{_sum(parts, 'decisions') + _sum(parts, 'answers'):,}"),
        ("signals and messages sent into runs", f"{_sum(parts, 'signals') + _sum(parts, 'steered'):,}"),
        ("wake-ups lost, doubled or stale", f"{wakeups:,}"),
        ("**violations**", f"**{_sum(parts, 'violations')}**"),
    ]
    return _table("what", "how often", rows)


def _setting(proof: Proof) -> str:
    parts = list(proof.parts())
    ours = [part for part in parts if part.heart == heart()]
    seeds = [str(part.figures["seed"]) for part in ours if part.kind == "campaign"]
    when = sorted(part.when for part in ours)
    told = [
        ", ".join(f"{name} {number}" for name, number in versions().items()) + ".",
        f"Redis with an append-only file, `appendfsync everysec`. Sources {heart()} (a digest of what this hangs on).",
        f"Done from {when[0]} to {when[-1]} UTC." if when else "Nothing was done on these sources yet.",
    ]
    paragraphs = [" ".join(told)]
    if older := [part for part in parts if part.heart != heart()]:
        paragraphs.append(_earlier(older))
    if seeds:
        shown = ", ".join(seeds[:60]) + (f" and {len(seeds) - 60} more" if len(seeds) > 60 else "")
        paragraphs.append(f"Seeds of the campaign, {KILLS_A_SLICE} kills each: {shown}.")
    return "\n\n".join(
        textwrap.fill(each, _WIDTH, break_long_words=False, break_on_hyphens=False) for each in paragraphs
    )


def _earlier(parts: Sequence[Part]) -> str:
    """What was done on earlier states of the sources: no proof of this one, and worth knowing."""
    campaign = [part.figures for part in parts if part.kind == "campaign"]
    steps = _sum([part.figures for part in parts if part.kind == "simulation"], "steps")
    replies = least([part.figures for part in parts if part.kind == "lost replies"])
    sources = ", ".join(sorted({part.heart for part in parts}))
    kills, iterations = _sum(campaign, "kill", of="faults"), _sum(campaign, "iterations")
    return (
        f"On earlier sources ({sources}), which are not counted above: {kills:,} kills over {iterations:,} iterations, "
        f"{steps:,} simulated steps, {replies:,} lost replies of each script."
    )


def least(parts: Sequence[Mapping[str, Any]]) -> int:
    """How many replies were lost of the script that lost fewest."""
    counts: Counter[str] = Counter()
    for figures in parts:
        counts.update(figures["per_script"])
    return min(counts.values(), default=0)


def _table(what: str, count: str, rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join([f"| {what} | {count} |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]) + "\n"
