"""`agentq answer`, `pause`, `resume` and `retry`: what they do, what they print, and their exit codes."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from agentq import AsyncClient, Reconciled, Settings
from agentq.cli import cli
from agentq.cli._group import Options
from agentq.runs import Question, Status
from agentq.stores.base import EventBatch, Rest, StepRecord
from agentq.testing._contract import claimed, commit_of, queued, reply_message
from agentq.wiring import redis_parts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentq.stores.redis import RedisStore


@dataclass
class At(Options):
    url: str = ""

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[AsyncClient]:
        async with AsyncClient(self.url) as client:
            yield client


@pytest.fixture
def invoke(redis_url: str) -> Callable[..., Result]:
    def run(*args: str) -> Result:
        return CliRunner().invoke(cli, args, obj=At(url=redis_url))

    return run


def prepared(redis_url: str, prepare: Any) -> str:
    async def main() -> str:
        parts = redis_parts(Settings(redis_url=redis_url))
        try:
            return str(await prepare(parts.store))
        finally:
            await parts.aclose()

    return asyncio.run(main())


async def waiting(store: RedisStore) -> str:
    claim = await claimed(store, await queued(store))
    question = Question(call_id="R.1.0", tool="charge", text="Did it happen?", arguments={"cents": 500})
    await store.journal(claim.lease, [StepRecord("R.1.0", b'{"effect":"once"}')], EventBatch(1))
    await store.release(claim.lease, EventBatch(2), rest=Rest((question,), 0))
    return claim.lease.run_id


async def failed(store: RedisStore) -> str:
    claim = await claimed(store, await queued(store))
    await store.commit(claim.lease, commit_of(claim, Status.FAILED, reply_message("no"), last_error="it broke"))
    return claim.lease.run_id


def journal_of(redis_url: str, run_id: str) -> Any:
    async def read(store: RedisStore) -> str:
        claim = await claimed(store, run_id)
        return claim.journal["R.1.0"].decode()

    return json.loads(prepared(redis_url, read))


@pytest.mark.parametrize(
    ("args", "journaled"),
    [
        (["receipt 4711", "--by", "ada"], "receipt 4711"),
        (["--did-not-happen"], None),
        (["--unknown", "--call", "R.1.0"], "Outcome unknown"),
    ],
)
def test_an_answer_lets_the_run_go_on(
    redis_url: str, invoke: Callable[..., Result], args: list[str], journaled: str | None
):
    run_id = prepared(redis_url, waiting)
    result = invoke("answer", run_id, *args)
    assert (result.exit_code, result.stdout) == (0, f"{run_id} queued\n")
    step = journal_of(redis_url, run_id)
    if journaled is None:
        assert step["verdict"] == Reconciled.DID_NOT_HAPPEN.value
    else:
        assert step["result"]["content"].startswith(journaled)


def test_an_answer_that_nobody_asked_for_is_a_conflict(redis_url: str, invoke: Callable[..., Result]):
    run_id = prepared(redis_url, waiting)
    result = invoke("answer", run_id, "yes", "--call", "R.1.1")
    assert result.exit_code == 6
    assert "waits for an answer about call R.1.0" in result.stderr
    assert invoke("answer", run_id, "yes").exit_code == 0
    again = invoke("answer", run_id, "yes")
    assert again.exit_code == 6
    assert "is queued and does not wait for an answer" in again.stderr


def test_answer_as_json(redis_url: str, invoke: Callable[..., Result]):
    run_id = prepared(redis_url, waiting)
    assert json.loads(invoke("--json", "answer", run_id, "yes").stdout) == {"run_id": run_id, "status": "queued"}


def test_a_waiting_run_says_what_it_asks(redis_url: str, invoke: Callable[..., Result]):
    run_id = prepared(redis_url, waiting)
    shown = invoke("show", run_id)
    assert "Did it happen?" in shown.stdout
    why = invoke("why", run_id)
    assert "what became of charge(cents=500)" in " ".join(why.stdout.split())
    assert f"agentq answer {run_id}" in " ".join(why.stdout.split())


def test_a_failed_run_is_taken_up_again(redis_url: str, invoke: Callable[..., Result]):
    run_id = prepared(redis_url, failed)
    result = invoke("retry", run_id)
    assert (result.exit_code, result.stdout) == (0, f"{run_id} queued\n")
    again = invoke("retry", run_id)
    assert (again.exit_code, again.stdout) == (0, result.stdout)
    assert "1 time\n" in invoke("show", run_id).stdout


def test_what_is_wrong_with_one_run_does_not_keep_the_others(redis_url: str, invoke: Callable[..., Result]):
    good, bad = prepared(redis_url, failed), prepared(redis_url, queued)
    result = invoke("--json", "retry", bad, good, "01JD3ZK8W5Q0X9V7T2M4N6P8RA")
    assert result.exit_code == 3
    assert json.loads(result.stdout) == {"runs": [{"run_id": good, "status": "queued"}]}


def test_a_run_is_paused_and_says_so_until_it_is_resumed(redis_url: str, invoke: Callable[..., Result]):
    run_id = prepared(redis_url, queued)
    paused = invoke("pause", run_id, "--reason", "on the phone", "--by", "ada")
    assert (paused.exit_code, paused.stdout) == (0, f"{run_id} paused\n")
    why = " ".join(invoke("why", run_id).stdout.split())
    assert "ada paused it" in why
    assert "on the phone" in why
    assert f"agentq resume {run_id}" in why
    told = invoke("tail", run_id, "--no-follow").stdout
    assert "paused by ada: on the phone" in told
    resumed = invoke("--json", "resume", run_id)
    assert (resumed.exit_code, json.loads(resumed.stdout)) == (0, {"runs": [{"run_id": run_id, "status": "queued"}]})
    assert "resumed" in invoke("tail", run_id, "--no-follow").stdout


def test_a_run_that_is_held_is_paused_later_and_one_that_has_ended_is_not(
    redis_url: str, invoke: Callable[..., Result]
):
    async def held(store: RedisStore) -> str:
        return (await claimed(store, await queued(store))).lease.run_id

    run_id = prepared(redis_url, held)
    assert invoke("pause", run_id).stdout == f"{run_id} running: it is paused when its iteration has ended\n"
    assert "paused when this iteration has ended" in " ".join(invoke("why", run_id).stdout.split())
    done = invoke("pause", prepared(redis_url, failed))
    assert done.exit_code == 6
    assert "has already ended" in done.stderr


@pytest.mark.parametrize("target", [("--agent", "shop"), ("--queue", "default"), ("--all",)])
def test_what_is_paused_as_a_whole_is_said_everywhere(
    redis_url: str, invoke: Callable[..., Result], target: tuple[str, ...]
):
    async def enqueued(store: RedisStore) -> str:
        return await queued(store, agent="shop")

    run_id = prepared(redis_url, enqueued)
    paused = invoke("pause", *target, "--reason", "it orders twice", "--by", "ada")
    assert paused.exit_code == 0
    assert "no other begins" in paused.stdout
    assert json.loads(invoke("--json", "pause", *target).stdout)["pause"]["by"] == "ada"
    why = " ".join(invoke("why", run_id).stdout.split())
    assert "ada paused" in why
    assert "it orders twice" in why
    assert f"agentq resume {' '.join(target)}" in why
    assert "ada paused" in " ".join(invoke("stats").stdout.split())
    assert json.loads(invoke("--json", "stats").stdout)["pauses"]
    assert invoke("resume", *target).exit_code == 0
    assert json.loads(invoke("--json", "resume", *target).stdout)["pause"] is None
    assert "paused" not in invoke("why", run_id).stdout
    assert not json.loads(invoke("--json", "stats").stdout)["pauses"]


def test_a_message_goes_into_a_live_run_or_becomes_the_next_one(redis_url: str, invoke: Callable[..., Result]):
    async def in_session(store: RedisStore) -> str:
        return await queued(store, session_id="s1")

    run_id = prepared(redis_url, in_session)
    steered = invoke("steer", run_id, "in euros", "--by", "ada")
    assert (steered.exit_code, steered.stdout) == (0, f"{run_id} queued: its next iteration reads it\n")
    assert json.loads(invoke("--json", "steer", run_id, "soon").stdout) == {"run_id": run_id, "status": "queued"}
    assert "> ada: in euros" in invoke("tail", run_id, "--no-follow").stdout
    following = json.loads(invoke("--json", "steer", run_id, "--next", "and in dollars?").stdout)["run_id"]
    assert following != run_id
    assert f"run {run_id} is before it" in " ".join(invoke("why", following).stdout.split())
    alone = prepared(redis_url, queued)
    assert invoke("steer", alone, "--next", "x").exit_code == 2
    assert invoke("steer", prepared(redis_url, failed), "x").exit_code == 6
