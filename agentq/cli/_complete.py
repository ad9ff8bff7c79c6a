"""What the shell offers for a word that is being typed: run ids, agents and sessions, asked of Redis.

A shell waits for the answer, and shows nothing else meanwhile. So Redis has little time to answer, and whatever goes
wrong is an answer without words.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
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


async def _waiting(client: AsyncClient) -> Iterable[tuple[str, str]]:
    return await _inbox(client, is_approval=True)


async def _asked(client: AsyncClient) -> Iterable[tuple[str, str]]:
    return await _inbox(client, is_approval=False)


async def _inbox(client: AsyncClient, *, is_approval: bool) -> Iterable[tuple[str, str]]:
    from agentq.cli._inbox import what

    found = [each for each in await client.inbox(limit=_MOST) if (each.question.kind == "approval") is is_approval]
    return [(each.question.call_id, what(each.question)[:_HELP_CHARS]) for each in found]


async def _agents(client: AsyncClient) -> Iterable[tuple[str, str]]:
    manifests = await client.agents()
    return [(name, str(each.get("model") or "")) for name, each in sorted(manifests.items())]


async def _sessions(client: AsyncClient) -> Iterable[tuple[str, str]]:
    found = await client.sessions(limit=_MOST)
    return [(each.session_id, f"{each.run_count} runs, {each.user_id or 'no user'}") for each in found]


async def _workers(client: AsyncClient) -> Iterable[tuple[str, str]]:
    workers = await client.insight.workers()
    return [(each.name, f"{each.state}, {', '.join(each.queues)}") for each in workers if each.is_agentq]


def _shown(text: str) -> str:
    """`text` as the shell's encoding has it."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def _asking(question: Callable[[AsyncClient], Awaitable[Iterable[tuple[str, str]]]]) -> Completer:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            found = _answer(ctx, question)
        except TimeoutError:
            # At once: a connection to who does not answer, or a name that is looked up, takes many seconds to close.
            os._exit(0)
        except Exception:  # noqa: BLE001 - nobody who types wants to read it; the command itself says what is wrong
            return []
        taken = ctx.params.get(param.name or "") or ()
        return [
            CompletionItem(value, help=_shown(about))
            for value, about in found
            if value.casefold().startswith(incomplete.casefold()) and (isinstance(taken, str) or value not in taken)
        ]

    return complete


def _answer(ctx: click.Context, question: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
    """What Redis answers. Raises `TimeoutError`; then a thread of this process still waits for it."""
    import asyncio
    from concurrent.futures import Future

    # Here, so that what is imported at the first use of a client takes none of Redis's time.
    import agentq.wiring  # noqa: F401
    from agentq.client_async import AsyncClient

    logging.disable()
    options = ctx.find_object(Options) or Options()
    answer: Future[Any] = Future()

    async def ask() -> Any:
        async with AsyncClient(settings=options.settings()) as client:
            return await question(client)

    def wait() -> None:
        try:
            answer.set_result(asyncio.run(ask()))
        except BaseException as error:  # noqa: BLE001 - whoever waits for the answer gets it
            answer.set_exception(error)

    threading.Thread(target=wait, daemon=True).start()
    return answer.result(_PATIENCE_S)


runs = _asking(_runs)
waiting = _asking(_waiting)
asking = _asking(_asked)
agents = _asking(_agents)
sessions = _asking(_sessions)
workers = _asking(_workers)
