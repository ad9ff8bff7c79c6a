"""What must hold when a world has come to its end: P1, P3 to P6, P11, and sessions as one conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq._ids import child_run_id
from agentq.events.model import AttemptReset, Gap, ReasoningDelta, TextDelta
from agentq.messages import NoteKind, Role, unanswered_calls
from agentq.runs import Status
from agentq.testing.simulation.plans import ASK, ASKED, COUNTS, EFFECTS, NOTED, RESTING, Line, line_of, said_by
from agentq.testing.simulation.tools import expected_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agentq.events.model import Event
    from agentq.messages import Message, ToolResultPart
    from agentq.runs import RunState
    from agentq.stores.memory import MemoryStore
    from agentq.testing.simulation.known import Known
    from agentq.testing.simulation.ledger import Ledger
    from agentq.testing.simulation.people import Viewer
    from agentq.testing.simulation.plans import Plan


async def wrong_at_the_end(
    store: MemoryStore, ledger: Ledger, plans: Mapping[str, Plan], viewers: Sequence[Viewer], *, max_recoveries: int
) -> list[str]:
    """Everything that is wrong now that all runs have ended."""
    wrong: list[str] = []
    for known in ledger.runs.values():
        messages = await store.messages(known.run_id)
        run = await store.read(known.run_id)
        plan = plans[known.new.prompt]
        was_set_aside = run.status is Status.FAILED and known.recoveries > max_recoveries
        may_be_cut = was_set_aside or run.status is Status.CANCELLED
        known.noted = sum(message.role is Role.ASSISTANT and message.text == NOTED for message in messages)
        found = list(_state(known, run, plan, len(messages), may_be_cut=may_be_cut))
        found += _transcript(known, run, plan, messages, may_be_cut=may_be_cut)
        events = [event async for event in store.stream.follow(known.run_id, live=False)]
        watched = [viewer for viewer in viewers if viewer.run_id == known.run_id]
        if known.retries:
            for viewer in watched:
                await viewer.come_back()
        found += _events(known, run, events, messages, watched)
        found += _count(known.run_id, await store.values("run", known.run_id), (known,))
        wrong += [f"run {known.run_id} ({run.status}): {what}" for what in found]
    for session_id, members in ledger.sessions.remembered.items():
        expected = [message for known in members for message in await store.messages(known.run_id)]
        if list(await store.session_messages(session_id)) != expected:
            wrong.append(f"session {session_id} does not hold what its runs said, one after the other")
    for session_id in sorted({known.new.session_id or "" for known in ledger.runs.values()} - {""}):
        of_session = [known for known in ledger.runs.values() if known.new.session_id == session_id]
        wrong += _count(session_id, await store.values("session", session_id), of_session)
    return wrong


def _count(of: str, values: Mapping[str, bytes], members: Sequence[Known]) -> Iterator[str]:
    """That what calls changed was changed once for each of them, and not by those that failed or were not journaled."""
    results = [step.result for known in members for step in known.finished.values()]
    made = sum(each is not None and (each.name, each.outcome) == (COUNTS, "ok") for each in results)
    if (counted := int(values.get(COUNTS, 0))) != made:
        yield f"{of} keeps a count of {counted}, after {made} calls"


def _state(known: Known, run: RunState, plan: Plan, message_count: int, *, may_be_cut: bool) -> Iterator[str]:
    """That the run ended as it had to, by as many commits as it had turns."""
    if not run.status.is_final or run.status is not known.status:
        yield f"the store says {run.status}, the last commit {known.status}"
    if run.message_count != message_count or message_count != known.message_count:
        yield f"{message_count} messages, of which the state counts {run.message_count}, commits {known.message_count}"
    match run.status:
        case Status.CANCELLED if known.cancelled_ms is None:
            yield "nobody cancelled it"
        case Status.COMPLETED if plan.ends is not Status.COMPLETED:
            yield "it should have failed"
        case Status.COMPLETED | Status.FAILED if not may_be_cut:
            if run.status is not plan.ends:
                yield f"it should have {plan.ends}: {run.last_error}"
            # One that fails for good brings no message. Nor does a commit that ends a run whose answer is there.
            turns = len(plan.turns) - (plan.ends is Status.FAILED) + known.noted
            if len(known.commits) - known.bare_commits != turns:
                yield f"{len(known.commits)} commits, of which {known.bare_commits} were bare, for {turns} turns"


def _transcript(
    known: Known, run: RunState, plan: Plan, messages: Sequence[Message], *, may_be_cut: bool
) -> Iterator[str]:
    if left := unanswered_calls(messages):
        yield f"calls without a result: {left}"
    results = {result.call_id: result for message in messages for result in message.tool_results}
    calls = [call for message in messages for call in message.tool_calls]
    if len({call.call_id for call in calls}) != len(calls):
        yield "a call id stands twice in the transcript"
    for result in results.values():
        yield from _answer(known, run, result) if result.name == ASK else _result(known, run, result)
    if missing := [call_id for call_id in known.finished if call_id not in results and run.status is Status.COMPLETED]:
        yield f"finished calls whose results are not in the transcript: {missing}"
    outcomes: dict[int | str, str] = {said_by(call): results[call.call_id].outcome for call in calls}
    sent = [message.text for message in messages[1:] if message.role is Role.USER]
    if sent != known.seen:
        yield f"its transcript has the messages {sent}, and claims brought {known.seen}"
    lines = [line_of(message) for message in messages[:1]]
    lines += [line for message in messages[1:] if (line := line_of(message))[0] != "user" and line not in _AFTER]
    expected = plan.lines(outcomes)
    if lines != expected and not (may_be_cut and _is_beginning(lines, expected)):
        yield f"its transcript is {lines}, and should be {expected}"


def _is_beginning(lines: list[Line], expected: list[Line]) -> bool:
    """Whether a transcript stops somewhere in the one that was planned, if need be within the text of a reply."""
    if lines == expected[: len(lines)]:
        return True
    *whole, last = lines
    if whole != expected[: len(whole)] or last[0] != "assistant" or last[2]:
        return False
    # What a reply had said when it was stopped; of one that would have been a failure, nothing follows in the plan.
    following = expected[len(whole)] if len(whole) < len(expected) else ("note",)
    return following[0] != "assistant" or bool(following[1].startswith(last[1]))


# What the model says once its plan has come to an end, and what it is told when its run is taken up again.
_AFTER: tuple[Line, ...] = (("assistant", NOTED, ()), ("note", NoteKind.RETRIED))


def _result(known: Known, run: RunState, result: ToolResultPart) -> Iterator[str]:
    """That a result is what the tool returned, or an explicit word about why there is none."""
    call_id, effect = result.call_id, EFFECTS.get(result.name, "none")
    finished = known.finished.get(call_id)
    if finished is not None and finished.result is not None and finished.result != result:
        yield f"{call_id} finished with {finished.result.content!r}, the transcript says {result.content!r}"
    if (said := _waited(known, result)) is not None:
        yield from said
        return
    match result.outcome:
        case "ok" | "error":
            if result.name in EFFECTS and result.content not in known.returned.get(call_id, ()):
                yield f"{call_id} has a result that its tool never gave: {result.content!r}"
        case "unknown":
            if call_id not in known.announced:
                yield f"the outcome of {call_id} is unknown, but it never started"
            if effect != "once" and run.status is not Status.CANCELLED:
                yield f"the outcome of {call_id} is unknown, but it may be repeated"
            if not known.took and not known.handed_back and run.status is not Status.CANCELLED:
                yield f"the outcome of {call_id} is unknown, but nothing had happened to its worker"
        case "cancelled":
            if run.status is not Status.CANCELLED:
                yield f"{call_id} was cancelled in a run that was not"
            if effect == "once" and known.entered[call_id] > known.did_not_happen[call_id] + known.rests[call_id]:
                yield f"{call_id} was entered, may have happened, and is said to have been cancelled before"


def _waited(known: Known, result: ToolResultPart) -> list[str] | None:
    """What is wrong with the result of a call that waited for somebody; None where it is another one."""
    call_id, said = result.call_id, result.content
    decided = known.decided.get(call_id)
    if result.outcome == "ok" and result.name in (ASKED, *RESTING):
        number = int(said.partition(":")[0].split()[1])
        expected = expected_of(result.name, number, [part.value for part in known.parts_of(call_id)])
        return [] if said == expected else [f"{call_id} gave {said!r}, and its steps say {expected!r}"]
    if result.outcome == "error" and decided is not None and decided.decision != "approved":
        wrong = [f"{call_id} was {decided.decision}, and was entered"] if known.entered[call_id] else []
        return wrong if decided.reason in said else [*wrong, f"{call_id} was denied, and says {said!r}"]
    return None


def _answer(known: Known, run: RunState, result: ToolResultPart) -> Iterator[str]:
    """That a result is what the run came to which the call has started."""
    run_id = child_run_id(result.call_id)
    child = next((each for each in known.children if each.run_id == run_id), None)
    if child is None:
        if run.status is not Status.CANCELLED:
            yield f"{result.call_id} has started no run"
        return
    expected = {Status.COMPLETED: "ok", Status.FAILED: "error", Status.CANCELLED: "cancelled"}[child.status]
    if result.outcome != expected and (run.status, result.outcome) != (Status.CANCELLED, "cancelled"):
        yield f"{result.call_id} came to {result.outcome}, and run {run_id} has {child.status}"
    if result.outcome == "ok" and result.content != child.last_text:
        yield f"{result.call_id} says {result.content!r}, and run {run_id} said {child.last_text!r}"


def _events(
    known: Known, run: RunState, events: Sequence[Event], messages: Sequence[Message], viewers: Sequence[Viewer]
) -> Iterator[str]:
    """That every viewer saw every event once and in order, but for pieces of replies that were given up."""
    if any(isinstance(event, Gap) for event in events):
        yield "there is a gap in its events"
    if not events or events[-1].seq != run.seq:
        yield f"its events end before number {run.seq}"
    resets = [event for event in events if isinstance(event, AttemptReset)]

    def is_voided(number: int) -> bool:
        return any(reset.covers(number) for reset in resets)

    whole = [event for event in events if not (_is_piece(event) and is_voided(event.seq))]
    told = "".join(event.text for event in whole if isinstance(event, TextDelta))
    said = "".join(message.text for message in messages if message.role is Role.ASSISTANT)
    # A run that was set aside keeps its last reply in its journal, for whoever retries it.
    said += known.journaled_text
    if told != said:
        yield f"viewers were told {told!r}, and it said {said!r}"
    numbers = {event.seq for event in events}
    if lost := [number for number in range(1, run.seq + 1) if number not in numbers and not is_voided(number)]:
        yield f"its events lack the numbers {lost}"
    for viewer in viewers:
        seen = [event.seq for event in viewer.seen]
        if seen != sorted(set(seen)):
            yield f"{viewer.process.name} saw events twice or out of order: {seen}"
        kept = [event for event in viewer.seen if not (_is_piece(event) and is_voided(event.seq))]
        expected = [event for event in whole if event.seq > viewer.first]
        if kept != (expected[: len(kept)] if viewer.process.is_dead else expected):
            yield f"{viewer.process.name}, who came in at {viewer.first}, saw {seen}, and there were {sorted(numbers)}"


def _is_piece(event: Event) -> bool:
    return isinstance(event, TextDelta | ReasoningDelta)


async def left_over(store: MemoryStore, *, lease_ms: int) -> list[str]:
    """What is still stored, once every time to live has passed and a sweep has run."""
    while (await store.sweep(lease_ms=lease_ms)).pruned:
        pass
    # That nothing is left is no question which a store answers.
    kept: dict[str, Mapping[str, Any]] = {
        "runs": store._runs,  # noqa: SLF001
        "sessions": store._sessions._sessions,  # noqa: SLF001
        "idempotency keys": store._keys,  # noqa: SLF001
    }
    return [f"{what} are still stored after their time: {list(left)[:3]}" for what, left in kept.items() if left]
