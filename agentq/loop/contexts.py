"""What the tools of one iteration get to know, and how their reports and writes come to the run."""

from __future__ import annotations

import asyncio
import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.errors import InvalidInput
from agentq.events.model import ToolProgress
from agentq.loop.durable import DurableSteps
from agentq.loop.writer import patiently
from agentq.steps import PART
from agentq.stores.values import SCOPES, Change, apply, owner_of
from agentq.tools.cache import Cache
from agentq.tools.context import ToolContext
from agentq.tools.secrets import NO_SECRETS, Secrets, secret_of
from agentq.tools.state import State, Values

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from agentq.events.model import Event
    from agentq.loop.durable import Parts
    from agentq.loop.loop import Loop
    from agentq.loop.writer import StepWriter
    from agentq.messages import ToolCallPart
    from agentq.runs import RunState
    from agentq.stores.values import Scope
    from agentq.tools.execution import Changes
    from agentq.tools.function import Tool

logger = logging.getLogger(__name__)


class Contexts:
    """Makes the contexts of calls. `emit` takes what a call reports."""

    def __init__(
        self, loop: Loop, run: RunState, writer: StepWriter, emit: Callable[[str, Event], None], parts: Parts
    ) -> None:
        self._loop = loop
        self._run = run
        self._writer = writer
        self._emit = emit
        self._parts = parts
        self._cache = Cache(loop.shared)
        # What is kept for the run, its session and its user, from when a call first wants to know.
        self._values: dict[Scope, dict[str, bytes]] = {}

    @cached_property
    def _reading(self) -> asyncio.Lock:
        return asyncio.Lock()

    async def prepare(self, tool: Tool | None) -> None:
        """Read what the context of such a call holds, once for all calls of the iteration."""
        if tool is None or not tool.takes_context or self._values:
            return
        async with self._reading:
            if not self._values:
                read = await asyncio.gather(*map(self._read, SCOPES))
                self._values = dict(zip(SCOPES, read, strict=True))

    async def _read(self, scope: Scope) -> dict[str, bytes]:
        of = owner_of(scope, self._run)
        if of is None:
            return {}
        store, clock = self._loop.store, self._loop.clock
        return dict(await patiently(lambda: store.values(scope, of), clock, lambda: self._writer.closed))

    def of(self, call: ToolCallPart, tool: Tool | None, attempt: int, flag: threading.Event) -> ToolContext:
        """The context of one attempt of a call; `flag` is set when nobody waits for it any more."""
        event_loop = asyncio.get_running_loop()
        secrets = self._secrets_of(tool)

        def report(message: str, fraction: float | None) -> None:
            message = _json.storable(secrets.redact(message))
            event = ToolProgress(call_id=call.call_id, name=call.name, message=message, fraction=fraction)
            event_loop.call_soon_threadsafe(self._emit, call.call_id, event)

        async def commit_effect(number: int, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
            await self._parts.may_keep(call.call_id)
            return await self._writer.commit_effect(f"{call.call_id}{PART}{number}", script, keys, args)

        return ToolContext(
            run_id=self._run.run_id,
            call_id=call.call_id,
            session_id=self._run.session_id,
            user_id=self._run.user_id,
            idempotency_key=call.call_id,
            attempt=attempt,
            metadata=self._run.metadata,
            cancel_event=flag,
            report=report,
            commit_effect=commit_effect,
            state=State(dict(self._values.get("run", {})), session=self._kept("session"), user=self._kept("user")),
            cache=self._cache,
            secrets=secrets,
            event_loop=event_loop,
            durable=DurableSteps(self._parts, call.call_id),
        )

    def keep(self, changes: Changes) -> tuple[Change, ...]:
        """What a call changed, for the journal. Calls that start after it see it."""
        kept = tuple(Change(scope, name, value) for scope, name, value in changes)
        for change in kept:
            apply(self._values.setdefault(change.scope, {}), [change])
        return kept

    def _kept(self, scope: Scope) -> Values:
        if owner_of(scope, self._run) is None:
            return Values(why_not=f"ctx.state.{scope} needs a run with {scope}_id=")
        return Values(dict(self._values.get(scope, {})))

    def _secrets_of(self, tool: Tool | None) -> Secrets:
        if tool is None or not tool.behaviour.secrets:
            return NO_SECRETS
        found = {name: self._secret(name) for name in tool.behaviour.secrets}
        return Secrets({name: value for name, value in found.items() if value})

    def _secret(self, name: str) -> str | None:
        """The secret; None where whoever gives it cannot, and the log says why: the call fails, and not the run."""
        try:
            return secret_of(self._loop.secret, name)
        except InvalidInput as error:
            logger.error("%s", error, exc_info=error.__cause__, extra={"run_id": self._run.run_id})  # noqa: TRY400
            return None
