"""`AgentQ`: agents and settings, wired to a store and an executor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from agentq import _ids
from agentq._clock import SystemClock
from agentq._turns import Turns, check_is_no_part_of
from agentq.attachments import Attachable, read_files, refusal
from agentq.callbacks import Callbacks, check_callbacks, dispatch
from agentq.delivering import keys_of
from agentq.errors import Conflict, InvalidInput, LeaseLost, RunNotFound, StoreUnavailable, UnknownAgent
from agentq.executors.local import LocalExecutor
from agentq.intake import NOTHING, check_tools, new_run
from agentq.loop import Agent, Loop, settle_cancelled
from agentq.loop.hooks import Hooks, checked_hooks
from agentq.loop.toolbox import close_sources
from agentq.providers.base import check_model_settings, media_types_of
from agentq.providers.registry import in_use, resolve
from agentq.results import RunResult, reading, result_of
from agentq.runs import Status
from agentq.settings import Settings, variable
from agentq.stores._memory_sessions import MemorySessions
from agentq.stores.memory import MemoryStore
from agentq.tools.secrets import secret_of
from agentq.webhooks import Webhook, checked_webhooks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from agentq.events.stream import EventStream
    from agentq.executors.base import Executor
    from agentq.limits import RunLimits, SpendLimit
    from agentq.providers.base import Provider
    from agentq.runs import RunState
    from agentq.stores.base import NewRun, Store

logger = logging.getLogger(__name__)
# How early a timer may ring.
_EARLY_MS = 20
# How often a run looks whether it is its turn in its session, where the store does not tell, and where it does: a store
# in memory that two event loops share, which it is not made for, may be heard late.
_IN_LINE_S = 0.1
_TOLD_IN_LINE_S = 1.0
# When to look whether an iteration that was stopped has handed its run back.
_UNTIL_HANDED_BACK_S = (0.0, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class AgentQ:
    """The app that workers load and that `run` uses in process.

    `store` and `executor` choose others than the defaults: Redis and RQ for workers and clients, memory and tasks of
    this event loop for `run`. `models` maps provider names to `Provider` objects of your own. `secrets` are those that
    tools ask for, by name, or a function that gives the secret of a name; without it they are environment variables.
    `hooks` are asked about the runs of all agents, after the agent's own. `webhooks` are told by workers how runs end.
    """

    def __init__(
        self,
        agents: Sequence[Agent | type[Any]] = (),
        *,
        settings: Settings | None = None,
        store: Store | None = None,
        stream: EventStream | None = None,
        executor: Executor | None = None,
        models: Mapping[str, Provider] | None = None,
        secrets: Mapping[str, str] | Callable[[str], str | None] | None = None,
        hooks: Hooks | Sequence[Hooks] = (),
        webhooks: Sequence[Webhook] = (),
    ) -> None:
        self.settings = settings or Settings.load()
        given = [Agent.of(each) for each in agents]
        self.agents: Mapping[str, Agent] = {agent.name: agent for agent in given}
        if len(self.agents) < len(given):
            names = [agent.name for agent in given]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise InvalidInput(f"two agents are named {twice[0]!r}; rename one", field="agents")
        self.agents = _with_those_that_are_tools(self.agents)
        # Whoever advances runs by an executor of his own needs the store that `run` puts them into.
        self.store = MemoryStore() if store is None and executor is not None else store
        self.stream: EventStream | None = stream or getattr(self.store, "stream", None)
        self.executor = executor
        self._models = dict(models or {})
        self._hooks = checked_hooks(hooks)
        self.webhooks: Mapping[str, Webhook] = checked_webhooks(webhooks, self.agents)
        self._secret: Callable[[str], str | None] = _secrets_by_name(secrets)
        # What `run` remembers of sessions where there is no store: their transcripts, and whose turn it is in each.
        self._sessions = MemorySessions(SystemClock().now_ms)
        self._turns = Turns()
        # An event loop holds its tasks weakly.
        self._carried: set[asyncio.Task[RunResult]] = set()

    def manifests(self) -> dict[str, dict[str, Any]]:
        """What workers publish of the agents, by name, with the media types of files that their models take."""
        return {
            name: {**agent.manifest(), "media_types": list(media_types_of(self._resolve(agent.models[0])[0]))}
            for name, agent in self.agents.items()
        }

    def agent(self, name: str) -> Agent:
        """The agent of that name. Raises `UnknownAgent`, which names those that there are."""
        try:
            return self.agents[name]
        except KeyError:
            known = ", ".join(sorted(self.agents)) or "none"
            raise UnknownAgent(f"there is no agent named {name!r}; this app has: {known}", field="agent") from None

    def check_models(self) -> None:
        """Find the provider of every agent's model and have it check the agent's settings, its key among them.

        Raises `UnknownProvider`, or the provider's `InvalidInput`. Asks no server.
        """
        for agent in self.agents.values():
            try:
                for model in agent.models:
                    self._check_model(agent, model)
            except InvalidInput as error:
                raise type(error)(f"agent {agent.name!r}: {error}", field=error.field) from error

    def check_ready(self) -> None:
        """Find all that runs need: models with their keys, and secrets. Raises `InvalidInput`; asks no server."""
        self.check_models()
        self.check_secrets()

    def check_secrets(self) -> None:
        """Find the secrets of every tool that is known. Raises `InvalidInput` for one that is not set."""
        for agent in self.agents.values():
            for each in agent.known_tools.offered:
                for name in each.tool.behaviour.secrets:
                    if not secret_of(self._secret, name):
                        raise InvalidInput(
                            f"agent {agent.name!r}: the tool {each.tool.name} needs the secret {name}, which is not "
                            "set; set it as an environment variable, or give AgentQ(secrets=...)",
                            field="secrets",
                        )
        for name in self.webhooks:
            self.webhook_keys(name)

    def webhook_keys(self, name: str) -> tuple[bytes, ...]:
        """The keys that messages of a webhook are signed with, as they are now. Raises `InvalidInput`."""
        return keys_of(self.webhooks[name], self._secret)

    async def aclose(self) -> None:
        """Close the connections to model and tool servers that the running event loop holds; later calls open new ones.

        An event loop that ends as that of `asyncio.run` does it by itself.
        """
        for provider in (*self._models.values(), *in_use()):
            close = getattr(provider, "aclose", None)
            if close is not None:
                await close()
        await close_sources()

    def loop(
        self, store: Store, executor: Executor, settings: Settings | None = None, *, can_be_told: bool = True
    ) -> Loop:
        """The loop over these agents, for whoever advances runs: a worker, an executor of your own."""
        return Loop(
            self.agents,
            store,
            executor,
            settings or self.settings,
            resolve_model=self._resolve,
            secret=self._secret,
            can_be_told=can_be_told,
            hooks=self._hooks,
        )

    def _check_model(self, agent: Agent, model: str) -> Provider:
        provider, name = self._resolve(model)
        check_model_settings(provider, name, agent.settings_of(model))
        return provider

    def _resolve(self, model: str) -> tuple[Provider, str]:
        name, _, rest = model.partition(":")
        return (self._models[name], rest) if name in self._models else resolve(model)

    async def run(
        self,
        agent: str,
        prompt: str,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        model: str | None = None,
        files: Sequence[Attachable] = (),
        tools: Sequence[str] | None = None,
        without: Sequence[str] = (),
        limits: RunLimits | None = None,
        callbacks: Callbacks | None = None,
        on_event: Callable[..., object] | None = None,
    ) -> RunResult:
        """Carry a prompt to its answer in this process, without Redis, and return the result.

        Runs of one `session_id` take their turns, and each sees what the earlier ones of this app said. `files` are
        paths, bytes, URLs or `File` objects. `tools` names the tools and toolsets that the run may use; None is all.
        `without` switches off what the agent has, for this run: "memory", "retrieval". `limits` say what it may use;
        what they leave out, its agent says. Raises `RunFailed` or `RunCancelled`, and `InvalidInput` before anything is
        started. Cancelling the task that awaits this stops the run. But for what is kept for sessions and users,
        nothing outlives the call, unless `AgentQ` was given a store of its own.
        """
        definition = self.agent(agent)
        models = (model,) if model else definition.models
        provider, *_ = [self._check_model(definition, each) for each in models]
        attached = await asyncio.to_thread(read_files, files, self.settings) if files else NOTHING
        if refused := refusal(attached.parts, media_types_of(provider), models[0]):
            raise InvalidInput(refused, field="files")
        new = new_run(
            self.settings,
            agent,
            prompt,
            session_id=session_id,
            user_id=user_id,
            metadata=metadata,
            model=model,
            attached=attached,
            tools=tools,
            without=without,
            limits=limits,
        )
        if tools is not None:
            check_tools(new.tools, definition.manifest())
        told = callbacks or Callbacks(on_event=on_event)
        check_callbacks(told)
        if session_id is not None:
            check_is_no_part_of(session_id)
        # A task of its own: who is cancelled again while the run comes to its end (anyio does so at each await) leaves,
        # and the run ends all the same before the next one of its session begins.
        carrying = asyncio.create_task(self._carry(new, told))
        self._carried.add(carrying)
        carrying.add_done_callback(self._carried.discard)
        try:
            return await asyncio.shield(carrying)
        except asyncio.CancelledError:
            carrying.cancel()
            await asyncio.wait({carrying})
            raise

    async def _carry(self, new: NewRun, callbacks: Callbacks) -> RunResult:
        async with self._turn(new.session_id):
            store, stream = self._store_for_run()
            return await self._run(new, store, stream, callbacks)

    async def _run(self, new: NewRun, store: Store, stream: EventStream, callbacks: Callbacks) -> RunResult:
        local = LocalExecutor()
        executor = self.executor or local
        # A store that only this run knows is out of everybody's reach.
        loop = self.loop(store, executor, can_be_told=self.store is not None)

        async def advance(run_id: str) -> None:
            # The next run of the session is for whoever asked for it.
            if run_id == new.run_id or await _is_below(store, run_id, new.run_id):
                await _advance(loop, run_id, waits_in_line=True)

        local.bind(advance)
        has_ended = False
        try:
            await store.create(new)
            await executor.schedule_next_iteration(new.run_id)
            async with asyncio.TaskGroup() as group:
                group.create_task(local.join())
                group.create_task(_tell(stream, new.run_id, callbacks))
            has_ended = True
            return await result_of(store, stream, new.run_id)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            await local.aclose()
            if not has_ended:
                await _give_up(store, new.run_id, self.settings, self.agent(new.agent).spend)

    def _turn(self, session_id: str | None) -> AbstractAsyncContextManager[object]:
        """Whoever has it may go on with the session. A store of one's own sees to that itself."""
        if session_id is None or self.store is not None:
            return nullcontext()
        return self._turns.take(session_id)

    async def advance(self, run_id: str) -> bool:
        """Carry a run forward by one iteration; what an executor of your own calls. False: there was nothing to do.

        Works on the app's `store` and schedules what comes next with its `executor`. A run may be advanced by many at
        once: one of them gets it. Raises `InvalidInput` when the app has no executor of its own.
        """
        if self.store is None or self.executor is None:
            raise InvalidInput("advance() is for an executor of your own: AgentQ(executor=...)", field="executor")
        return await _advance(self.loop(self.store, self.executor), run_id)

    def _store_for_run(self) -> tuple[Store, EventStream]:
        if self.store is None:
            self._sessions.prune()
            store = MemoryStore(sessions=self._sessions)
            return store, store.stream
        if self.stream is None:
            raise InvalidInput("this store has no stream; give it too: AgentQ(store=..., stream=...)", field="stream")
        return self.store, self.stream


async def _advance(loop: Loop, run_id: str, *, waits_in_line: bool = False) -> bool:
    owner = f"local-{_ids.new_token()}"
    while await loop.advance(run_id, owner=owner) is None:
        run = await loop.store.read(run_id)
        if waits_in_line and run.status is Status.QUEUED and run.waits_for_session:
            await _turn_or_pause(loop.store, run_id)
        # A timer may ring a moment before the store finds that the run is due.
        elif _is_next(run) and run.not_before_ms - loop.clock.now_ms() <= _EARLY_MS:
            await asyncio.sleep(_EARLY_MS / 1000)
        else:
            return False
    return True


async def _is_below(store: Store, run_id: str, above: str) -> bool:
    """Whether a run is one of those that `above` started, or that these started."""
    run = await store.read(run_id)
    while run.parent_run_id is not None:
        if run.parent_run_id == above:
            return True
        run = await store.read(run.parent_run_id)
    return False


async def _turn_or_pause(store: Store, run_id: str) -> None:
    wait: Callable[[str], Awaitable[None]] | None = getattr(store, "wait_for_turn", None)
    if wait is None:
        await asyncio.sleep(_IN_LINE_S)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(_TOLD_IN_LINE_S):
            await wait(run_id)


def _is_next(run: RunState) -> bool:
    return run.status is Status.QUEUED and not run.waits_for_session


async def _give_up(store: Store, run_id: str, settings: Settings, spend: Sequence[SpendLimit]) -> None:
    """End a run that nobody carries on: its store may outlive it, and its session goes on."""
    try:
        signalled = await store.cancel(run_id, reason="whoever waited for it has gone")
        for pause_s in _UNTIL_HANDED_BACK_S if signalled.held else (0.0,):
            await asyncio.sleep(pause_s)
            claims = await store.claim(
                [run_id], owner=f"local-{_ids.new_token()}", claim_id=_ids.new_token(), lease_ms=settings.lease_ms
            )
            for claim in claims:
                await settle_cancelled(store, claim, settings, spend=spend)
            if claims:
                return
    except (RunNotFound, Conflict, LeaseLost):
        # Somebody else has ended it, or goes on with it and will find the cancel.
        return
    except StoreUnavailable as error:
        # What stopped the run is more important; where workers share the store, they take it over.
        logger.warning("run %s is left as it stands: %s", run_id, error, extra={"run_id": run_id})


async def _tell(stream: EventStream, run_id: str, callbacks: Callbacks) -> None:
    async with reading(stream, run_id) as events:
        async for event in events:
            await dispatch(callbacks, event)


def _secrets_by_name(secrets: Mapping[str, str] | Callable[[str], str | None] | None) -> Callable[[str], str | None]:
    if secrets is None:
        return variable
    if isinstance(secrets, Mapping):
        return dict(secrets).get
    if callable(secrets):
        return secrets
    raise InvalidInput(f"secrets must be a mapping or a function of the name, not {secrets!r}", field="secrets")


def _with_those_that_are_tools(agents: Mapping[str, Agent]) -> dict[str, Agent]:
    """The agents, and those among their tools that are no others. Raises `InvalidInput` for two of one name."""
    known = dict(agents)
    for agent in agents.values():
        for each in agent.known_tools.offered:
            of_tool = each.tool.agent
            if of_tool is None:
                continue
            for name, other in _with_those_that_are_tools({of_tool.name: of_tool}).items():
                if known.setdefault(name, other) is not other:
                    raise InvalidInput(
                        f"the tool {each.tool.name} of agent {agent.name!r} is another agent named {name!r} than the "
                        "one in agents; rename one, or make the tool of that one",
                        field="agents",
                    )
    return known
