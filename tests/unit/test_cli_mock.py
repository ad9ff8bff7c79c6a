"""An answer of the mock says once that it is one, unless the prompt was meant for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from agentq.cli._watch import Look, Watch
from agentq.events.model import Event, ReplyCompleted, RunCompleted, RunFailedEvent, RunQueued
from tests.helpers import ROOT
from tests.unit._cli import OTHER, RUN, ScriptedClient, ScriptedOptions, ScriptedRun, numbered, run_state

if TYPE_CHECKING:
    from agentq.client import AsyncClient

REMARK = (
    "that was `mock`, the built-in model: it needs no key, echoes or plays a script (docs/mock.md); "
    "for a real one see docs/guide/models.md\n"
)


def answered(prompt: str, model: str | None = "mock", *, end: Event | None = None, run_id: str = RUN) -> ScriptedRun:
    events: list[Event] = [
        RunQueued(agent="calculator", prompt=prompt),
        ReplyCompleted(turn=1, text="hi", model=model),
        end or RunCompleted(output="hi"),
    ]
    return ScriptedRun(run_state(run_id), numbered(events, run_id=run_id))


async def told(capsys: pytest.CaptureFixture[str], *runs: ScriptedRun, after: int = 0, as_json: bool = False) -> str:
    client = ScriptedClient(*runs)
    view = Watch(ScriptedOptions(client=client), Look(json=as_json))
    await view.follow(cast("AsyncClient", client), list(client.runs), after=after)
    return capsys.readouterr().err


async def test_an_echo_is_told(capsys: pytest.CaptureFixture[str]):
    assert await told(capsys, answered("What is 7 + 9?")) == REMARK


async def test_it_is_told_once_however_many_runs_there_are(capsys: pytest.CaptureFixture[str]):
    assert await told(capsys, answered("hello"), answered("hello", run_id=OTHER)) == REMARK


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(answered("say hi"), id="a script"),
        pytest.param(answered("say hi\ncall [nonsense"), id="a script with a mistake"),
        pytest.param(answered("hello", "gpt-4o-mini"), id="another model"),
        pytest.param(answered("hello", None), id="a model without a name"),
        pytest.param(answered("hello", end=RunFailedEvent(reason="no")), id="a run that failed"),
    ],
)
async def test_nothing_is_told_of(capsys: pytest.CaptureFixture[str], run: ScriptedRun):
    assert await told(capsys, run) == ""


async def test_nothing_is_told_where_the_prompt_was_not_seen(capsys: pytest.CaptureFixture[str]):
    assert await told(capsys, answered("hello"), after=1) == ""


async def test_nothing_is_told_to_programs(capsys: pytest.CaptureFixture[str]):
    assert await told(capsys, answered("hello"), as_json=True) == ""


def test_the_pages_that_are_named_are_there():
    for page in ("docs/mock.md", "docs/guide/models.md"):
        assert page in REMARK
        assert (ROOT / page).exists()
