"""PURE: is the ground sound? Judges what Redis says of itself and who works, one line for each thing, with the fix."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from agentq._words import count, duration
from agentq.insight.why import is_sweep_late

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agentq.insight.facts import WorkerInfo
    from agentq.insight.server import ServerFacts
    from agentq.webhooks import WebhookState

_MIN_REDIS = (6, 2)
_MIN_VALKEY = (7, 2)
_SKEW_MS = 2000
# Redis needs room to rewrite its files and for the buffers of its clients.
_MEMORY_HIGH, _MEMORY_FULL = 0.8, 0.95
# A loop that is farther away pays for each of the round trips of an iteration.
_SLOW_MS = 20.0
# Workers say each minute which webhooks they have.
_UNSEEN_MS = 300_000


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `fix` says what to do, empty where it is well or cannot be told."""

    name: str
    level: Level
    text: str
    fix: str = ""


def ok(name: str, text: str) -> Check:
    return Check(name, Level.OK, text)


def warning(name: str, text: str, fix: str) -> Check:
    return Check(name, Level.WARNING, text, fix)


def failed(name: str, text: str, fix: str) -> Check:
    return Check(name, Level.FAILED, text, fix)


def unknown(name: str, text: str) -> Check:
    return Check(name, Level.UNKNOWN, text)


def check_server(server: ServerFacts) -> Iterator[Check]:
    """Judge a Redis by what it says of itself."""
    if server.info:
        yield _version(server.info)
        yield _eviction(server.info)
        yield _memory(server.info)
        yield _aof(server)
        yield from _written(server.info)
        yield _role(server.info)
    else:
        yield unknown(
            "redis_info",
            "cannot tell its version, memory and durability: this user may not use INFO "
            "(maxmemory-policy must be noeviction)",
        )
    yield from _allowed(server.cannot)
    yield _distance(server.round_trip_ms)
    yield _clock(server.ahead_ms)


def check_workers(
    workers: Sequence[WorkerInfo], *, swept_ms: int | None, now_ms: int, version: str, due: int
) -> Iterator[Check]:
    """Judge who works. `version` is agentq's own here, `due` how many runs wait for a sweeper's eye."""
    ours = [worker for worker in workers if worker.is_agentq]
    if not workers:
        yield warning("workers", "no worker is there; runs wait", "start: agentq worker")
        return
    stock = f", and {count(len(workers) - len(ours), 'stock rq worker')}" if len(ours) < len(workers) else ""
    if not ours:
        yield warning(
            "workers",
            f"only {count(len(workers), 'stock rq worker')}: delays, retries and crashed runs wait for ever",
            "start at least one: agentq worker",
        )
    else:
        yield ok("workers", f"{count(len(ours), 'worker')} of agentq{stock}")
    if silent := [worker.name for worker in ours if worker.is_silent]:
        yield warning(
            "heartbeats",
            f"not heard for over 40 s: {', '.join(silent)}",
            "see whether they hang; one that was killed is forgotten within 90 s",
        )
    versions = sorted({worker.version for worker in ours if worker.version})
    if len(versions) > 1:
        text = f"workers of several versions: {', '.join(versions)}"
        yield warning("versions", text, "well during a deploy; after it, restart the older ones")
    elif versions and versions[0] != version:
        yield warning("versions", f"workers have agentq {versions[0]}, this machine {version}", "bring them together")
    if is_sweep_late(swept_ms, now_ms):
        last = "for a day" if swept_ms is None else f"for {duration(now_ms - swept_ms)}"
        text = f"nobody has swept {last}; {count(due, 'run')} may wait for it"
        yield warning("sweep", text, "start, or restart: agentq worker")
    elif swept_ms is not None:
        yield ok("sweep", f"last sweep {duration(now_ms - swept_ms)} ago")


def check_webhooks(webhooks: Sequence[WebhookState], *, now_ms: int) -> Iterator[Check]:
    """Judge who is told how runs end: what was given up, what fails, and what nobody delivers. Silence is good."""
    for each in webhooks:
        if each.dead:
            text = f"webhook {each.name}: {count(each.dead, 'message')} given up; the last attempt: {each.error}"
            yield warning("webhooks", text, f"agentq webhooks retry --failed --webhook {each.name}, when it is mended")
        elif each.pending and (each.failed_ms or 0) > (each.delivered_ms or 0):
            text = f"webhook {each.name}: {count(each.pending, 'message')} waiting; the last attempt: {each.error}"
            yield warning("webhooks", text, f"see to {each.where}; agentq webhooks test {each.name} tries it")
        if each.pending and now_ms - (each.seen_ms or 0) > _UNSEEN_MS:
            text = f"webhook {each.name}: {count(each.pending, 'message')} waiting, and no worker has it any more"
            yield warning("webhooks", text, f"start one that has, or: agentq webhooks forget {each.name}")


def _version(info: Mapping[str, str]) -> Check:
    is_valkey = info.get("server_name") == "valkey" or "valkey_version" in info
    name = "Valkey" if is_valkey else "Redis"
    number = info.get("valkey_version") if is_valkey else info.get("redis_version")
    least = _MIN_VALKEY if is_valkey else _MIN_REDIS
    if not number:
        return unknown("redis_version", f"{name} does not tell its version")
    found = tuple(int(part) for part in re.findall(r"\d+", number)[:2])
    if found < least:
        return failed(
            "redis_version",
            f"{name} {number} is too old",
            "agentq needs Redis 6.2 or Valkey 7.2, or newer",
        )
    return ok("redis_version", f"{name} {number}")


def _eviction(info: Mapping[str, str]) -> Check:
    policy = info.get("maxmemory_policy")
    if policy is None:
        return unknown("eviction", "cannot tell maxmemory-policy; it must be noeviction")
    if policy == "noeviction":
        return ok("eviction", "maxmemory-policy is noeviction")
    return failed(
        "eviction",
        f"maxmemory-policy is {policy}: when memory is short, Redis deletes runs",
        "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf or the provider's settings",
    )


def _memory(info: Mapping[str, str]) -> Check:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    machine = int(info.get("total_system_memory", 0))
    if limit == 0 and (machine == 0 or used < machine * _MEMORY_HIGH):
        return ok("memory", f"{megabytes(used)} used, no limit set")
    share = used / (limit or machine)
    whose = "" if limit else " that the machine has"
    text = f"{megabytes(used)} of {megabytes(limit or machine)}{whose} used ({share:.0%})"
    fix = "raise maxmemory, or keep ended runs for a shorter time (AGENTQ_TTL_COMPLETED_MS)"
    if share >= _MEMORY_FULL:
        return failed("memory", f"{text}: Redis is about to refuse writes", fix)
    return warning("memory", text, fix) if share >= _MEMORY_HIGH else ok("memory", text)


def _aof(server: ServerFacts) -> Check:
    if server.info.get("aof_enabled") != "1":
        return warning(
            "aof",
            "the append-only file is off: if Redis crashes, what came since its last snapshot is lost",
            "CONFIG SET appendonly yes, and the same in redis.conf",
        )
    if server.config is None:
        return ok("aof", "the append-only file is on (Redis does not tell appendfsync: CONFIG is refused)")
    sync = server.config.get("appendfsync", "")
    if sync == "no":
        return warning(
            "aof",
            "the append-only file is on, but appendfsync is no: a crash of the machine loses half a minute",
            "CONFIG SET appendfsync everysec, and the same in redis.conf",
        )
    lost = {"everysec": ": a crash of the machine loses a second at most", "always": ": a crash loses nothing"}
    return ok("aof", f"the append-only file is on, appendfsync {sync}{lost.get(sync, '')}")


def _written(info: Mapping[str, str]) -> Iterator[Check]:
    """Whether Redis can write its files. Silence is good."""
    if info.get("loading") == "1":
        yield failed("persistence", "Redis is still loading its data", "wait until it is done")
    named = {
        "rdb_last_bgsave_status": "its last snapshot",
        "aof_last_write_status": "its last write to the append-only file",
        "aof_last_bgrewrite_status": "its last rewrite of the append-only file",
    }
    for field, what in named.items():
        if info.get(field, "ok") != "ok":
            yield failed("persistence", f"{what} failed", "see Redis's log: mostly the disk is full or not writable")


def _role(info: Mapping[str, str]) -> Check:
    if info.get("cluster_enabled") == "1":
        return failed(
            "topology",
            "this is a Redis Cluster, where a script cannot reach keys of several nodes",
            "use one Redis, or one with Sentinel",
        )
    if info.get("role", "master") != "master":
        return failed("topology", "this is a replica, which is read-only", "name its master with --redis or REDIS_URL")
    replicas = int(info.get("connected_slaves", 0))
    if replicas:
        return ok("topology", f"{count(replicas, 'replica')}; a failover may lose the last moment of writes")
    return ok("topology", "one Redis, no replica")


def _allowed(cannot: Mapping[str, str]) -> Iterator[Check]:
    if "scripts" in cannot:
        yield failed(
            "scripts", f"Lua scripts are refused: {cannot['scripts']}", "allow this user +eval +evalsha, or another"
        )
    else:
        yield ok("scripts", "Lua scripts work")
    if "publish" in cannot:
        yield failed(
            "channels",
            f"pub/sub is refused, so nothing is seen live: {cannot['publish']}",
            "allow this user all channels: ACL SETUSER NAME allchannels",
        )


def _distance(round_trip_ms: float) -> Check:
    text = f"{round_trip_ms:.1f} ms away"
    if round_trip_ms < _SLOW_MS:
        return ok("distance", text)
    return warning("distance", f"{text}: every iteration pays for several round trips", "run workers closer to Redis")


def _clock(ahead_ms: float) -> Check:
    if abs(ahead_ms) < _SKEW_MS:
        return ok("clock", f"its clock and this machine's are {abs(ahead_ms):.0f} ms apart")
    order = "ahead of" if ahead_ms > 0 else "behind"
    return warning(
        "clock",
        f"its clock is {duration(abs(ahead_ms))} {order} this machine's; leases follow Redis's, ages shown are off",
        "let NTP set both clocks",
    )


def megabytes(size: float) -> str:
    """`12.3 MB`, in millions of bytes; `1.2 GB` where that is shorter, `18 KB` where it is small."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} KB"
