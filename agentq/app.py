"""`AgentQ`: agents and settings, wired to a store and an executor."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentq import _ids
from agentq.callbacks import Callbacks, dispatch
from agentq.errors import InvalidInput, UnknownAgent
from agentq.executors.local import LocalExecutor
from agentq.intake import new_run
from agentq.loop import Agent, Loop
from agentq.providers.registry import resolve
from agentq.results import RunResult, reading, result_of
from agentq.runs import Status
from agentq.settings import Settings
from agentq.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agentq.events.stream import EventStream
    from agentq.executors.base import Executor
    from agentq.providers.base import Provider
    from agentq.stores.base import Store

# How early a timer may ring.
_EARLY_MS = 20


class AgentQ:
    """The app that workers load and that `run` uses in process.

    `store` and `executor` choose others than the defaults: Redis and RQ for workers and clients, memory and tasks of
    this event loop for `run`. `models` maps provider names to `Provider` objects of your own.
    """

    def __init__(
        self,
        agents: Sequence[Agent] = (),
        *,
        settings: Settings | None = None,
        store: Store | None = None,
        stream: EventStream | None = None,
        executor: Executor | None = None,
        models: Mapping[str, Provider] | None = None,
    ) -> None:
        self.settings = settings or Settings.load()
        self.agents: Mapping[str, Agent] = {agent.name: agent for agent in agents}
        if len(self.agents) < len(agents):
            names = [agent.name for agent in agents]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise InvalidInput(f"two agents are named {twice[0]!r}; rename one", field="agents")
        # Whoever advances runs by an executor of his own needs the store that `run` puts them into.
        self.store = MemoryStore() if store is None and executor is not None else store
        self.stream: EventStream | None = stream or getattr(self.store, "stream", None)
        self.executor = executor
        self._models = dict(models or {})

    def manifests(self) -> dict[str, dict[str, Any]]:
        """What workers publish of the agents, by name."""
        return {name: agent.manifest() for name, agent in self.agents.items()}

    def agent(self, name: str) -> Agent:
        """The agent of that name. Raises `UnknownAgent`, which names those that there are."""
        try:
            return self.agents[name]
        except KeyError:
            known = ", ".join(sorted(self.agents)) or "none"
            raise UnknownAgent(f"there is no agent named {name!r}; this app has: {known}", field="agent") from None

    def check_models(self) -> None:
        """Find the provider of every agent's model. Raises `UnknownProvider`, or what a provider says of itself."""
        for agent in self.agents.values():
            self._resolve(agent.model)

    def loop(self, store: Store, executor: Executor, settings: Settings | None = None) -> Loop:
        """The loop over these agents, for whoever advances runs: a worker, an executor of your own."""
        return Loop(self.agents, store, executor, settings or self.settings, resolve_model=self._resolve)

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
        callbacks: Callbacks | None = None,
        on_event: Callable[..., object] | None = None,
    ) -> RunResult:
        """Carry a prompt to its answer in this process, without Redis, and return the result.

        Raises `RunFailed` or `RunCancelled`, and `InvalidInput` before anything is started. Cancelling the task that
        awaits this stops the run. Nothing outlives the call, unless `AgentQ` was given a store of its own.
        """
        self._resolve(model or self.agent(agent).model)
        new = new_run(
            self.settings,
            agent,
            prompt,
            session_id=session_id,
            user_id=user_id,
            metadata=metadata,
            model=model,
        )
        store, stream = self._store_for_run()
        local = LocalExecutor()
        executor = self.executor or local
        loop = self.loop(store, executor)
        local.bind(lambda run_id: _advance(loop, run_id))
        told = callbacks or Callbacks(on_event=on_event)
        await store.create(new)
        try:
            await executor.schedule_next_iteration(new.run_id)
            async with asyncio.TaskGroup() as group:
                group.create_task(local.join())
                group.create_task(_tell(stream, new.run_id, told))
            return await result_of(store, stream, new.run_id)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            await local.aclose()

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
            store = MemoryStore()
            return store, store.stream
        if self.stream is None:
            raise InvalidInput("this store has no stream; give it too: AgentQ(store=..., stream=...)", field="stream")
        return self.store, self.stream


async def _advance(loop: Loop, run_id: str) -> bool:
    owner = f"local-{_ids.new_token()}"
    while not await loop.advance([run_id], owner=owner):
        # A timer may ring a moment before the store finds that the run is due.
        run = await loop.store.read(run_id)
        if run.status is not Status.QUEUED or run.not_before_ms - loop.clock.now_ms() > _EARLY_MS:
            return False
        await asyncio.sleep(_EARLY_MS / 1000)
    return True


async def _tell(stream: EventStream, run_id: str, callbacks: Callbacks) -> None:
    async with reading(stream, run_id) as events:
        async for event in events:
            await dispatch(callbacks, event)
