"""Between Redis hashes and `RunState`: the names and forms of the fields. docs/redis-keys.md describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.errors import StoreCorrupted
from agentq.limits import limits_of
from agentq.runs import PRIORITIES, PROMPT_EXCERPT, SCHEMA_VERSION, Pause, Phase, Priority, Question, RunState, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq.stores.base import Commit, NewRun


def fields_of_new_run(new: NewRun) -> list[str | bytes]:
    """Names and values for the hash of a new run, in one flat list."""
    optional = {
        "prompt": new.prompt[:PROMPT_EXCERPT],
        "model": new.model,
        "session": new.session_id,
        "user": new.user_id,
        "key": new.idempotency_key,
        "metadata": _json.dumps(new.metadata) if new.metadata else None,
        "ttl": _json.dumps(new.ttl_ms) if new.ttl_ms else None,
        "tools": None if new.tools is None else _json.dumps(list(new.tools)),
        "without": _json.dumps(list(new.without)) if new.without else None,
        "parent": new.parent_run_id,
        "forked": new.forked_from,
        "depth": str(new.depth) if new.depth else None,
        "concurrency_key": new.concurrency_key,
        "places": str(new.concurrency) if new.concurrency_key else None,
        "tenant": _tenant(new),
        "priority": new.priority,
        "limits": _json.dumps(new.limits.given()) if new.limits else None,
    }
    fields: list[str | bytes] = [
        "agent", new.agent, "queue", new.queue, "version", str(SCHEMA_VERSION), "length", str(len(new.messages)),
    ]  # fmt: skip
    for name, value in optional.items():
        if value is not None:
            fields += (name, value)
    return fields


def _tenant(run: NewRun | RunState) -> str | None:
    """The tenant in the hash; runs with a priority and no tenant stand in line together, as those of tenant `""`."""
    return run.tenant or (None if run.priority is None else "")


def fields_of_commit(commit: Commit) -> list[str | bytes]:
    """What a commit changes in the hash, in one flat list."""
    fields: list[str | bytes] = [
        "iteration", str(commit.iteration), "turn", str(commit.turn), "errors", str(commit.errors),
        "usage", _json.dumps(commit.usage),
    ]  # fmt: skip
    if commit.counted:
        fields += ("counted", str(commit.counted))
    if commit.last_error is not None:
        fields += ("last_error", commit.last_error)
    elif commit.errors == 0 and commit.status is not Status.FAILED:
        fields += ("last_error", "")
    return fields


def fields_of_ended_run(run: RunState, request_hash: str) -> list[str | bytes]:
    """Names and values for the hash of an ended run that comes from elsewhere; `run_of_hash` gives `run` back."""
    texts = {
        "agent": run.agent, "prompt": run.prompt, "queue": run.queue, "model": run.model, "session": run.session_id,
        "user": run.user_id, "key": run.idempotency_key, "cancel": run.cancel_reason, "last_error": run.last_error,
        "request_hash": request_hash, "status": run.status, "parent": run.parent_run_id,
        "forked": run.forked_from, "tenant": _tenant(run), "priority": run.priority,
        # For a commit that was sent twice and is stuck on its way: it has happened.
        "outcome": f"{run.status} {run.seq} 0 ",
    }  # fmt: skip
    numbers = {
        "iteration": run.iteration, "turn": run.turn, "errors": run.errors, "recoveries": run.recoveries,
        "signals": run.signals, "fence": run.fence, "committed": run.committed, "seq": run.seq, "wake": run.wake,
        "length": run.message_count, "history": run.history_length, "created": run.created_ms,
        "updated": run.updated_ms, "finished": run.finished_ms, "version": run.version, "depth": run.depth,
        "started": run.started_ms, "progressed": run.progressed_ms, "counted": run.counted,
    }  # fmt: skip
    documents = {
        "metadata": run.metadata, "usage": run.usage, "ttl": run.ttl_ms, "retried_usage": run.retried_usage,
        "limits": run.limits.given() if run.limits else None,
    }  # fmt: skip
    values: dict[str, str | bytes | None] = {
        **texts,
        **{name: str(number) for name, number in numbers.items()},
        **{name: _json.dumps(document) for name, document in documents.items() if document},
        "tools": None if run.tools is None else _json.dumps(list(run.tools)),
        "without": _json.dumps(list(run.without)) if run.without else None,
    }
    return [item for name, value in values.items() if value is not None for item in (name, value)]


def run_of_hash(run_id: str, flat: Sequence[bytes]) -> RunState:
    """Read a run's hash, given as names and values in turn. Raises `StoreCorrupted`."""
    raw = dict(zip(flat[::2], flat[1::2], strict=True))
    try:
        return _run(run_id, raw)
    except (KeyError, ValueError, TypeError) as error:
        raise StoreCorrupted(f"run {run_id} cannot be read: {error!r}") from error


def _priority(stored: str | None) -> Priority | None:
    # One that only a newer version knows counts as normal, as it does for the scripts.
    return next((known for known in PRIORITIES if known == stored), None)


def _questions(stored: bytes | None) -> tuple[Question, ...]:
    given = _json.loads(stored) if stored else []
    # Earlier versions asked one thing at a time.
    listed = given if isinstance(given, list) else [given]
    known = Question.__dataclass_fields__
    return tuple(Question(**{name: _tuple(value) for name, value in each.items() if name in known}) for each in listed)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _run(run_id: str, raw: dict[bytes, bytes]) -> RunState:
    def text(name: bytes) -> str | None:
        value = raw.get(name)
        return value.decode() if value else None

    def number(name: bytes) -> int:
        return int(raw.get(name) or 0)

    phase = text(b"phase")
    question = raw.get(b"question")
    return RunState(
        run_id=run_id,
        agent=raw[b"agent"].decode(),
        status=Status(raw[b"status"].decode()),
        prompt=text(b"prompt") or "",
        questions=_questions(question),
        retries=number(b"retries"),
        retried_at=number(b"retried_at"),
        heard_at=number(b"heard_at"),
        lost_ms=number(b"lost"),
        unsure=b"unsure" in raw,
        queue=raw[b"queue"].decode(),
        model=text(b"model"),
        session_id=text(b"session"),
        user_id=text(b"user"),
        metadata=_json.loads(raw[b"metadata"]) if b"metadata" in raw else {},
        phase=Phase(phase) if phase else None,
        iteration=number(b"iteration"),
        turn=number(b"turn"),
        errors=number(b"errors"),
        recoveries=number(b"recoveries"),
        signals=number(b"signals"),
        fence=number(b"fence"),
        committed=number(b"committed"),
        owner=text(b"owner"),
        lease_until_ms=number(b"lease_until"),
        not_before_ms=number(b"not_before"),
        cancel_reason=raw[b"cancel"].decode() if b"cancel" in raw else None,
        last_error=text(b"last_error"),
        usage=_json.loads(raw[b"usage"]) if b"usage" in raw else {},
        seq=number(b"seq"),
        wake=number(b"wake"),
        message_count=number(b"length"),
        waits_for_session=b"behind" in raw,
        concurrency_key=text(b"concurrency_key"),
        concurrency=number(b"places"),
        waits_for_place=b"gated" in raw,
        tenant=text(b"tenant") or None,
        priority=_priority(text(b"priority")),
        waits_for_tenant=b"shelved" in raw,
        history_length=number(b"history"),
        ttl_ms=_json.loads(raw[b"ttl"]) if b"ttl" in raw else {},
        tools=tuple(_json.loads(raw[b"tools"])) if b"tools" in raw else None,
        without=tuple(_json.loads(raw[b"without"])) if b"without" in raw else (),
        idempotency_key=text(b"key"),
        created_ms=number(b"created"),
        updated_ms=number(b"updated"),
        finished_ms=number(b"finished"),
        version=number(b"version"),
        parent_run_id=text(b"parent"),
        forked_from=text(b"forked"),
        depth=number(b"depth"),
        pause=pause_of(raw[b"pause"]) if b"pause" in raw else None,
        limits=limits_of(_json.loads(raw[b"limits"])) if b"limits" in raw else None,
        counted=number(b"counted"),
        started_ms=number(b"started"),
        progressed_ms=number(b"progressed"),
        retried_usage=_json.loads(raw[b"retried_usage"]) if raw.get(b"retried_usage") else {},
    )


def pause_of(stored: bytes) -> Pause:
    """Read a pause. Raises what says that it is none."""
    told = _json.loads(stored)
    return Pause(told["reason"], told["by"], int(told["at_ms"]))
