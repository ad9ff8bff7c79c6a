"""What the pages show is true: their Python runs, their commands and links exist, their pictures fit the code."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

import pytest

from tests.guide._pages import GUIDE, PAGES, README, Block, all_blocks, anchors, block, blocks, commands, links, prose
from tests.helpers import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BOOK = 'call book_table {"day": "Friday", "guests": 4}'
ARCHITECTURE = ROOT / "docs" / "architecture.md"

# --- the Python blocks


def executable(page: Path) -> list[Block]:
    """Blocks that are whole files. Those of docs/mock.md are played by tests/unit/test_mock.py, the guide by itself."""
    return [found for found in blocks(page, "python") if found.name.endswith(".py")]


@pytest.mark.parametrize("shown", [shown for page in PAGES if page not in GUIDE for shown in executable(page)], ids=str)
def test_every_file_shown_can_be_run(shown: Block, redis_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REDIS_URL", redis_url)
    module = shown.executed()
    close = getattr(getattr(module, "client", None), "close", None)
    if close is not None:
        close()


@pytest.mark.parametrize("shown", [shown for page in PAGES for shown in blocks(page, "python")], ids=str)
def test_every_python_block_is_python(shown: Block):
    ast.parse(shown.text)


async def test_the_agent_of_the_readme_books_a_table():
    shown = block(README, "workers/app.py").executed()
    result = await shown.app.run("waiter", BOOK)
    assert re.fullmatch(r"Booked for 4 on Friday, reference \S+\.", result.output)


@pytest.fixture
def pasted(project: Path) -> Path:
    """A project of the files that the README shows."""
    for shown in executable(README):
        (project / shown.name).write_text(shown.text)
    return project


def request(app: Any, method: str, path: str, body: str | None = None, **headers: str) -> tuple[str, Any]:
    """Ask a WSGI app; returns the status line and the JSON body."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "CONTENT_LENGTH": "" if body is None else str(len(body.encode())),  # as wsgiref says it
        "wsgi.input": io.BytesIO((body or "").encode()),
        **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
    }
    setup_testing_defaults(environ)
    status = []
    pieces = app(environ, lambda line, _: status.append(line))
    return status[0], json.loads(b"".join(pieces))


@pytest.mark.usefixtures("pasted")
def test_the_web_app_of_the_readme_asks_and_answers(
    work: Callable[[], None], redis_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REDIS_URL", redis_url)
    web = block(README, "web.py").executed()
    with web.client:
        status, asked = request(web.app, "POST", "/", BOOK, idempotency_key="request-1")
        assert status == "202 Accepted"
        assert request(web.app, "POST", "/", BOOK, idempotency_key="request-1") == (status, asked)
        status, seen = request(web.app, "GET", f"/{asked['run_id']}")
        assert (status, seen) == ("200 OK", {"status": "queued", "answer": None, "error": None})
        work()
        status, seen = request(web.app, "GET", f"/{asked['run_id']}")
        assert status == "200 OK"
        assert seen["status"] == "completed"
        assert seen["answer"].startswith("Booked for 4 on Friday")
        assert request(web.app, "GET", "/01JD3ZK8W5Q0X9V7T2M4N6P8RA")[0] == "404 Not Found"
        assert request(web.app, "POST", "/", " ")[0] == "400 Bad Request"
        assert request(web.app, "POST", "/")[0] == "400 Bad Request"
        assert request(web.app, "POST", "/", "other", idempotency_key="request-1")[0] == "409 Conflict"


def test_the_web_app_of_the_readme_says_that_redis_is_away(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    web = block(README, "web.py").executed()
    with web.client:
        assert request(web.app, "POST", "/", BOOK)[0] == "503 Service Unavailable"


@pytest.mark.usefixtures("pasted")
async def test_the_live_view_of_the_readme_gives_every_event(
    agentq: Callable[..., str], redis_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REDIS_URL", redis_url)
    live = block(README, "live.py").executed()
    async with live.client as client:
        run = await client.enqueue("waiter", BOOK)
        working = asyncio.create_task(asyncio.to_thread(agentq, "worker", "--burst"))
        events = [json.loads(line) async for line in live.lines(run.id)]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert events[-1]["type"] == "run.completed"
        assert [json.loads(line) async for line in live.lines(run.id, after=3)] == events[3:]
        await working


@pytest.mark.usefixtures("pasted")
def test_the_first_command_of_the_readme_prints_the_answer(agentq: Callable[..., str]):
    (shown,) = [command for command in commands(README) if command[:2] == ["agentq", "run"]]
    assert "Booked for 4 on Friday" in agentq(*shown[1:])


async def test_the_executor_of_the_readme_carries_a_run_to_its_end():
    app = block(README, "executor.py").executed().app
    result = await app.run("waiter", "fail 503\nsay Hello.", model="mock")
    assert result.output == "Hello."
    assert len(app.executor.tasks) == 2
    await asyncio.gather(*app.executor.tasks)


async def test_the_client_of_that_executor_starts_a_run():
    module = block(README, "executor.py").executed()
    async with module.client as client:
        run = await client.enqueue("waiter", "hello")
        assert (await run.result(timeout=20)).output == "hello"
        await asyncio.gather(*module.app.executor.tasks)


# --- commands, links, names


# Commands that the README names as not there yet.
NOT_THERE: set[str] = set()
SHOWN = [command for page in PAGES for command in commands(page)]
NAMED = {name for page in PAGES for name in re.findall(r"`agentq ([a-z]+)", prose(page))}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", sorted({command[1] for command in SHOWN if command[0] == "agentq"} | NAMED))
def test_every_command_exists_with_the_options_that_are_shown(name: str):
    done = run(sys.executable, "-m", "agentq", name, "--help")
    if name in NOT_THERE:
        assert done.returncode == 2, f"agentq {name} exists now: the README says that it does not"
        return
    assert done.returncode == 0, done.stderr
    shown = [command for command in SHOWN if command[:2] == ["agentq", name]]
    options = {word for command in shown for word in command if word[:2] == "--"}
    told = done.stdout
    if "\nCommands:\n" in told:  # a group: its commands tell of their own options
        for each in {command[2] for command in shown if len(command) > 2}:
            told += run(sys.executable, "-m", "agentq", name, each, "--help").stdout
    assert options <= set(re.findall(r"--[a-z-]+", told))


@pytest.mark.parametrize("target", sorted({command[1] for command in SHOWN if command[0] == "make"}))
def test_every_make_target_exists(target: str):
    done = run("make", "--dry-run", target)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path):
    for target in links(page):
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_installs_the_package_of_another_project(page: Path):
    assert not re.search(r"(pip|uv|pipx|poetry)\s+(install|add)\s+(-\S+\s+)*[\"']?agentq(?![-\w])", page.read_text())


def test_every_environment_variable_is_a_setting():
    from dataclasses import fields

    from agentq import Settings

    known = {f"AGENTQ_{field.name.upper()}" for field in fields(Settings)}
    for page in PAGES:
        assert set(re.findall(r"AGENTQ_[A-Z_]+[A-Z]", page.read_text())) - known - NOT_SETTINGS == set(), page.name


NOT_SETTINGS = {"AGENTQ_LIVE", "AGENTQ_CHAOS_KILLS"}

# --- what the pages say in figures and pictures


def test_the_readme_says_the_defaults():
    from agentq import Settings

    settings = Settings()
    readme = " ".join(README.read_text().split())
    assert f"one lease and one sweep: {(settings.lease_ms + settings.sweep_ms) / 1000:g} s" in readme
    assert f"up to {settings.concurrency} iterations in flight" in readme
    assert f"waits up to {settings.drain_ms // 1000} s" in readme
    (grace,) = {int(seconds) for seconds in re.findall(r"(?:Sec=|period: |Seconds: )(\d+)", readme)}
    assert grace * 1000 > settings.handover_ms + settings.drain_ms


def test_the_picture_of_the_layers_is_the_rule_of_the_imports():
    (contract,) = (
        contract
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    rules = [{name.strip(" ()") for name in layer.split("|")} for layer in contract["layers"]]
    (picture,) = (shown.text for shown in blocks(ARCHITECTURE, "text") if "errors" in shown.text)
    drawn = [set(re.split(r"\s+·\s+", re.split(r"\s{2,}", line)[0])) for line in picture.splitlines()]
    assert drawn == rules


def test_the_procfile_of_the_readme_is_that_of_the_repository():
    (shown,) = re.findall(r"Procfile: `([^`]+)`", README.read_text())
    assert shown in (ROOT / "Procfile").read_text().splitlines()


def test_every_script_is_in_the_architecture():
    lua = {path.stem for path in (ROOT / "agentq" / "_redis" / "lua").glob("[!_]*.lua")}
    assert lua <= set(re.findall(r"\w+", ARCHITECTURE.read_text() + (ROOT / "docs" / "redis-keys.md").read_text()))


def test_no_page_speaks_of_files_that_are_not_there():
    for page in PAGES:
        for path in re.findall(r"`((?:agentq|tests|docs|workers)/[\w./-]+)`", prose(page)):
            if path not in {shown.name for shown in all_blocks(page)}:
                assert (ROOT / path).exists(), f"{page.name}: {path}"
