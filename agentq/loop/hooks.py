"""`Hooks`: functions of the user that see, change or refuse what a run asks, calls and stores. `Policy` asks them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentq.errors import InvalidInput
from agentq.messages import Usage

if TYPE_CHECKING:
    from agentq.runs import Status

# What a hook waits for is waited for by the run, so it must not be for ever.
TIMEOUT_S = 10.0
_MOMENTS = {
    "before_model": ("ctx", "request"),
    "after_model": ("ctx", "reply"),
    "before_tool": ("ctx", "call"),
    "after_tool": ("ctx", "call", "result"),
    "on_final_text": ("ctx", "text"),
    "on_run_end": ("ctx", "end"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Functions that are asked while a run goes on. Each is optional, a plain function or a coroutine function.

    Each gets a `HookContext` first, and returns None for "as it is":

    `before_model(ctx, request)` returns another `ModelRequest`, which is sent; nothing of it is stored.
    `after_model(ctx, reply)` returns another reply, a `Message`, before anything of it is stored. Its calls may have
    other arguments or be fewer, not more.
    `before_tool(ctx, call)` returns the arguments to call the tool with, which are validated as the model's are; or a
    text, the reason why the tool is not called; or False. What the model asked for stays in the transcript.
    `after_tool(ctx, call, result)` returns the text of the result, or another `ToolResultPart`, before it is stored.
    `on_final_text(ctx, text)` returns the text of an answer as it is checked and stored. What has been streamed is
    voided, and an event says so.
    `on_run_end(ctx, end)` gets a `RunEnd`, after the end is stored. A worker that dies in between takes it along.

    A hook that raises, takes longer than `timeout` seconds or returns something else is logged, and the run goes on as
    if it were not there; with `critical`, what it was asked about does not happen and the turn has failed. Raising
    `PolicyRefused` in a critical hook about the model ends the run as failed at once.
    """

    before_model: Callable[..., Any] | None = None
    after_model: Callable[..., Any] | None = None
    before_tool: Callable[..., Any] | None = None
    after_tool: Callable[..., Any] | None = None
    on_final_text: Callable[..., Any] | None = None
    on_run_end: Callable[..., Any] | None = None
    critical: bool = False
    timeout: float = TIMEOUT_S

    def __post_init__(self) -> None:
        given = [moment for moment in _MOMENTS if getattr(self, moment) is not None]
        if not given:
            raise InvalidInput(f"Hooks has no function; give one of {', '.join(_MOMENTS)}", field="hooks")
        for moment in given:
            _check(moment, getattr(self, moment))
        if not isinstance(self.critical, bool):
            raise InvalidInput(f"critical must be True or False, not {self.critical!r}", field="critical")
        if self.critical and given == ["on_run_end"]:
            raise InvalidInput("on_run_end comes when the run has ended, so it cannot be critical", field="critical")
        if (
            isinstance(self.timeout, bool)
            or not isinstance(self.timeout, int | float)
            or not 0 < self.timeout < math.inf
        ):
            raise InvalidInput(f"timeout must be a number of seconds above 0, not {self.timeout!r}", field="timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class HookContext:
    """The run that a hook is asked about. `iteration` counts from 1."""

    run_id: str
    agent: str
    iteration: int
    session_id: str | None = None
    user_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run ended: with an `output` where it completed, else with a `reason`."""

    status: Status
    output: str = ""
    reason: str = ""
    usage: Usage = field(default_factory=Usage)
    iterations: int = 0


def checked_hooks(given: Any) -> tuple[Hooks, ...]:
    """Raise `InvalidInput` for what is neither `Hooks` nor a list of them."""
    hooks = (given,) if isinstance(given, Hooks) else given
    if not isinstance(hooks, Sequence) or (odd := [each for each in hooks if not isinstance(each, Hooks)]):
        what = odd[0] if isinstance(hooks, Sequence) else hooks
        raise InvalidInput(f"hooks must be Hooks(before_tool=...) or a list of them, not {what!r:.100}", field="hooks")
    return tuple(hooks)


def _check(moment: str, function: object) -> None:
    names = _MOMENTS[moment]
    if not callable(function):
        raise InvalidInput(f"{moment} must be a function of {', '.join(names)}, not {function!r:.100}", field=moment)
    try:
        inspect.signature(function).bind(*names)
    except TypeError:
        raise InvalidInput(
            f"{moment} is called with ({', '.join(names)}), which it does not take", field=moment
        ) from None
    except ValueError:
        pass  # a builtin without a signature
