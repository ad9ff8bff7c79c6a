"""The tools of simulated agents: of each effect, and such as wait for people, signals and times."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentq.errors import ToolError
from agentq.testing.simulation.plans import ASKED, COUNTS, EFFECTS, GRANTED, RESTING
from agentq.tools.context import ToolContext  # noqa: TC001 - read when the tools are made
from agentq.tools.function import Tool

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from agentq.steps import Effect
    from agentq.testing.simulation.effects import Effects
    from agentq.testing.simulation.ledger import Ledger
    from agentq.testing.simulation.plans import Plan
    from agentq.tools.behaviour import Reconciled, ToolOptions

# What becomes of a call that had started is told by a hook, or by a person.
_HAS_HOOK, _ASKS = "wire", "sign"
# An answer that the question does not take is refused.
ANSWERS = {"type": "integer"}


def word_of(number: int) -> str:
    """The signal that a call waits for. Some calls of a run wait for the same one."""
    return f"word-{number % 2}"


def expected_of(name: str, number: int, said: Sequence[Any]) -> str:
    """What a call that waited returns, by what its durable steps came to."""
    return f"{name} {number}: {', '.join(map(str, said))}"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the tools of a world wait, in seconds, for each; None for as long as it takes."""

    approval_s: float | None
    answer_s: float | None
    signal_s: float | None


class SimulatedTools:
    """Makes the tools of a world."""

    def __init__(
        self,
        plans: Sequence[Plan],
        ledger: Ledger,
        effects: Effects,
        numbers: random.Random,
        patience: Patience,
        *,
        longest_s: float,
    ) -> None:
        self._raising = {
            (plan.prompt, call.number) for plan in plans for turn in plan.turns for call in turn.calls if call.raises
        }
        self._ledger = ledger
        self._effects = effects
        self._numbers = numbers
        self._patience = patience
        self._longest_s = longest_s

    def all(self) -> list[Tool[..., Any]]:
        return [self._made(name, effect) for name, effect in EFFECTS.items()]

    def _made(self, name: str, effect: Effect) -> Tool[..., Any]:
        async def work(number: int, ctx: ToolContext) -> str:
            self._effects.entered(ctx, name, effect)
            if name == COUNTS:
                _count(ctx)
            try:
                return await self._work(name, effect, number, ctx)
            finally:
                self._effects.left(ctx)

        options: ToolOptions = {"effect": effect}
        if name == _HAS_HOOK:
            options["reconcile"] = self._find_out
        elif name == _ASKS:
            options["on_unknown"] = "ask"
        elif name == GRANTED:
            options["approval"] = asks_first
            options["approval_ttl"] = self._patience.approval_s
        return Tool.from_function(work, name=name, description="Work.", **options)

    async def _work(self, name: str, effect: Effect, number: int, ctx: ToolContext) -> str:
        numbers, effects = self._numbers, self._effects
        if numbers.random() < 0.3:
            await ctx.progress(f"{name} {number}")
        # Most are quick; some outlast their worker's lease.
        takes_s = numbers.choice((0.0, 0.01, 0.1, self._longest_s))
        if takes_s:
            await asyncio.sleep(takes_s * numbers.random())
        value = f"{name} {number} attempt {ctx.attempt}"
        if name == GRANTED:
            effects.allowed(ctx, name, number, asks=number % 2 == 0)
        elif name == ASKED:
            value = expected_of(name, number, [await self._ask(number, ctx)])
        elif name in RESTING:
            value = expected_of(name, number, await self._rest(number, ctx))
        effects.returned(ctx, name, effect, value)
        if (self._ledger.runs[ctx.run_id].new.prompt, number) in self._raising:
            raise ToolError(value)
        return value

    async def _ask(self, number: int, ctx: ToolContext) -> Any:
        try:
            return await ctx.ask(f"number {number}?", ANSWERS, timeout=self._patience.answer_s)
        except TimeoutError:
            return None

    async def _rest(self, number: int, ctx: ToolContext) -> list[Any]:
        """Do something, wait for a signal, sleep, and do something else."""
        said: list[Any] = [await ctx.step("open", lambda: self._effects.stepped(ctx, 0, f"open {number}"))]
        try:
            said.append(await ctx.wait_for(word_of(number), timeout=self._patience.signal_s))
        except TimeoutError:
            said.append(None)
        await ctx.sleep(number % 3)
        said.append(None)
        said.append(await ctx.step("close", lambda: self._effects.stepped(ctx, 3, f"close {number}")))
        return said

    async def _find_out(self, ctx: ToolContext, arguments: dict[str, Any]) -> str | Reconciled:
        await asyncio.sleep(self._numbers.uniform(0, 0.1))
        return self._effects.truth(ctx.run_id, ctx.call_id)


def asks_first(arguments: Any) -> bool:
    """Whether somebody has to allow the call."""
    return bool(arguments.number % 2 == 0)


def _count(ctx: ToolContext) -> None:
    for kept in (ctx.state, ctx.state.session) if ctx.session_id is not None else (ctx.state,):
        kept[COUNTS] = kept.get(COUNTS, 0) + 1
