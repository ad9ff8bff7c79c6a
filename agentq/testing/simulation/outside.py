"""What was said to simulated runs from outside, as the store carried it out, and what must not come of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.runs import EVERYTHING, Status, agent_scope, queue_scope
from agentq.steps import APPROVAL, PART, read_approval, read_durable_step

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq.runs import Pause
    from agentq.steps import CallStep, DurableStep
    from agentq.stores.base import Decision, Released, Signal, Signalled, Steer, StepRecord
    from agentq.testing.simulation.faults import Figures
    from agentq.testing.simulation.known import Known


class Outside:
    """Decisions, answers, signals, messages and pauses. `wrong` hears of a run what must not be."""

    def __init__(self, now_ms: Callable[[], int], figures: Figures, wrong: Callable[[Known, str], None]) -> None:
        self.on_resting: Callable[[str, str], None] = lambda *_: None
        # What is paused as a whole, by scope.
        self.pauses: dict[str, Pause] = {}
        self._now_ms = now_ms
        self._figures = figures
        self._wrong = wrong

    # --- calls that rest

    def rested(self, known: Known, call_id: str, step: CallStep) -> None:
        """The journal says that a call rests, or that people were warned of the end of that."""
        wait, before = step.waits, known.waits.get(call_id)
        if wait is None:
            return
        known.waits[call_id] = wait
        # Another announcement is news, also after a cancel.
        known.announced[call_id] = step
        if before is not None and before.model_copy(update={"warned": True}) == wait:
            return
        known.rests[call_id] += wait.kind != "approval"
        self.on_resting(known.run_id, call_id)

    def kept(self, known: Known, record: StepRecord) -> None:
        """A durable step of a call was journaled, with the signal that it took."""
        if record.name.endswith(APPROVAL):
            self._wrong(known, f"a worker journaled the decision {record.name}")
            return
        self._part(known, record.name, read_durable_step(record.value))
        for signal_id in record.takes:
            self._took(known, record.name, signal_id)

    def _part(self, known: Known, name: str, step: DurableStep) -> None:
        if name in known.parts:
            if known.parts[name] != step:
                self._wrong(known, f"{name} was {known.parts[name]}, and became {step}")
            return
        known.parts[name] = step
        call_id, _, number = name.rpartition(PART)
        wait = known.waits.get(call_id)
        is_its = wait is not None and wait.number == int(number)
        if wait is not None and is_its and (step.op == "timer" or step.expired) and self._now_ms() < wait.until_ms:
            self._wrong(known, f"{name} was over {wait.until_ms - self._now_ms()} ms too soon")
        if step.op == "signal" and step.expired:
            self._check_missed(known, name, step.name, wait.until_ms if wait is not None and is_its else 0)

    def _check_missed(self, known: Known, part: str, name: str, until_ms: int) -> None:
        """A signal that came in time is not missed, whenever the run looks."""
        for signal_id, (its_name, at_ms) in known.signals.items():
            if its_name == name and signal_id not in known.taken and at_ms < until_ms:
                self._wrong(known, f"{part} gave up, and signal {signal_id} had come {until_ms - at_ms} ms before that")

    def _took(self, known: Known, part: str, signal_id: str) -> None:
        if signal_id not in known.signals:
            self._wrong(known, f"{part} took signal {signal_id}, which nobody had sent")
            return
        if known.taken.setdefault(signal_id, part) != part:
            self._wrong(known, f"signal {signal_id} was taken by {known.taken[signal_id]} and by {part}")
        name, _ = known.signals[signal_id]
        first = next(each for each, (its_name, _) in known.signals.items() if its_name == name)
        left = [each for each, (its_name, _) in known.signals.items() if its_name == name and each not in known.taken]
        if left and list(known.signals).index(left[0]) < list(known.signals).index(signal_id):
            self._wrong(known, f"{part} took signal {signal_id} before {first}")

    # --- what people say

    def decided(self, known: Known, decision: Decision, answer: Released) -> None:
        """A person, or the end of the time for that, has decided on a call."""
        call_id, record = decision.call_id, decision.record
        if record.name.endswith(APPROVAL):
            approval = read_approval(record.value)
            stands = known.decided.get(call_id)
            is_news = stands is None
            if stands is not None and stands != approval:
                self._wrong(
                    known, f"{call_id} was {stands.decision} by {stands.by}, and {approval.decision} after that"
                )
            known.decided[call_id] = approval
            self._figures.decisions += is_news
            expires = approval.decision == "expired"
        else:
            is_news = record.name not in known.parts
            step = read_durable_step(record.value)
            self._part(known, record.name, step)
            self._figures.answers += is_news and not step.expired
            expires = step.expired
        if is_news:
            self._check_decision(known, call_id, expires=expires)
        self._woke(known, answer)

    def _check_decision(self, known: Known, call_id: str, *, expires: bool) -> None:
        wait = known.waits.get(call_id)
        if wait is None or wait.kind not in ("approval", "input") or call_id in known.finished:
            self._wrong(known, f"{call_id} was decided, and does not wait for that")
        elif expires and self._now_ms() < wait.until_ms:
            self._wrong(known, f"{call_id} expired {wait.until_ms - self._now_ms()} ms too soon")
        self._figures.expiries += expires
        if known.status.is_final or known.cancelled_ms is not None:
            self._wrong(known, f"{call_id} was decided, and the run was cancelled or has {known.status}")

    def signalled(self, known: Known, signal: Signal, answer: Released) -> None:
        if signal.signal_id not in known.signals:
            if known.status.is_final:
                self._wrong(known, f"it took signal {signal.signal_id} although it has {known.status}")
            known.signals[signal.signal_id] = signal.name, self._now_ms()
            self._figures.signals += 1
        self._woke(known, answer)

    def steered(self, known: Known, steer: Steer) -> None:
        if steer.token in known.tokens:
            return
        if known.status.is_final or known.cancelled_ms is not None:
            self._wrong(known, f"it took a message although it was cancelled or has {known.status}")
        known.tokens.add(steer.token)
        known.inbox.append(steer.message.text)
        self._figures.steered += 1

    def _woke(self, known: Known, answer: Released) -> None:
        if known.status is not Status.WAITING or answer.status is Status.WAITING:
            return
        expected = Status.PAUSED if known.is_paused else Status.QUEUED
        if answer.status is not expected:
            self._wrong(known, f"it waited, was told something, and is {answer.status} in place of {expected}")
        known.status = answer.status

    def check_seen(self, known: Known, texts: list[str]) -> None:
        """A claim brings these messages: the whole inbox, unless a reply waits for results."""
        expected = [] if known.reply_is_journaled else known.inbox
        if texts != expected:
            self._wrong(known, f"a claim brought the messages {texts}, and {expected} were sent into it")
        known.seen += texts
        known.inbox = known.inbox[len(texts) :]

    # --- pauses

    def paused(self, known: Known, answer: Signalled) -> None:
        if known.status.is_final or known.cancelled_ms is not None:
            self._wrong(known, f"it was paused although it was cancelled or has {known.status}")
        self._figures.holds += not known.is_paused
        known.is_paused = True
        if known.status is Status.QUEUED:
            known.status = answer.status

    def resumed(self, known: Known, answer: Released) -> None:
        if not known.is_paused:
            return
        if known.is_running and answer.status is not Status.RUNNING:
            self.set_aside(known)
        known.is_paused = False
        if known.status is Status.PAUSED:
            known.status = answer.status

    def set_aside(self, known: Known) -> None:
        """A sweep found the worker of a paused run lost: the run rests. Nobody was told; it shows by what follows."""
        known.status = Status.PAUSED
        known.recoveries += 1
        known.took.append(known.fence)

    def may_be_set_aside(self, known: Known) -> bool:
        is_lost = known.is_running and known.until_ms <= self._now_ms()
        return is_lost and (known.is_paused or known.may_rest)

    def cancelled(self, known: Known) -> None:
        """A cancel takes the pause away."""
        known.may_rest = self.may_be_set_aside(known)
        known.is_paused = False

    def scope_of(self, known: Known) -> str | None:
        """What is paused as a whole and keeps the run from going on."""
        scopes = (EVERYTHING, agent_scope(known.new.agent), queue_scope(known.new.queue))
        return next((scope for scope in scopes if scope in self.pauses), None)

    def check_may_go_on(self, known: Known) -> None:
        """What is paused is not claimed."""
        if known.cancelled_ms is not None:
            return
        if known.is_paused:
            self._wrong(known, "it was claimed although it is paused")
        if (scope := self.scope_of(known)) is not None:
            self._wrong(known, f"it was claimed although {scope} is paused")
