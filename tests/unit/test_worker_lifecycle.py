"""What a worker and the job function refuse before they touch Redis."""

from __future__ import annotations

import pytest

from agentq._ids import new_run_id
from agentq.app import AgentQ
from agentq.errors import ForeignJob, InvalidInput
from agentq.executors.queue import JOB_FUNCTION
from agentq.loop import Agent
from agentq.settings import Settings
from agentq.worker import Worker
from agentq.worker.job import continue_run


@pytest.fixture
def app() -> AgentQ:
    return AgentQ([Agent("echo")], settings=Settings(concurrency=7, queue="emails"))


def test_defaults_come_from_the_settings(app: AgentQ):
    worker = Worker(app)
    assert (worker.queues, worker.concurrency) == (("emails",), 7)
    other = Worker(app, settings=Settings(queue="calls"), queues=["high", "low", "high"], concurrency=1, name="w1")
    assert (other.queues, other.concurrency, other.name) == (("high", "low"), 1, "w1")


def test_every_worker_has_a_name_of_its_own(app: AgentQ):
    names = {Worker(app).name for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("agentq-") for name in names)


def test_a_worker_without_agents_queues_or_slots_is_refused(app: AgentQ):
    with pytest.raises(InvalidInput, match="no agents"):
        Worker(AgentQ())
    with pytest.raises(InvalidInput, match="queue 'a b' is not a name"):
        Worker(app, queues=["a b"])
    with pytest.raises(InvalidInput, match="concurrency must be at least 1"):
        Worker(app, concurrency=0)


def test_the_job_function_has_the_name_that_wake_ups_carry():
    assert f"{continue_run.__module__}.{continue_run.__qualname__}" == JOB_FUNCTION


async def test_the_job_function_refuses_what_is_no_wake_up():
    with pytest.raises(ForeignJob, match="'continue', not 'destroy'"):
        await continue_run(new_run_id(), "destroy")
    with pytest.raises(ForeignJob, match="'nonsense' is not the id of a run"):
        await continue_run("nonsense")
