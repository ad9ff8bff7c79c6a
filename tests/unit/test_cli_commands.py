"""What each command asks of the client, prints, and exits with. The client is scripted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click import Context
from click.testing import CliRunner, Result

from agentq.cli import cli
from agentq.cli._errors import COMMON_EXITS
from agentq.cli._output import columns
from agentq.errors import IdempotencyConflict, RunAlreadyFinished, StoreUnavailable
from agentq.events.model import (
    Event,
    IterationStarted,
    RunCancelledEvent,
    RunCompleted,
    RunFailedEvent,
    RunQueued,
    TextDelta,
)
from agentq.messages import CompactionRecord, Message, Role, TextPart, user_message
from agentq.runs import Status
from tests.unit._cli import OTHER, RUN, ScriptedClient, ScriptedOptions, ScriptedRun, Terminal, numbered, run_state

ANSWERED: list[Event] = [
    RunQueued(agent="calculator", prompt="hi"),
    IterationStarted(iteration=1, worker="w1", fence=1),
    TextDelta(text="hello"),
    RunCompleted(output="hello", iterations=1),
]
SHOWN = "calculator: hi\n· iteration 1 · worker w1\nhello\n✓ completed · 1 iteration · 0 tools · 300 ms\n"


def answered(run_id: str = RUN) -> ScriptedRun:
    return ScriptedRun(run_state(run_id), numbered(ANSWERED, run_id=run_id))


def ended(event: Event, status: Status, run_id: str = RUN) -> ScriptedRun:
    return ScriptedRun(run_state(run_id, status), numbered([ANSWERED[0], event], run_id=run_id))


def invoke(client: ScriptedClient, *args: str, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(cli, args, input=stdin, obj=ScriptedOptions(client=client))
    for name in {name for name in args if name in cli.list_commands(Context(cli))}:
        named = getattr(cli.get_command(Context(cli), name), "exits", None)
        assert named is None or result.exit_code in {*COMMON_EXITS, *named}, f"exits= of {name}"
    return result


def test_tail_says_that_a_run_waits_in_line():
    waiting = ScriptedRun(run_state(RUN, Status.QUEUED, session_id="s1", waits_for_session=True), numbered(ANSWERED))
    result = invoke(ScriptedClient(waiting), "tail", RUN)
    assert result.stderr == f"run {RUN} waits behind another run of session s1\n"


# enqueue


def test_enqueue_prints_the_run_id_alone():
    client = ScriptedClient(answered())
    result = invoke(client, "enqueue", "calculator", "hi")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{RUN}\n", "")
    assert client.closed


def test_enqueue_hands_on_what_it_was_given():
    client = ScriptedClient(answered())
    given = {"session": "s", "user": "u", "key": "k", "queue": "q", "model": "mock", "delay": "1.5", "ttl": "60"}
    given |= {"tenant": "acme", "priority": "low"}
    options = [f"--{name}={value}" for name, value in given.items()]
    arguments = ["calculator", "-", *options, "--meta", "a=1", "--meta", "b=x=y"]
    arguments += [
        "--file",
        "a.png",
        "--file",
        "https://example.org/b.png",
        "--tool",
        "look",
        "--tool",
        "shop",
        "--without",
        "retrieval",
    ]
    assert invoke(client, "enqueue", *arguments, stdin="from a pipe\n").exit_code == 0
    assert client.calls == [
        (
            "enqueue",
            (
                "calculator",
                "from a pipe",
                {
                    "session_id": "s",
                    "user_id": "u",
                    "idempotency_key": "k",
                    "queue": "q",
                    "model": "mock",
                    "metadata": {"a": "1", "b": "x=y"},
                    "delay": 1.5,
                    "files": [Path("a.png"), "https://example.org/b.png"],
                    "ttl_s": 60.0,
                    "tools": ("look", "shop"),
                    "without": ("retrieval",),
                    "when_busy": None,
                    "at": None,
                    "tenant": "acme",
                    "priority": "low",
                    "limits": None,
                    "concurrency_key": None,
                    "concurrency": None,
                },
            ),
        )
    ]


def test_enqueue_follow_begins_with_the_run_id():
    result = invoke(ScriptedClient(answered()), "enqueue", "calculator", "hi", "--follow")
    assert (result.exit_code, result.stdout) == (0, f"{RUN}\n{SHOWN}")


def test_enqueue_json_is_a_document_and_with_follow_one_event_per_line():
    result = invoke(ScriptedClient(answered()), "enqueue", "calculator", "hi", "--json")
    assert json.loads(result.stdout) == {"run_id": RUN}
    result = invoke(ScriptedClient(answered()), "enqueue", "calculator", "hi", "--json", "--follow")
    assert [json.loads(line)["type"] for line in result.stdout.splitlines()] == [event.type for event in ANSWERED]


def test_enqueue_with_a_key_that_was_used_is_a_conflict():
    client = ScriptedClient(answered())
    client.raises = IdempotencyConflict("key 'k' was used with other input")
    result = invoke(client, "enqueue", "calculator", "hi", "--key", "k")
    assert (result.exit_code, result.stdout) == (6, "")
    assert result.stderr == "error: key 'k' was used with other input (send the same input, or use another --key)\n"


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["enqueue", "calculator", " "], "the prompt is empty"),
        (["enqueue", "calculator", "hi", "--meta", "x"], "'x' is not KEY=VALUE"),
        (["enqueue", "calculator"], "Missing argument 'PROMPT|-'"),
        (["tail"], "Missing argument 'RUN...'"),
        (["tail", RUN, OTHER, "--after", "3"], "--after is the cursor of one run"),
        (["tail", RUN, "--after", "-1"], "--after"),
        (["cancle", RUN], "there is no command 'cancle', did you mean 'cancel'?"),
        (["ls", "--status", "done"], "'done' is not one of"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(args: list[str], complaint: str):
    result = invoke(ScriptedClient(), *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1
    assert "--help)" in result.stderr


# tail


def test_tail_shows_a_run_and_exits_with_how_it_ended():
    failed = ended(RunFailedEvent(reason="no luck", iterations=1), Status.FAILED)
    cancelled = ended(RunCancelledEvent(), Status.CANCELLED, OTHER)
    result = invoke(ScriptedClient(answered()), "tail", RUN)
    assert (result.exit_code, result.stdout, result.stderr) == (0, SHOWN, "")
    assert invoke(ScriptedClient(failed), "tail", RUN).exit_code == 1
    assert invoke(ScriptedClient(cancelled), "tail", OTHER).exit_code == 4
    assert invoke(ScriptedClient(failed, cancelled), "tail", OTHER, RUN).exit_code == 1


def test_tail_takes_the_run_id_in_lower_case():
    assert invoke(ScriptedClient(answered()), "tail", RUN.lower()).stdout == SHOWN


def test_tail_of_several_runs_tells_them_apart():
    result = invoke(ScriptedClient(answered(), answered(OTHER)), "tail", RUN, OTHER)
    for label in ("6P8RA".rjust(6, "N"), "6P8RB".rjust(6, "N")):
        mine = [line.split("│ ")[1] for line in result.stdout.splitlines() if line.startswith(f"{label} │ ")]
        assert mine == SHOWN.splitlines()


def test_tail_json_prints_events_as_they_are():
    result = invoke(ScriptedClient(answered()), "tail", RUN, "--json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        event.model_dump(mode="json", exclude_none=True) for event in numbered(ANSWERED)
    ]


def test_tail_after_the_end_says_how_the_run_ended():
    run = ended(RunFailedEvent(reason="no luck"), Status.FAILED)
    result = invoke(ScriptedClient(run), "tail", RUN, "--after", "2")
    assert (result.exit_code, result.stdout) == (1, "")


def test_tail_after_a_cursor_gives_no_totals_that_it_cannot_know():
    result = invoke(ScriptedClient(answered()), "tail", RUN, "--after", "2")
    assert result.stdout == "hello\n✓ completed · 1 iteration · 300 ms\n"


@pytest.mark.parametrize(("status", "code"), [(Status.RUNNING, 0), (Status.WAITING, 5)])
def test_tail_no_follow_stops_at_the_last_event(status: Status, code: int):
    run = ScriptedRun(run_state(status=status), numbered(ANSWERED[:3]), hangs=True)
    result = invoke(ScriptedClient(run), "tail", RUN, "--no-follow")
    assert (result.exit_code, result.stdout) == (code, "".join(SHOWN.splitlines(keepends=True)[:3]))


def test_ctrl_c_detaches_and_says_how_to_come_back():
    run = ScriptedRun(run_state(status=Status.RUNNING), numbered(ANSWERED[:3]), hangs=True, interrupts=True)
    result = invoke(ScriptedClient(run), "tail", RUN, "--redis", "redis://elsewhere/1")
    assert result.exit_code == 130
    assert result.stdout.endswith("hello\n")
    assert result.stderr == (
        f"detached; the run goes on. Come back with: agentq tail {RUN} --after 3 --redis redis://elsewhere/1\n"
    )


def test_ctrl_c_on_several_runs_names_those_that_go_on():
    first = ScriptedRun(run_state(status=Status.RUNNING), numbered(ANSWERED[:1]), hangs=True)
    second = ScriptedRun(run_state(OTHER, Status.RUNNING), numbered(ANSWERED[:2]), hangs=True, interrupts=True)
    result = invoke(ScriptedClient(first, second), "tail", RUN, OTHER)
    assert result.exit_code == 130
    assert result.stderr == (
        f"detached; the runs go on. Come back with:\n  agentq tail {RUN} --after 1\n  agentq tail {OTHER} --after 2\n"
    )


@pytest.mark.parametrize("command", ["tail", "show", "cancel"])
@pytest.mark.parametrize(
    ("run_id", "complaint"), [("nonsense", "a run id has 26 letters and digits"), (RUN, "no such")]
)
def test_a_run_that_is_not_there_exits_3(command: str, run_id: str, complaint: str):
    result = invoke(ScriptedClient(), command, run_id)
    assert (result.exit_code, result.stdout) == (3, "")
    assert complaint in result.stderr


@pytest.mark.parametrize(
    "args", [["enqueue", "calculator", "hi"], ["tail", RUN], ["show", RUN], ["cancel", RUN]], ids=lambda args: args[0]
)
def test_redis_away_exits_69_with_one_line(args: list[str]):
    client = ScriptedClient(answered())
    client.raises = StoreUnavailable("Redis at localhost:1 refused the connection")
    result = invoke(client, *args)
    assert (result.exit_code, result.stdout) == (69, "")
    assert result.stderr.startswith("error: Redis at localhost:1 refused the connection (start Redis")
    assert result.stderr.count("\n") == 1


def test_a_store_that_goes_away_ends_the_tail_after_what_was_shown():
    run = ScriptedRun(run_state(), numbered(ANSWERED[:3]), raises=StoreUnavailable("Redis went away"))
    result = invoke(ScriptedClient(run), "tail", RUN)
    assert (result.exit_code, result.stdout[-6:]) == (69, "hello\n")
    assert result.stderr.startswith("error: Redis went away (")


# show, ls, cancel


def test_show_prints_state_and_transcript():
    messages = (user_message("hi"), Message(role=Role.ASSISTANT, parts=(TextPart(text="hello"),)))
    state = run_state(
        status=Status.FAILED, last_error="no luck", iteration=1, usage={"input_tokens": 3, "output_tokens": 1}
    )
    result = invoke(ScriptedClient(ScriptedRun(state, messages=messages)), "show", RUN)
    assert result.exit_code == 0
    facts, transcript = result.stdout.split("\n\n")
    told = dict(line.split(maxsplit=1) for line in facts.splitlines() if not line.startswith("last"))
    assert told.items() >= {"run": RUN, "status": "failed", "agent": "calculator", "iterations": "1"}.items()
    assert told["tokens"] == "3 tokens in, 1 out"
    assert "last error no luck" in facts
    assert transcript == "> hi\nhello\n"


def test_show_prints_all_messages_and_where_the_model_began_to_read_less():
    messages = (
        user_message("hi"),
        Message(role=Role.ASSISTANT, parts=(TextPart(text="hello"),)),
        Message(
            role=Role.SYSTEM,
            parts=(TextPart(text="They greeted."),),
            compacted=CompactionRecord(strategy="summary", left_out=2),
        ),
        Message(role=Role.SYSTEM, parts=(), compacted=CompactionRecord(strategy="tool_results", results_upto=2)),
        Message(role=Role.ASSISTANT, parts=(TextPart(text="bye"),)),
    )
    _, transcript = invoke(ScriptedClient(ScriptedRun(run_state(), messages=messages)), "show", RUN).stdout.split(
        "\n\n"
    )
    assert transcript == (
        "> hi\nhello\n· context: old messages summed up\n  They greeted.\n· context: old results cut\nbye\n"
    )


def test_show_of_a_queued_run_says_when_no_worker_is_there():
    run = ScriptedRun(run_state(status=Status.QUEUED, queue="slow"))
    assert invoke(ScriptedClient(run, workers=()), "show", RUN).stderr == (
        "no worker on queue slow; start: agentq worker -q slow\n"
    )
    assert invoke(ScriptedClient(run), "show", RUN).stderr == ""
    assert invoke(ScriptedClient(answered(), workers=()), "show", RUN).stderr == ""


def test_show_json_is_the_run_and_its_messages():
    run = ScriptedRun(run_state(metadata={"a": 1}), messages=(user_message("hi"),))
    document = json.loads(invoke(ScriptedClient(run), "show", RUN, "--json").stdout)
    assert document["run"].items() >= {"run_id": RUN, "status": "completed", "metadata": {"a": 1}}.items()
    assert document["messages"] == [{"role": "user", "parts": [{"type": "text", "text": "hi"}]}]


def test_ls_is_a_table_with_the_prompt_or_the_last_error():
    failed = ScriptedRun(run_state(OTHER, Status.FAILED, last_error="no\nluck"))
    result = invoke(ScriptedClient(answered(), failed), "ls")
    lines = [line.split(maxsplit=6) for line in result.stdout.splitlines()[1:]]
    assert [(line[0], line[1], line[2], line[5], line[6]) for line in lines] == [
        (RUN, "completed", "calculator", "0", "hi"),
        (OTHER, "failed", "calculator", "0", "no luck"),
    ]


@pytest.mark.parametrize(
    ("width", "heads"),
    [
        (80, ["RUN", "STATUS", "AGENT", "AGE", "ITER", "PROMPT"]),
        (70, ["RUN", "STATUS", "AGENT", "AGE", "PROMPT"]),
        (60, ["RUN", "STATUS", "AGE", "PROMPT"]),
        (50, ["RUN", "STATUS", "PROMPT"]),
    ],
)
def test_ls_fits_a_narrow_terminal(
    width: int, heads: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", stream)
    runs = (run_state(prompt="漢" * 80), run_state(OTHER, Status.CANCELLED, last_error="x" * 80))
    client = ScriptedClient(*(ScriptedRun(run) for run in runs))
    assert cli.main(["ls"], standalone_mode=False, obj=ScriptedOptions(client=client)) == 0
    lines = stream.getvalue().splitlines()
    assert max(columns(line) for line in lines) <= width
    assert lines[0].replace("…", " ").split()[: len(heads)] == heads
    assert capsys.readouterr().err == ""


def test_ls_filters_pages_and_says_how_to_go_on():
    client = ScriptedClient(answered(), answered(OTHER))
    result = invoke(client, "ls", "--status", "completed", "--user", "u", "-n", "1", "--before", OTHER)
    assert client.calls == [
        (
            "list",
            {"status": "completed", "agent": None, "session_id": None, "user_id": "u", "before": OTHER, "limit": 1},
        )
    ]
    assert result.stderr == f"more: agentq ls --status completed --user u --before {RUN}\n"


def test_ls_json_is_one_document():
    document = json.loads(invoke(ScriptedClient(answered(), answered(OTHER)), "--json", "ls", "-n", "1").stdout)
    assert [run["run_id"] for run in document["runs"]] == [RUN]
    assert document["next"] == RUN
    assert json.loads(invoke(ScriptedClient(), "ls", "--json").stdout) == {"runs": [], "next": None}


def test_cancel_says_what_becomes_of_each_run():
    queued = ScriptedRun(run_state(status=Status.QUEUED))
    running = ScriptedRun(run_state(OTHER, Status.RUNNING, owner="w1"))
    client = ScriptedClient(queued, running)
    result = invoke(client, "cancel", RUN, OTHER, "--reason", "enough")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{RUN} cancelled\n{OTHER} cancelling: worker w1 stops it\n"
    assert client.calls == [("cancel", (RUN, "enough", 0.0)), ("cancel", (OTHER, "enough", 0.0))]


def test_cancel_of_a_finished_run_is_a_conflict_and_does_not_keep_the_others():
    finished = ScriptedRun(run_state(), raises=RunAlreadyFinished("it has completed"))
    queued = ScriptedRun(run_state(OTHER, Status.QUEUED))
    result = invoke(ScriptedClient(finished, queued), "cancel", RUN, OTHER)
    assert (result.exit_code, result.stdout) == (6, f"{OTHER} cancelled\n")
    assert result.stderr == "error: it has completed\n"


def test_cancel_that_waits_in_vain_is_a_timeout():
    client = ScriptedClient(ScriptedRun(run_state(status=Status.RUNNING, owner="w1")))
    assert invoke(client, "cancel", RUN, "--wait", "0.5").exit_code == 124
    document = json.loads(invoke(client, "cancel", RUN, "--json").stdout)
    assert document == {"runs": [{"run_id": RUN, "status": "running", "owner": "w1"}]}


# the frame


@pytest.mark.parametrize("args", [["--json", "tail", RUN], ["tail", "--json", RUN], ["tail", RUN, "--json"]])
def test_global_options_stand_before_or_after_the_command(args: list[str]):
    assert invoke(ScriptedClient(answered()), *args).stdout.startswith('{"run_id":')


def test_what_stands_after_the_command_wins():
    options = ScriptedOptions(client=ScriptedClient(answered()))
    CliRunner().invoke(
        cli, ["--redis", "redis://a", "--app", "a:app", "tail", RUN, "--redis", "redis://b"], obj=options
    )
    assert (options.redis_url, options.app) == ("redis://b", "a:app")
    assert (options.settings().redis_url, options.settings().app) == ("redis://b", "a:app")


def test_errors_are_json_where_json_was_asked_for():
    result = invoke(ScriptedClient(), "tail", RUN, "--json")
    assert json.loads(result.stderr)["error"]["type"] == "RunNotFound"
    result = invoke(ScriptedClient(), "tail", "--json", "--nonsense")
    assert json.loads(result.stderr)["error"]["type"] == "UsageError"


def test_an_unforeseen_error_is_one_line_too_and_debug_shows_where():
    client = ScriptedClient(answered())
    client.raises = ZeroDivisionError("oops")
    assert invoke(client, "tail", RUN).stderr == "error: ZeroDivisionError: oops (a bug? --debug shows the traceback)\n"
    assert "Traceback" in invoke(client, "tail", RUN, "--debug").stderr
