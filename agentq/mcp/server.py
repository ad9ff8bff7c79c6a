"""`MCPServer`: the tools of an MCP server as a source, over one session per worker that comes back when it broke."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agentq.errors import InvalidInput, ToolError
from agentq.mcp._errors import ServerAway, ServerGone
from agentq.settings import check_name
from agentq.tools.behaviour import ToolOptions, behaviour
from agentq.tools.context import ToolContext  # noqa: TC001 - the annotation says which parameter is the context
from agentq.tools.function import Tool

if TYPE_CHECKING:
    from collections.abc import Callable

    import mcp_types

    from agentq.mcp._session import Session
    from agentq.runs import RunState
    from agentq.tools.behaviour import Effect

logger = logging.getLogger(__name__)
_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 30.0
# A server that was heard of so recently is not asked whether it is there before a call that must not be doubled.
_HEARD_S = 5.0
# What a forked child inherits is its parent's: to let go of it would end the parent's servers.
_inherited: list[Any] = []


@dataclass(slots=True)
class _Place:
    """The session of one event loop, and how often in a row it could not be opened."""

    session: Session | None = None
    failures: int = 0


class MCPServer:
    """The tools of an MCP server, for an agent's `tools`. Raises `InvalidInput`, naming the field.

    `command` starts a server and talks to it over stdin and stdout, with a few variables of the environment and those
    of `env`; `url` is that of a server that speaks streamable HTTP, which is sent `headers`, or what a function (sync
    or async) returns for each request. Every worker process has one session, opened when a tool is first needed.

    `prefix` goes before the names of the tools; `only` and `exclude` choose among them, `effects` and `options` (those
    of `@tool`) say for single ones what the server does not, or not well. All are named as the server names them.
    Without them a tool's hints count: read-only is effect "none", idempotent "idempotent", anything else "once".
    `trusts_hints=False` is for a server whose word is not to be relied on. `timeout` is for each call, `open_timeout`
    for opening the session and listing the tools, in seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        url: str | None = None,
        headers: Mapping[str, str] | Callable[[], Any] | None = None,
        prefix: str = "",
        only: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        effects: Mapping[str, Effect] | None = None,
        options: Mapping[str, ToolOptions] | None = None,
        trusts_hints: bool = True,
        timeout: float | None = 60.0,
        open_timeout: float = 30.0,
    ) -> None:
        self.name = check_name(name, field="name")
        _check_way(command, url, env, cwd, headers)
        for field, names in (("only", only), ("exclude", exclude)):
            if isinstance(names, str):
                raise InvalidInput(f"{field} must be a list of names of tools, not {names!r}", field=field)
        if isinstance(open_timeout, bool) or not isinstance(open_timeout, int | float) or not open_timeout > 0:
            raise InvalidInput(f"open_timeout must be seconds above 0, not {open_timeout!r}", field="open_timeout")
        self._command = None if command is None else tuple(os.fspath(part) for part in command)
        self._env = dict(env or {})
        self._cwd = cwd
        self._url = url
        self._headers = headers
        self._prefix = prefix
        self._only = None if only is None else frozenset(only)
        self._exclude = frozenset(exclude)
        self._said = _said({} if effects is None else effects, {} if options is None else options, timeout)
        self._trusts_hints = trusts_hints
        self._timeout = timeout
        self._open_s = float(open_timeout)
        self._pid = os.getpid()
        self._places: dict[asyncio.AbstractEventLoop, _Place] = {}
        self._made: tuple[Sequence[mcp_types.Tool], tuple[Tool, ...]] = ((), ())
        if importlib.util.find_spec("mcp") is None:
            raise InvalidInput("MCP servers need the extra: pip install 'agentq-redis[mcp]'", field="name")

    def __repr__(self) -> str:
        # Neither what comes with an address nor the arguments of a program: keys stand there.
        where = self._command[0] if self._command is not None else self._url or ""
        address = urlsplit(where)
        return f"<MCPServer {self.name} {address.hostname or ''}{address.path}>"

    async def tools_for(self, run: RunState) -> Sequence[Tool]:
        """The server's tools, as it last listed them. Raises `ServerAway`."""
        listed = await (await self._session()).tools()
        made_of, made = self._made
        if listed is not made_of:
            made = self._make(listed)
            self._made = (listed, made)
        return made

    async def aclose(self) -> None:
        """Close the session that this event loop has, and end a server that was started for it."""
        place = self._here().pop(asyncio.get_running_loop(), None)
        if place is not None and place.session is not None:
            await place.session.aclose()

    # --- the session

    def _here(self) -> dict[asyncio.AbstractEventLoop, _Place]:
        """The places of this process."""
        if self._pid != os.getpid():
            _inherited.append(self._places)
            self._pid, self._places = os.getpid(), {}
        # A copy: the loops of other threads have their places here, too.
        for loop in tuple(self._places):
            if loop.is_closed():
                self._places.pop(loop, None)
        return self._places

    async def _session(self) -> Session:
        """The session of this event loop, opened if there is none. Raises `ServerAway`."""
        from agentq.mcp._session import Session

        loop = asyncio.get_running_loop()
        place = self._here().setdefault(loop, _Place())
        session = place.session
        if session is not None and session.is_over:
            if session.was_open:
                place.failures = 0
            elif loop.time() - session.ended_at < min(_BACKOFF_S * 2**place.failures, _LONGEST_BACKOFF_S):
                raise ServerAway(f"MCP server {self.name} cannot be reached: {session.cause}")
            else:
                place.failures += 1
            session = None
        if session is None:
            session = place.session = Session(self.name, self._transport(), open_s=self._open_s)
        await session.opened()
        return session

    def _transport(self) -> Any:
        from agentq.mcp import _transports

        if self._url is not None:
            return _transports.over_http(self._url, self._headers, connect_s=self._open_s)
        return _transports.over_stdio(self._command or (), self._env, self._cwd)

    # --- the tools

    def _make(self, listed: Sequence[mcp_types.Tool]) -> tuple[Tool, ...]:
        made: dict[str, Tool] = {}
        for each in listed:
            if each.name in self._exclude or (self._only is not None and each.name not in self._only):
                continue
            tool = self._made_of(each)
            if tool is None:
                continue
            if tool.name in made:
                logger.warning(
                    "MCP server %s: of two tools that would be named %s one is left out", self.name, tool.name
                )
                continue
            made[tool.name] = tool
        missing = (self._only or frozenset()) - {each.name for each in listed}
        if missing:
            logger.warning("MCP server %s has no tool named %s", self.name, ", ".join(sorted(missing)))
        return tuple(made.values())

    def _made_of(self, listed: mcp_types.Tool) -> Tool | None:
        """The tool; None, and a word in the log, for one that no model can be told of."""
        from agentq.mcp._results import hints_of, name_of, schema_of

        hints: ToolOptions = hints_of(listed) if self._trusts_hints else {}
        options: ToolOptions = {"timeout": self._timeout, **hints, **self._said.get(listed.name, {})}
        if options.get("effect") == "none" or options.get("read_only"):
            options["destructive"] = False
        effect = options.get("effect") or "once"
        options["effect"] = effect

        # With a name that no schema has: the arguments are the server's.
        async def call(agentq_context: ToolContext, **arguments: Any) -> Any:
            return await self._call(listed.name, arguments, effect, agentq_context)

        try:
            return Tool(name_of(listed, self._prefix), listed.description or "", schema_of(listed), call, **options)
        except InvalidInput as error:
            if error.field in ("name", "description", "parameters"):
                logger.warning("MCP server %s: tool %s is left out: %s", self.name, listed.name, error)
                return None
            raise InvalidInput(f"MCP server {self.name}, tool {listed.name}: {error}", field="options") from error

    async def _call(self, name: str, arguments: Mapping[str, Any], effect: Effect, ctx: ToolContext) -> Any:
        from mcp.shared.exceptions import MCPError

        from agentq.mcp._results import text_of, value_of

        async def progress(done: float, total: float | None, message: str | None) -> None:
            # What a server says of itself may be more than all.
            ctx.progress(message or "", min(max(done / total, 0.0), 1.0) if total else None)

        try:
            result = await self._sent(name, arguments, effect, progress)
        except ServerAway as error:
            raise ServerAway(f"{name} was not called: {error}") from error
        except ServerGone as error:
            if effect != "once":
                raise
            raise ToolError(
                f"Outcome unknown: {error}. The call may or may not have had its effect, and was not repeated. "
                "Find out before you try again."
            ) from error
        except MCPError as error:
            raise ToolError(f"{name} failed: {error.message}") from error
        except RuntimeError as error:
            # The SDK checks what comes back: the call has been made all the same.
            raise ToolError(f"{name} was called, and its result cannot be used: {error}") from error
        if result.is_error:
            raise ToolError(text_of(result) or f"{name} failed, and did not say why")
        return value_of(result)

    async def _sent(
        self, name: str, arguments: Mapping[str, Any], effect: Effect, progress: Callable[..., Any]
    ) -> mcp_types.CallToolResult:
        session = await self._session()
        if effect == "once" and self._url is not None and session.is_silent_for(_HEARD_S):
            # A server that has gone is better noticed by a question that does no harm.
            try:
                await session.list_tools()
            except (ServerAway, ServerGone):
                session = await self._session()
        try:
            return await session.call(name, arguments, progress)
        except ServerAway:
            # It started anew and knows nothing of the session: nothing was done.
            return await (await self._session()).call(name, arguments, progress)


def _said(
    effects: Mapping[str, Effect], options: Mapping[str, ToolOptions], timeout: float | None
) -> dict[str, ToolOptions]:
    """What the user says of single tools, checked as far as it can be without the server."""
    for field, given in (("effects", effects), ("options", options)):
        if not isinstance(given, Mapping):
            raise InvalidInput(f"{field} must be a dict by names of tools, not {type(given).__name__}", field=field)
    behaviour(timeout=timeout)
    said: dict[str, ToolOptions] = {}
    for name in {**effects, **options}:
        each: ToolOptions = {**options.get(name, {})}
        if name in effects:
            each["effect"] = effects[name]
        trial: dict[str, Any] = {**each}
        if "effect" not in trial and trial.get("retries"):
            trial["effect"] = "idempotent"  # which the server may say
        field = "effects" if name in effects else "options"
        try:
            behaviour(**trial)
        except InvalidInput as error:
            raise InvalidInput(f"tool {name}: {error}", field=field) from error
        except TypeError as error:
            raise InvalidInput(f"tool {name} has an option that @tool does not know: {error}", field=field) from None
        said[name] = each
    return said


def _check_way(command: Any, url: Any, env: Any, cwd: Any, headers: Any) -> None:
    if (command is None) == (url is None):
        raise InvalidInput(
            'an MCP server has either a command=["program", ...] or a url="https://..."', field="command"
        )
    if command is not None:
        if isinstance(command, str | bytes) or not isinstance(command, Sequence) or not command:
            raise InvalidInput(f'command must be a list such as ["npx", "-y", "..."], not {command!r}', field="command")
        if headers is not None:
            raise InvalidInput("headers are for a server with a url", field="headers")
        return
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise InvalidInput(f"url must begin with https:// or http://, not {url!r}", field="url")
    if env is not None or cwd is not None:
        raise InvalidInput("env and cwd are for a server with a command", field="env" if env is not None else "cwd")
    if headers is not None and not isinstance(headers, Mapping) and not callable(headers):
        raise InvalidInput(f"headers must be a dict, or a function that returns one, not {headers!r}", field="headers")
