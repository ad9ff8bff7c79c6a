"""The app that worker processes of the tests serve. Its tools write down that they ran, in a folder of the test."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from agentq import Agent, AgentQ, Webhook, tool

FOLDER = Path(os.environ.get("WORKER_TEST_FOLDER", "."))


@tool(effect="none")
async def note(text: str) -> str:
    """Write a line into the notes."""
    with (FOLDER / "notes").open("a") as file:
        file.write(f"{text}\n")
    return text


@tool(effect="idempotent")
async def hang() -> int:
    """Write the process id into the notes; hang in the first process, return in others."""
    first = not (FOLDER / "notes").exists() or "hang" not in (FOLDER / "notes").read_text()
    await note.function(f"hang {os.getpid()}")
    if first:
        await asyncio.Event().wait()
    return os.getpid()


@tool(effect="none")
async def look() -> None:
    """Write that it looks into the notes, and look for ever."""
    await note.function("look")
    await asyncio.Event().wait()


_BACKOFF_S = float(os.environ.get("WORKER_TEST_BACKOFF_S", "0.5"))
_HOOK = os.environ.get("WORKER_TEST_HOOK")
app = AgentQ(
    [Agent("echo", tools=[note, hang, look], retry_backoff_s=_BACKOFF_S)],
    webhooks=[Webhook(_HOOK, secret_name="WORKER_TEST_SECRET", name="orders")] if _HOOK else [],
)
