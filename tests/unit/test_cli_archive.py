"""`agentq export` and `agentq import`: what they print, write and refuse."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from agentq._ids import new_run_id
from agentq.cli import cli
from agentq.cli._group import Options
from agentq.runs import Status
from agentq.settings import Settings
from agentq.testing._contract import commit_of, new_run, reply_message
from agentq.wiring import redis_parts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def agentq(redis_url: str) -> Callable[..., Result]:
    def run(*args: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(cli, args, input=stdin, obj=Options(redis_url=redis_url))

    return run


@pytest.fixture
def make(redis_url: str) -> Callable[..., str]:
    """Put a run into Redis; ended, unless told otherwise. Returns its id."""

    async def made(status: Status | None = Status.COMPLETED, **fields: Any) -> str:
        parts = redis_parts(Settings(redis_url=redis_url))
        try:
            new = new_run(**fields)
            await parts.store.create(new)
            if status is not None:
                (claim,) = await parts.store.claim([new.run_id], owner="w", claim_id=new.run_id, lease_ms=9_000)
                await parts.store.commit(claim.lease, commit_of(claim, status, reply_message("16")))
            return new.run_id
        finally:
            await parts.aclose()

    return lambda *args, **fields: asyncio.run(made(*args, **fields))


def kinds(output: str) -> list[str]:
    return [json.loads(line)["type"] for line in output.splitlines()]


def command(redis_url: str, *words: Any) -> Any:
    async def sent() -> Any:
        parts = redis_parts(Settings(redis_url=redis_url))
        try:
            return await parts.store.pipeline.execute(*words)
        finally:
            await parts.aclose()

    return asyncio.run(sent())


def test_an_export_of_nothing_is_whole_and_says_nothing_else(agentq: Callable[..., Result]):
    result = agentq("export")
    assert (result.exit_code, result.stderr) == (0, "")
    assert kinds(result.stdout) == ["header", "trailer"]
    assert agentq("import", stdin=result.stdout).stdout == "imported 0 runs and 0 sessions\n"


def test_runs_that_are_alive_are_counted_and_when_named_make_it_a_conflict(
    agentq: Callable[..., Result], make: Callable[..., str]
):
    done, alive, other = make(), make(None), make(None)
    result = agentq("export")
    assert (result.exit_code, result.stderr) == (0, "left out: 2 runs that have not ended\n")
    assert [json.loads(line)["run_id"] for line in result.stdout.splitlines() if '"type":"run"' in line] == [done]
    result = agentq("export", alive, done)
    assert result.exit_code == 6
    assert result.stderr == f"left out: run {alive} is queued; only runs that have ended are exported\n"
    assert kinds(result.stdout).count("run") == 1
    gone = new_run_id()
    result = agentq("export", other, gone, "--json")
    assert result.exit_code == 3
    notes = [json.loads(line)["note"] for line in result.stderr.splitlines()]
    assert [note["type"] for note in notes] == ["left_out", "left_out"]
    assert gone in notes[1]["message"]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["export", "x"], 3, "there is no run 'x': a run id has 26 letters"),
        (["export", new_run_id(), "--agent", "a"], 2, "name runs, or say which ones with --agent; not both"),
        (["export", "--status", "queued"], 2, "'queued' is not one of 'cancelled', 'completed', 'failed'"),
        (["export", "--since", "yesterday"], 2, "'yesterday' does not match the formats"),
        (["export", "--session", "s9"], 3, "session 's9': There is no such session"),
        (["export", "-o", "nowhere/a.ndjson"], 2, "cannot write nowhere/a.ndjson: No such file or directory"),
        (["export", "-o", "."], 2, "cannot write .: it is a directory"),
        (["import", "nowhere.ndjson"], 2, "cannot read nowhere.ndjson: No such file or directory"),
        (["import", "."], 2, "cannot read .: Is a directory"),
        (["import", "a", "b"], 2, "unexpected extra argument (b)"),
        (["import", "--ttl", "0"], 2, "0.0 is not in the range x>=0.001"),
        (["import", "--ttl", "1e12"], 2, "--ttl must be between 0.001 and"),
        (["import"], 2, "line 1: the export is empty"),
        (["import", "plain.gz"], 2, "cannot unpack plain.gz: Not a gzipped file"),
        (["import", "cut.gz"], 2, "cannot unpack cut.gz: Compressed file ended before"),
        (["import", "cut.ndjson"], 2, "line 1: the export ends here without its last line: it was cut"),
        (["import", "other.ndjson"], 2, "line 1: it is not JSON"),
    ],
)
def test_bad_input_is_one_line_with_its_exit_code(
    agentq: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    code: int,
    message: str,
):
    monkeypatch.chdir(tmp_path)
    header = b'{"type":"header","agentq":"export","version":1}\n'
    (tmp_path / "plain.gz").write_bytes(header)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(header * 100)[:30])
    (tmp_path / "cut.ndjson").write_bytes(header)
    (tmp_path / "other.ndjson").write_text("hello\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    result = agentq(*args)
    assert result.exit_code == code, result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_without_redis_both_say_so_and_no_file_appears(tmp_path: Path):
    options = Options(redis_url="redis://127.0.0.1:1/0")
    target = tmp_path / "runs.ndjson"
    for args in (["export", "-o", str(target)], ["import", str(__file__)]):
        result = CliRunner().invoke(cli, args, obj=options)
        assert result.exit_code == 69
        assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_file_gets_its_name_when_it_is_whole(
    agentq: Callable[..., Result], make: Callable[..., str], tmp_path: Path, redis_url: str
):
    make()
    broken = make(session_id="s1")
    target = tmp_path / "runs.ndjson"
    target.write_text("older")
    result = agentq("export", "-o", str(target))
    assert (result.stdout, result.stderr) == ("", f"2 runs and 1 session in {target}\n")
    assert kinds(target.read_text())[-1] == "trailer"
    assert [path.name for path in tmp_path.iterdir()] == ["runs.ndjson"]
    packed = tmp_path / "runs.ndjson.gz"
    assert agentq("export", "-o", str(packed)).exit_code == 0
    assert gzip.decompress(packed.read_bytes()).splitlines()[1:] == target.read_bytes().splitlines()[1:]
    # A run that cannot be read is named, and makes the exit code 1; the others are there.
    command(redis_url, "HSET", f"agentq:{{{broken}}}", "usage", "{")
    result = agentq("export", "-o", str(target))
    assert (result.exit_code, kinds(target.read_text()).count("run")) == (0, 1)
    result = agentq("export", broken, "-o", str(target))
    assert result.exit_code == 1
    assert f"left out: run {broken} cannot be read" in result.stderr


def test_an_import_says_what_came_in_what_was_here_and_what_is_another(
    agentq: Callable[..., Result], make: Callable[..., str], redis_url: str
):
    other, same, new = make(), make(session_id="s1"), make()
    archive = agentq("export").stdout
    command(redis_url, "HSET", f"agentq:{{{other}}}", "last_error", "changed")
    command(redis_url, "DEL", f"agentq:{{{new}}}")
    result = agentq("import", "-", stdin=archive)
    assert result.exit_code == 6
    assert result.stdout == "imported 1 run and 0 sessions; 1 run and 1 session were here already\n"
    assert result.stderr == f"conflict: run {other} is here and is left as it is: it has other content\n"
    result = agentq("import", "--json", stdin=archive)
    assert json.loads(result.stdout) == {
        "imported": {"runs": 0, "sessions": 0},
        "known": {"runs": 2, "sessions": 1},
        "conflicts": [
            {"type": "run", "id": other, "reason": f"run {other} is here and is left as it is: it has other content"}
        ],
        "left_out": [],
    }
    assert same in archive


def test_an_import_that_fails_half_way_says_what_had_come_in(
    agentq: Callable[..., Result], make: Callable[..., str], redis_url: str
):
    make(), make()
    lines = agentq("export").stdout.splitlines()
    command(redis_url, "FLUSHALL")
    ends = [at for at, line in enumerate(lines) if '"type":"end"' in line]
    cut = "\n".join(lines[: ends[-1]])
    result = agentq("import", stdin=cut)
    assert result.exit_code == 2
    assert result.stdout == "imported 1 run and 0 sessions\n"
    assert result.stderr.startswith(f"error: line {ends[-1]}: the export ends here without its last line")


def test_a_unit_that_was_broken_off_is_named(agentq: Callable[..., Result], make: Callable[..., str], redis_url: str):
    run_id = make()
    command(redis_url, "LSET", f"agentq:{{{run_id}}}:messages", 1, "{")
    exported = agentq("export")
    assert exported.exit_code == 1
    command(redis_url, "FLUSHALL")
    result = agentq("import", stdin=exported.stdout)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"left out: run {run_id} was not exported whole: a stored message cannot be read")
    assert command(redis_url, "KEYS", "*") == []


def test_the_runs_that_come_in_are_kept_as_long_as_it_is_told(
    agentq: Callable[..., Result], make: Callable[..., str], redis_url: str
):
    run_id = make(ttl_ms={"completed": 1_000_000})
    archive = agentq("export").stdout
    command(redis_url, "FLUSHALL")
    assert agentq("import", "--ttl", "55.5", stdin=archive).exit_code == 0
    assert 50_000 < command(redis_url, "PTTL", f"agentq:{{{run_id}}}") <= 55_500
