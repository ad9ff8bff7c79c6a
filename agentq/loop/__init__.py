"""The loop: one iteration of a run, from claim to commit. Knows protocols; never redis, rq, httpx or click."""

from agentq.loop.agent import Agent
from agentq.loop.iteration import Iteration, Outcome
from agentq.loop.loop import Loop, settle_cancelled

__all__ = ["Agent", "Iteration", "Loop", "Outcome", "settle_cancelled"]
