"""One workload per file, and the list of them."""

from bench.measure import Workload
from bench.workloads import (
    agents,
    chains,
    enqueue,
    footprint,
    growth,
    in_flight,
    iterations,
    lengths,
    start_up,
    streams,
    tails,
    tokens,
    wake_up,
    web,
)

WORKLOADS: tuple[Workload, ...] = (
    iterations.WORKLOAD,
    chains.WORKLOAD,
    agents.WORKLOAD,
    lengths.WORKLOAD,
    footprint.WORKLOAD,
    growth.CLAIMS,
    growth.SWEEPS,
    growth.RENEWALS,
    enqueue.WORKLOAD,
    in_flight.WORKLOAD,
    wake_up.WORKLOAD,
    tokens.WORKLOAD,
    streams.WORKLOAD,
    tails.WORKLOAD,
    web.WORKLOAD,
    start_up.WORKLOAD,
)
