"""`agentq web` as a process: it serves, lets in whom it should, and stops."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.browser import ask
from tests.helpers import ROOT, wait_until_sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "a-token-of-the-tests"


@contextmanager
def web(redis_url: str, log: Path, *arguments: str, **environ: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address that the command prints, and its process."""
    command = [sys.executable, "-m", "agentq", "web", "--port", "0", *arguments]
    with log.open("wb") as output:
        env = {**os.environ, "REDIS_URL": redis_url, **environ}
        child = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output)
        try:
            said = wait_until_sync(
                lambda: re.search(r"http://\S+/", log.read_text()) or child.poll(), timeout=20, message="it says where"
            )
            assert isinstance(said, re.Match), log.read_text()
            yield said[0], child
        finally:
            child.kill()
            child.wait(timeout=20)


def test_it_serves_the_api_and_the_page_and_stops_warmly(redis_url: str, tmp_path: Path):
    with web(redis_url, tmp_path / "log") as (url, child):
        status, text = ask(f"{url}api/v1/runs", '{"agent": "a", "prompt": "x"}', **{"Content-Type": "application/json"})
        assert (status, json.loads(text)["is_new"]) == (201, True)
        assert "<title>" in ask(url, None, Accept="text/html")[1]
        assert ask(f"{url}healthz", None, Host="evil.example")[0] == 421
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=20) == 0


def test_with_a_token_it_lets_in_who_has_it_and_never_says_it(redis_url: str, tmp_path: Path):
    log = tmp_path / "log"
    with web(redis_url, log, "--host", "0.0.0.0", "--read-only", AGENTQ_WEB_TOKEN=TOKEN) as (said, child):  # noqa: S104
        url = said.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert ask(f"{url}api/v1/runs")[0] == 401
        assert ask(f"{url}api/v1/runs", None, **bearer)[0] == 200
        asked = {**bearer, "Content-Type": "application/json"}
        assert ask(f"{url}api/v1/runs", '{"agent": "a", "prompt": "x"}', **asked)[0] == 403
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=20) == 130
    assert TOKEN not in log.read_text()


@pytest.mark.parametrize("missing", ["starlette", "python_multipart", "jinja2", "uvicorn"])
def test_without_the_extra_the_line_that_installs_it_is_said(redis_url: str, missing: str):
    program = f"import sys; sys.modules[{missing!r}] = None; from agentq.cli import main; main()"
    command = [sys.executable, "-c", program, "web", "--port", "0", "--redis", redis_url]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert refused.returncode == 2, refused.stderr
    assert f"{missing}, which is not installed: pip install 'agentq-redis[web]'" in refused.stderr


def test_a_port_that_is_taken_is_said_to_be(redis_url: str, tmp_path: Path):
    with web(redis_url, tmp_path / "log") as (url, _):
        port = url.rpartition(":")[2].strip("/")
        command = [sys.executable, "-m", "agentq", "web", "--port", port]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode == 2
        assert f"cannot listen on 127.0.0.1:{port}: address already in use; choose another --port" in second.stderr
