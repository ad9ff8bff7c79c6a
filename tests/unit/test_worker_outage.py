"""One line when Redis goes away, one when it is back, whoever notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.errors import StoreUnavailable
from agentq.worker.outage import Outage

if TYPE_CHECKING:
    import pytest

AWAY = StoreUnavailable("Redis at r:1/0 cannot be reached")


def test_many_who_notice_say_it_once(caplog: pytest.LogCaptureFixture):
    outage = Outage("r:1/0", worker="w1")
    for _ in range(3):
        for who in ("claim", "sweeper", "renewal"):
            outage.failed(who, AWAY)
    assert outage.is_on
    for who in ("claim", "sweeper", "renewal"):
        outage.worked(who)
    away, back = (record.getMessage() for record in caplog.records)
    assert away == "Redis at r:1/0 is away; waiting (Redis at r:1/0 cannot be reached)"
    assert back.startswith("Redis at r:1/0 is back after 0.")
    assert not outage.is_on


def test_the_reason_is_the_cause_where_there_is_one(caplog: pytest.LogCaptureFixture):
    outage = Outage("r:1/0")
    error = StoreUnavailable("away")
    error.__cause__ = OSError("connection refused")
    outage.failed("claim", error)
    outage.failed("claim", error)
    assert "(connection refused)" in caplog.text


def test_one_failure_that_the_next_try_mends_is_no_outage(caplog: pytest.LogCaptureFixture):
    outage = Outage("r:1/0")
    outage.failed("doorbell", AWAY)
    outage.worked("doorbell")
    outage.failed("doorbell", AWAY)
    outage.worked("doorbell")
    assert not caplog.records


def test_waits_grow_to_a_second_and_are_spread():
    outage = Outage("r:1/0")
    waits = [outage.failed("claim", AWAY) for _ in range(20)]
    assert waits[0] <= 0.05
    assert 0.6 <= min(waits[10:]) < max(waits) <= 1.0
    outage.worked("claim")
    assert outage.failed("claim", AWAY) <= 0.05


def test_back_means_back_for_all(caplog: pytest.LogCaptureFixture):
    outage = Outage("r:1/0")
    for who in ("claim", "claim", "doorbell"):
        outage.failed(who, AWAY)
    outage.worked("claim")
    assert outage.is_on
    outage.worked("doorbell")
    assert [record.getMessage()[:24] for record in caplog.records] == [
        "Redis at r:1/0 is away; ",
        "Redis at r:1/0 is back a",
    ]
