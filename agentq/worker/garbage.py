"""Garbage collection of a process that does nothing but work on runs. A library does not set it; a program may."""

from __future__ import annotations

import gc

# Iterations leave no cycles behind, so there is little to find. What a look costs is everything that is alive, which
# for a worker are the transcripts of hundreds of runs: Python's default of 700 took a quarter of a worker's time.
_YOUNG, _MIDDLE, _OLD = 5_000, 50, 50


def collect_seldom() -> None:
    """Look for cycles as seldom as suits a worker, and never among what was loaded at the start. For all threads."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
