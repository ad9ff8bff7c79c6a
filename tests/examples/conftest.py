"""A Redis, a worker and the examples under their real servers, each started once for a module."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import redis as redis_client

from agentq import Client
from agentq.private_redis import free_port
from tests._redis_server import RedisServer
from tests.browser import ask
from tests.helpers import ROOT, wait_until_sync

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

NOWHERE = "01JD3ZK8W5Q0X9V7T2M4N6P8RA"
GUNICORN = ("gunicorn", "--no-control-socket", "--log-level", "warning", "--graceful-timeout", "1")
# Every way of serving an example that we say works.
SERVERS = {
    "flask, forked": (*GUNICORN, "-w", "2", "--preload", "tests.examples.preloaded:flask_wsgi"),
    "flask, threads": (*GUNICORN, "--threads", "8", "examples.flask_app:app"),
    "django, forked": (*GUNICORN, "-w", "2", "--preload", "tests.examples.preloaded:django_wsgi"),
    "django, threads": (*GUNICORN, "--threads", "8", "examples.django_app:app"),
    "fastapi": ("uvicorn", "--log-level", "warning", "--timeout-graceful-shutdown", "1", "examples.fastapi_app:app"),
}
# The same for the web app under a prefix of another one.
UVICORN = ("uvicorn", "--log-level", "warning", "--timeout-graceful-shutdown", "1")
MOUNTED = {
    "fastapi": (*UVICORN, "examples.mounted_fastapi:app"),
    "django": (*UVICORN, "examples.mounted_django:app"),
    "flask": (*GUNICORN, "--threads", "8", "examples.mounted_flask:app"),
}


@dataclass
class Site:
    """An example that is being served. `runs` is where prompts are posted."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    redis: RedisServer
    client: Client = field(repr=False)
    log: Path = field(repr=False)

    @property
    def runs(self) -> str:
        return f"http://127.0.0.1:{self.port}/runs"

    def listeners(self, run_id: str) -> int:
        """How many connections are subscribed to the run's events."""
        with redis_client.Redis.from_url(self.redis.url) as connection:
            ((_, count),) = connection.pubsub_numsub(f"agentq:{{{run_id}}}:live")
            return int(count)

    def forked(self) -> list[int]:
        """The processes that gunicorn has forked, as soon as all of them are there."""
        count = 2 if "forked" in self.name else 1
        return wait_until_sync(lambda: pids if len(pids := self._children()) == count else [])

    def _children(self) -> list[int]:
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
        return [pid for pid, parent in pairs if parent == self.process.pid]


def environment(redis_url: str) -> dict[str, str]:
    """Ours alone: the fixture that cleans the environment is younger than those of a module."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTQ_", "GUNICORN_"))}
    ours = {"REDIS_URL": redis_url, "AGENTQ_HEARTBEAT_MS": "200", "PYTHONUNBUFFERED": "1"}
    return inherited | ours


@contextmanager
def serving(name: str, redis: RedisServer, log: Path, servers: Mapping[str, Sequence[str]] = SERVERS) -> Iterator[Site]:
    """The example under its server, as soon as it answers, whatever it answers."""
    program, *arguments = servers[name]
    port = free_port()
    where = ["-b", f"127.0.0.1:{port}"] if program == "gunicorn" else ["--port", str(port)]
    with log.open("wb") as output, Client(redis.url) as client:
        process = subprocess.Popen(
            [sys.executable, "-m", program, *where, *arguments],
            cwd=ROOT,
            env=environment(redis.url),
            stdout=output,
            stderr=output,
        )
        site = Site(name, process, port, redis, client, log)
        try:
            wait_until_sync(lambda: process.poll() is not None or ask(f"{site.runs}/{NOWHERE}")[0], timeout=30)
            assert process.poll() is None, f"{program} did not start"
            yield site
        finally:
            process.terminate()
            process.wait(timeout=20)
            sys.stderr.write(log.read_text())


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    redis.start()
    yield redis
    redis.kill()


@pytest.fixture(scope="module")
def working(redis: RedisServer) -> Iterator[None]:
    """A worker, until the module's tests are over."""
    process = subprocess.Popen([sys.executable, "-m", "agentq", "worker"], cwd=ROOT, env=environment(redis.url))
    yield
    process.terminate()
    assert process.wait(timeout=20) == 0


@pytest.fixture(scope="module", params=SERVERS)
def site(
    request: pytest.FixtureRequest, redis: RedisServer, working: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with serving(request.param, redis, tmp_path_factory.mktemp("site") / "log") as site:
        yield site
