"""Writes that tools do in our Redis by scripts of their own, each recorded in the same go."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agentq._redis.scripts import Script, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq.stores.base import Lease


@lru_cache(maxsize=256)
def _script_around(source: str) -> tuple[Script, str]:
    """Our script with the tool's in it, and a digest of the tool's."""
    # The line break keeps a comment in the last line from hiding our `end`.
    return load("effect", {"effect": source + "\n"}), hashlib.sha256(source.encode()).hexdigest()[:16]


async def write_effect(
    pipeline: Pipeline,
    keys: Keys,
    lease: Lease,
    name: str,
    source: str,
    tool_keys: Sequence[str | bytes],
    arguments: Sequence[str | bytes | int | float],
) -> Any:
    """Run a tool's Lua script and record its answer under `name`, all at once; again: the first answer.

    Raises `LeaseLost`, `StepDiverged` when another script is recorded under `name`, and redis-py's `ResponseError` when
    the script fails: then nothing is recorded.
    """
    script, digest = _script_around(source)
    answer = await pipeline.run(
        script,
        about=f"run {lease.run_id}",
        run=keys.run(lease.run_id),
        journal=keys.journal(lease.run_id),
        keys=tool_keys,
        fence=lease.fence,
        owner=lease.owner,
        name=name,
        digest=digest,
        args=arguments,
    )
    return _decoded(answer[0]) if answer else None


def _decoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    return [_decoded(item) for item in value] if isinstance(value, list) else value
