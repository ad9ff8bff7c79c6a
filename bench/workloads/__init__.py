"""One workload per file, and the list of them."""

from bench.measure import Workload
from bench.workloads import iterations

WORKLOADS: tuple[Workload, ...] = (iterations.WORKLOAD,)
