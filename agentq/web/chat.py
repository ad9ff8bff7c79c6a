"""A turn of a chat as lines, whole: from the message to how it ended, whatever happens on the way.

The same identity is the same turn. It is answered once, and a turn that has ended is told again without a model.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import re
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.errors import AgentQError, InvalidInput
from agentq.intake import check_texts
from agentq.web.streams.chat_lines import ChatLinesFold, failure, line
from agentq.web.streams.frames import ends_turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from agentq.attachments import Attachable
    from agentq.client_async import AsyncClient
    from agentq.events.model import Event
    from agentq.messages import Usage

    Line = dict[str, Any]

_log = logging.getLogger(__name__)
# What of a line may go out when a hook that should have taken secrets out of it has failed.
_ABOUT_THE_RUN = ("run_id", "session_id")


@dataclass(frozen=True, slots=True)
class ChatIdentity:
    """Which turn it is: of which session, asked to which agent, and its own `turn_id`, such as that of the message."""

    agent: str
    session_id: str
    turn_id: str
    user_id: str | None = None

    def __post_init__(self) -> None:
        for name in ("agent", "session_id", "turn_id"):
            if getattr(self, name) is None:
                raise InvalidInput(f"{name} is missing", field=name)
        check_texts(agent=self.agent, session_id=self.session_id, turn_id=self.turn_id, user_id=self.user_id)


@dataclass(frozen=True, slots=True)
class ChatResult:
    """How a turn ended well. `replayed`: it had ended before, and was told again."""

    run_id: str
    session_id: str
    output: str
    usage: Usage
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class ChatHooks:
    """What an application does in a turn. Each may be async; one that raises is logged and told, and ends nothing.

    `post_process(result)` returns the output that is persisted and told in place of the model's. `persist(result)`
    keeps it; it may be called again for the same `run_id`, when the turn is told again. `transform(line)` returns each
    line as it goes out, or None to leave it out; of a line for which it raises, nothing is told but the run.
    """

    transform: Callable[[Line], Any] | None = None
    post_process: Callable[[ChatResult], Any] | None = None
    persist: Callable[[ChatResult], Any] | None = None

    def __post_init__(self) -> None:
        for name in ("transform", "post_process", "persist"):
            hook = getattr(self, name)
            if hook is not None and not callable(hook):
                raise InvalidInput(f"{name} must be a function, not {hook!r:.80}", field=name)


def chat_turn(
    identity: ChatIdentity,
    message: str,
    hooks: ChatHooks | None = None,
    *,
    client: AsyncClient,
    files: Sequence[Attachable] = (),
) -> AsyncGenerator[Line, None]:
    """Ask, and give the lines of the turn as they come: objects `{type, data}`, to be written as JSON, one a line.

    `session.run.started`, `message.part.updated` for each piece, then `result` and `session.run.completed`; or `error`
    and `session.run.failed`. A turn that had completed is one `result`. Whatever fails becomes lines: nothing is raised
    but `InvalidInput` for an identity or hooks that are none, at once. A turn that waits for a person goes on when they
    have answered. Close the generator when nobody listens; the run goes on.
    """
    return lines(identity, message, hooks, client=client, files=files)


def lines(
    identity: ChatIdentity,
    message: str,
    hooks: ChatHooks | None = None,
    *,
    client: AsyncClient,
    files: Sequence[Attachable] = (),
    seen: Callable[[Event], Event] | None = None,
) -> AsyncGenerator[Line, None]:
    """See `chat_turn`; `seen` is what a viewer sees of an event."""
    if not isinstance(identity, ChatIdentity):
        raise InvalidInput(f"identity must be a ChatIdentity(...), not {identity!r:.80}", field="identity")
    if hooks is not None and not isinstance(hooks, ChatHooks):
        raise InvalidInput(f"hooks must be ChatHooks(...), not {hooks!r:.80}", field="hooks")
    return _Turn(identity, hooks or ChatHooks(), client, seen).lines(message, files)


class _Turn:
    def __init__(
        self,
        identity: ChatIdentity,
        hooks: ChatHooks,
        client: AsyncClient,
        seen: Callable[[Event], Event] | None,
    ) -> None:
        self._identity = identity
        self._hooks = hooks
        self._client = client
        self._seen = seen or (lambda event: event)
        # Hooks that failed: what is still to be told of it, and of which it was told.
        self._faults: list[Line] = []
        self._told_of: set[str] = set()
        self._run: dict[str, Any] = {"run_id": None, "session_id": identity.session_id}

    async def lines(self, message: str, files: Sequence[Attachable]) -> AsyncGenerator[Line, None]:
        """The turn, with what hooks make of it."""
        async with aclosing(self._told(message, files)) as told:
            async for each in told:
                for out in await self._transformed(each):
                    yield out
                for fault in self._take_faults():
                    yield fault

    async def _told(self, message: str, files: Sequence[Attachable]) -> AsyncGenerator[Line, None]:
        try:
            async with aclosing(self._produced(message, files)) as produced:
                async for each in produced:
                    yield each
        except AgentQError as error:
            _log.warning("a turn of session %s failed: %s", self._identity.session_id, error)
            for each in failure(self._run, str(error), _code(error)):
                yield each
        except Exception:  # noqa: BLE001 - the layer above has sent its status, and can say nothing more
            _log.exception("a turn of session %s failed", self._identity.session_id)
            for each in failure(self._run, "something went wrong on the server; its log has more", "internal"):
                yield each

    async def _produced(self, message: str, files: Sequence[Attachable]) -> AsyncGenerator[Line, None]:
        identity, client = self._identity, self._client
        of = [identity.agent, identity.session_id, identity.turn_id, identity.user_id]
        run = await client.enqueue(
            identity.agent,
            message,
            session_id=identity.session_id,
            user_id=identity.user_id,
            files=files,
            idempotency_key=f"turn:{hashlib.sha256(_json.dumps(of)).hexdigest()[:40]}",
        )
        self._run["run_id"] = run.id
        if (await client.read(run.id)).status.is_final:
            yield await self._result(run.id, replayed=True)
            return
        fold = ChatLinesFold(run.id, identity.session_id)
        async with aclosing(client.events(run.id, voided=True)) as events:
            async for event in events:
                pieces = fold.take(self._seen(event))
                for each in pieces.body:
                    yield dict(each)
                # It may have failed before, and have been taken up again.
                if pieces.closing and ends_turn(event) and (await client.read(run.id)).status.is_final:
                    for each in pieces.closing:
                        yield await self._result(run.id) if each["type"] == "result" else dict(each)
                    return

    async def _result(self, run_id: str, *, replayed: bool = False) -> Line:
        """What the turn came to, after the hooks. Raises how it failed."""
        ended = await self._client.result(run_id, timeout=0)
        result = ChatResult(run_id, self._identity.session_id, ended.output, ended.usage, replayed)
        output = await self._asked("post_process", result)
        if output is not None and not isinstance(output, str):
            self._fault("post_process", TypeError(f"it returned a {type(output).__name__} and no text"))
        elif output is not None:
            result = ChatResult(run_id, result.session_id, output, result.usage, replayed)
        await self._asked("persist", result)
        usage = result.usage.model_dump(mode="json", exclude_none=True)
        again = {"replayed": True} if replayed else {}
        return line("result", **self._run, output=result.output, usage=usage, **again)

    # --- hooks

    async def _asked(self, name: str, given: Any) -> Any:
        """What a hook says; None where there is none, or it fails."""
        hook = getattr(self._hooks, name)
        if hook is None:
            return None
        try:
            said = hook(given)
            return await said if inspect.isawaitable(said) else said
        except Exception as error:  # noqa: BLE001 - a hook of a user may raise anything
            self._fault(name, error)
            return None

    async def _transformed(self, told: Line) -> list[Line]:
        hook = self._hooks.transform
        if hook is None:
            return [told]
        try:
            said = hook(told)
            said = await said if inspect.isawaitable(said) else said
            if said is not None and not (isinstance(said, Mapping) and isinstance(said.get("type"), str)):
                raise TypeError(f"it returned {said!r:.40} and no line")  # noqa: TRY301 - told like what it raises
        except Exception as error:  # noqa: BLE001 - a hook of a user may raise anything
            self._fault("transform", error)
            data = told["data"]
            is_part = told["type"] == "message.part.updated"
            return [] if is_part else [line(told["type"], **{key: data[key] for key in _ABOUT_THE_RUN if key in data})]
        return [] if said is None else [dict(said)]

    def _fault(self, name: str, error: Exception) -> None:
        if name in self._told_of:
            return
        self._told_of.add(name)
        _log.error(
            "the hook %s of a turn failed: %s", name, error, exc_info=error, extra={"run_id": self._run["run_id"]}
        )
        text = f"the hook {name} failed, and the turn goes on; the log of the server has more"
        self._faults.append(line("error", **self._run, message=text, code="hook_failed"))

    def _take_faults(self) -> list[Line]:
        faults, self._faults = self._faults, []
        return faults


def _code(error: AgentQError) -> str:
    """The code of an error: `RunFailed` is `run_failed`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()
