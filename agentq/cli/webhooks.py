"""`agentq webhooks`: who is told how runs end, and what has not come through."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, AgentqGroup, Options, pass_options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentq.client import AsyncClient
    from agentq.webhooks import Delivery, WebhookState

_EXITS = (ExitCode.NOT_FOUND, ExitCode.UNAVAILABLE)
_HEADS = ("WEBHOOK", "SERVER", "WAITING", "DEAD", "DELIVERED", "LAST", "ERROR")
_MESSAGE_HEADS = ("MESSAGE", "WEBHOOK", "EVENT", "AGENT", "STATE", "TRIES", "NEXT", "ERROR")
_STYLES = {"dead": "red", "failed": "yellow"}

command = AgentqGroup(
    name="webhooks",
    modules={
        "ls": ("agentq.cli.webhooks:ls", "List webhooks, and how they do."),
        "messages": ("agentq.cli.webhooks:messages", "List messages that were not delivered."),
        "retry": ("agentq.cli.webhooks:retry", "Try messages again at once."),
        "test": ("agentq.cli.webhooks:test", "Send a signed message to a webhook of the app."),
        "secret": ("agentq.cli.webhooks:secret", "Make a secret."),
        "forget": ("agentq.cli.webhooks:forget", "Forget webhooks that no worker has any more."),
    },
    help="Servers that workers tell how runs end.",
    exits=(*_EXITS, ExitCode.FAILED),
    no_args_is_help=True,
)


@click.command("ls", cls=AgentqCommand, exits=(ExitCode.UNAVAILABLE,))
@pass_options
def ls(options: Options) -> int:
    """List the webhooks that workers have made known. --json prints {"webhooks": [...]}."""
    from dataclasses import asdict

    from agentq.cli._output import stderr, stdout
    from agentq.cli._table import print_table

    states = _run(options, lambda client: client.webhooks())
    if options.json:
        stdout().document({"webhooks": [asdict(state) for state in states]})
        return ExitCode.OK
    if not states:
        stderr().line("no webhooks; AgentQ(webhooks=[...]) has some, and workers make them known")
        return ExitCode.OK
    styles = ["red" if state.dead else "yellow" if _is_failing(state) else "" for state in states]
    print_table(stdout(), _HEADS, [_row(state) for state in states], spared=("LAST", "DELIVERED"), styles=styles)
    return ExitCode.OK


@click.command("messages", cls=AgentqCommand, exits=_EXITS)
@click.argument("webhook", required=False)
@click.option(
    "--state", type=click.Choice(["pending", "failed", "dead"]), help="Not tried, to be tried again, given up."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many.")
@pass_options
def messages(options: Options, *, webhook: str | None, state: Any, limit: int) -> int:
    """List messages that were not delivered, of one webhook or all, the next to be tried first.

    --json prints {"messages": [...]}.
    """
    from agentq.cli._output import stderr, stdout
    from agentq.cli._table import print_table

    found = _run(options, lambda client: client.webhook_messages(webhook, state=state, limit=limit))
    if options.json:
        stdout().document({"messages": [_document(each) for each in found]})
        return ExitCode.OK
    if not found:
        stderr().line("no such messages" if webhook or state else "no messages: all were delivered")
        return ExitCode.OK
    styles = [_STYLES.get(each.state, "") for each in found]
    rows = [_message_row(each) for each in found]
    print_table(stdout(), _MESSAGE_HEADS, rows, spared=("AGENT", "EVENT", "WEBHOOK"), styles=styles)
    return ExitCode.OK


@click.command("retry", cls=AgentqCommand, exits=_EXITS)
@click.argument("message_ids", metavar="[MESSAGE]...", nargs=-1)
@click.option("--failed", is_flag=True, help="All that have failed or were given up, in place of named ones.")
@click.option("--webhook", metavar="NAME", help="Only to this webhook.")
@pass_options
def retry(options: Options, *, message_ids: tuple[str, ...], failed: bool, webhook: str | None) -> int:
    """Try messages again at once, with all attempts anew.

    \b
    Examples:
      $ agentq webhooks retry msg_01K8Z3V5A1B2C3D4E5F6G7H8J9_3
      $ agentq webhooks retry --failed --webhook orders
    """
    from agentq.cli._output import count, stdout

    if failed is bool(message_ids):
        raise click.UsageError("name messages, or say --failed")
    wanted = None if failed else message_ids
    number = _run(options, lambda client: client.retry_webhook_messages(wanted, webhook=webhook))
    if options.json:
        stdout().document({"retried": number})
    else:
        stdout().line(f"{count(number, 'message')} will be tried again")
    return ExitCode.OK


@click.command("forget", cls=AgentqCommand, exits=_EXITS)
@click.argument("webhooks", metavar="WEBHOOK...", nargs=-1, required=True)
@pass_options
def forget(options: Options, *, webhooks: tuple[str, ...]) -> int:
    """Forget webhooks and their messages. One that a worker still has is known again within a minute."""
    from agentq.cli._output import stdout

    async def all_of(client: AsyncClient) -> None:
        for name in webhooks:
            await client.forget_webhook(name)
            if not options.json:
                stdout().line(f"{name}: forgotten")

    _run(options, all_of)
    if options.json:
        stdout().document({"webhooks": list(webhooks)})
    return ExitCode.OK


@click.command("secret", cls=AgentqCommand)
@pass_options
def secret(options: Options) -> int:
    """Make a secret that a webhook and its receiver can share. It is kept nowhere."""
    from agentq.cli._output import stdout
    from agentq.signing import new_secret

    made = new_secret()
    if options.json:
        stdout().document({"secret": made})
    else:
        stdout().line(made)
    return ExitCode.OK


@click.command("test", cls=AgentqCommand, exits=(ExitCode.FAILED, ExitCode.NOT_FOUND))
@click.argument("webhook", metavar="NAME|URL")
@pass_options
def test(options: Options, *, webhook: str) -> int:
    """Send a signed message of the type webhook.test to a webhook of the app, from here and once.

    Exit code 1: it did not come through.
    """
    import asyncio

    from agentq.cli._output import stdout
    from agentq.delivering import send_test
    from agentq.errors import WebhookNotFound

    app = options.load_app()
    found = next((each for each in app.webhooks.values() if webhook in (each.name, each.url)), None)
    if found is None:
        listed = ", ".join(app.webhooks) or "none"
        raise WebhookNotFound(f"the app has no webhook {webhook!r:.80}; it has: {listed}")
    keys = app.webhook_keys(found.name)
    began = time.monotonic()
    attempt = asyncio.run(send_test(found, keys))
    took_ms = round((time.monotonic() - began) * 1000)
    if options.json:
        stdout().document(
            {
                "webhook": found.name,
                "delivered": attempt.is_delivered,
                "status": attempt.status,
                "error": attempt.error or None,
                "duration_ms": took_ms,
            }
        )
    elif attempt.is_delivered:
        stdout().line(f"{found.name}: answered {attempt.status} after {took_ms} ms")
    else:
        stdout().line(stdout().style(f"{found.name}: {attempt.error}", "red"))
    return ExitCode.OK if attempt.is_delivered else ExitCode.FAILED


def _run(options: Options, work: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
    import asyncio

    async def main() -> Any:
        async with options.connected() as client:
            return await work(client)

    return asyncio.run(main())


def _is_failing(state: WebhookState) -> bool:
    return state.pending > 0 and (state.failed_ms or 0) > (state.delivered_ms or 0)


def _row(state: WebhookState) -> list[str]:
    from agentq.cli._output import age, one_line

    ago = "-" if state.delivered_ms is None else f"{age(time.time() * 1000 - state.delivered_ms)} ago"
    error = one_line(state.error) if state.dead or _is_failing(state) else ""
    return [state.name, state.where, str(state.pending), str(state.dead), str(state.delivered), ago, error or "-"]


def _message_row(message: Delivery) -> list[str]:
    from agentq.cli._output import duration, one_line

    next_ms = message.next_ms
    left = "-" if next_ms is None else f"in {duration(max(next_ms - time.time() * 1000, 0))}"
    return [
        message.message_id,
        message.webhook,
        message.type,
        message.agent,
        message.state,
        str(message.attempts),
        left,
        one_line(message.error) or "-",
    ]


def _document(message: Delivery) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(message), "state": message.state}
