"""Reasons why a run rests, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.insight.facts import Snapshot
    from agentq.runs import Status


class Code(StrEnum):
    """Why a run rests, or that it does not."""

    # It has ended.
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    # Somebody is at it.
    RUNNING = "running"
    CANCELLING = "cancelling"
    OWNER_MISSING = "owner_missing"
    # It moves by itself.
    DUE = "due"
    IN_LINE = "in_line"
    WORKERS_BUSY = "workers_busy"
    WAKING = "waking"
    DELAYED = "delayed"
    RATE_LIMITED = "rate_limited"
    LIMITED_FOR_NOW = "limited_for_now"
    BACKING_OFF = "backing_off"
    LEASE_EXPIRED = "lease_expired"
    RECOVERY_HELD = "recovery_held"
    WAKEUP_LOST = "wakeup_lost"
    CANCEL_REQUESTED = "cancel_requested"
    BEHIND = "behind"
    WAITS_FOR_PLACE = "waits_for_place"
    WAITS_FOR_TENANT = "waits_for_tenant"
    WAITS_FOR_RUN = "waits_for_run"
    WAITS_FOR_TIME = "waits_for_time"
    WAITS_FOR_SIGNAL = "waits_for_signal"
    # It waits for somebody.
    WAITING = "waiting"
    WAITS_FOR_ANSWER = "waits_for_answer"
    WAITS_FOR_APPROVAL = "waits_for_approval"
    WAITS_FOR_INPUT = "waits_for_input"
    LIMIT_REACHED = "limit_reached"
    PAUSED = "paused"
    NO_WORKER = "no_worker"
    WORKERS_SILENT = "workers_silent"
    SUSPENDED = "suspended"
    WORKERS_QUIET = "workers_quiet"
    UNSERVED = "unserved"
    NOT_SWEPT = "not_swept"
    NEWER_VERSION = "newer_version"
    BEHIND_NOTHING = "behind_nothing"
    STUCK = "stuck"


# Nothing happens before somebody does something.
_NEEDS_HELP = frozenset(
    {
        Code.WAITS_FOR_ANSWER,
        Code.WAITS_FOR_APPROVAL,
        Code.WAITS_FOR_INPUT,
        Code.PAUSED,
        Code.LIMIT_REACHED,
        Code.NO_WORKER,
        Code.WORKERS_SILENT,
        Code.SUSPENDED,
        Code.WORKERS_QUIET,
        Code.UNSERVED,
        Code.NOT_SWEPT,
        Code.NEWER_VERSION,
        Code.BEHIND_NOTHING,
        Code.STUCK,
    }
)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a run rests: one sentence in `text`, what to do about it in `fix` (empty: nothing), for programs in `code`.

    `details` holds the figures of the sentence under plain names; times end in `_ms`. `notes` are what else is worth
    knowing. `because` is the reason of the run that this one waits for.
    """

    run_id: str
    status: Status
    code: Code
    text: str
    fix: str = ""
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    because: Reason | None = None

    @property
    def needs_help(self) -> bool:
        """Whether it stays so until somebody does something."""
        return self.code in _NEEDS_HELP or (self.because is not None and self.because.needs_help)


def reason_of(seen: Snapshot, code: Code, text: str, fix: str = "", *notes: str, **details: Any) -> Reason:
    """The reason, with a word where Redis did not tell everything."""
    refused = f"this user of Redis may not use {', '.join(seen.refused)}, so part of the picture is missing"
    told = (*notes, refused) if seen.refused else notes
    return Reason(seen.run.run_id, seen.run.status, code, text, fix, told, details)
