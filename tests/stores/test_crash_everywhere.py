"""Wherever a worker dies, the run goes on: nothing that finished is repeated, nothing is lost, nobody sees a gap."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest

from agentq.errors import LeaseError
from agentq.runs import Status
from tests.stores.crash_parts import Away, Backend, Killer, Play, World, backend_of, unharmed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@pytest.fixture(params=["memory", "real"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    url = request.getfixturevalue("redis_url") if request.param == "real" else None
    async with backend_of(request.param, url) as made:
        yield made


async def started(backend: Backend, **given: Any) -> Play:
    play = Play(backend, World(), **given)
    await play.start()
    return play


async def test_without_a_fault_everything_happens_once(backend: Backend):
    play = await started(backend)
    await play.until_final(lambda _: unharmed)
    await play.check_answer()
    play.check_work(crashes=0)
    assert play.workers == 1
    assert set(play.world.entered.values()) == {1}
    results = [result for message in await backend.store.messages(play.run_id) for result in message.tool_results]
    assert all(result.outcome == "ok" for result in results)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_worker_may_die_at_every_call(backend: Backend, when: str):
    """Before it: the store never heard of it. After it: the worker never heard the answer."""
    for number in itertools.count(1):
        play = await started(backend)
        killer = Killer(number, when)
        await play.until_final(lambda worker, killer=killer: killer if worker == 1 else unharmed)  # type: ignore[misc]
        await play.check_answer()
        play.check_work(crashes=1)
        if not killer.fired:
            break
    assert number > 15


@pytest.mark.parametrize("seed", range(12))
async def test_workers_may_die_again_and_again(backend: Backend, seed: int):
    dice = random.Random(seed)
    play = await started(backend, max_recoveries=1_000)
    await play.until_final(
        lambda worker: Killer(dice.randint(1, 7), dice.choice(("before", "after"))) if worker < 30 else unharmed
    )
    await play.check_answer()
    play.check_work(crashes=play.workers - 1)


async def test_a_worker_that_comes_back_from_the_dead_writes_nothing(backend: Backend):
    """It was held up at a call, was replaced, and goes on when the run has long moved on."""
    for number in itertools.count(1):
        play = await started(backend)
        is_replaced = await play.is_replaced_at(number, within_s=0.01)
        await play.check_answer()
        if not is_replaced:
            break
        # Mostly one. On a machine that stands still for a lease the first worker takes the run over in its turn.
        play.check_work(crashes=play.takeovers)
    assert number > 15


async def test_every_lost_reply_is_answered_as_before(backend: Backend):
    """Promise P8: each command is carried out, its reply is lost, and it is sent again."""

    async def twice(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
        first, second = await carry_out(), await carry_out()
        assert first == second
        return second

    play = await started(backend)
    await play.until_final(lambda _: twice)
    await play.check_answer()
    play.check_work(crashes=0)


async def test_old_copies_of_commands_change_nothing(backend: Backend):
    """A command that was sent again may also arrive much later; a claim is the exception, it takes what is free."""
    sent: list[Callable[[], Awaitable[Any]]] = []
    wrong: list[str] = []

    async def again_and_again(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
        answer = await carry_out()
        before = await state()
        for copy in sent:
            try:
                await copy()
            except LeaseError:
                continue
        if await state() != before:
            wrong.append(f"a copy that came after a {name} changed something")
        if name != "claim":
            sent.append(carry_out)
        return answer

    async def state() -> Any:
        run = await play.read()
        return run, await backend.store.messages(play.run_id)

    play = await started(backend)
    await play.until_final(lambda _: again_and_again)
    assert wrong == []
    await play.check_answer()
    play.check_work(crashes=0)


@pytest.mark.parametrize("carried_out", [True, False])
async def test_a_redis_that_goes_away_at_every_call_costs_nothing(backend: Backend, carried_out: bool):
    """Each write fails once, with or without having been carried out, and is repeated."""
    away = Away(carried_out=carried_out, every=2)
    play = await started(backend)
    await play.until_final(lambda _: away)
    await play.check_answer()
    play.check_work(crashes=0)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("dies", ["never", "before", "after"])
async def test_a_worker_may_shut_down_at_every_call(backend: Backend, force: bool, dies: str):
    """It hands the run back; or it dies as it does so. A hand-over is no recovery."""
    for number in itertools.count(1):
        play = await started(backend)
        calls = itertools.count(1)
        killer = Killer(1, dies)

        async def shut_down(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
            if next(calls) == number and play.iteration is not None:  # noqa: B023 - used within the round only
                play.iteration.hand_back(force=force)  # noqa: B023 - as above
            if name == "release":
                return await killer(name, carry_out)  # noqa: B023 - as above
            return await carry_out() if not killer.fired else await asyncio.Future()  # noqa: B023 - as above

        if dies == "never":
            killer.number = 0
        if await play.work(shut_down, killer):
            await play.wait_for_sweep()
        await play.until_final(lambda _: unharmed)
        await play.check_answer()
        play.check_work(crashes=1)
        if not force:
            messages = await backend.store.messages(play.run_id)
            assert all(result.outcome == "ok" for message in messages for result in message.tool_results)
        if next(calls) <= number:
            break
    assert number > 15


@pytest.mark.parametrize("then", ["lives", "dies"])
async def test_a_cancel_may_come_at_every_call(backend: Backend, then: str):
    """The worker has not heard of it; it may even die. No effect starts any more, and the run ends (P1, P5, P10)."""
    ends: set[Status] = set()
    for number in itertools.count(1):
        play = await started(backend)
        calls = itertools.count(1)
        killer = Killer(number + 1 if then == "dies" else 0, "before")

        async def cancel(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
            if next(calls) == number and not (await play.read()).status.is_final:  # noqa: B023 - within the round
                await backend.store.cancel(play.run_id, reason="enough")  # noqa: B023 - as above
                play.world.cancelled = True  # noqa: B023 - as above
            return await killer(name, carry_out)  # noqa: B023 - as above

        if await play.work(cancel, killer):
            await play.wait_for_sweep()
        await play.until_final(lambda _: unharmed)
        await play.check(Status.CANCELLED if play.world.cancelled else Status.COMPLETED)
        ends.add((await play.read()).status)
        if not play.world.cancelled:
            break
    assert ends == {Status.CANCELLED, Status.COMPLETED}
