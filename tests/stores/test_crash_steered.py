"""Wherever a worker or a person dies who steers a run, nothing is decided twice, lost, or made that nobody allowed."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest

from agentq.errors import AgentQError
from agentq.runs import Status
from tests.stores.crash_parts import Away, Backend, Killer, backend_of, unharmed
from tests.stores.steered_parts import SteeredPlay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator


@pytest.fixture(params=["memory", "real"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    url = request.getfixturevalue("redis_url") if request.param == "real" else None
    async with backend_of(request.param, url) as made:
        yield made


@pytest.fixture
def numbers(request: pytest.FixtureRequest) -> Iterator[int]:
    """Every second call on the store that is quick, every sixth on the other."""
    return itertools.count(1, {"memory": 2, "real": 6}[request.node.callspec.params["backend"]])


async def started(backend: Backend, **given: Any) -> SteeredPlay:
    play = SteeredPlay(backend, **given)
    await play.start()
    return play


async def test_without_a_fault_everything_happens_once(backend: Backend):
    play = await started(backend)
    await play.until_final(lambda _: unharmed)
    await play.check_answer()
    play.check_work(crashes=0)
    assert (play.workers, play.people) == (1, 1)
    assert play.world.done == ["pack", "load"]


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
    assert number > 20


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_person_may_die_at_every_word(backend: Backend, when: str):
    """Before it: nobody has heard of it. After it: the next one says it again, which changes nothing."""
    for number in itertools.count(1):
        killer = PersonKiller(number, when)
        play = await started(backend, around=killer)
        await play.until_final(lambda _: unharmed)
        await play.check_answer()
        play.check_work(crashes=0)
        if not killer.fired:
            break
        assert play.people == 2
    assert number > 6


@pytest.mark.parametrize("seed", range(3))
async def test_workers_and_people_may_die_again_and_again(backend: Backend, seed: int):
    dice = random.Random(seed)
    play = await started(backend, around=PersonKiller(1, "after", dice), max_recoveries=1_000)
    await play.until_final(
        lambda worker: Killer(dice.randint(1, 7), dice.choice(("before", "after"))) if worker < 30 else unharmed
    )
    await play.check_answer()
    play.check_work(crashes=play.workers - 1)


async def test_every_word_may_be_said_twice(backend: Backend):
    """Promise P8: each command of people is carried out, its reply is lost, and it is sent again."""

    async def twice(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
        await carry_out()
        return await carry_out()

    play = await started(backend, around=Around(twice))
    await play.until_final(lambda _: unharmed)
    await play.check_answer()
    play.check_work(crashes=0)


async def test_old_copies_of_words_change_nothing(backend: Backend):
    """A copy that comes much later is refused, or has no effect; but for a pause, which pauses whatever goes on."""
    sent: list[Callable[[], Awaitable[Any]]] = []
    wrong: list[str] = []

    async def remember(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
        async with play.quiet:
            answer = await carry_out()
        if name not in ("pause", "resume"):
            sent.append(carry_out)
        return answer

    async def again_and_again(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
        answer = await carry_out()
        for copy in tuple(sent):
            async with play.quiet:
                before = await state()
                try:
                    await copy()
                except AgentQError:
                    """It comes too late, and says so."""
                if await state() != before:
                    wrong.append(f"a copy that came after a {name} changed something")
        return answer

    async def state() -> Any:
        store = backend.store
        return await play.read(), await store.messages(play.run_id), await store.signals(play.run_id)

    play = await started(backend, around=Around(remember))
    await play.until_final(lambda _: again_and_again)
    assert wrong == []
    await play.check_answer()
    play.check_work(crashes=0)


@pytest.mark.parametrize("carried_out", [True, False])
async def test_a_redis_that_goes_away_at_every_call_of_workers_costs_nothing(backend: Backend, carried_out: bool):
    away = Away(carried_out=carried_out, every=2)
    play = await started(backend)
    await play.until_final(lambda _: away)
    await play.check_answer()
    play.check_work(crashes=0)


async def test_a_worker_that_comes_back_from_the_dead_writes_nothing(backend: Backend, numbers: Iterator[int]):
    """People speak to the run while it is frozen, and another one has taken it over when it goes on."""
    for number in numbers:
        play = await started(backend)
        is_replaced = await play.is_replaced_at(number, within_s=0.01)
        await play.check_answer()
        if not is_replaced:
            break
    assert number > 20


@pytest.mark.parametrize("then", ["lives", "dies"])
@pytest.mark.parametrize("whose", ["a worker", "a person"])
async def test_a_cancel_may_come_at_every_call(backend: Backend, numbers: Iterator[int], whose: str, then: str):
    """Of a worker, who may die of the next one; or before a word of a person. No effect starts any more."""
    ends: set[Status] = set()
    for number in numbers if whose == "a worker" else itertools.count(1):
        calls = itertools.count(1)
        killer = Killer(number + 1 if then == "dies" else 0, "before")

        async def cancel(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
            if next(calls) == number and not (await play.read()).status.is_final:  # noqa: B023 - within the round
                await backend.store.cancel(play.run_id, reason="enough")  # noqa: B023 - as above
                play.world.cancelled = True  # noqa: B023 - as above
            return await carry_out()

        async def cancel_and_die(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
            async def both() -> Any:
                return await cancel(name, carry_out)

            return await killer(name, both)  # noqa: B023 - as above

        play = await started(backend, around=Around(cancel) if whose == "a person" else None)
        if await play.work(cancel_and_die if whose == "a worker" else killer, killer):
            await play.wait_for_sweep()
        await play.until_final(lambda _: unharmed)
        await play.check(Status.CANCELLED if play.world.cancelled else Status.COMPLETED)
        ends.add((await play.read()).status)
        if not play.world.cancelled:
            break
    assert ends == {Status.CANCELLED, Status.COMPLETED}


class Around:
    """What befalls each word of people."""

    def __init__(self, befall: Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Any]]) -> None:
        self._befall = befall
        self.die: Callable[[], object] = lambda: None

    async def __call__(self, name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
        return await self._befall(name, carry_out)


class PersonKiller:
    """Kills whoever says the `number`-th word, before or after it is heard; with `dice`, one after the other."""

    def __init__(self, number: int, when: str, dice: random.Random | None = None) -> None:
        self.number = number
        self.when = when
        self.fired = False
        self.die: Callable[[], object] = lambda: None
        self._dice = dice
        self._words = 0

    async def __call__(self, name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
        self._words += 1
        if self._words != self.number:
            return await carry_out()
        self.fired = True
        if self._dice is not None and self._words < 30:
            self.number = self._words + self._dice.randint(1, 3)
            self.when = self._dice.choice(("before", "after"))
        if self.when == "after":
            await carry_out()
        self.die()
        return await asyncio.Future()
