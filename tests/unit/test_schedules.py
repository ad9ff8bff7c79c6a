"""When schedules fire: cron in time zones, changes of the clock, what was missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq.errors import InvalidInput, StoreCorrupted
from agentq.schedules import MAX_CAUGHT_UP, Schedule, time_of

BERLIN = "Europe/Berlin"


def schedule(cron: str, timezone: str = "UTC", **fields: Any) -> Schedule:
    return Schedule("report", "writer", "Write.", cron, timezone, **fields)


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def firings(of: Schedule, after: str, count: int) -> list[str]:
    """The local times at which it fires."""
    at, zone, found = ms(after), ZoneInfo(of.timezone), []
    for _ in range(count):
        at = of.after(at)
        found.append(datetime.fromtimestamp(at / 1000, zone).strftime("%d %H:%M%z"))
    return found


def test_it_fires_at_the_local_time_winter_and_summer():
    weekdays = schedule("0 9 * * mon-fri", BERLIN)
    assert firings(weekdays, "2026-03-26T12:00Z", 3) == ["27 09:00+0100", "30 09:00+0200", "31 09:00+0200"]


def test_a_time_that_the_clock_skips_fires_as_much_later():
    nightly = schedule("30 2 * * *", BERLIN)
    assert firings(nightly, "2026-03-27T12:00Z", 3) == ["28 02:30+0100", "29 03:30+0200", "30 02:30+0200"]


def test_a_time_that_comes_twice_fires_once():
    nightly = schedule("30 2 * * *", BERLIN)
    assert firings(nightly, "2026-10-24T12:00Z", 3) == ["25 02:30+0200", "26 02:30+0100", "27 02:30+0100"]


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"], ids=["spring", "autumn"])
@pytest.mark.parametrize("cron", ["*/20 * * * *", "@hourly", "7 */1 * * *"])
def test_by_the_hour_real_time_goes_on_through_changes_of_the_clock(cron: str, day: str):
    of = schedule(cron, BERLIN)
    at = ms(f"{day}T00:00+00:00") - 7_200_000
    steps = set()
    for _ in range(20):
        following = of.after(at)
        steps.add(following - at)
        at = following
    assert len(steps - {max(steps)}) <= 1  # the first step begins between two firings
    assert max(steps) <= 3_600_000


@given(
    st.integers(1_700_000_000, 1_900_000_000),
    st.sampled_from(["UTC", BERLIN, "Australia/Lord_Howe", "America/New_York"]),
)
def test_a_firing_comes_after_the_one_before_and_none_is_left_out(at: int, zone: str):
    of = schedule("*/30 * * * *", zone)
    first = of.after(at * 1000)
    assert first > at * 1000
    assert first - at * 1000 <= 1_800_000
    assert of.after(first - 1) == first
    assert first % 1_800_000 == 0


@given(st.integers(1_700_000_000, 1_900_000_000), st.sampled_from([BERLIN, "America/New_York", "America/Santiago"]))
def test_a_daily_firing_comes_once_each_local_day(at: int, zone: str):
    of = schedule("30 2 * * *", zone)
    first = of.after(at * 1000)
    second = of.after(first)
    days = [datetime.fromtimestamp(each / 1000, ZoneInfo(zone)).date() for each in (first, second)]
    assert days[1] - days[0] == timedelta(days=1)


def test_what_was_missed_is_found_however_long_it_was():
    minutely = schedule("* * * * *", BERLIN)
    slot = minutely.after(ms("2026-01-01T00:00Z"))
    now = slot + 366 * 86_400_000
    assert minutely.missed(slot, now, most=1) == [now]
    many = minutely.missed(slot, now)
    assert many == [now - 60_000 * back for back in reversed(range(MAX_CAUGHT_UP))]
    yearly = schedule("@yearly")
    slot = yearly.after(ms("2023-06-01T00:00Z"))
    assert [time_of(each) for each in yearly.missed(slot, ms("2026-06-01T00:00Z"))] == [
        "2024-01-01T00:00:00Z",
        "2025-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
    ]
    assert yearly.missed(slot, slot) == [slot]


def test_it_is_stored_and_read():
    of = schedule("0 9 * * *", BERLIN, catch_up="all", overlap="skip", options={"user_id": "ann"})
    assert Schedule.decode(of.encode()) == of
    with pytest.raises(StoreCorrupted):
        Schedule.decode(b'{"name": "x"}')


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"cron": "0 9 * *"}, "cron", "must have five fields"),
        ({"cron": "0 9 * * * *"}, "cron", "must have five fields"),
        ({"cron": "61 * * * *"}, "cron", "cannot be read"),
        ({"cron": "0 9 * * thr"}, "cron", "cannot be read"),
        ({"cron": "R 9 * * *"}, "cron", "must have five fields"),
        ({"cron": "H 9 * * *"}, "cron", "must have five fields"),
        ({"cron": "0 0 30 2 *"}, "cron", "never comes"),
        ({"cron": "@reboot"}, "cron", "must have five fields"),
        ({"cron": 9}, "cron", "must be text"),
        ({"cron": "0 " * 200}, "cron", "must have five fields"),
        ({"timezone": "Berlin"}, "timezone", "'Berlin' is not known here"),
        ({"timezone": "../etc/passwd"}, "timezone", "is not known here"),
        ({"timezone": UTC}, "timezone", "must be a name"),
        ({"catch_up": "some"}, "catch_up", 'must be one of "last", "all", "none"'),
        ({"overlap": "wait"}, "overlap", 'must be one of "allow", "skip"'),
        ({"name": "a b"}, "name", "is not a name"),
    ],
)
def test_a_bad_schedule_is_refused(fields: dict[str, Any], field: str, words: str):
    good: dict[str, Any] = {"name": "report", "agent": "writer", "prompt": "Write.", "cron": "0 9 * * *"}
    with pytest.raises(InvalidInput, match=words) as refused:
        Schedule(**good | fields)
    assert refused.value.field == field
