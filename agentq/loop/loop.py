"""`Loop`: what iterations have in common, and cancelling a run that no worker holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from agentq import _ids
from agentq._clock import Clock, SystemClock
from agentq._turns import part_of
from agentq.decide import Finish, Limits, View, decide
from agentq.loop.briefing import keep_journaled
from agentq.loop.coalescing import Coalescing
from agentq.loop.files import Files
from agentq.loop.finishing import TimesToLive, commit_of, turn_events
from agentq.loop.holding import carry_out
from agentq.loop.iteration import Iteration, Outcome
from agentq.loop.limiting import metered
from agentq.loop.policy import Policy
from agentq.loop.records import Records
from agentq.loop.resting import Resting
from agentq.providers.registry import resolve
from agentq.settings import variable
from agentq.steps import read_steps
from agentq.stores._memory_shared import MemoryShared
from agentq.stores.base import Claim, EventBatch, Store, Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agentq.executors.base import Executor
    from agentq.limits import SpendLimit
    from agentq.loop.agent import Agent
    from agentq.loop.hooks import Hooks
    from agentq.loop.writer import StepWriter
    from agentq.providers.base import Provider
    from agentq.runs import RunState
    from agentq.settings import Settings
    from agentq.stores.values import Shared


class Loop:
    """Advances runs, one iteration at a time. Holds no state of a run."""

    def __init__(
        self,
        agents: Mapping[str, Agent],
        store: Store,
        executor: Executor,
        settings: Settings,
        *,
        clock: Clock | None = None,
        resolve_model: Callable[[str], tuple[Provider, str]] = resolve,
        secret: Callable[[str], str | None] = variable,
        can_be_told: bool = True,
        hooks: Sequence[Hooks] = (),
    ) -> None:
        self.agents = agents
        self.store = store
        self.executor = executor
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.provider = resolve_model
        self.secret = secret
        # Whether anybody outside can say something to a run: decide on a call, answer, signal.
        self.can_be_told = can_be_told
        self._hooks = tuple(hooks)
        # A store without such shares nothing with other workers.
        self.shared: Shared = getattr(store, "shared", None) or MemoryShared(self.clock.now_ms)
        self.files = Files(store)
        self.records = Records()
        self.resting = Resting(self.clock)
        self.coalescing = Coalescing(settings.coalesce_ms / 1000)

    @property
    def wakeup(self) -> Wakeup | None:
        """The executor's wake-up, if it has one that a store can write."""
        return getattr(self.executor, "wakeup", None)

    def budgets(self, agent: Agent) -> Limits:
        return agent.budgets(self.settings.max_recoveries)

    def policy(self, agent: Agent, run: RunState, writer: StepWriter) -> Policy:
        """The hooks that are asked about a run: those of its agent, then those of the app, which have the last word."""
        return Policy(cast("tuple[Hooks, ...]", agent.hooks) + self._hooks, run, writer)

    def begin(self, claim: Claim) -> Iteration:
        """The iteration of a claimed run. Raises KeyError when the run's agent is not here: claim by `agents`."""
        return Iteration(self, self.agents[claim.run.agent], claim)

    async def advance(self, run_id: str, *, owner: str) -> Outcome | None:
        """Claim a run and advance it by one iteration, under a lease that is kept. None: there was nothing to do.

        Cancelling the caller hands the run back.
        """
        lease_ms = self.settings.lease_ms
        for claim in await self.store.claim(
            [run_id], owner=owner, claim_id=_ids.new_token(), lease_ms=lease_ms, agents=tuple(self.agents)
        ):
            with part_of(claim.run.session_id):
                return await carry_out(self.begin(claim), claim.lease, self.store, lease_ms=lease_ms)
        return None


async def settle_cancelled(
    store: Store,
    claim: Claim,
    settings: Settings,
    *,
    agent_ttl_ms: Mapping[str, int] | None = None,
    spend: Sequence[SpendLimit] = (),
    wake: Wakeup | None = None,
) -> list[str]:
    """Commit a claimed run as cancelled, with an explicit result for every call that the journal leaves open.

    Returns the ids of runs that have to be woken yet: the next one of its session, and one that waited for it.
    Raises `LeaseLost` when a worker took the run meanwhile: it cancels it then.
    """
    steps = read_steps(claim.journal)
    # No agent is known here; a call that has not started gets the same result whatever its effect would be.
    view = View(claim.run, claim.messages, steps, Limits(), lambda _: "once")
    finish = decide(view)
    if not isinstance(finish, Finish):
        raise TypeError(f"run {claim.run.run_id} is not to be cancelled")
    finish = keep_journaled(finish, claim, journal_stays=bool(steps.calls))
    told = frozenset(name for name, step in steps.calls.items() if step.result is not None)
    events = turn_events(finish, claim.run, told=told, max_error_retries=0, duration_ms=0)
    ttl = TimesToLive(claim.run.ttl_ms, agent_ttl_ms or {}, settings)
    meters = tuple(dict.fromkeys(meter for _, meter in metered(spend, claim.run)))
    commit = commit_of(
        finish, claim.run, claim.messages, EventBatch(1, events), reply=steps.reply, ttl=ttl, meters=meters
    )
    committed = await store.commit(claim.lease, commit, wake=wake)
    to_wake = (None if committed.woken else committed.next_run_id, committed.parent_run_id)
    return [run_id for run_id in to_wake if run_id is not None]
