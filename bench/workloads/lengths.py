"""What an iteration costs as the transcript grows."""

from __future__ import annotations

from bench.measure import REDIS_CPU, THROUGHPUT, WORKER_CPU, Case, Goal, Sense, Workload
from bench.peers.agentq_lengths import COLD, READ, WRITTEN, AgentqLengths

_CASES = (
    Case("20 messages", runs=4, runs_quick=2, size=20),
    Case("100 messages", runs=4, size=100),
    Case("1,000 messages", runs=4, runs_quick=2, size=1000),
    Case("10,000 messages", runs=4, size=10_000),
)

WORKLOAD = Workload(
    name="lengths",
    question="What does an iteration cost as the transcript grows?",
    description=(
        "Transcripts begin with messages of 1 KB; few runs are in flight, the same number in each line, and a worker "
        "spends more on each than with many. A worker that goes on with a run has its transcript: it reads and writes "
        "what is new. A worker that takes a run over reads all of it once; that is shown apart. The model looks at "
        "nothing: what a provider spends on sending a long prompt comes on top, and no queue can save it."
    ),
    figures=(WORKER_CPU, REDIS_CPU, WRITTEN, READ, COLD, THROUGHPUT),
    peers=(AgentqLengths(),),
    cases=_CASES,
    goals=tuple(Goal(WRITTEN, Sense.AT_MOST, 1.3, case=case.name) for case in _CASES),
    notes=(
        (
            "what comes on top of the new bytes is about 2 KB an iteration, however long the transcript: the RQ job of "
            "the next wake-up (0.5 KB), the reply in the journal before its calls are made (0.3 KB), four events "
            "(0.6 KB), counters, keys and the claim (0.7 KB); a text that stands in a message and in its event is sent "
            "once"
        ),
        (
            "at 10,000 messages the worker spends 0.3 ms more: each commit copies that many references, which is "
            "little beside the sending of so long a prompt"
        ),
    ),
    rounds=3,
    rounds_quick=1,
    size_name="messages",
)
