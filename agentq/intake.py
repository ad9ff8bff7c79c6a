"""What a client takes in: every argument is checked here, before anything is stored. Pure but for the new id."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any, cast

from agentq import _ids, _json
from agentq.attachments import Attached, described, refusal
from agentq.errors import InvalidInput, RunNotFound
from agentq.limits import WINDOW_MS, Meter, Per, RunLimits, Window
from agentq.messages import FilePart, user_message
from agentq.runs import PRIORITIES, SWITCHES, WHEN_BUSY, Priority, Status, WhenBusy
from agentq.settings import Settings, check_name, times_to_live
from agentq.stores.base import NewRun

_MAX_ID_CHARS = 200
_MAX_LIMIT = 1000
_MAX_OFFSET = 2**31
_MAX_REMARK_CHARS = 1000
_MAX_TOOLS = 1000
# A sweep looks at all of them at once.
_MAX_PLACES = 1000
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TOOL = re.compile(r"[A-Za-z0-9_.-]{1,100}")
# A delay above a year is a mistake in the unit.
_MAX_DELAY_S = 366 * 86_400
NOTHING = Attached()
_FIRST_DAY = date(1970, 1, 1)


def new_run(
    settings: Settings,
    agent: str,
    prompt: str,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    queue: str | None = None,
    model: str | None = None,
    idempotency_key: str | None = None,
    delay: float = 0.0,
    at: datetime | None = None,
    ttl_s: float | Mapping[str, float] | None = None,
    attached: Attached = NOTHING,
    tools: Sequence[str] | None = None,
    without: Sequence[str] = (),
    when_busy: str | None = None,
    limits: RunLimits | None = None,
    concurrency_key: str | None = None,
    concurrency: int | None = None,
    tenant: str | None = None,
    priority: Priority | None = None,
) -> NewRun:
    """Check everything and return the run to store. Raises `InvalidInput` that names the field and the fix."""
    check_name(agent, field="agent")
    if queue is not None:
        check_name(queue, field="queue")
    check_words(prompt, settings.max_value_bytes)
    check_texts(
        session_id=session_id,
        user_id=user_id,
        idempotency_key=idempotency_key,
        model=model,
        concurrency_key=concurrency_key,
        tenant=tenant,
    )
    checked = _checked_metadata(metadata, settings.max_value_bytes)
    # What decides whether a repeated key comes with the same input. The delay does not: it passes while one retries.
    request: list[Any] = [agent, prompt, session_id, user_id, checked, queue, model]
    ttl_ms = times_to_live(ttl_s, field="ttl_s")
    if ttl_ms or attached.parts:
        request += [ttl_ms, [part.model_dump() for part in attached.parts]]
    wanted = _checked_tools(tools)
    if wanted is not None:
        request.append({"tools": sorted(wanted)})
    if left_out := _checked_without(without):
        request.append({"without": left_out})
    if limits is not None:
        if not isinstance(limits, RunLimits):
            raise InvalidInput(f"limits must be RunLimits(...), not {limits!r}", field="limits")
        request.append({"limits": limits.given()})
    places = _checked_concurrency(concurrency_key, concurrency)
    if concurrency_key is not None:
        request.append({"concurrency_key": concurrency_key})
    if tenant is not None:
        request.append({"tenant": tenant})
    canonical = json.dumps(request, sort_keys=True, separators=(",", ":"))
    return NewRun(
        run_id=_ids.new_run_id(),
        agent=agent,
        messages=(user_message(prompt, attached.parts),),
        queue=queue or settings.queue,
        model=model,
        session_id=session_id,
        user_id=user_id,
        metadata=checked,
        idempotency_key=idempotency_key,
        request_hash=hashlib.sha256(canonical.encode()).hexdigest(),
        delay_ms=_delay_ms(delay),
        at_ms=_at_ms(at, delay),
        ttl_ms=ttl_ms,
        tools=wanted,
        without=left_out,
        when_busy=_checked_when_busy(when_busy, session_id, delay or at is not None),
        files=attached.contents,
        limits=limits,
        concurrency_key=concurrency_key,
        concurrency=places,
        tenant=tenant,
        priority=_checked_priority(priority),
    )


def _checked_concurrency(key: str | None, places: Any) -> int:
    if key is None and places is None:
        return 0
    if key is None:
        raise InvalidInput("concurrency goes with a concurrency_key, which says of what runs", field="concurrency")
    _check_whole(places, "concurrency")
    if not 1 <= places <= _MAX_PLACES:
        raise InvalidInput(f"concurrency must be between 1 and {_MAX_PLACES}, not {places}", field="concurrency")
    return int(places)


def _checked_priority(priority: Any) -> Priority | None:
    for known in (None, *PRIORITIES):
        if priority == known:
            return known
    raise InvalidInput(f"priority must be {', '.join(PRIORITIES)} or None, not {priority!r}", field="priority")


def as_agent_says(
    new: NewRun, manifest: Mapping[str, Any], files: Sequence[FilePart], *, queue: str | None, when_busy: str | None
) -> NewRun:
    """The run with what its agent says where `queue` and `when_busy` say nothing. Raises `InvalidInput`."""
    taken = manifest.get("media_types") if new.model is None else None
    if taken is not None and (refused := refusal(files, taken, manifest["model"])):
        raise InvalidInput(refused, field="files")
    check_tools(new.tools, manifest)
    if queue is None and manifest.get("queue"):
        new = replace(new, queue=manifest["queue"])
    if when_busy is None and new.session_id is not None and not (new.delay_ms or new.at_ms):
        new = replace(new, when_busy=manifest.get("when_busy", "queue"))
    return new


def check_tools(wanted: Sequence[str] | None, manifest: Mapping[str, Any]) -> None:
    """Whether the agent has what a run wants to use, as far as its manifest tells. Raises `InvalidInput`."""
    # A worker of an earlier version does not say which toolsets it has; some tools are asked for only in a run.
    if wanted is None or "toolsets" not in manifest or manifest.get("tools_vary"):
        return
    known = [*manifest["toolsets"], *(each["name"] for each in manifest["tools"])]
    for name in wanted:
        if name not in known:
            raise InvalidInput(
                f"agent {manifest['name']!r} has no tool or toolset named {name!r}; "
                + (f"there are: {', '.join(known)}" if known else "it has none"),
                field="tools",
            )


def _checked_tools(tools: Any) -> tuple[str, ...] | None:
    if tools is None:
        return None
    if isinstance(tools, str | bytes) or not isinstance(tools, Sequence):
        raise InvalidInput(
            f"tools must be a list of names of tools and toolsets, or None for all, not {tools!r}", field="tools"
        )
    if len(tools) > _MAX_TOOLS:
        raise InvalidInput(f"tools has {len(tools)} names, more than {_MAX_TOOLS}; name toolsets", field="tools")
    for name in tools:
        if not isinstance(name, str) or not _TOOL.fullmatch(name):
            raise InvalidInput(f"tools has {name!r}, which names no tool or toolset", field="tools")
    return tuple(dict.fromkeys(tools))


def checked_policy(when_busy: Any) -> WhenBusy:
    """What a run does where its session is busy. Raises `InvalidInput`."""
    for known in WHEN_BUSY:
        if when_busy == known:
            return known
    raise InvalidInput(f"when_busy must be one of {', '.join(WHEN_BUSY)}, not {when_busy!r}", field="when_busy")


def _checked_when_busy(when_busy: str | None, session_id: str | None, delay: float) -> WhenBusy:
    checked = "queue" if when_busy is None else checked_policy(when_busy)
    if checked != "queue" and session_id is None:
        raise InvalidInput("when_busy is about a session; give session_id too", field="when_busy")
    if checked != "queue" and delay:
        raise InvalidInput("a run that is put off can only queue: leave out when_busy, or delay", field="when_busy")
    return checked


def _checked_without(without: Any) -> tuple[str, ...]:
    known = ", ".join(SWITCHES)
    if isinstance(without, str) or not isinstance(without, Sequence):
        raise InvalidInput(f"without must be a list of {known}, not {without!r}", field="without")
    for name in without:
        if name not in SWITCHES:
            raise InvalidInput(f"without has {name!r}; what can be switched off is: {known}", field="without")
    return tuple(sorted(set(without)))


def check_words(prompt: str, max_bytes: int, *, field: str = "prompt") -> None:
    """What a person says to the agent. Raises `InvalidInput`."""
    if not isinstance(prompt, str):
        raise InvalidInput(f"{field} must be text, not {type(prompt).__name__}", field=field)
    if not prompt.strip():
        raise InvalidInput(f"{field} is empty; say what the agent should do", field=field)
    try:
        size = len(prompt.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{field} is not valid Unicode at character {error.start}: half of a surrogate pair; "
            "decode its source with errors='replace'",
            field=field,
        ) from error
    _check_size(size, max_bytes, field, "attach large data as a file")


def _check_size(size: int, max_bytes: int, field: str, fix: str) -> None:
    if size > max_bytes:
        raise InvalidInput(
            f"{field} has {size} bytes, more than the {max_bytes} that are allowed; "
            f"{fix}, or raise AGENTQ_MAX_VALUE_BYTES",
            field=field,
        )


def check_texts(**texts: str | None) -> None:
    """Ids and names, by their field, where they are given. Raises `InvalidInput`."""
    for field, text in texts.items():
        if text is not None:
            _check_text(text, field)


def _check_text(text: str, field: str) -> None:
    if not isinstance(text, str):
        raise InvalidInput(f"{field} must be text, not {type(text).__name__}; use str(...)", field=field)
    if not text:
        raise InvalidInput(f"{field} is empty; leave it out, or give it a value", field=field)
    if len(text) > _MAX_ID_CHARS:
        raise InvalidInput(
            f"{field} has {len(text)} characters, more than {_MAX_ID_CHARS}; use a hash of it", field=field
        )
    # Cc: control characters; Cs: halves of surrogate pairs, which have no UTF-8 form.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise InvalidInput(f"{field} {text!r} holds control characters; remove them", field=field)


def _checked_metadata(metadata: Mapping[str, Any] | None, max_bytes: int) -> dict[str, Any]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InvalidInput(f"metadata must be a dict, not {type(metadata).__name__}", field="metadata")
    for key in metadata:
        if not isinstance(key, str):
            raise InvalidInput(f"metadata has the key {key!r}, which is not a str; use str keys", field="metadata")
    checked: dict[str, Any] = _json.checked(dict(metadata), field="metadata")
    _check_size(len(_json.dumps(checked)), max_bytes, "metadata", "keep large data elsewhere and pass its address")
    return checked


def _at_ms(at: datetime | None, delay: float) -> int:
    if at is None:
        return 0
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise InvalidInput(f"at must be a datetime with a time zone, not {at!r}", field="at")
    if delay:
        raise InvalidInput("give at or delay, not both", field="at")
    at_ms = round(at.timestamp() * 1000)
    if at_ms > (time.time() + _MAX_DELAY_S) * 1000:
        raise InvalidInput(f"at must be within {_MAX_DELAY_S} seconds from now, not {at}", field="at")
    return max(at_ms, 1)


def seconds_until(at: datetime | None, delay: float) -> float:
    """How long a run is put off, by the clock of this machine."""
    return delay if at is None else max(at.timestamp() - time.time(), 0.0)


def _delay_ms(delay: float) -> int:
    if isinstance(delay, bool) or not isinstance(delay, int | float):
        raise InvalidInput(f"delay must be a number of seconds, not {type(delay).__name__}", field="delay")
    if not (math.isfinite(delay) and 0 <= delay <= _MAX_DELAY_S):
        raise InvalidInput(f"delay must be between 0 and {_MAX_DELAY_S} seconds, not {delay}", field="delay")
    return round(delay * 1000)


def checked_id(run_id: str) -> str:
    """The id, if it can be one. Raises `RunNotFound`."""
    if not isinstance(run_id, str) or not _ids.is_run_id(run_id):
        raise RunNotFound(f"{run_id!r} is not a run id: those have 26 letters and digits, as `enqueue` returns them")
    return run_id


def checked_limit(limit: int) -> int:
    """The size of a page. Raises `InvalidInput`."""
    _check_whole(limit, "limit")
    if not 1 <= limit <= _MAX_LIMIT:
        raise InvalidInput(f"limit must be between 1 and {_MAX_LIMIT}, not {limit}", field="limit")
    return limit


def checked_offset(offset: int, *, field: str) -> int:
    """How many to skip. Raises `InvalidInput`."""
    _check_whole(offset, field)
    if not 0 <= offset <= _MAX_OFFSET:
        raise InvalidInput(f"{field} must not be negative nor above {_MAX_OFFSET}, but is {offset}", field=field)
    return offset


def checked_before(before: str | None) -> str | None:
    """The run id that the last page ended with. Raises `InvalidInput`."""
    if before is not None and not isinstance(before, str):
        raise InvalidInput(f"before must be a run id, not {type(before).__name__}", field="before")
    return before


def _check_whole(number: object, field: str) -> None:
    if isinstance(number, bool) or not isinstance(number, int):
        raise InvalidInput(f"{field} must be a whole number, not {number!r}", field=field)


def checked_remark(remark: str, *, field: str) -> str:
    """What somebody says of what they do, the reason for a cancel or who they are. Raises `InvalidInput`."""
    if not isinstance(remark, str) or len(remark) > _MAX_REMARK_CHARS:
        raise InvalidInput(f"{field} must be text of at most {_MAX_REMARK_CHARS} characters", field=field)
    return _json.storable(remark)


def checked_name(name: str, *, field: str) -> str:
    """What is looked for by its name or id. Raises `InvalidInput`."""
    if not isinstance(name, str):
        raise InvalidInput(f"{field} must be text, not {type(name).__name__}", field=field)
    return name


def checked_wish(name: str | None, *, field: str) -> str | None:
    """What a listing is narrowed to, if to anything. Raises `InvalidInput`."""
    return None if name is None else checked_name(name, field=field)


def checked_status(status: Status | str) -> Status:
    """The status of that name. Raises `InvalidInput`."""
    try:
        return Status(status)
    except ValueError:
        names = ", ".join(Status)
        raise InvalidInput(f"status {status!r} does not exist; there are: {names}", field="status") from None


def checked_digest(file: FilePart | str) -> str:
    """The digest of a file that a store holds, from the part that refers to it or as it is. Raises `InvalidInput`."""
    if isinstance(file, FilePart) and file.digest is None:
        raise InvalidInput(f"{described(file)} is not stored: fetch it from its URL", field="file")
    digest = file.digest if isinstance(file, FilePart) else file
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise InvalidInput(f"file must be a file of a message, or its SHA-256 in hex, not {digest!r:.80}", field="file")
    return digest


def checked_meter(
    *, user_id: str | None, session_id: str | None, agent: str | None, window: Window, day: date | None
) -> Meter:
    """Where that is counted. Raises `InvalidInput`."""
    named = {"user": user_id, "session": session_id, "agent": agent}
    given = {per: of for per, of in named.items() if of is not None}
    if len(given) > 1:
        raise InvalidInput("spent counts for one user, one session or one agent; name one of them", field="user_id")
    for per, of in given.items():
        checked_name(of, field=per if per == "agent" else f"{per}_id")
    if window not in WINDOW_MS:
        raise InvalidInput(f"window must be {' or '.join(WINDOW_MS)}, not {window!r}", field="window")
    if day is not None and (window != "day" or not isinstance(day, date) or isinstance(day, datetime)):
        raise InvalidInput(f'day must be a date, and goes with window="day", not {day!r}', field="day")
    per, of = next(iter(given.items()), ("all", ""))
    return Meter(cast("Per", per), of, window, None if day is None else (day - _FIRST_DAY).days)
