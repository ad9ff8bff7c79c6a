"""Bad input to each command: one line that says what is wrong and how to mend it, and the exit code of its kind."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from agentq.cli import cli
from agentq.cli._group import Options
from tests.helpers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOWHERE = "01JD3ZK8W5Q0X9V7T2M4N6P8RA"
BAD_ID = "error: there is no run 'x': a run id has 26 letters and digits"
NO_RUN = f"run {NOWHERE}"
# They begin to write before they know.
WRITES = ("export",)
AWAY = "cannot be reached"
HOW = "start Redis, or name another with --redis or REDIS_URL"

# Command line, exit code, what it says. NOBODY is a Redis that is not there, FILE a file, EMPTY an empty file.
CASES: list[tuple[str, int, str]] = [
    ("nonsense", 2, "error: there is no command 'nonsense'"),
    ("tial x", 2, "error: there is no command 'tial', did you mean 'tail'?"),
    ("--nonsense ls", 2, "error: No such option '--nonsense'"),
    ("ls --redis nonsense", 2, "error: redis_url 'nonsense' is not a Redis URL"),
    ("init", 2, "error: Missing argument 'DIR'"),
    ("init FILE", 2, "is a file; name a directory"),
    ("dev -n 0", 2, "error: Invalid value for '-n' / '--workers': 0 is not in the range 1<=x<=32"),
    ("dev -c x", 2, "error: Invalid value for '-c' / '--concurrency': 'x' is not a valid integer"),
    ("run", 2, "error: Missing argument 'PROMPT|-'"),
    ("run ''", 2, "error: the prompt is empty"),
    ("run hello --agent nobody", 2, "error: there is no agent named 'nobody'; this app has: "),
    ("run hello --model nonsense:x", 2, "error: no model provider is called 'nonsense'"),
    ("run hello --model openai:gpt-4o-mini", 2, "error: OPENAI_API_KEY is not set"),
    ("run hello --app nowhere:app", 2, "error: there is no module 'nowhere' in "),
    ("run hello --app nowhere", 2, "error: 'nowhere' is not the path of an app"),
    ("run hello --file nowhere.png", 2, "error: files[0] 'nowhere.png' cannot be read: No such file or directory"),
    ("worker --app nowhere:app", 2, "error: there is no module 'nowhere' in "),
    ("worker -c 0", 2, "error: Invalid value for '-c' / '--concurrency': 0 is not in the range x>=1"),
    ("worker --log-level loud", 2, "error: Invalid value for '--log-level': 'loud' is not one of"),
    ("enqueue", 2, "error: Missing argument 'AGENT'"),
    ("enqueue a", 2, "error: Missing argument 'PROMPT|-'"),
    ("enqueue 'no name' hello", 2, "error: agent 'no name' is not a name"),
    ("enqueue a ''", 2, "error: the prompt is empty"),
    ("enqueue a hello --tool 'a b'", 2, "error: tools has 'a b', which names no tool or toolset"),
    ("enqueue a hello --when-busy x", 2, "error: Invalid value for '--when-busy': 'x' is not one of"),
    ("enqueue a hello --when-busy reject", 2, "error: when_busy is about a session; give session_id too"),
    ("enqueue a hello --tenant ''", 2, "error: tenant is empty; leave it out"),
    (
        "enqueue a hello --priority x",
        2,
        "error: Invalid value for '--priority': 'x' is not one of 'high', 'normal', 'low'",
    ),
    ("enqueue a hello --without x", 2, "error: without has 'x'; what can be switched off is: memory, retrieval"),
    ("enqueue a hello --meta x", 2, "error: Invalid value for '--meta': 'x' is not KEY=VALUE"),
    ("enqueue a hello --delay -1", 2, "error: Invalid value for '--delay': -1.0 is not in the range x>=0"),
    ("enqueue a hello --delay inf", 2, "error: delay must be between 0 and 31622400 seconds, not inf"),
    ("enqueue a hello --ttl 0", 2, "error: ttl_s must be between 0.001 and 316224000 seconds, not 0.0"),
    ("enqueue a hello --queue 'a b'", 2, "error: queue 'a b' is not a name"),
    ("enqueue a hello --session ''", 2, "error: session_id is empty"),
    ("enqueue a hello --file nowhere.png", 2, "error: files[0] 'nowhere.png' cannot be read"),
    ("enqueue a hello --redis NOBODY", 69, AWAY),
    ("tail", 2, "error: Missing argument 'RUN...'"),
    ("tail x", 3, BAD_ID),
    ("tail NOWHERE", 3, NO_RUN),
    ("tail NOWHERE --after -1", 2, "error: Invalid value for '--after': -1 is not in the range x>=0"),
    ("tail NOWHERE --redis NOBODY", 69, AWAY),
    ("show", 2, "error: Missing argument 'RUN'"),
    ("show x", 3, BAD_ID),
    ("show NOWHERE", 3, NO_RUN),
    ("show NOWHERE --redis NOBODY", 69, HOW),
    ("ls --status done", 2, "error: Invalid value for '--status': 'done' is not one of 'queued', "),
    ("ls -n 0", 2, "error: Invalid value for '-n' / '--limit': 0 is not in the range 1<=x<=1000"),
    ("ls --before x", 3, BAD_ID),
    ("ls --redis NOBODY", 69, AWAY),
    ("sessions nowhere", 3, "error: session 'nowhere': There is no such session"),
    ("sessions -n 0", 2, "0 is not in the range"),
    ("sessions s1 --user ada", 2, "error: --user filters the list; leave it out to show one session"),
    ("sessions --redis NOBODY", 69, HOW),
    ("why", 2, "error: Missing argument 'RUN'"),
    ("why x", 3, BAD_ID),
    ("why NOWHERE", 3, NO_RUN),
    ("why NOWHERE --redis NOBODY", 69, HOW),
    ("cancel", 2, "error: name runs, or choose them by --status, --agent, --session, --since"),
    ("cancel x --agent a", 2, "error: name runs, or choose them by --status, --agent, --session, --since; not both"),
    ("cancel --since soon", 2, "error: Invalid value for '--since': 'soon' is no length of time such as 30s"),
    ("cancel --status completed", 2, "error: Invalid value for '--status': 'completed' is not one of"),
    ("cancel x", 3, BAD_ID),
    ("cancel NOWHERE", 3, NO_RUN),
    ("cancel NOWHERE --redis NOBODY", 69, AWAY),
    ("answer", 2, "error: Missing argument 'RUN'"),
    ("answer NOWHERE", 2, "error: say one of: RESULT, --did-not-happen, --unknown"),
    ("answer NOWHERE yes --unknown", 2, "error: say one of: RESULT, --did-not-happen, --unknown"),
    ("answer x yes", 3, BAD_ID),
    ("answer NOWHERE yes", 3, NO_RUN),
    ("answer NOWHERE yes --redis NOBODY", 69, HOW),
    (
        "answer 01JD3ZK8W5Q0X9V7T2M4N6P8RA.1.0 yes --call 1.0",
        2,
        "error: name the call once: with the run, or by --call",
    ),
    ("inbox x", 2, "error: Got unexpected extra argument (x)"),
    ("inbox --redis NOBODY", 69, HOW),
    ("approve", 2, "error: name a run, or choose calls by --all, --agent, --tool, --session, --user"),
    ("approve NOWHERE --agent a", 2, "error: name a run, or choose calls by --agent, --tool, --session, --user"),
    ("approve NOWHERE 1.0 --all", 2, "error: name calls, or say --all; not both"),
    ("approve NOWHERE --args x", 2, "error: --args is not JSON: "),
    ("approve NOWHERE --args [1]", 2, "error: --args must be a JSON object such as "),
    ("approve --all --args {}", 2, "error: --args is about one call; name its run"),
    ("approve x", 3, BAD_ID),
    ("approve NOWHERE", 3, NO_RUN),
    ("approve NOWHERE 1.0", 3, NO_RUN),
    ("approve NOWHERE --redis NOBODY", 69, AWAY),
    ("deny", 2, "error: name a run, or choose calls by --all, --agent, --tool, --session, --user"),
    ("deny x", 3, BAD_ID),
    ("deny NOWHERE 1.0", 3, NO_RUN),
    ("deny --all --redis NOBODY", 69, HOW),
    ("signal", 2, "error: Missing argument 'RUN'"),
    ("signal NOWHERE", 2, "error: Missing argument 'NAME'"),
    ("signal NOWHERE packed ann", 2, "error: what the run is told must be JSON: "),
    ("signal x packed", 3, BAD_ID),
    ("signal NOWHERE packed", 3, NO_RUN),
    ("signal NOWHERE packed --redis NOBODY", 69, HOW),
    ("steer", 2, "error: Missing argument 'RUN'"),
    ("steer NOWHERE", 2, "error: Missing argument 'TEXT|-'"),
    ("steer NOWHERE ''", 2, "error: the prompt is empty"),
    ("steer x hello", 3, BAD_ID),
    ("steer NOWHERE hello", 3, NO_RUN),
    ("steer NOWHERE hello --next --by ada", 2, "error: --by belongs to a message for the run itself"),
    ("steer NOWHERE hello --redis NOBODY", 69, AWAY),
    ("fork", 2, "error: Missing argument 'RUN'"),
    ("fork x", 3, BAD_ID),
    ("fork NOWHERE", 3, NO_RUN),
    ("fork NOWHERE ''", 2, "error: the prompt is empty"),
    ("fork NOWHERE --iteration -1", 2, "error: Invalid value for '--iteration': -1 is not in the range x>=0"),
    ("fork NOWHERE --redis NOBODY", 69, AWAY),
    ("sessions --delete --yes", 2, "error: --delete takes one SESSION"),
    ("sessions x --delete", 2, "error: that would delete a session for good; --yes says so"),
    ("sessions x --cancel", 2, "error: --cancel and --yes go with --delete"),
    ("pause", 2, "error: name one of: RUN..., --agent NAME, --queue QUEUE, --all"),
    ("pause x --all", 2, "error: name one of: RUN..., --agent NAME, --queue QUEUE, --all"),
    ("pause --agent 'a b'", 2, "error: agent 'a b' is not a name"),
    ("pause --all --redis NOBODY", 69, AWAY),
    ("pause x", 3, BAD_ID),
    ("pause NOWHERE", 3, NO_RUN),
    ("pause NOWHERE --redis NOBODY", 69, AWAY),
    ("resume", 2, "error: name one of: RUN..., --agent NAME, --queue QUEUE, --all"),
    ("resume --all --redis NOBODY", 69, AWAY),
    ("resume x", 3, BAD_ID),
    ("resume NOWHERE", 3, NO_RUN),
    ("resume NOWHERE --redis NOBODY", 69, AWAY),
    ("limit", 2, "error: Missing argument 'RUN...'"),
    ("limit NOWHERE --max-tokens x", 2, "error: Invalid value for '--max-tokens': 'x' is not a valid integer"),
    ("limit NOWHERE --max-tokens 0", 2, "error: --max-tokens must be between 1 and "),
    ("limit NOWHERE --max-time nan", 2, "error: --max-time must be a number, not nan"),
    ("limit NOWHERE --on-limit stop", 2, "error: Invalid value for '--on-limit': 'stop' is not one of"),
    ("limit x", 3, BAD_ID),
    ("limit NOWHERE --max-cost 2", 3, NO_RUN),
    ("limit NOWHERE --max-cost 2 --redis NOBODY", 69, AWAY),
    ("enqueue a hello --max-cost -1", 2, "error: --max-cost must be between 1e-09 and "),
    ("enqueue a hello --max-iterations 1.5", 2, "error: Invalid value for '--max-iterations'"),
    ("enqueue a hello --concurrency 5", 2, "error: concurrency"),
    ("retry", 2, "error: name runs, or choose them by --status, --agent, --session, --since"),
    ("retry x --agent a", 2, "error: name runs, or choose them by --status, --agent, --session, --since; not both"),
    ("retry --since soon", 2, "error: Invalid value for '--since': 'soon' is no length of time such as 30s"),
    ("retry --status completed", 2, "error: Invalid value for '--status': 'completed' is not one of"),
    ("retry x", 3, BAD_ID),
    ("retry NOWHERE", 3, NO_RUN),
    ("retry NOWHERE --redis NOBODY", 69, AWAY),
    ("schedule nonsense", 2, "error: there is no command 'nonsense'"),
    ("schedule add", 2, "error: Missing argument 'NAME'"),
    ("schedule add r a hello", 2, "error: Missing option '--cron'"),
    ("schedule add r a hello --cron '0 9 * *'", 2, "error: cron '0 9 * *' must have five fields"),
    ("schedule add r a hello --cron @daily --timezone Berlin", 2, "error: timezone 'Berlin' is not known here"),
    ("schedule add r a '' --cron @daily", 2, "error: the prompt is empty"),
    ("schedule rm", 2, "error: Missing argument 'NAME...'"),
    ("schedule rm nowhere", 3, "error: there is no schedule 'nowhere'; `agentq schedule ls` lists them"),
    ("schedule pause nowhere", 3, "error: there is no schedule 'nowhere'"),
    ("schedule resume nowhere", 3, "error: there is no schedule 'nowhere'"),
    ("schedule run-now nowhere", 3, "error: there is no schedule 'nowhere'"),
    ("schedule ls --redis NOBODY", 69, HOW),
    ("webhooks nonsense", 2, "error: there is no command 'nonsense'"),
    ("webhooks retry", 2, "error: name messages, or say --failed"),
    ("webhooks retry msg_a_1 --failed", 2, "error: name messages, or say --failed"),
    ("webhooks retry msg_nowhere_1", 3, "error: no message msg_nowhere_1 waits"),
    ("webhooks messages nowhere", 3, "error: no worker has a webhook named 'nowhere'; there are: none"),
    ("webhooks messages 'a b'", 2, "error: webhook 'a b' is not a name"),
    ("webhooks messages --state lost", 2, "error: Invalid value for '--state'"),
    ("webhooks messages --limit 0", 2, "error: Invalid value for '--limit'"),
    ("webhooks forget", 2, "error: Missing argument 'WEBHOOK...'"),
    ("webhooks forget nowhere", 3, "error: no worker has a webhook named 'nowhere'"),
    ("webhooks test", 2, "error: Missing argument 'NAME|URL'"),
    ("webhooks ls --redis NOBODY", 69, HOW),
    ("web --host 0.0.0.0", 2, "error: --host 0.0.0.0 lets others in: set AGENTQ_WEB_TOKEN"),
    ("web --port 65536", 2, "error: Invalid value for '-p' / '--port': 65536 is not in the range"),
    ("enqueue a hello --at tomorrow", 2, "error: Invalid value for '--at': 'tomorrow' is no time such as"),
    ("workers x", 2, "error: there is no command 'x'"),
    ("workers quiet", 2, "error: name one of: WORKER..., --host HOST, --all"),
    ("workers quiet x --all", 2, "error: name one of: WORKER..., --host HOST, --all"),
    ("workers quiet x --wait -1", 2, "error: Invalid value for '--wait': -1.0 is not in the range x>=0"),
    ("workers quiet x", 3, "error: there is no worker 'x'; `agentq workers` lists them"),
    ("workers quiet x --redis NOBODY", 69, HOW),
    ("workers resume", 2, "error: name one of: WORKER..., --host HOST, --all"),
    ("workers resume x", 3, "error: there is no worker 'x'; `agentq workers` lists them"),
    ("workers --redis NOBODY", 69, HOW),
    ("queues x", 2, "error: Got unexpected extra argument (x)"),
    ("queues --redis NOBODY", 69, HOW),
    ("stats x", 2, "error: Got unexpected extra argument (x)"),
    ("stats --redis NOBODY", 69, HOW),
    ("doctor x", 2, "error: Got unexpected extra argument (x)"),
    ("export x", 3, BAD_ID),
    ("export NOWHERE", 3, f"{NOWHERE}"),
    ("export --since yesterday", 2, "error: Invalid value for '--since': 'yesterday' does not match"),
    ("export --redis NOBODY", 69, HOW),
    ("import nowhere.ndjson", 2, "error: cannot read nowhere.ndjson: No such file or directory"),
    ("import FILE", 2, "error: "),
    ("import EMPTY", 2, "error: "),
    ("completion powershell", 2, "'powershell' is not one of 'bash', 'zsh', 'fish'"),
]


def test_every_command_is_in_the_table():
    assert set(cli.list_commands(click.Context(cli))) <= {line.split()[0] for line, *_ in CASES}


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    """Commands say how this process logs; here they share it with other tests."""
    loggers = [logging.getLogger(name) for name in (None, "agentq", "workers")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    yield
    logging.captureWarnings(False)
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture
def typed(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, _logging_as_before: None):
    """Types a command line in an empty folder; returns exit code, stdout and stderr."""
    (tmp_path / "file").write_text("not an archive\n")
    (tmp_path / "empty").touch()
    folder = tmp_path / "project"
    folder.mkdir()
    names = {
        "NOBODY": "redis://127.0.0.1:1/0",
        "NOWHERE": NOWHERE,
        "FILE": str(tmp_path / "file"),
        "EMPTY": str(tmp_path / "empty"),
    }
    monkeypatch.chdir(folder)
    monkeypatch.setenv("REDIS_URL", redis_url)

    def run(line: str) -> tuple[int, str, str]:
        words = [names.get(word, word) for word in shlex.split(line)]
        result = CliRunner().invoke(cli, words, obj=Options())
        assert not list(folder.iterdir()), "something was written"
        return result.exit_code, result.stdout, result.stderr

    return run


@pytest.mark.parametrize(("line", "code", "words"), CASES, ids=[line for line, *_ in CASES])
def test_bad_input_is_one_line_and_the_code_of_its_kind(typed, line: str, code: int, words: str):
    exit_code, out, err = typed(line)
    errors = [
        text for text in err.splitlines() if not text.startswith(("no workers/app.py here", "warning: no worker"))
    ]
    assert exit_code == code, err
    assert out == "" or line.startswith(WRITES)
    assert len(errors) == 1, err
    assert words in errors[0]
    assert "Traceback" not in err


@pytest.mark.parametrize("debug", [False, True])
def test_a_traceback_comes_with_debug_only(tmp_path: Path, debug: bool):
    done = subprocess.run(
        [sys.executable, "-m", "agentq", "show", NOWHERE, "--redis", "redis://127.0.0.1:1/0", *["--debug"] * debug],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 69
    assert ("Traceback" in done.stderr) is debug
