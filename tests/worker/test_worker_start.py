"""A worker with a wrong URL ends and says so; one that has worked waits, whatever Redis says meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agentq._redis.connection import Connection
from agentq.errors import AccessRefused, InvalidInput
from agentq.worker import Worker
from tests.helpers import ROOT, wait_until
from tests.worker.harness import Gate, app_at, client_at, environment, working

if TYPE_CHECKING:
    from pathlib import Path

    from tests._redis_server import RedisServer

PASSWORD = "open-sesame"


def with_password(url: str, password: str) -> str:
    return url.replace("redis://", f"redis://:{password}@")


async def test_the_command_ends_where_there_is_no_such_database(redis_url: str, tmp_path: Path):
    url = f"{redis_url.removesuffix('/0')}/99"
    where = url.removeprefix("redis://")
    what = f"error: Redis at {where} has no database of that number; correct the end of the URL (REDIS_URL)\n"
    assert ended(url, tmp_path) == (2, what)


async def test_the_command_ends_where_the_password_is_wrong_and_does_not_show_it(server: RedisServer, tmp_path: Path):
    server.command(f"CONFIG SET requirepass {PASSWORD}")
    code, said = ended(with_password(server.url, "guessed"), tmp_path)
    assert (code, said.count("\n")) == (69, 1)
    assert said.startswith(f"error: Redis at 127.0.0.1:{server.port}/0 refused the password: ")
    assert "guessed" not in said
    code, said = ended(server.url, tmp_path)
    assert (code, said.count("\n")) == (69, 1)
    assert "wants a password, and none was given (correct it in --redis or REDIS_URL: redis://user:password@" in said


def ended(url: str, folder: Path) -> tuple[int, str]:
    """How `agentq worker` ended by itself, and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "agentq", "worker"],
        env=environment(url, folder),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.returncode, done.stdout + done.stderr


async def test_a_redis_that_comes_later_and_wants_a_password_ends_it_too(
    server: RedisServer, caplog: pytest.LogCaptureFixture
):
    url = server.url
    server.kill()
    running = asyncio.create_task(Worker(app_at(url)).run())
    await wait_until(lambda: "is away; waiting" in caplog.text)
    server._password = PASSWORD  # noqa: SLF001 - from its first moment on
    server.start()
    with pytest.raises(AccessRefused, match="wants a password"):
        await asyncio.wait_for(running, 20)


async def test_a_password_that_is_changed_under_a_worker_is_sat_out(
    server: RedisServer, caplog: pytest.LogCaptureFixture
):
    gate = Gate()
    server.command(f"CONFIG SET requirepass {PASSWORD}")
    url = with_password(server.url, PASSWORD)
    control = Connection(url)
    async with working(app_at(url, gate)) as running, client_at(url) as client:
        run = await client.enqueue("echo", "call look {}\nsay done")
        await wait_until(lambda: gate.entered)
        await control.client.config_set("requirepass", "another")
        # Connections are made anew now, and refused.
        await control.client.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(AccessRefused):
            await client.read(run.id)
        gate.open.set()
        await wait_until(lambda: "is away; waiting" in caplog.text)
        await control.client.config_set("requirepass", PASSWORD)
        assert (await run.result(30)).output == "done"
        assert not running.task.done()
    await control.aclose()


async def test_a_client_is_told_of_a_database_that_does_not_exist(redis_url: str):
    async with client_at(f"{redis_url.removesuffix('/0')}/99") as client:
        with pytest.raises(InvalidInput, match="has no database of that number") as refused:
            await client.list()
    assert refused.value.field == "redis_url"
