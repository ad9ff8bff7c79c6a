"""What is shown of arguments: a hook of the site may take secrets out of them, before anything leaves the server."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentq.events.model import Gap, RunAnswered, RunWaiting, ToolCalled
from agentq.messages import ToolCallPart

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agentq.events.model import Event
    from agentq.messages import Message
    from agentq.runs import Question, RunState


class Redaction:
    """Applies `redact_arguments(tool, arguments)`; without it everything is shown as it is."""

    def __init__(self, hook: Callable[[str, Mapping[str, Any]], Mapping[str, Any]] | None = None) -> None:
        self._hook = hook

    @property
    def is_on(self) -> bool:
        return self._hook is not None

    def arguments(self, tool: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments as they are shown. What the hook raises comes out: nothing is shown then."""
        return arguments if self._hook is None else dict(self._hook(tool, arguments))

    def run(self, run: RunState) -> RunState:
        """The run with the arguments in its questions as they are shown."""
        if self._hook is None or not run.questions:
            return run
        return replace(run, questions=tuple(self.question(question) for question in run.questions))

    def question(self, question: Question) -> Question:
        """See `run`."""
        if self._hook is None:
            return question
        return replace(question, arguments=self.arguments(question.tool, question.arguments))

    def message(self, message: Message) -> Message:
        """The message with the arguments of its calls as they are shown."""
        if self._hook is None:
            return message
        parts = tuple(self._part(part) for part in message.parts)
        return message.model_copy(update={"parts": parts})

    def event(self, event: Event) -> Event:
        """The event with arguments as they are shown."""
        if self._hook is None:
            return event
        match event:
            case ToolCalled() | RunWaiting():
                return event.model_copy(update={"arguments": dict(self.arguments(event.name, event.arguments))})
            case RunAnswered(arguments=arguments) if arguments is not None:
                return event.model_copy(update={"arguments": dict(self.arguments(event.name, arguments))})
            case Gap():
                return event.model_copy(update={"messages": tuple(map(self.message, event.messages))})
            case _:
                return event

    def _part(self, part: Any) -> Any:
        if not isinstance(part, ToolCallPart):
            return part
        # What the provider sent along may hold them too.
        return part.model_copy(update={"arguments": self.arguments(part.name, part.arguments), "native": None})
