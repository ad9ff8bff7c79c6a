"""What a model reads of a transcript whose older part was compacted, by the last record in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from agentq.context.compaction import (
    Plan,
    Strategy,
    kept_prompt,
    plan_for,
    summary_message,
)
from agentq.context.shortening import shortened
from agentq.context.tokens import estimate_tokens
from agentq.messages import CompactionRecord, Message, Role, TextPart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq.context.compaction import Compaction
    from agentq.messages import Usage

# An estimate that is further off than this is of something else than what was reported.
_CORRECTIONS = (0.5, 3.0)


class Shown(NamedTuple):
    """The messages that a model reads, and where each stands in the transcript; a summary stands for its last one."""

    messages: tuple[Message, ...]
    indexes: tuple[int, ...]

    def before(self, index: int) -> int:
        """How many of them stand before `index` of the transcript."""
        return sum(at < index for at in self.indexes)


def last_record(transcript: Sequence[Message]) -> Message | None:
    """The record that counts: the last one. One that speaks of what comes after it is no record of this transcript."""
    for index in range(len(transcript) - 1, -1, -1):
        record = transcript[index].compacted
        if record is not None and max(record.left_out, record.results_upto, record.whitespace_upto) <= index:
            return transcript[index]
    return None


def shown(
    transcript: Sequence[Message], record: Message | None, hides: Callable[[Message], bool] | None = None
) -> Shown:
    """What a model reads of `transcript` by `record`, without what somebody else `hides`."""
    done = record.compacted if record is not None else None
    messages: list[Message] = []
    indexes: list[int] = []
    first = 0
    if record is not None and done is not None and 0 < done.left_out <= len(transcript):
        first = done.left_out
        if done.kept is not None and 0 <= done.kept < first:
            messages.append(transcript[done.kept])
            indexes.append(done.kept)
        messages.append(summary_message(record.text))
        indexes.append(first - 1)
    for index in range(first, len(transcript)):
        message = transcript[index]
        if message.compacted is not None or (hides is not None and hides(message)):
            continue
        if done is not None and index < max(done.results_upto, done.whitespace_upto):
            message = shortened(
                message,
                done.max_tool_result_chars if index < done.results_upto else None,
                collapses=index < done.whitespace_upto,
            )
        messages.append(message)
        indexes.append(index)
    return Shown(tuple(messages), tuple(indexes))


def correction(
    transcript: Sequence[Message],
    history_length: int,
    overhead: int,
    hides: Callable[[Message], bool] | None = None,
) -> float:
    """What estimates are to be multiplied by: what the last reply reported, by what its request would be estimated at.

    A reply of an earlier run may be another agent's, with other tools, so it only makes estimates larger.
    """
    for index in range(len(transcript) - 1, -1, -1):
        reply = transcript[index]
        if reply.role is not Role.ASSISTANT or reply.usage is None or reply.usage.input_tokens <= 0:
            continue
        asked = transcript[:index]
        estimated = overhead + estimate_tokens(shown(asked, last_record(asked), hides).messages)
        least, most = _CORRECTIONS
        found = min(max(reply.usage.input_tokens / max(estimated, 1), least), most)
        return found if index >= history_length else max(found, 1.0)
    return 1.0


@dataclass(frozen=True, slots=True)
class Measure:
    """Tokens of messages: the estimate with the `overhead` of instructions and tools, times what it is off by."""

    overhead: int
    factor: float = 1.0

    def __call__(self, messages: Sequence[Message]) -> int:
        return round((self.overhead + estimate_tokens(messages)) * self.factor)


def plan_of(
    transcript: Sequence[Message],
    history_length: int,
    compaction: Compaction,
    overhead: int,
    hides: Callable[[Message], bool] | None = None,
) -> tuple[Plan, Shown, Measure]:
    """What is to be done before the model is asked, what it would read now, and how that is measured."""
    now = shown(transcript, last_record(transcript), hides)
    estimate = overhead + estimate_tokens(now.messages)
    if estimate * _CORRECTIONS[1] <= compaction.limit:
        # It fits, however wrong the estimate is.
        return Plan("none", now.messages), now, Measure(overhead)
    measure = Measure(overhead, correction(transcript, history_length, overhead, hides))
    return plan_for(now.messages, compaction, measure), now, measure


def record_of(
    plan: Plan,
    now: Shown,
    before: Message | None,
    compaction: Compaction,
    strategy: Strategy,
    text: str = "",
    *,
    model: str | None = None,
    usage: Usage | None = None,
) -> Message:
    """The record of what was done; `before` is the one that counted until then, `text` what stands for the old ones."""
    upto = now.indexes[plan.position] if plan.position < len(now.indexes) else now.indexes[-1] + 1
    if strategy in ("summary", "dropped"):
        kept = kept_prompt(plan.messages, plan.position)
        done = CompactionRecord(
            strategy="summary" if strategy == "summary" else "dropped",
            left_out=upto,
            kept=None if kept is None else now.indexes[kept],
        )
    else:
        was = (before.compacted if before is not None else None) or CompactionRecord(strategy="tool_results")
        limit = compaction.max_tool_result_chars
        collapses = strategy == "whitespace"
        done = CompactionRecord(
            strategy="whitespace" if collapses else "tool_results",
            left_out=was.left_out,
            kept=was.kept,
            results_upto=upto,
            # What was cut shorter before stays so.
            max_tool_result_chars=min(was.max_tool_result_chars or limit, limit),
            whitespace_upto=upto if collapses else was.whitespace_upto,
        )
        text = before.text if before is not None else ""
    parts = (TextPart(text=text),) if text else ()
    return Message(role=Role.SYSTEM, parts=parts, model=model, usage=usage, compacted=done)
