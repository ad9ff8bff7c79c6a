"""`Schedule`: what is asked again and again, by cron, and when. Pure: whoever has the store's clock gives the time."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args
from zoneinfo import ZoneInfo

from agentq import _json
from agentq.errors import InvalidInput, StoreCorrupted
from agentq.settings import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CatchUp = Literal["last", "all", "none"]
"""Which of the firings that were missed while no worker was there are made up for."""
Overlap = Literal["allow", "skip"]
"""What happens when the run of the firing before has not ended."""

# Workers look every second. What comes later than this was missed.
LATE_MS = 60_000
# More firings than these are not made up for, whatever a schedule says: a minute's schedule after a week has 10,080.
MAX_CAUGHT_UP = 100
_MAX_CRON_CHARS = 200
# No change of a clock is more than this; what croniter does with such changes differs between its versions.
_SHIFT = timedelta(hours=3)
# How far back the last firings are looked for, at first, and how many times further then.
_LOOK_BACK_MS, _FURTHER = 3_600_000, 4
_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """A prompt for an agent at the times of a cron expression of five fields, in a time zone.

    `catch_up` says what is done about firings that were missed while no worker was there: `"last"` makes up for the
    last of them, `"all"` for each, at most the last 100, `"none"` for none. `overlap="skip"` leaves a firing out while
    the run of the one before has not ended. `options` are further arguments of `enqueue`.
    Raises `InvalidInput`, naming the field.
    """

    name: str
    agent: str
    prompt: str
    cron: str
    timezone: str = "UTC"
    catch_up: CatchUp = "last"
    overlap: Overlap = "allow"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name, field="name")
        _check_word(self.catch_up, CatchUp, field="catch_up")
        _check_word(self.overlap, Overlap, field="overlap")
        if not isinstance(self.timezone, str):
            raise InvalidInput(
                f"timezone must be a name such as Europe/Berlin, not {self.timezone!r}", field="timezone"
            )
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError) as error:
            raise InvalidInput(
                f"timezone {self.timezone!r:.80} is not known here; use a name such as Europe/Berlin", field="timezone"
            ) from error
        _check_cron(self.cron)

    def after(self, at_ms: int) -> int:
        """The first time after `at_ms` at which it fires, in milliseconds since 1970.

        A local time that the clock skips (spring) fires as much later as the clock is put forward, one that comes twice
        (autumn) fires the first time. Where the hour begins with `*`, real time goes on instead: nothing is fired for
        what was skipped, and what comes twice fires twice.
        """
        zone = ZoneInfo(self.timezone)
        at = datetime.fromtimestamp(at_ms / 1000, zone)
        local = at.replace(tzinfo=None)
        if at.utcoffset() == _offset(local - _SHIFT, zone):
            first = next(self._local(local))
            if at.utcoffset() == _offset(first, zone) == _offset(first + _SHIFT, zone):
                return _ms(first, zone)
        best: int | None = None
        for candidate in self._local(local - _SHIFT):
            for instant in self._instants(candidate, zone):
                if instant > at_ms and (best is None or instant < best):
                    best = instant
            if best is not None and candidate > datetime.fromtimestamp(best / 1000, zone).replace(tzinfo=None) + _SHIFT:
                return best
        raise AssertionError("croniter goes on for ever")  # pragma: no cover

    def missed(self, slot_ms: int, now_ms: int, *, most: int = MAX_CAUGHT_UP) -> list[int]:
        """The firings from `slot_ms`, which is one, up to `now_ms`; the last `most` of them. Looks at few others."""
        back_ms = _LOOK_BACK_MS
        while True:
            since_ms = max(slot_ms - 1, now_ms - back_ms)
            slots: list[int] = []
            while (following := self.after(slots[-1] if slots else since_ms)) <= now_ms:
                slots.append(following)
            if since_ms < slot_ms or len(slots) >= most:
                return slots[-most:]
            back_ms *= _FURTHER

    @property
    def _fields(self) -> str:
        return _NAMED.get(self.cron, self.cron)

    def _local(self, after: datetime) -> Iterator[datetime]:
        from croniter import croniter

        times = croniter(self._fields, after)
        while True:
            yield times.get_next(datetime)

    def _instants(self, local: datetime, zone: ZoneInfo) -> tuple[int, ...]:
        first, second = _ms(local, zone), _ms(local.replace(fold=1), zone)
        if first == second:
            return (first,)
        is_skipped = first > second
        if self._fields.split()[1].startswith("*"):
            return () if is_skipped else (first, second)
        return (first,)

    def encode(self) -> bytes:
        """As it is stored."""
        return _json.dumps(asdict(self))

    @classmethod
    def decode(cls, data: bytes) -> Schedule:
        """Read the stored form. Raises `StoreCorrupted`."""
        try:
            return cls(**_json.loads(data))
        except (ValueError, TypeError, InvalidInput) as error:
            raise StoreCorrupted(f"a stored schedule cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """A schedule and what has become of it. `next_ms` is None while it is paused; `last_run_id` is its last run.

    `fired` counts its runs, `skipped` the firings that it left out.
    """

    schedule: Schedule
    next_ms: int | None
    last_ms: int | None = None
    last_run_id: str | None = None
    fired: int = 0
    skipped: int = 0

    @property
    def is_paused(self) -> bool:
        return self.next_ms is None


def time_of(slot_ms: int) -> str:
    """A firing in words that sort: `2026-03-29T07:00:00Z`."""
    return datetime.fromtimestamp(slot_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _offset(local: datetime, zone: ZoneInfo) -> timedelta | None:
    return local.replace(tzinfo=zone).utcoffset()


def _ms(local: datetime, zone: ZoneInfo) -> int:
    return round(local.replace(tzinfo=zone).timestamp() * 1000)


def _check_cron(cron: Any) -> None:
    from croniter import CroniterBadDateError, CroniterError, croniter

    if not isinstance(cron, str):
        raise InvalidInput(f"cron must be text such as '0 9 * * mon-fri', not {cron!r}", field="cron")
    fields = _NAMED.get(cron, cron).split()
    # What croniter reads beyond cron: R is a random time, H a hashed one.
    if len(cron) > _MAX_CRON_CHARS or len(fields) != 5 or re.search(r"\b[rRhH]\b", cron):
        raise InvalidInput(
            f"cron {cron!r:.80} must have five fields: minute, hour, day, month and day of the week, as in "
            "'0 9 * * mon-fri'; or be @hourly, @daily, @weekly, @monthly or @yearly",
            field="cron",
        )
    try:
        croniter(" ".join(fields), datetime(2000, 1, 1)).get_next(datetime)  # noqa: DTZ001 - local times have no zone
    except CroniterBadDateError as error:
        raise InvalidInput(f"cron {cron!r} never comes: there is no such day", field="cron") from error
    except (CroniterError, ValueError, KeyError) as error:
        raise InvalidInput(f"cron {cron!r} cannot be read: {error}", field="cron") from error


def _check_word(value: object, words: Any, *, field: str) -> None:
    if value not in get_args(words):
        listed = ", ".join(f'"{word}"' for word in get_args(words))
        raise InvalidInput(f"{field} must be one of {listed}, not {value!r}", field=field)
