"""What a chunk of a model's stream costs, from the socket to the event in Redis."""

from __future__ import annotations

from bench.measure import Case, Goal, Sense, Workload
from bench.peers.agentq_streams import CHUNKS, IDEAL, PER_S, US, AgentqStreams, VendorSdk

_SDK = VendorSdk()
_APIS = ("openai", "openai-chat", "anthropic", "google")
# Each takes as long as its stream, however few there are.
_QUICK = ("openai-chat", "anthropic")
_MANY = "openai-chat, 1,000 at once"

WORKLOAD = Workload(
    name="streams",
    question="What does a chunk of a model's stream cost?",
    description=(
        f"A server on the same machine streams {CHUNKS} words at {PER_S} a second to each of 200 readers at once, over "
        "HTTP and in the words of each API. agentq's worker makes runs of it: adapter, loop, events in Redis, commit. "
        "The vendor's SDK decodes the stream and does nothing with it. The ideal is the length of one stream."
    ),
    figures=(US, IDEAL),
    peers=(AgentqStreams(), _SDK),
    cases=(
        *(Case(api, runs=200, runs_quick=200 if api in _QUICK else 0) for api in _APIS),
        Case(_MANY, runs=1000),
    ),
    goals=(
        *(Goal(US, Sense.AT_MOST, 1, case=api, against=(_SDK.name,)) for api in _APIS),
        Goal(IDEAL, Sense.AT_MOST, 1.1, case=_MANY),
    ),
    notes=(
        (
            "with 1,000 streams the server that sends them, Redis and the worker want more than two CPUs have for some "
            "of the time; the SDK, beside the same server and without Redis, falls behind further"
        ),
    ),
    rounds=3,
    rounds_quick=1,
)
