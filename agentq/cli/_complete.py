"""What the shell offers for a word that is being typed: run ids, agents and sessions, asked of Redis.

A shell waits for the answer, and shows nothing else meanwhile. So Redis has little time to answer, and whatever goes
wrong is an answer without words.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from click.shell_completion import CompletionItem

from agentq.cli._group import Options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    import click

    from agentq.client_async import AsyncClient

    Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_PATIENCE_S = 0.4
_MOST = 50
_HELP_CHARS = 60


async def _runs(client: AsyncClient) -> Iterable[tuple[str, str]]:
    from agentq.cli._output import one_line

    runs = await client.list(limit=_MOST)
    return [(run.run_id, f"{run.status} · {one_line(run.prompt)[:_HELP_CHARS]}") for run in runs]


async def _agents(client: AsyncClient) -> Iterable[tuple[str, str]]:
    manifests = await client.agents()
    return [(name, str(each.get("model") or "")) for name, each in sorted(manifests.items())]


async def _sessions(client: AsyncClient) -> Iterable[tuple[str, str]]:
    found = await client.sessions(limit=_MOST)
    return [(each.session_id, f"{each.run_count} runs, {each.user_id or 'no user'}") for each in found]


def _asking(question: Callable[[AsyncClient], Awaitable[Iterable[tuple[str, str]]]]) -> Completer:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            found = _answer(ctx, question)
        except Exception:  # noqa: BLE001 - nobody who types wants to read it; the command itself says what is wrong
            return []
        taken = ctx.params.get(param.name or "") or ()
        return [
            CompletionItem(value, help=about)
            for value, about in found
            if value.casefold().startswith(incomplete.casefold()) and (isinstance(taken, str) or value not in taken)
        ]

    return complete


def _answer(ctx: click.Context, question: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
    import asyncio

    # Here, so that what is imported at the first use of a client takes none of Redis's time.
    import agentq.wiring  # noqa: F401
    from agentq.client_async import AsyncClient

    logging.disable()
    options = ctx.find_object(Options) or Options()

    async def ask() -> Any:
        client = AsyncClient(settings=options.settings())
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await question(client)
        finally:
            await client.aclose()

    return asyncio.run(ask())


runs = _asking(_runs)
agents = _asking(_agents)
sessions = _asking(_sessions)
