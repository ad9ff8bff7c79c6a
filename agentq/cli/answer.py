"""`agentq answer`: answer what a waiting run asks, or say what became of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agentq.cli import _complete, _inbox
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options
from agentq.cli._who import WHO, who

if TYPE_CHECKING:
    from agentq.runs import Question, RunState


@click.command("answer", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.UNAVAILABLE))
@click.argument("run", metavar="RUN", shell_complete=_complete.asking)
@click.argument("result", metavar="[RESULT]", required=False)
@click.option("--did-not-happen", is_flag=True, help="The call had no effect: make it again.")
@click.option("--unknown", is_flag=True, help="It cannot be found out: tell the model so.")
@click.option("--call", "call_id", metavar="CALL", help="The call that is meant, where several ask; or to be sure.")
@WHO
@pass_options
def command(
    options: Options,
    *,
    run: str,
    result: str | None,
    did_not_happen: bool,
    unknown: bool,
    call_id: str | None,
    by: str | None,
) -> int:
    """Answer what a tool of a run asks; or say what became of a call whose worker died, as `agentq why RUN` asks.

    RESULT is text, or JSON where the question wants something else. Of a call whose worker died, it is what the tool
    would have returned.

    \b
    Examples:
      $ agentq answer RUN_ID small
      $ agentq answer RUN_ID 'charged, receipt 4711' --as ada
      $ agentq answer RUN_ID --did-not-happen
    """
    import asyncio

    from agentq.cli._output import stdout
    from agentq.tools.behaviour import Reconciled

    if (result is not None) + did_not_happen + unknown != 1:
        raise click.UsageError("say one of: RESULT, --did-not-happen, --unknown")
    run_id, calls = _inbox.split_call(run, () if call_id is None else (call_id,))
    if len(calls) > 1:
        raise click.UsageError("name the call once: with the run, or by --call")
    verdict = Reconciled.DID_NOT_HAPPEN if did_not_happen else Reconciled.UNKNOWN

    async def main() -> str:
        async with options.connected() as client:
            asked = _asked(await client.read(run_id), calls[0] if calls else None)
            named = asked.call_id if asked is not None else calls[0] if calls else None
            answer: Any = verdict
            if result is not None:
                answer = result if asked is None else _inbox.answer_of(result, asked)
            elif asked is not None:
                raise click.UsageError(f"run {run_id} asks {asked.name!r}, which takes a RESULT only")
            number = None if asked is None else asked.number
            return await client.answer(run_id, answer, call_id=named, number=number, by=who(by))

    status = asyncio.run(main())
    out = stdout()
    if options.json:
        out.document({"run_id": run_id, "status": str(status)})
    else:
        out.line(f"{run_id} {out.style(status, 'yellow')}")
    return ExitCode.OK


def _asked(run: RunState, call_id: str | None) -> Question | None:
    """What a tool of the run asks; None where no tool does, and the client says what it waits for."""
    asked = [each for each in run.questions if each.kind == "input" and call_id in (None, each.call_id)]
    if len(asked) > 1:
        listed = ", ".join(f"{each.call_id[len(run.run_id) + 1 :]} {_inbox.what(each)}" for each in asked)
        raise click.UsageError(f"run {run.run_id} asks {len(asked)} things; name one with --call: {listed}")
    return asked[0] if asked else None
