"""What a run asks people, as a form: which fields it has, and what was filled in as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.errors import InvalidInput
from agentq.runs import CALL_OUTCOME
from agentq.tools.behaviour import Reconciled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.runs import Question, RunState

# So many choices are buttons; more are no use as such.
_MAX_CHOICES = 12


@dataclass(frozen=True, slots=True)
class Ask:
    """One question of a run. `is_whole`: nothing of the arguments is hidden, so they can be changed here."""

    run: RunState
    question: Question
    is_whole: bool = True

    @property
    def dom_id(self) -> str:
        """An id for the page."""
        return f"ask-{self.question.call_id.replace('.', '-')}-{self.question.number}"

    @property
    def kind(self) -> str:
        return self.question.kind

    @property
    def since_ms(self) -> int:
        return self.question.since_ms or self.run.updated_ms

    @property
    def field(self) -> str:
        """What is filled in: text, choice, yes_no, number or json."""
        return field_of(self.question.schema)

    @property
    def choices(self) -> list[Any]:
        return list((self.question.schema or {}).get("enum", ()))

    @property
    def hint(self) -> str:
        """What the schema says in words."""
        return str((self.question.schema or {}).get("description", ""))


def field_of(schema: Mapping[str, Any] | None) -> str:
    """How an answer that fits the schema is filled in."""
    if schema is None:
        return "text"
    choices = schema.get("enum")
    if choices and len(choices) <= _MAX_CHOICES:
        return "choice"
    kinds: Mapping[Any, str] = {"string": "text", "boolean": "yes_no", "integer": "number", "number": "number"}
    kind = schema.get("type")
    return kinds.get(kind, "json") if isinstance(kind, str) else "json"


def answer_of(question: Question, given: Mapping[str, Any]) -> Any:
    """What the form says. Raises `InvalidInput`."""
    text = given.get("answer")
    if question.kind == CALL_OUTCOME:
        outcomes = {"did_not_happen": Reconciled.DID_NOT_HAPPEN, "unknown": Reconciled.UNKNOWN}
        if (outcome := given.get("outcome")) in outcomes:
            return outcomes[outcome]
        return _from_json_or_text(text)
    if not isinstance(text, str):
        raise InvalidInput("fill in an answer", field="answer")
    if field_of(question.schema) == "text":
        return text
    try:
        return _json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"the answer must be JSON: {error}", field="answer") from error


def _from_json_or_text(text: Any) -> Any:
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput("fill in the result of the call, or say what became of it", field="answer")
    try:
        return _json.loads(text)
    except ValueError:
        return text


def changed_arguments(text: Any, question: Question) -> dict[str, Any] | None:
    """Other arguments, where the form has some; None where they are as they were. Raises `InvalidInput`."""
    if not isinstance(text, str) or not text.strip():
        return None
    try:
        given = _json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"the arguments must be JSON: {error}", field="arguments") from error
    if not isinstance(given, dict):
        raise InvalidInput("the arguments must be a JSON object", field="arguments")
    return None if given == dict(question.arguments) else given
