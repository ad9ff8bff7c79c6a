"""The exception tree. Imports nothing of ours.

    AgentQError
    ├── InvalidInput               a field is wrong; nothing was stored
    │   ├── UnknownAgent
    │   ├── UnknownProvider
    │   └── AppNotFound
    ├── NotFound
    │   ├── RunNotFound
    │   ├── SessionNotFound
    │   ├── ScheduleNotFound
    │   ├── WebhookNotFound
    │   ├── WorkerNotFound
    │   └── FileNotStored
    ├── Conflict                   the request does not fit what is stored
    │   ├── IdempotencyConflict
    │   ├── SessionConflict
    │   ├── IllegalTransition
    │   ├── NotWaiting
    │   ├── AlreadyDecided
    │   ├── DecisionRefused
    │   ├── NotFinished
    │   ├── SessionBusy
    │   ├── SessionMovedOn
    │   ├── InboxFull
    │   └── RunAlreadyFinished
    ├── LeaseError                 a worker's right to write
    │   ├── LeaseLost
    │   │   └── DataLost           Redis has lost what it had acknowledged
    │   ├── LeaseHeld
    │   └── CancelRequested
    ├── RunError                   how a run ended, for who asked for its result
    │   ├── RunFailed
    │   └── RunCancelled
    ├── ResultTimeout
    ├── StoreUnavailable           Redis is away
    │   └── AccessRefused          … to us: it wants another password
    ├── WebhookNotVerified         a message that is not from who has the secret
    ├── StoreCorrupted             stored data that this version cannot read
    ├── ForeignJob                 an RQ job that is not a wake-up of ours
    ├── ContextError               what the model is to be told could not be put together
    ├── PolicyRefused              a hook's way to say no
    ├── ProviderError              a model call failed
    └── ToolError                  a tool's way to say what went wrong
        ├── InvalidArguments       the model's arguments do not fit the tool's parameters
        └── StepDiverged           a tool that was entered again did something else than before

The docstring of a class is its default message.
"""

from __future__ import annotations

import inspect


class AgentQError(Exception):
    """agentq failed."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or "").split("\n")[0])


class InvalidInput(AgentQError):
    """The input is not valid."""

    def __init__(self, message: str | None = None, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class UnknownAgent(InvalidInput):
    """No agent has this name."""


class UnknownProvider(InvalidInput):
    """No model provider has this name."""


class AppNotFound(InvalidInput):
    """The app could not be loaded."""


class NotFound(AgentQError):
    """There is no such thing."""


class RunNotFound(NotFound):
    """There is no such run: the id is wrong, or its time to live has passed."""

    @classmethod
    def of(cls, run_id: str) -> RunNotFound:
        """The error about a run that was named."""
        return cls(f"there is no run {run_id}: the id is wrong, or its time to live has passed")


class SessionNotFound(NotFound):
    """There is no such session: the id is wrong, or nothing has used it for its time to live."""


class ScheduleNotFound(NotFound):
    """There is no such schedule."""


class WebhookNotFound(NotFound):
    """There is no such webhook, or no such message to deliver."""


class WorkerNotFound(NotFound):
    """There is no such worker."""


class FileNotStored(NotFound):
    """The file is not stored: it was deleted, or its time to live has passed."""


class Conflict(AgentQError):
    """The request does not fit what is stored."""


class IdempotencyConflict(Conflict):
    """The idempotency key was used before with other input."""


class SessionConflict(Conflict):
    """The session belongs to another user."""


class IllegalTransition(Conflict):
    """A run cannot go from its status to the one asked for."""


class NotWaiting(Conflict):
    """The run does not wait for this answer: it was given before, or the run has moved on."""


class AlreadyDecided(Conflict):
    """Somebody else has decided on this call before."""


class DecisionRefused(Conflict):
    """Whoever wants to decide this may not."""


class NotFinished(Conflict):
    """The run has not ended, so there is nothing to retry."""


class SessionBusy(Conflict):
    """A run of the session has not ended."""


class SessionMovedOn(Conflict):
    """A later run of the session has started; enqueue the prompt again instead."""


class InboxFull(Conflict):
    """So many messages or signals wait for the run that it takes no more; wait until it has seen them."""


class RunAlreadyFinished(Conflict):
    """The run has already ended."""


class LeaseError(AgentQError):
    """The worker may not write to this run."""


class LeaseLost(LeaseError):
    """The lease on the run was taken over; this worker must write nothing more."""


class DataLost(LeaseLost):
    """Redis has lost what it had acknowledged; this worker must write nothing more."""


class LeaseHeld(LeaseError):
    """Another worker holds a live lease on the run."""


class CancelRequested(LeaseError):
    """The run was cancelled; nothing new may be started."""


class RunError(AgentQError):
    """The run did not complete."""

    def __init__(self, message: str | None = None, *, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class RunFailed(RunError):
    """The run failed."""


class RunCancelled(RunError):
    """The run was cancelled."""


class ResultTimeout(AgentQError, TimeoutError):
    """The run did not end in time; it goes on."""


class StoreUnavailable(AgentQError):
    """Redis cannot be reached."""


class AccessRefused(StoreUnavailable):
    """Redis refused the password, or wants one."""


class StoreCorrupted(AgentQError):
    """The stored data cannot be read by this version."""


class WebhookNotVerified(AgentQError):
    """The message is not from who has the secret, or was changed, or is too old."""


class ForeignJob(AgentQError):
    """The RQ job is not a wake-up of agentq."""


class ContextError(AgentQError):
    """What the model is to be told could not be put together."""


class PolicyRefused(AgentQError):
    """A hook refused. A critical hook about the model raises this to end the run as failed, with these words."""


class ProviderError(AgentQError):
    """The model call failed.

    `status` is the HTTP status or None; `code` the provider's own word for the error and `request_id` what its support
    asks for, both empty where it sent none; `retryable` says whether another attempt can help; `retry_after_s` is how
    long the provider asked to wait, in seconds.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        provider: str = "",
        status: int | None = None,
        retryable: bool = True,
        retry_after_s: float | None = None,
        code: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class ToolError(AgentQError):
    """The tool failed. A tool raises this to choose the words that the model reads."""


class InvalidArguments(ToolError):
    """The arguments do not fit the tool's parameters."""


class StepDiverged(ToolError):
    """The tool was entered again after a crash, and did something else than the first time, or in another order."""
