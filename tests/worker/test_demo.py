"""`make demo`: the whole way from a prompt to its answer, and nothing is left behind, however it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redis

from agentq.demo.play import QUESTION, SCRIPT, model_of
from tests.helpers import ROOT, processes_naming, wait_until_sync
from tests.providers.faults import FaultServer, call, chunk, fails, says, serving, streams, usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

ANSWER = "13.856406460551018"
NAME = re.compile(r"agentq-demo-[0-9a-f]{6}")
WITHOUT_SERVER = """
import sys
from agentq import private_redis
private_redis.find_program = lambda: None
from agentq.demo.__main__ import main
sys.exit(main())
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """What a user has, and what must not reach the workers of the demo."""
    places = {
        "TMPDIR": str(tmp_path),
        "AGENTQ_MODEL": "openai:gpt-4o",
        "AGENTQ_PREFIX": "theirs",
        "AGENTQ_APP": "nowhere:app",
    }
    return {**os.environ, **places}


@pytest.fixture
async def model_server() -> AsyncIterator[FaultServer]:
    async with serving() as server:
        yield server


@pytest.fixture
def their_redis(redis_url: str) -> Iterator[redis.Redis]:
    """A Redis with keys of other people in it, some much like those of the demo."""
    with redis.Redis.from_url(redis_url) as client:
        client.set("session:1", "theirs")
        client.hset("agentq:{01JD3ZK8W5Q0X9V7T2M4N6P8RA}", "status", "running")
        client.zadd("agentq:due", {"01JD3ZK8W5Q0X9V7T2M4N6P8RA": 1})
        client.set("agentq-demo-mine", "theirs")
        client.rpush("rq:queue:default", "job-1")
        client.sadd("rq:queues", "rq:queue:default")
        client.hset("rq:job:job-1", "data", "theirs")
        client.sadd("rq:workers", "rq:worker:theirs")
        client.sadd("rq:workers:default", "rq:worker:theirs")
        client.hset("rq:worker:theirs", "queues", "default")
        yield client


def start(environ: dict[str, str], *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *(args or ["-u", "-m", "agentq.demo"])],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def play(environ: dict[str, str], *args: str) -> tuple[int, str, str]:
    with start(environ, *args) as demo:
        out, err = demo.communicate(timeout=50)
    return demo.returncode, out, err


def play_until(line: str, environ: dict[str, str], *numbers: signal.Signals) -> tuple[int, str, str]:
    """Send the signals as soon as the demo has printed a line that begins so."""
    with start(environ) as demo:
        assert demo.stdout is not None
        seen = ""
        while not seen.splitlines(keepends=True)[-1:] or not seen.splitlines()[-1].strip().startswith(line):
            read = demo.stdout.readline()
            assert read, f"no line begins with {line!r}: {seen}"
            seen += read
        for number in numbers:
            demo.send_signal(number)
        out, err = demo.communicate(timeout=50)
    return demo.returncode, seen + out, err


def contents(client: redis.Redis) -> dict[bytes, object]:
    return {key: client.dump(key) for key in client.scan_iter()}


def test_a_run_on_a_private_redis(environ: dict[str, str], tmp_path: Path):
    code, out, err = play(environ)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert f"← {ANSWER}" in [re.sub(r"  \d+ ms$", "", line) for line in lines]
    assert f"The answer is {ANSWER}." in lines
    assert any(line.startswith("✓ completed · 4 iterations · 3 tools · ") for line in lines)
    assert max(map(len, lines[:5] + lines[-9:])) < 80
    assert "\x1b" not in out
    assert "private" in out
    assert list(tmp_path.iterdir()) == []
    assert processes_naming(NAME.findall(out)[0]) == []


def test_a_run_on_a_redis_of_the_user(environ: dict[str, str], their_redis: redis.Redis, redis_url: str):
    before = contents(their_redis)
    code, out, err = play({**environ, "REDIS_URL": redis_url})
    assert (code, err) == (0, "")
    assert f"The answer is {ANSWER}." in out
    assert "yours" in out
    assert contents(their_redis) == before
    assert processes_naming(NAME.findall(out)[0]) == []


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("redis", [signal.SIGINT]),
        ("model", [signal.SIGINT]),
        ("→ add_numbers", [signal.SIGINT]),
        ("redis", [signal.SIGINT, signal.SIGINT]),
        ("workers", [signal.SIGTERM]),
    ],
)
def test_an_interrupted_demo_leaves_nothing(
    environ: dict[str, str],
    their_redis: redis.Redis,
    redis_url: str,
    tmp_path: Path,
    line: str,
    numbers: list[signal.Signals],
):
    before = contents(their_redis)
    code, out, err = play_until(line, {**environ, "REDIS_URL": redis_url}, *numbers)
    assert "Traceback" not in err
    # The run is quick: it may have ended before the signal came.
    assert (code, err.strip()[:11]) in ((130, "interrupted"), (0, ""))
    assert contents(their_redis) == before
    assert list(tmp_path.iterdir()) == []
    assert not [command for name in NAME.findall(out) for command in processes_naming(name)]


def test_a_killed_demo_leaves_no_process(environ: dict[str, str], tmp_path: Path):
    _, out, _ = play_until("workers", environ, signal.SIGKILL)
    name = NAME.findall(out)[0]
    wait_until_sync(lambda: not processes_naming(name), message="workers and server are gone")


def test_a_worker_that_does_not_start(environ: dict[str, str], tmp_path: Path):
    site = tmp_path / "site"
    site.mkdir()
    broken = "if 'worker' in sys.orig_argv:\n    print('out of order', file=sys.stderr)\n    raise SystemExit(7)\n"
    (site / "sitecustomize.py").write_text(f"import sys\n{broken}")
    code, out, err = play({**environ, "PYTHONPATH": str(site)})
    assert code == 1
    assert err.startswith("error: a worker did not start (exit code ")
    assert "out of order" in err
    assert "Three commands" not in out
    assert list(tmp_path.iterdir()) == [site]


def test_a_redis_that_is_not_there(environ: dict[str, str]):
    code, _, err = play({**environ, "REDIS_URL": "redis://127.0.0.1:1/0"})
    assert code == 69
    assert err.startswith("error: Redis at 127.0.0.1:1/0 cannot be reached")


def test_without_a_server_fakeredis_stands_in(environ: dict[str, str]):
    code, out, err = play(environ, "-c", WITHOUT_SERVER)
    assert (code, err) == (0, "")
    assert "fakeredis, private" in out
    assert f"The answer is {ANSWER}." in out


@pytest.mark.parametrize(
    ("environ", "model"),
    [
        ({}, "mock"),
        ({"AGENTQ_MODEL": "openai:gpt-4o"}, "mock"),
        ({"OPENAI_API_KEY": "k"}, "openai:gpt-4o-mini"),
        ({"OPENAI_API_KEY": "k", "AGENTQ_MODEL": "openai:gpt-4o"}, "openai:gpt-4o"),
        ({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://h/v1"}, "openai-chat:gpt-4o-mini"),
        ({"OPENAI_API_KEY": "k", "AGENTQ_MODEL": "mock"}, "mock"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1"}, "mock"),
        ({"ANTHROPIC_API_KEY": "k"}, "anthropic:claude-haiku-5-5"),
        ({"GEMINI_API_KEY": "k"}, "google:gemini-3-flash"),
        ({"OPENAI_BASE_URL": "http://h/v1", "AGENTQ_MODEL": "openai-chat:llama3.2"}, "openai-chat:llama3.2"),
    ],
)
def test_the_model_is_the_one_that_there_is_a_key_or_a_server_for(environ: dict[str, str], model: str):
    chosen = model_of(environ)
    assert chosen.name == model
    assert (chosen.prompt == SCRIPT) is (model == "mock")


def asks(name: str, **arguments: float) -> Any:
    return streams([*call(0, f"call_{name}", name, json.dumps(arguments)), chunk(finish="tool_calls"), usage()])


async def test_with_a_key_a_real_model_is_asked(environ: dict[str, str], model_server: FaultServer):
    model_server.answers(
        asks("add_numbers", a=7, b=9),
        asks("multiply_numbers", a=16, b=12),
        asks("square_root", x=192),
        streams(says("The ", f"answer is {ANSWER}.")),
    )
    del environ["AGENTQ_MODEL"]
    ours = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": model_server.url}
    code, out, err = await asyncio.to_thread(play, {**environ, **ours})
    assert (code, err) == (0, "")
    assert "openai-chat:gpt-4o-mini, by your OPENAI_API_KEY" in out
    assert f"The answer is {ANSWER}." in out.splitlines()
    assert "sk-test" not in out
    assert [asked.headers["authorization"] for asked in model_server.asked] == ["Bearer sk-test"] * 4
    assert model_server.asked[0].body["messages"][-1] == {"role": "user", "content": QUESTION}


async def test_with_a_key_that_is_wrong_the_demo_says_what_to_do(environ: dict[str, str], model_server: FaultServer):
    model_server.answers(fails(401, {"error": {"message": "Wrong key."}}))
    ours = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": model_server.url, "AGENTQ_MODEL": "openai:gpt-4o"}
    code, out, _ = await asyncio.to_thread(play, {**environ, **ours})
    assert code == 1
    assert "answered 401: Wrong key; the key is the one in OPENAI_API_KEY" in out
    assert "with AGENTQ_MODEL=mock, the built-in model plays the demo" in out
