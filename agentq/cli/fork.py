"""`agentq fork`: go on from a part of a run, as a new run."""

from __future__ import annotations

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options
from agentq.cli.enqueue import read_prompt


@click.command("fork", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.UNAVAILABLE))
@click.argument("run", metavar="RUN", shell_complete=_complete.runs)
@click.argument("prompt", metavar="[PROMPT|-]", required=False)
@click.option("--iteration", metavar="N", type=click.IntRange(min=0), help="Up to the end of this one [all of them].")
@click.option("--session", metavar="ID", help="A new session that the new run belongs to [none].")
@click.option("--key", metavar="KEY", help="Idempotency key: the same key again answers with the same run.")
@pass_options
def command(
    options: Options, *, run: str, prompt: str | None, iteration: int | None, session: str | None, key: str | None
) -> int:
    """Go on from a part of a run, as a new run; prints its id. The old one stays as it is.

    \b
    Examples:
      $ agentq fork RUN_ID --iteration 2
      $ agentq fork RUN_ID 'now in dollars'
    """
    import asyncio

    from agentq.cli._output import stdout
    from agentq.cli._watch import checked_run_id

    text = None if prompt is None else read_prompt(prompt)

    async def main() -> int:
        run_id, out = checked_run_id(run), stdout()
        async with options.connected() as client:
            new = await client.fork(run_id, iteration=iteration, prompt=text, session_id=session, idempotency_key=key)
        if options.json:
            out.document({"run_id": new.id, "agent": new.agent, "forked_from": run_id})
        else:
            out.line(new.id)
        return ExitCode.OK

    return asyncio.run(main())
