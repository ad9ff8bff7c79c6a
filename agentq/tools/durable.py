"""Durable steps of a tool: what it did is not done again, and what it waits for holds no worker.

A tool that waits is left, and entered again from its first line when what it waits for has come; its steps give what
they gave before. So what it does outside of steps must be the same each time.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol

from agentq import _json
from agentq.errors import InvalidInput, ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.steps import DurableStep, Wait


class Rested(BaseException):
    """The tool waits for something, and is left until that has come.

    Not an `Exception`: a tool that catches those would go on without what it waits for.
    """

    def __init__(self, wait: Wait) -> None:
        super().__init__(wait.kind)
        self.wait = wait


class Durable(Protocol):
    """What keeps the durable steps of one call."""

    async def earlier(self, number: int, op: str, name: str) -> DurableStep | None:
        """What the step came to when the tool was entered before. Raises `StepDiverged` where that was another one."""
        ...

    async def keep(self, number: int, name: str, value: Any) -> None:
        """Journal what a step came to."""
        ...

    async def rest(
        self,
        number: int,
        kind: str,
        name: str,
        *,
        within_s: float | None = None,
        until_s: float | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> DurableStep:
        """What was waited for, if it is there already. Raises `Rested` if not."""
        ...


class NoDurable:
    """For a context that no loop made, as in a user's test: steps are just done, and nothing can be waited for."""

    async def earlier(self, number: int, op: str, name: str) -> DurableStep | None:
        return None

    async def keep(self, number: int, name: str, value: Any) -> None:
        return None

    async def rest(self, number: int, kind: str, name: str, **_: Any) -> DurableStep:
        raise InvalidInput(f"to wait for {name or kind} a tool has to be called by a run", field="ctx")


async def result_of_step(fn: Any) -> Any:
    """What the function of a step returns, in the form in which it is kept."""
    value = fn() if callable(fn) else fn
    if inspect.isawaitable(value):
        value = await value
    try:
        return _json.checked(value, field="step")
    except InvalidInput as error:
        raise ToolError(f"a step has returned what cannot be kept: {error}") from error
