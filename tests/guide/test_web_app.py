"""Web app: what a view does with a `Client`. It needs no agent code; workers have that."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from agentq import AsyncClient, Client, RunCancelled
from agentq.errors import IdempotencyConflict, InvalidInput, RunNotFound, UnknownAgent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    """One for the whole process of a web app."""
    with Client(redis_url) as client:
        yield client


def test_a_view_enqueues_and_another_one_looks(client: Client, work: Callable[[], None]):
    run_id = client.enqueue("calculator", "say Hello.", user_id="ann").id
    assert client.status(run_id) == "queued"
    assert client.outcome(run_id) is None
    work()
    result = client.outcome(run_id)
    assert result is not None
    assert result.output == "Hello."


def test_a_request_that_is_sent_twice_is_one_run(client: Client):
    first = client.enqueue("calculator", "say Hello.", idempotency_key="request-1")
    again = client.enqueue("calculator", "say Hello.", idempotency_key="request-1")
    assert again.id == first.id
    with pytest.raises(IdempotencyConflict):
        client.enqueue("calculator", "say Something else.", idempotency_key="request-1")
    assert len(client.list()) == 1


def test_bad_input_is_refused_before_anything_is_stored(client: Client):
    with pytest.raises(InvalidInput, match="prompt is empty"):
        client.enqueue("calculator", " ")
    with pytest.raises(InvalidInput, match="metadata"):
        client.enqueue("calculator", "say Hello.", metadata={"when": object()})
    assert client.list() == ()


def test_an_agent_that_no_worker_has_is_refused_once_workers_said_what_they_have(
    client: Client, work: Callable[[], None]
):
    work()
    with pytest.raises(UnknownAgent, match="there are: calculator"):
        client.enqueue("calculater", "say Hello.")


def test_a_run_id_that_is_not_there_is_not_found(client: Client):
    with pytest.raises(RunNotFound):
        client.status("01JD3ZK8W5Q0X9V7T2M4N6P8RA")


def test_a_run_that_no_worker_holds_is_cancelled_at_once(client: Client):
    run = client.enqueue("calculator", "say Hello.")
    assert run.cancel(reason="changed my mind") == "cancelled"
    with pytest.raises(RunCancelled, match="changed my mind"):
        run.result()


def test_the_runs_of_a_user_are_listed_newest_first(client: Client):
    first = client.enqueue("calculator", "say One.", user_id="ann")
    client.enqueue("calculator", "say Two.", user_id="bob")
    last = client.enqueue("calculator", "say Three.", user_id="ann")
    assert [run.run_id for run in client.list(user_id="ann")] == [last.id, first.id]


def test_threads_share_a_client(client: Client):
    with ThreadPoolExecutor(8) as threads:
        runs = list(threads.map(lambda number: client.enqueue("calculator", f"say {number}"), range(40)))
    assert {run.run_id for run in client.list(limit=100)} == {run.id for run in runs}


async def test_async_views_await_the_same_methods(redis_url: str):
    async with AsyncClient(redis_url) as client:
        run = await client.enqueue("calculator", "say Hello.", metadata={"page": "/start"})
        assert await run.status() == "queued"
        assert (await run.read()).metadata == {"page": "/start"}
