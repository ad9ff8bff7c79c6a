"""The transition table, and the state of a run as data."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from agentq.runs import FINAL, TRANSITIONS, RunState, Status


def reachable(start: Status) -> set[Status]:
    seen: set[Status] = set()
    waiting = [start]
    while waiting:
        status = waiting.pop()
        if status not in seen:
            seen.add(status)
            waiting += TRANSITIONS[status]
    return seen


def test_every_status_has_its_transitions():
    assert set(TRANSITIONS) == set(Status)
    assert all(status not in following for status, following in TRANSITIONS.items())


def test_every_status_is_reached_and_can_end():
    assert reachable(Status.QUEUED) == set(Status)
    for status in Status:
        assert reachable(status) & FINAL


def test_only_a_running_run_comes_to_an_end():
    assert {status for status, following in TRANSITIONS.items() if following & FINAL} == {Status.RUNNING}


def test_running_is_entered_by_a_claim_of_a_queued_run_only():
    assert {status for status, following in TRANSITIONS.items() if Status.RUNNING in following} == {Status.QUEUED}


def test_a_retry_opens_what_failed_or_was_cancelled_but_nothing_that_completed():
    assert TRANSITIONS[Status.COMPLETED] == frozenset()
    assert TRANSITIONS[Status.FAILED] == TRANSITIONS[Status.CANCELLED] == {Status.QUEUED}


@pytest.mark.parametrize("status", Status)
def test_final_is_what_the_set_says(status: Status):
    assert status.is_final == (status in FINAL)
    assert Status(str(status)) is status


def test_a_cancel_without_a_reason_is_a_cancel():
    run = RunState("R", "calculator", Status.QUEUED)
    assert not run.is_cancel_requested
    assert RunState("R", "calculator", Status.QUEUED, cancel_reason="").is_cancel_requested


def test_a_state_is_a_value():
    run = RunState("R", "calculator", Status.QUEUED)
    assert run == RunState("R", "calculator", Status.QUEUED)
    with pytest.raises(FrozenInstanceError):
        run.status = Status.RUNNING  # type: ignore[misc]
