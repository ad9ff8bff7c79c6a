"""Ids: ULIDs for runs, derived ids for calls and wake-ups."""

from __future__ import annotations

import hashlib
import os
import re
import time

# Crockford's base 32, as the ULID specification (github.com/ulid/spec) writes it: no I, L, O, U.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RUN_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def new_run_id() -> str:
    """A new ULID: 48 bits of milliseconds, 80 random bits; sorts by time of creation."""
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def new_token() -> str:
    """A random id for one request or one process, 16 hex digits."""
    return os.urandom(8).hex()


def is_run_id(text: str) -> bool:
    """Whether `text` has the form of a run id."""
    return _RUN_ID.fullmatch(text) is not None


def call_id(run_id: str, turn: int, index: int) -> str:
    """The id of a tool call, which is its idempotency key too: `<run_id>.<turn>.<index>`."""
    return f"{run_id}.{turn}.{index}"


def child_run_id(call_id: str) -> str:
    """The id of the run that a call of another run starts: always the same, and beside its parent's in order."""
    number = int.from_bytes(hashlib.sha256(call_id.encode()).digest()[:10], "big")
    return call_id[:10] + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(75, -1, -5))


def run_of_job(job_id: str) -> str | None:
    """The run that the wake-up `<run_id>-<wake>` names, or None when the job is not a wake-up of ours."""
    run_id, _, wake = job_id.rpartition("-")
    return run_id if wake.isdigit() and is_run_id(run_id) else None


def made_ms(run_id: str) -> int:
    """When the run id was made, in milliseconds since 1970, by the clock of whoever made it."""
    number = 0
    for letter in run_id[:10]:
        number = number << 5 | _ALPHABET.index(letter)
    return number
