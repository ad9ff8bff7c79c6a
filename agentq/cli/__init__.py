"""The command line, one command per file. Only their names stand here: redis, rq and pydantic come with a command."""

from __future__ import annotations

import click

from agentq.cli._errors import MEANINGS, ExitCode
from agentq.cli._group import AgentqGroup

_COMMANDS = {
    "init": ("agentq.cli.init", "Start a project that works as it is."),
    "dev": ("agentq.cli.dev", "Develop: Redis, workers, and what happens, in one terminal."),
    "run": ("agentq.cli.run", "Run an agent in this process, without Redis."),
    "worker": ("agentq.cli.worker", "Advance the runs of a queue."),
    "web": ("agentq.cli.web", "Serve the page, the API and the streams."),
    "enqueue": ("agentq.cli.enqueue", "Hand a prompt to the workers; prints the run id."),
    "tail": ("agentq.cli.tail", "Watch runs: everything so far, then live."),
    "show": ("agentq.cli.show", "Show a run: its state and its transcript."),
    "ls": ("agentq.cli.ls", "List runs, newest first."),
    "sessions": ("agentq.cli.sessions", "List sessions, or show one with its transcript."),
    "why": ("agentq.cli.why", "Say why a run is not moving."),
    "inbox": ("agentq.cli.inbox", "What waits for people, and a key to decide."),
    "approve": ("agentq.cli.approve", "Allow calls that wait for it."),
    "deny": ("agentq.cli.deny", "Refuse calls that wait to be allowed."),
    "answer": ("agentq.cli.answer", "Answer what a run asks."),
    "signal": ("agentq.cli.signal_", "Tell a run that something has happened."),
    "cancel": ("agentq.cli.cancel", "Stop runs."),
    "steer": ("agentq.cli.steer", "Say something to a run that goes on."),
    "pause": ("agentq.cli.pause", "Keep runs from going on."),
    "resume": ("agentq.cli.resume", "Let paused runs go on."),
    "limit": ("agentq.cli.limit", "Give runs other limits."),
    "retry": ("agentq.cli.retry", "Take up runs again that failed or were cancelled."),
    "fork": ("agentq.cli.fork", "Go on from a part of a run, as a new run."),
    "schedule": ("agentq.cli.schedule", "Prompts that workers enqueue by the clock."),
    "webhooks": ("agentq.cli.webhooks", "Servers that are told how runs end."),
    "workers": ("agentq.cli.workers", "List the workers, or let some take nothing new."),
    "queues": ("agentq.cli.queues", "List the queues."),
    "stats": ("agentq.cli.stats", "Show figures on one page."),
    "doctor": ("agentq.cli.doctor", "Check this machine, the app, Redis and the workers."),
    "export": ("agentq.cli.export", "Write ended runs and their sessions as NDJSON."),
    "import": ("agentq.cli.import_", "Read back what export wrote."),
    "completion": ("agentq.cli.completion", "Make the shell complete commands, agents and run ids."),
}


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("agentq-redis")
    except PackageNotFoundError:
        number = "(from a checkout)"
    click.echo(f"agentq {number}")
    ctx.exit()


cli = AgentqGroup(
    name="agentq",
    modules=_COMMANDS,
    help="Durable agent runs on a Redis queue.",
    epilog="agentq COMMAND --help tells more. Exit codes: "
    + ", ".join(f"{code:d} {words}" for code, words in MEANINGS.items() if code is not ExitCode.OUTPUT_CLOSED)
    + ".",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
    params=[
        click.Option(
            ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
        )
    ],
)


def main() -> None:
    """Entry point of the installed command."""
    cli.main(prog_name="agentq")
