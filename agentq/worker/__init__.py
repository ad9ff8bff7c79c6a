"""The worker: claims runs through RQ's queues and advances them. `Worker` is all that others need."""

from agentq.worker.lifecycle import Worker, WorkerReport

__all__ = ["Worker", "WorkerReport"]
