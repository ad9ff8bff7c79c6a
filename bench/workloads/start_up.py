"""How long commands take, in new processes."""

from __future__ import annotations

from bench.commands import ENQUEUE, HELP, MS, QUEUES, WORKER
from bench.measure import Case, Goal, Sense, Workload
from bench.peers.agentq_commands import AgentqCommands
from bench.peers.rq_commands import RqCommands

WORKLOAD = Workload(
    name="start_up",
    question="How long do commands take?",
    description=(
        "Each command is a new process, from its start to its end; a worker from its start until it stands in RQ's "
        "set of workers. A round takes the median of its processes."
    ),
    figures=(MS,),
    peers=(AgentqCommands(), RqCommands()),
    cases=tuple(Case(name, runs=7, runs_quick=3) for name in (HELP, ENQUEUE, QUEUES, WORKER)),
    goals=(Goal(MS, Sense.AT_MOST, 80, case=HELP),),
    rounds=3,
    rounds_quick=1,
)
