"""Wherever a worker dies, a run whose calls are runs of their own ends, and each of these is there once."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest

from agentq.runs import Status
from tests.stores.crash_parts import Away, Backend, Killer, backend_of, unharmed
from tests.stores.family_parts import FamilyPlay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator


@pytest.fixture(params=["memory", "fake", "real"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    url = request.getfixturevalue("redis_url") if request.param == "real" else None
    async with backend_of(request.param, url) as made:
        yield made


@pytest.fixture
def numbers(request: pytest.FixtureRequest) -> Iterator[int]:
    """Every call on the store that is quick, every third and every ninth on the others."""
    return itertools.count(1, {"memory": 1, "real": 3, "fake": 9}[request.node.callspec.params["backend"]])


async def started(backend: Backend, **given: Any) -> FamilyPlay:
    play = FamilyPlay(backend, **given)
    await play.start()
    return play


async def test_without_a_fault_everything_happens_once(backend: Backend):
    play = await started(backend)
    await play.until_final(lambda _: unharmed)
    await play.check_answer()
    play.check_work(crashes=0)
    assert play.workers == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_worker_may_die_at_every_call(backend: Backend, numbers: Iterator[int], when: str):
    for number in numbers:
        play = await started(backend)
        killer = Killer(number, when)
        await play.until_final(lambda worker, killer=killer: killer if worker == 1 else unharmed)  # type: ignore[misc]
        await play.check_answer()
        play.check_work(crashes=1)
        if not killer.fired:
            break
    assert number > 40


@pytest.mark.parametrize("seed", range(4))
async def test_workers_may_die_again_and_again(backend: Backend, seed: int):
    dice = random.Random(seed)
    play = await started(backend, max_recoveries=1_000)
    await play.until_final(
        lambda worker: Killer(dice.randint(1, 9), dice.choice(("before", "after"))) if worker < 30 else unharmed
    )
    await play.check_answer()
    play.check_work(crashes=play.workers - 1)


async def test_a_worker_that_comes_back_from_the_dead_writes_nothing(backend: Backend, numbers: Iterator[int]):
    """It was held up at a call of the parent or of a child, was replaced, and goes on when all have long moved on."""
    for number in numbers:
        play = await started(backend)
        is_replaced = await play.is_replaced_at(number, within_s=0.02, holds_all=True)
        await play.check_answer()
        if not is_replaced:
            break
    assert number > 40


async def test_every_lost_reply_is_answered_as_before(backend: Backend):
    async def twice(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
        first, second = await carry_out(), await carry_out()
        if name == "create":
            assert (first.run_id, first.existed, second.existed) == (second.run_id, False, True)
            return second
        assert first == second
        return second

    play = await started(backend)
    await play.until_final(lambda _: twice)
    await play.check_answer()
    play.check_work(crashes=0)


@pytest.mark.parametrize("carried_out", [True, False])
async def test_a_redis_that_goes_away_at_every_call_costs_nothing(backend: Backend, carried_out: bool):
    away = Away(carried_out=carried_out, every=6)
    play = await started(backend)
    await play.until_final(lambda _: away)
    await play.check_answer()
    play.check_work(crashes=0)


async def test_a_worker_may_shut_down_at_every_call(backend: Backend, numbers: Iterator[int]):
    """It hands all of them back. The journal stays, so nothing that has finished is done again."""
    for number in numbers:
        play = await started(backend)
        calls = itertools.count(1)

        async def shut_down(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
            if next(calls) == number:  # noqa: B023 - used within the round only
                for iteration in play.begun.values():  # noqa: B023 - as above
                    iteration.hand_back()
            return await carry_out()

        await play.until_final(lambda _: shut_down)
        await play.check_answer()
        play.check_work(crashes=1)
        if next(calls) <= number:
            break
    assert number > 40


@pytest.mark.parametrize("then", ["lives", "dies"])
async def test_a_cancel_of_the_parent_ends_all_of_them(backend: Backend, numbers: Iterator[int], then: str):
    """At any call, of whichever run; the worker may die of the next one. No effect starts any more, in none of them."""
    ends: set[Status] = set()
    for number in numbers:
        play = await started(backend)
        calls = itertools.count(1)
        killer = Killer(number + 1 if then == "dies" else 0, "before")

        async def cancel(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
            if next(calls) == number and not (await play.read()).status.is_final:  # noqa: B023 - within the round
                await play.cancel()  # noqa: B023 - as above
            return await killer(name, carry_out)  # noqa: B023 - as above

        if await play.work(cancel, killer):
            await play.wait_for_sweep()
        await play.until_final(lambda _: unharmed)
        is_cancelled = bool(play.world.cancelled_runs)
        await play.check(Status.CANCELLED if is_cancelled else Status.COMPLETED)
        ends.add((await play.read()).status)
        if not is_cancelled:
            break
    assert ends == {Status.CANCELLED, Status.COMPLETED}


@pytest.mark.parametrize("then", ["lives", "dies"])
async def test_a_child_may_be_cancelled_alone(backend: Backend, numbers: Iterator[int], then: str):
    """Its parent is told and goes on; the other child is not touched."""
    for number in numbers:
        play = await started(backend)
        calls = itertools.count(1)
        killer = Killer(2 if then == "dies" else 0, "before")

        async def cancel(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
            if play.world.cancelled_runs:  # noqa: B023 - used within the round only
                return await killer(name, carry_out)  # noqa: B023 - as above
            if await play.has_child() and next(calls) == number:  # noqa: B023 - as above
                await play.cancel_child()  # noqa: B023 - as above
            return await carry_out()

        if await play.work(cancel, killer):
            await play.wait_for_sweep()
        await play.until_final(lambda _: unharmed)
        await play.check(Status.COMPLETED)
        one, other, _ = await play.family()
        is_cancelled = bool(play.world.cancelled_runs)
        assert (one.status is Status.CANCELLED, other.status) == (is_cancelled, Status.COMPLETED)
        outcomes = [result.outcome for result in await play.told_of("researcher")]
        assert outcomes == ["cancelled" if is_cancelled else "ok", "ok"]
        if not is_cancelled:
            break
    assert number > 15
