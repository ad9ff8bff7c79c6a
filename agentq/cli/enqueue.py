"""`agentq enqueue`: hand a prompt to the workers."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentq.cli import _complete, _limits
from agentq.cli._errors import RUN_EXITS, ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

if TYPE_CHECKING:
    from agentq.runs import Priority, WhenBusy


def read_prompt(prompt: str) -> str:
    """The prompt, from standard input where it is `-`."""
    if prompt == "-":
        prompt = sys.stdin.read().rstrip("\n")
    if not prompt.strip():
        raise click.UsageError("the prompt is empty")
    return prompt


def given_files(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[Path | str]:
    """What `--file` names: URLs, and paths of this machine."""
    return [value if value.startswith(("http://", "https://")) else Path(value) for value in values]


FILES = click.option(
    "--file",
    "files",
    metavar="PATH|URL",
    multiple=True,
    callback=given_files,
    help="Attach a file; may repeat.",
)


TOOLS = click.option(
    "--tool",
    "tools",
    metavar="NAME",
    multiple=True,
    help="A tool or toolset that the run may use; may repeat [all of the agent's].",
)


WITHOUT = click.option(
    "--without",
    metavar="NAME",
    multiple=True,
    help="Switch off for this run: memory or retrieval; may repeat.",
)


def read_metadata(_ctx: click.Context, _param: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    metadata = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE")
        metadata[key] = value
    return metadata


def _time(_ctx: click.Context, _param: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no time such as 2026-10-01T09:00+02:00") from error
    return at if at.tzinfo is not None else at.astimezone()


@click.command("enqueue", cls=AgentqCommand, exits=(*RUN_EXITS, ExitCode.CONFLICT, ExitCode.UNAVAILABLE))
@click.argument("agent", shell_complete=_complete.agents)
@click.argument("prompt", metavar="PROMPT|-")
@click.option(
    "--session", metavar="ID", shell_complete=_complete.sessions, help="The conversation that the run belongs to."
)
@click.option("--user", metavar="ID", help="For whom it runs.")
@click.option("--key", metavar="KEY", help="Idempotency key: the same key again answers with the same run.")
@click.option("-q", "--queue", metavar="QUEUE", help="The queue [AGENTQ_QUEUE; default].")
@click.option("--model", metavar="MODEL", help="Another model than the agent's, as provider:model.")
@click.option(
    "--meta", "metadata", metavar="KEY=VALUE", multiple=True, callback=read_metadata, help="Metadata; may repeat."
)
@FILES
@TOOLS
@WITHOUT
@click.option(
    "--when-busy",
    type=click.Choice(["queue", "reject", "interrupt", "replace"]),
    help="What to do while another run of the session goes on [the agent's].",
)
@click.option("--tenant", metavar="NAME", help="Whose run it is: runs of one tenant do not hold up those of others.")
@click.option("--priority", type=click.Choice(["high", "normal", "low"]), help="Among the runs of the tenant.")
@click.option("--ttl", metavar="SECONDS", type=float, help="How long the run is kept when it has ended.")
@click.option("--delay", metavar="SECONDS", type=click.FloatRange(min=0), default=0.0, help="Start later.")
@click.option("--at", metavar="TIME", callback=_time, help="Start then, as in 2026-10-01T09:00+02:00.")
@_limits.limiting
@click.option("--concurrency-key", metavar="KEY", help="At most --concurrency runs with it go on at the same time.")
@click.option("--concurrency", metavar="N", type=int, help="How many; the others wait in line.")
@click.option("-f", "--follow", is_flag=True, help="Then watch the run, as `agentq tail` does.")
@pass_options
def command(
    options: Options,
    /,
    *,
    agent: str,
    prompt: str,
    session: str | None,
    user: str | None,
    key: str | None,
    queue: str | None,
    model: str | None,
    metadata: dict[str, str],
    files: list[Path | str],
    tools: tuple[str, ...],
    without: tuple[str, ...],
    when_busy: WhenBusy | None,
    tenant: str | None,
    priority: Priority | None,
    ttl: float | None,
    delay: float,
    at: datetime | None,
    concurrency_key: str | None,
    concurrency: int | None,
    follow: bool,
    **limits: Any,
) -> int:
    """Hand a prompt to the workers. The first line on stdout is the run id; PROMPT `-` reads standard input.

    With --follow the exit code says how the run ended.

    \b
    Examples:
      $ agentq enqueue calculator 'What is 7 + 9?' --follow
      $ agentq enqueue calculator - --session ann-1 --user ann --key request-17 < prompt.txt
    """
    from agentq.cli._output import stdout
    from agentq.cli._watch import Look, Watch, watch

    text, own = read_prompt(prompt), _limits.taken(limits)
    view = Watch(options, Look(json=options.json))

    async def main() -> ExitCode:
        async with options.connected() as client:
            run = await client.enqueue(
                agent,
                text,
                session_id=session,
                user_id=user,
                metadata=metadata or None,
                queue=queue,
                model=model,
                idempotency_key=key,
                delay=delay,
                at=at,
                files=files,
                tools=tools or None,
                without=without,
                when_busy=when_busy,
                tenant=tenant,
                priority=priority,
                ttl_s=ttl,
                limits=own,
                concurrency_key=concurrency_key,
                concurrency=concurrency,
            )
            if not options.json:
                stdout().line(run.id)
            elif not follow:
                stdout().document({"run_id": run.id})
            return await view.follow(client, [run.id]) if follow else ExitCode.OK

    return watch(view, main)
