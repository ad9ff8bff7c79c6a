"""Structured answers: the schema that a model is asked for, and the check of what it said. Pure."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from agentq import _json
from agentq.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

T = TypeVar("T")
# Models like to put JSON into a block of code, however they are asked.
_FENCE = re.compile(r"\s*```[A-Za-z]*\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_MAX_NAME_CHARS = 64
_MAX_PROBLEMS = 5


class OutputType:
    """The type of an agent's answers: whatever pydantic takes whose JSON is an object. Raises `InvalidInput`."""

    def __init__(self, kind: Any) -> None:
        if inspect.isroutine(kind):  # pydantic takes one, for its arguments
            raise InvalidInput(f"output_type must be a type, not the function {kind.__name__}", field="output_type")
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
            self.schema: Mapping[str, Any] = self._adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError, NameError, TypeError) as error:
            raise InvalidInput(f"output_type {kind!r} has no JSON schema: {error}", field="output_type") from error
        if self.schema.get("type") != "object":
            raise InvalidInput(
                f"output_type must have the JSON of an object, such as a pydantic model, not {kind!r}: providers "
                "promise no other; put it into a field of one",
                field="output_type",
            )
        given = self.schema.get("title") or getattr(kind, "__name__", "")
        self.name = _NAME.sub("_", str(given))[:_MAX_NAME_CHARS] or "answer"

    @property
    def in_words(self) -> str:
        """What a model is told whose API cannot be told of the schema."""
        schema = _json.dumps(self.schema).decode()
        return f"Give your answer as JSON, and nothing else, that follows this JSON schema:\n{schema}"

    def problem(self, text: str) -> str | None:
        """What is wrong with an answer, in words for the model; None if it is right."""
        try:
            self._adapter.validate_json(unfenced(text))
        except ValidationError as error:
            return "; ".join(_problems(error))
        return None


def parse(kind: type[T], text: str) -> T:
    """The answer `text` as a `kind`. Raises `InvalidInput` where it is not one."""
    try:
        return TypeAdapter(kind).validate_json(unfenced(text))
    except ValidationError as error:
        name = getattr(kind, "__name__", kind)
        raise InvalidInput(f"the output is no {name}: {'; '.join(_problems(error))}", field="output") from error


def unfenced(text: str) -> str:
    """The text without the marks of a block of code around all of it."""
    fenced = _FENCE.fullmatch(text)
    return fenced[1] if fenced else text


def _problems(error: ValidationError) -> list[str]:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    words = [_in_words(problem) for problem in found[:_MAX_PROBLEMS]]
    return [*words, f"and {len(found) - _MAX_PROBLEMS} more"] if len(found) > _MAX_PROBLEMS else words


def _in_words(problem: ErrorDetails) -> str:
    where = ".".join(str(step) for step in problem["loc"])
    return f"{where}: {problem['msg']}" if where else problem["msg"]
