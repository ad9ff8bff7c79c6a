"""Bad input to each call of the client: one clear error that names what is wrong, and nothing is stored or started."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

from agentq import AsyncClient, Callbacks
from agentq.errors import (
    AgentQError,
    FileNotStored,
    InvalidInput,
    NotFinished,
    NotWaiting,
    RunNotFound,
    ScheduleNotFound,
    SessionNotFound,
    WebhookNotFound,
)
from agentq.limits import RunLimits
from agentq.messages import FilePart
from agentq.stores.filters import RunFilter
from agentq.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Awaitable

NOWHERE = "01JD3ZK8W5Q0X9V7T2M4N6P8RA"
NO_ID = "'not a run' is not a run id: those have 26 letters and digits"
GONE = f"there is no run {NOWHERE}"

# Method, arguments, exception, what it says. "RUN" stands for a run that is there.
CALLS: list[tuple[str, dict[str, Any], type[AgentQError], str]] = [
    ("enqueue", {"agent": "no name!", "prompt": "x"}, InvalidInput, "agent 'no name!' is not a name"),
    ("enqueue", {"agent": "a", "prompt": ""}, InvalidInput, "prompt is empty"),
    ("enqueue", {"agent": "a", "prompt": "x", "session_id": ""}, InvalidInput, "session_id is empty"),
    ("enqueue", {"agent": "a", "prompt": "x", "user_id": 7}, InvalidInput, "user_id must be text, not int"),
    ("enqueue", {"agent": "a", "prompt": "x", "metadata": []}, InvalidInput, "metadata must be a dict, not list"),
    ("enqueue", {"agent": "a", "prompt": "x", "queue": "a b"}, InvalidInput, "queue 'a b' is not a name"),
    ("enqueue", {"agent": "a", "prompt": "x", "model": ""}, InvalidInput, "model is empty"),
    ("enqueue", {"agent": "a", "prompt": "x", "tenant": ""}, InvalidInput, "tenant is empty; leave it out"),
    (
        "enqueue",
        {"agent": "a", "prompt": "x", "priority": "urgent"},
        InvalidInput,
        "priority must be high, normal, low",
    ),
    ("enqueue", {"agent": "a", "prompt": "x", "idempotency_key": "\n"}, InvalidInput, "idempotency_key .* control"),
    ("enqueue", {"agent": "a", "prompt": "x", "delay": -1}, InvalidInput, "delay must be between 0"),
    ("enqueue", {"agent": "a", "prompt": "x", "files": ["a.png"]}, InvalidInput, r"files\[0\] 'a.png' is not an http"),
    ("enqueue", {"agent": "a", "prompt": "x", "tools": "add"}, InvalidInput, "tools must be a list of names"),
    ("enqueue", {"agent": "a", "prompt": "x", "tools": ["a b"]}, InvalidInput, "'a b', which names no tool"),
    ("enqueue", {"agent": "a", "prompt": "x", "tools": ["a"] * 1001}, InvalidInput, "1001 names, more than 1000"),
    ("enqueue", {"agent": "a", "prompt": "x", "without": "retrieval"}, InvalidInput, "without must be a list"),
    (
        "enqueue",
        {"agent": "a", "prompt": "x", "without": ["tools"]},
        InvalidInput,
        "switched off is: memory, retrieval",
    ),
    ("enqueue", {"agent": "a", "prompt": "x", "when_busy": "wait"}, InvalidInput, "when_busy must be one of queue"),
    ("enqueue", {"agent": "a", "prompt": "x", "when_busy": "reject"}, InvalidInput, "give session_id too"),
    (
        "enqueue",
        {"agent": "a", "prompt": "x", "session_id": "s", "when_busy": "reject", "delay": 1},
        InvalidInput,
        "a run that is put off can only queue",
    ),
    ("enqueue", {"agent": "a", "prompt": "x", "ttl_s": 0}, InvalidInput, "ttl_s must be between"),
    ("get", {"run_id": "not a run"}, RunNotFound, NO_ID),
    ("get", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("read", {"run_id": "not a run"}, RunNotFound, NO_ID),
    ("read", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("read", {"run_id": None}, RunNotFound, "None is not a run id"),
    ("status", {"run_id": "not a run"}, RunNotFound, NO_ID),
    ("status", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("result", {"run_id": "not a run"}, RunNotFound, NO_ID),
    ("result", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("result", {"run_id": "RUN", "timeout": -1}, InvalidInput, "timeout must be 0 or more seconds"),
    ("result", {"run_id": "RUN", "timeout": float("nan")}, InvalidInput, "timeout must be 0 or more seconds"),
    ("outcome", {"run_id": "not a run"}, RunNotFound, NO_ID),
    ("outcome", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("messages", {"run_id": "not a run"}, RunNotFound, NO_ID),
    ("messages", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("quiet_workers", {"reason": 7}, InvalidInput, "reason must be text of at most 1000"),
    ("quiet_workers", {"host": "web-3"}, InvalidInput, "only a client over Redis and RQ"),
    ("resume_workers", {}, InvalidInput, "only a client over Redis and RQ"),
    ("file", {"run_id": "not a run", "file": "0" * 64}, RunNotFound, NO_ID),
    ("file", {"run_id": NOWHERE, "file": "0" * 64}, RunNotFound, GONE),
    ("file", {"run_id": "RUN", "file": "0" * 64}, FileNotStored, "file 000000000000….* is not stored"),
    ("file", {"run_id": "RUN", "file": "chart.png"}, InvalidInput, "a file of a message, or its SHA-256.* 'chart.png'"),
    ("file", {"run_id": "RUN", "file": b"0"}, InvalidInput, "a file of a message, or its SHA-256"),
    (
        "file",
        {"run_id": "RUN", "file": FilePart(url="https://x.org/a.png", media_type="image/png")},
        InvalidInput,
        "image/png https://x.org/a.png is not stored: fetch it from its URL",
    ),
    ("events", {"run_id": "not a run"}, RunNotFound, NO_ID),
    ("events", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("events", {"run_id": "RUN", "after": -1}, InvalidInput, "has no event -1"),
    ("events", {"run_id": "RUN", "after": 99}, InvalidInput, "has no event 99; its last is 1"),
    (
        "events",
        {"run_id": "RUN", "kinds": ["tool.done"]},
        InvalidInput,
        "kinds has .tool.done.; events are:",
    ),
    ("events", {"run_id": "RUN", "kinds": 5}, InvalidInput, "kinds must be a list of names; 5 is none"),
    ("events", {"run_id": "RUN", "kinds": [["x"]]}, InvalidInput, "kinds must be a list of names; .* is none"),
    ("events", {"run_id": "RUN", "after": "x"}, InvalidInput, "after must be the seq of an event, .* not 'x'"),
    ("events", {"run_id": "RUN", "after": None}, InvalidInput, "after must be the seq of an event, .* not None"),
    ("follow", {"run_id": "RUN", "callbacks": print}, InvalidInput, "callbacks must be Callbacks.* not builtin_func"),
    ("result", {"run_id": "RUN", "timeout": "1"}, InvalidInput, "timeout must be 0 or more seconds.* not '1'"),
    ("result", {"run_id": "RUN", "timeout": [1]}, InvalidInput, "timeout must be 0 or more seconds"),
    ("list", {"agent": ["a"]}, InvalidInput, "agent must be text, not list"),
    ("list", {"session_id": 5}, InvalidInput, "session_id must be text, not int"),
    ("list", {"user_id": 5}, InvalidInput, "user_id must be text, not int"),
    ("sessions", {"user_id": 5}, InvalidInput, "user_id must be text, not int"),
    ("session", {"session_id": ["s"]}, InvalidInput, "session_id must be text, not list"),
    ("session_messages", {"session_id": {}}, InvalidInput, "session_id must be text, not dict"),
    ("workers", {"queue": 5}, InvalidInput, "queue must be text, not int"),
    ("list", {"limit": 1.5}, InvalidInput, "limit must be a whole number, not 1.5"),
    ("list", {"limit": "5"}, InvalidInput, "limit must be a whole number"),
    ("list", {"before": 5}, InvalidInput, "before must be a run id, not int"),
    ("sessions", {"offset": "x"}, InvalidInput, "offset must be a whole number"),
    ("sessions", {"offset": 1.5}, InvalidInput, "offset must be a whole number"),
    ("sessions", {"offset": 10**30}, InvalidInput, "offset must not be negative nor above"),
    ("session_messages", {"session_id": "s", "start": "x"}, InvalidInput, "start must be a whole number"),
    ("cancel", {"run_id": "RUN", "wait": "x"}, InvalidInput, "wait must be 0 or more seconds, not x"),
    ("approve", {"run_id": "not a run"}, RunNotFound, NO_ID),
    ("approve", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("approve", {"run_id": "RUN"}, NotWaiting, "does not wait for an approval"),
    ("approve", {"run_id": "RUN", "call_id": "c"}, NotWaiting, "call c of run .* does not wait for an approval"),
    ("deny", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("deny", {"run_id": "RUN"}, NotWaiting, "does not wait for an approval"),
    ("signal", {"run_id": NOWHERE, "name": "n"}, RunNotFound, GONE),
    ("signal", {"run_id": "RUN", "name": ""}, InvalidInput, "name must have 1 to 200 characters"),
    ("signal", {"run_id": "RUN", "name": "n", "data": object()}, InvalidInput, "data cannot be stored"),
    ("signal", {"run_id": "RUN", "name": "n", "signal_id": ""}, InvalidInput, "signal_id is empty"),
    ("signal", {"run_id": "RUN", "name": "n", "signal_id": "\ud800"}, InvalidInput, "signal_id .* control"),
    ("inbox", {"limit": 0}, InvalidInput, "limit must be between 1 and 1000"),
    ("answer", {"run_id": "not a run", "answer": "x"}, RunNotFound, NO_ID),
    ("answer", {"run_id": NOWHERE, "answer": "x"}, RunNotFound, GONE),
    ("answer", {"run_id": "RUN", "answer": "x"}, NotWaiting, "is queued and does not wait for an answer"),
    ("retry", {"run_id": "not a run"}, RunNotFound, NO_ID),
    ("retry", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("retry", {"run_id": "RUN"}, NotFinished, "has not ended"),
    ("pause", {"run_id": "not a run"}, RunNotFound, NO_ID),
    ("pause", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("pause", {"run_id": "RUN", "reason": 7}, InvalidInput, "reason must be text"),
    ("pause", {"run_id": "RUN", "by": "x" * 1001}, InvalidInput, "by must be text of at most 1000"),
    ("resume", {"run_id": "not a run"}, RunNotFound, NO_ID),
    ("resume", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("resume", {"run_id": "RUN", "by": None}, InvalidInput, "by must be text"),
    ("set_limits", {"run_id": "not a run", "limits": RunLimits()}, RunNotFound, NO_ID),
    ("set_limits", {"run_id": NOWHERE, "limits": RunLimits()}, RunNotFound, GONE),
    ("set_limits", {"run_id": "RUN", "limits": {"tokens": 5}}, InvalidInput, r"limits must be RunLimits\(...\)"),
    ("set_limits", {"run_id": "RUN", "limits": RunLimits(), "by": 7}, InvalidInput, "by must be text"),
    ("spent", {"user_id": "a", "agent": "b"}, InvalidInput, "name one of them"),
    ("spent", {"window": "week"}, InvalidInput, "window must be hour or day or total, not 'week'"),
    ("steer", {"run_id": "not a run", "text": "x"}, RunNotFound, NO_ID),
    ("steer", {"run_id": NOWHERE, "text": "x"}, RunNotFound, GONE),
    ("steer", {"run_id": "RUN", "text": " "}, InvalidInput, "text is empty"),
    ("steer", {"run_id": "RUN", "text": 7}, InvalidInput, "text must be text, not int"),
    ("steer", {"run_id": "RUN", "text": "x", "by": 7}, InvalidInput, "by must be text"),
    ("steer", {"run_id": "RUN", "text": "x", "files": ["a.png"]}, InvalidInput, "is not an http"),
    ("follow_up", {"run_id": "not a run", "text": "x"}, RunNotFound, NO_ID),
    ("follow_up", {"run_id": NOWHERE, "text": "x"}, RunNotFound, GONE),
    ("follow_up", {"run_id": "RUN", "text": "x"}, InvalidInput, "has no session to go on with"),
    ("fork", {"run_id": "not a run"}, RunNotFound, NO_ID),
    ("fork", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("fork", {"run_id": "RUN", "iteration": 1}, InvalidInput, "the run has 0 iterations, not 1"),
    ("fork", {"run_id": "RUN", "iteration": -1}, InvalidInput, "iteration must be a whole number from 0 on"),
    ("fork", {"run_id": "RUN", "prompt": ""}, InvalidInput, "prompt is empty"),
    ("fork", {"run_id": "RUN", "session_id": ""}, InvalidInput, "session_id is empty"),
    ("delete_session", {"session_id": "nowhere"}, SessionNotFound, "session 'nowhere'"),
    ("delete_session", {"session_id": 5}, InvalidInput, "session_id must be text, not int"),
    ("pause_all", {"agent": "a", "queue": "q"}, InvalidInput, "name an agent or a queue, not both"),
    ("pause_all", {"agent": "a b"}, InvalidInput, "agent 'a b' is not a name"),
    ("pause_all", {"queue": 7}, InvalidInput, "queue"),
    ("pause_all", {"reason": 7}, InvalidInput, "reason must be text"),
    ("pause_all", {"by": "x" * 1001}, InvalidInput, "by must be text of at most 1000"),
    ("resume_all", {"agent": "a", "queue": "q"}, InvalidInput, "name an agent or a queue, not both"),
    ("schedule", {"name": "r", "agent": "a", "prompt": "x", "cron": "x"}, InvalidInput, "cron 'x' must have five"),
    ("schedule", {"name": "r", "agent": "a", "prompt": "", "cron": "@daily"}, InvalidInput, "prompt is empty"),
    ("schedules", {"limit": 0}, InvalidInput, "limit must be between"),
    ("unschedule", {"name": "nowhere"}, ScheduleNotFound, "there is no schedule 'nowhere'"),
    ("unschedule", {"name": "a b"}, InvalidInput, "name 'a b' is not a name"),
    ("pause_schedule", {"name": "nowhere"}, ScheduleNotFound, "there is no schedule 'nowhere'"),
    ("resume_schedule", {"name": "nowhere"}, ScheduleNotFound, "there is no schedule 'nowhere'"),
    ("run_schedule", {"name": "nowhere"}, ScheduleNotFound, "there is no schedule 'nowhere'"),
    ("webhook_messages", {"webhook": "nowhere"}, WebhookNotFound, "no worker has a webhook named 'nowhere'"),
    ("webhook_messages", {"webhook": "a b"}, InvalidInput, "webhook 'a b' is not a name"),
    ("webhook_messages", {"state": "lost"}, InvalidInput, "state must be one of pending, failed, dead"),
    ("webhook_messages", {"limit": 0}, InvalidInput, "limit must be between"),
    ("retry_webhook_messages", {"message_ids": "msg_a_1"}, InvalidInput, "message_ids must be a list of ids"),
    ("retry_webhook_messages", {"message_ids": ["msg_a_1"]}, WebhookNotFound, "no message msg_a_1 waits"),
    ("retry_webhook_messages", {"webhook": "nowhere"}, WebhookNotFound, "no worker has a webhook named 'nowhere'"),
    ("forget_webhook", {"webhook": "nowhere"}, WebhookNotFound, "no worker has a webhook named 'nowhere'"),
    ("sse", {"run_id": "not a run"}, RunNotFound, NO_ID),
    ("sse", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("sse", {"run_id": "RUN", "after": "x"}, InvalidInput, "after must be the number of an event, not 'x'"),
    ("sse", {"run_id": "RUN", "after": 99}, InvalidInput, "has no event 99; its last is 1"),
    ("follow", {"run_id": "not a run", "callbacks": Callbacks()}, RunNotFound, NO_ID),
    ("follow", {"run_id": "RUN", "callbacks": Callbacks(), "after": 99}, InvalidInput, "has no event 99"),
    ("cancel", {"run_id": "not a run"}, RunNotFound, NO_ID),
    ("cancel", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("cancel", {"run_id": "RUN", "wait": -1}, InvalidInput, "wait must be 0 or more seconds"),
    ("cancel", {"run_id": "RUN", "reason": "x" * 1001}, InvalidInput, "reason must be text of at most 1000"),
    ("cancel", {"run_id": "RUN", "reason": 7}, InvalidInput, "reason must be text"),
    ("why", {"run_id": "not a run"}, RunNotFound, NO_ID),
    ("why", {"run_id": NOWHERE}, RunNotFound, GONE),
    ("list", {"limit": 0}, InvalidInput, "limit must be between 1 and 1000, not 0"),
    ("list", {"status": "done"}, InvalidInput, "status 'done' does not exist; there are: queued"),
    ("session", {"session_id": "nowhere"}, SessionNotFound, "session 'nowhere'"),
    ("session_messages", {"session_id": "nowhere"}, SessionNotFound, "session 'nowhere'"),
    ("sessions", {"limit": 1001}, InvalidInput, "limit must be between 1 and 1000, not 1001"),
    ("sessions", {"offset": -1}, InvalidInput, "offset must not be negative nor above"),
]
# They take nothing that could be wrong.
SAFE = {"aclose", "agents", "pauses", "webhooks"}


class Wakes:
    """An executor that must not be asked for anything."""

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        raise AssertionError(f"run {run_id} was woken")


def test_every_call_is_in_the_table():
    public = {name for name, _ in inspect.getmembers(AsyncClient, inspect.isfunction) if not name.startswith("_")}
    assert public - SAFE == {name for name, *_ in CALLS}


@pytest.mark.parametrize(("name", "arguments", "error", "words"), CALLS, ids=lambda value: str(value)[:40])
async def test_bad_input_is_refused_and_changes_nothing(
    name: str, arguments: dict[str, Any], error: type[AgentQError], words: str
):
    store = MemoryStore()
    quiet = type("Quiet", (), {"schedule_next_iteration": _nothing})()
    async with AsyncClient(store=store, executor=quiet) as client:
        run = await client.enqueue("a", "hello")
    before = await store.read(run.id)
    async with AsyncClient(store=store, executor=Wakes()) as client:
        given = {key: run.id if value == "RUN" else value for key, value in arguments.items()}
        with pytest.raises(error, match=words) as refused:
            await _carried_out(getattr(client, name)(**given))
    assert "\n" not in str(refused.value)
    assert await store.read(run.id) == before
    assert await store.list(RunFilter()) == (before,)


async def _nothing(self: object, run_id: str, *, delay: float = 0) -> None:
    return


async def _carried_out(answer: Any) -> None:
    if inspect.isasyncgen(answer):
        await anext(answer)
    else:
        waiting: Awaitable[Any] = answer
        await waiting
