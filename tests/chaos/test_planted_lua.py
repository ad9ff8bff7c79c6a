"""Faults planted into the Lua that guards every write, one at a time, in copies of the scripts: each is found."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ResponseError

from agentq._redis import scripts
from agentq.errors import AgentQError, LeaseLost
from agentq.settings import Settings
from agentq.stores import _effects
from agentq.testing._contract import batch, claimed, running
from agentq.wiring import redis_parts
from tests.chaos.lost_replies import Violation, lose_replies
from tests.helpers import LUA

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


async def _lost_replies(redis_url: str) -> None:
    """Every script is sent twice, in a random life of a few runs."""
    for seed in range(3):
        await lose_replies(redis_url, count=8, seed=seed)


async def _zombie(redis_url: str) -> None:
    """A worker was believed dead, was replaced, and writes."""
    parts = redis_parts(Settings(redis_url=redis_url))
    try:
        old = await running(parts.store, lease_ms=300)
        await asyncio.sleep(0.35)
        new = await claimed(parts.store, old.lease.run_id, owner="worker-2")
        if new.lease.fence <= old.lease.fence:
            raise Violation("two claims have the same fence")
        try:
            await parts.store.journal(old.lease, [], batch(1))
        except LeaseLost:
            return
        raise Violation("a worker that had been replaced could write")
    finally:
        await parts.aclose()


async def _living(redis_url: str) -> None:
    """A worker is alive, and another one asks for its run."""
    parts = redis_parts(Settings(redis_url=redis_url))
    try:
        held = await running(parts.store)
        taken = await parts.store.claim([held.lease.run_id], owner="worker-2", claim_id="c", lease_ms=60_000)
        if taken:
            raise Violation("a lease that had not expired was taken")
    finally:
        await parts.aclose()


@dataclass(frozen=True)
class LuaFault:
    """`old` becomes `new` in `file`; `search` is what has to find it."""

    name: str
    file: str
    old: str
    new: str
    search: Callable[[str], Awaitable[None]] = _lost_replies


PLANTED = (
    LuaFault("no check of the fence", "_fence", "if not holds(state, fence, owner) then", "if false then", _zombie),
    LuaFault("live leases are taken", "claim", "number(state.lease_until) <= now", "true", _living),
    LuaFault(
        "the fence does not grow", "claim", "redis.call('HINCRBY', run, 'fence', 1)", "number(state.fence)", _zombie
    ),
    LuaFault("commit is not idempotent", "commit", "if state.committed == fence then", "if false then"),
    LuaFault("journal is not idempotent", "_fence", "tonumber(number) >= tonumber(batch) then", "false then"),
    LuaFault("create is not idempotent", "create", "if hash then", "if false then"),
    LuaFault("claim is not idempotent", "claim", "batch.id ~= ARGV[3]", "true"),
    LuaFault("release is not idempotent", "release", "if released == fence then", "if false then"),
    LuaFault("a tool's write is not recorded", "effect", "if record then", "if false then"),
    LuaFault("a retry is not recognised", "retry", "if retried == fence then", "if false then"),
    LuaFault("an answer is not recognised", "answer", "if answered == given then", "if false then"),
    LuaFault("an import stages twice", "stage", "if counts == ARGV[1] then", "if false then"),
)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[LuaFault], None]]:
    """Puts a fault into the scripts for one test."""
    read = scripts._read  # noqa: SLF001 - a copy of the scripts is patched, not the files

    def put(fault: LuaFault) -> None:
        def patched(name: str) -> str:
            source = read(name)
            if name != fault.file:
                return source
            assert source.count(fault.old) == 1, f"{fault.file}.lua has not one place for {fault.name!r}"
            return source.replace(fault.old, fault.new)

        monkeypatch.setattr(scripts, "_read", patched)
        _forget()

    yield put
    _forget()


def _forget() -> None:
    """Scripts are read anew."""
    scripts.script.cache_clear()
    _effects._script_around.cache_clear()  # noqa: SLF001 - as above


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.name)
async def test_a_planted_fault_is_found(fault: LuaFault, plant: Callable[[LuaFault], None], redis_url: str):
    plant(fault)
    # Redis itself refuses some of what a faulty script does, such as an event under a number that is taken.
    with pytest.raises((Violation, AgentQError, ResponseError)):
        await fault.search(redis_url)


@pytest.mark.parametrize("search", [_lost_replies, _zombie, _living])
async def test_without_a_fault_nothing_is_found(search: Any, redis_url: str):
    await search(redis_url)


def test_every_guard_is_in_its_file():
    for fault in PLANTED:
        assert (LUA / f"{fault.file}.lua").read_text().count(fault.old) == 1, fault.name
