"""The remark that an answer came from the built-in model `mock`, once, for who expected a real one."""

from __future__ import annotations

from agentq.cli._output import remark
from agentq.errors import ProviderError
from agentq.events.model import Event, ReplyCompleted, RunCompleted, RunQueued

_REMARK = (
    "that was `mock`, the built-in model: it needs no key, echoes or plays a script (docs/mock.md); "
    "for a real one see docs/guide/models.md"
)


class MockRemark:
    """Takes the events of runs, and makes the remark after the first that `mock` answered as an echo.

    A prompt that is a script was meant for the mock.
    """

    def __init__(self) -> None:
        self._prompts: dict[str, str] = {}
        self._models: dict[str, str | None] = {}
        self._is_made = False

    def take(self, event: Event) -> None:
        """Look at an event after it was shown."""
        match event:
            case RunQueued():
                self._prompts[event.run_id] = event.prompt
            case ReplyCompleted():
                self._models[event.run_id] = event.model
            case RunCompleted() if self._models.get(event.run_id) == "mock" and not self._is_made:
                prompt = self._prompts.get(event.run_id)
                if prompt is not None and not _is_script(prompt):
                    self._is_made = True
                    remark("mock", _REMARK, as_json=False, style="dim")


def _is_script(prompt: str) -> bool:
    from agentq.providers._script import parse_script

    try:
        return parse_script(prompt) is not None
    except ProviderError:
        return True  # one with a mistake in a later line
