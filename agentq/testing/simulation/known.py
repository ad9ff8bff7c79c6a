"""What is known of one simulated run, apart from the store."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentq.runs import Status
from agentq.steps import PART

if TYPE_CHECKING:
    from agentq.messages import ToolCallPart
    from agentq.steps import Approval, CallStep, DurableStep, Effect, Wait
    from agentq.stores.base import Committed, NewRun
    from agentq.testing.simulation.scheduling import Process


@dataclass(slots=True)
class Known:
    """What the ledger knows of one run. `took` are the fences of claims that took it over, `handed_back` of releases.

    Of its calls, by id: the journal's `announced` and `finished`; how often somebody said that one `did_not_happen`;
    how often their tool was `entered`, in which processes it is `inside`, and what it `returned`; and those that are
    `unwritten`: they have returned, under which fence, and the journal lacks the result. `waits` is what each rests for
    now, `rests` how often its tool was left to rest, `decided` what people said of it, `parts` its durable steps by
    name.

    Of what was sent into it: `signals` by id, with name and time, and which part has `taken` each; messages in the
    `inbox`, their `tokens`, and those that it has `seen`.

    `may_rest` says that a sweep may have set it aside, paused as it was when its worker was lost. `has_left` its
    session's line, `is_forgotten` there: a newer run took its place. Some commits are `bare`: they bring no message.
    """

    run_id: str
    new: NewRun
    enters_ms: int
    status: Status = Status.QUEUED
    fence: int = 0
    owner: str = ""
    until_ms: int = 0
    lease_ms: int = 0
    batch: int = 0
    recoveries: int = 0
    took: list[int] = field(default_factory=list)
    handed_back: list[int] = field(default_factory=list)
    commits: dict[int, Committed] = field(default_factory=dict)
    message_count: int = 0
    last_text: str = ""
    reply_is_journaled: bool = False
    journaled_text: str = ""
    announced: dict[str, CallStep] = field(default_factory=dict)
    finished: dict[str, CallStep] = field(default_factory=dict)
    did_not_happen: Counter[str] = field(default_factory=Counter)
    entered: Counter[str] = field(default_factory=Counter)
    inside: dict[str, list[Process]] = field(default_factory=dict)
    announced_ms: dict[str, int] = field(default_factory=dict)
    entered_at: dict[str, int] = field(default_factory=dict)
    returned: dict[str, list[str]] = field(default_factory=dict)
    unwritten: dict[str, tuple[int, Effect]] = field(default_factory=dict)
    children: list[Known] = field(default_factory=list)
    waits_for_child: bool = False
    rests_until_ms: int = 0
    calls: tuple[ToolCallPart, ...] = ()
    waits: dict[str, Wait] = field(default_factory=dict)
    rests: Counter[str] = field(default_factory=Counter)
    decided: dict[str, Approval] = field(default_factory=dict)
    parts: dict[str, DurableStep] = field(default_factory=dict)
    signals: dict[str, tuple[str, int]] = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    inbox: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    is_paused: bool = False
    may_rest: bool = False
    has_left: bool = False
    is_forgotten: bool = False
    bare_commits: int = 0
    noted: int = 0
    cancelled_ms: int | None = None
    cancel_has_returned: bool = False
    has_entered: bool = False
    retries: int = 0

    @property
    def is_running(self) -> bool:
        return self.status is Status.RUNNING

    @property
    def is_waiting_for_child(self) -> bool:
        return self.waits_for_child and self.status is Status.WAITING

    def parts_of(self, call_id: str) -> list[DurableStep]:
        """The durable steps of a call that are journaled, in order."""
        names = [name for name in self.parts if name.startswith(call_id + PART)]
        return [self.parts[name] for name in sorted(names, key=lambda name: int(name.rpartition(PART)[2]))]
