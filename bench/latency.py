"""Latencies as figures: the median and the slow end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.measure import Figure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.measure import Sample

P50 = Figure("p50 ms", 2)
P99 = Figure("p99 ms", 2)


def latency(times_ns: Iterable[int]) -> Sample:
    """The figures of latencies that were measured in nanoseconds."""
    ordered = sorted(times_ns)
    return {P50.name: _ms(ordered, 0.5), P99.name: _ms(ordered, 0.99)}


def _ms(ordered: list[int], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    rank = -int(-share * len(ordered) // 1)
    return ordered[max(rank, 1) - 1] / 1e6
