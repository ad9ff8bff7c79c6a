"""What somebody does to one thing of the inbox: asks them what is missing, carries it out, and says what came of it."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Protocol

from agentq.cli import _inbox, _words
from agentq.cli._decide import said_before
from agentq.cli._errors import describe
from agentq.cli._output import clip, columns
from agentq.cli.inbox.line import Line
from agentq.errors import AgentQError, Conflict, InvalidInput, NotFound, StoreUnavailable
from agentq.tools.behaviour import Reconciled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from agentq.cli.inbox.items import Item
    from agentq.client import AsyncClient


class Person(Protocol):
    """Who is asked and told."""

    @property
    def width(self) -> int:
        """How long a question can be."""
        ...

    async def sure(self, question: str) -> bool:
        """Whether they say yes."""
        ...

    async def type(self, question: str, line: Line) -> bool:
        """Whether they have typed the line to its end, or left it."""
        ...

    async def edit(self, text: str) -> str | None:
        """The text as they have saved it in an editor; None where they have not, which they are told."""
        ...

    def tell(self, text: str, style: str = "") -> None:
        """Say what happened."""
        ...

    def ended(self, item: Item, word: str, *, is_done: bool) -> None:
        """Nothing waits there any more: since they did that, or since somebody else did."""
        ...


class Acts:
    """Does what a key says. `by` is who decides, `source` from where."""

    def __init__(self, client: AsyncClient, person: Person, *, by: str, source: str) -> None:
        self._client = client
        self._person = person
        self._by = by
        self._source = source

    async def act(self, name: str, item: Item) -> None:
        """What the key means for a thing of its kind; nothing where it has no meaning."""
        match name, item.waits.question.kind:
            case "a", "approval":
                await self._approve(item)
            case "d", "approval":
                await self._deny(item)
            case "e", "approval":
                await self._edit(item)
            case "n", "input":
                await self._answer(item)
            case "n", "outcome":
                await self._outcome(item)
            case "x", "outcome":
                if await self._person.sure("it did not happen, so it is made again?"):
                    await self._resolve(item, Reconciled.DID_NOT_HAPPEN, "did not happen")
            case "u", "outcome":
                if await self._person.sure("tell the model that nobody knows?"):
                    await self._resolve(item, Reconciled.UNKNOWN, "cannot be known")

    async def _approve(self, item: Item, changed: dict[str, Any] | None = None) -> None:
        question = item.waits.question
        called = _inbox.what(question) if changed is None else _with(question.tool, question.arguments, changed)
        end = f" as {self._by}?"
        called = clip(called, max(self._person.width - columns(f"approve {end}"), 10))
        if not await self._person.sure(f"approve {called}{end}"):
            return
        decision = self._client.approve(
            item.waits.run.run_id, question.call_id, arguments=changed, by=self._by, source=self._source
        )
        await self._carry_out(item, "approved" if changed is None else "approved, changed", decision)

    async def _deny(self, item: Item) -> None:
        line = Line()
        while await self._person.type("why not? (the model reads it)", line):
            decision = self._client.deny(
                item.waits.run.run_id,
                item.waits.question.call_id,
                reason=line.text.strip(),
                by=self._by,
                source=self._source,
            )
            if await self._carry_out(item, "denied", decision):
                return

    async def _edit(self, item: Item) -> None:
        """Other arguments from an editor; they are approved where they are JSON, others, and somebody is sure."""
        before = dict(item.waits.question.arguments)
        text: str | None = json.dumps(before, ensure_ascii=False, indent=2) + "\n"
        while (text := await self._person.edit(text or "")) is not None:
            try:
                changed = json.loads(text)
            except ValueError as error:
                problem = f"that is not JSON: {error}"
            else:
                if changed == before:
                    return self._person.tell("nothing was changed")
                if isinstance(changed, dict):
                    return await self._approve(item, changed)
                problem = "arguments must be a JSON object"
            if not await self._person.sure(f"{problem}; edit again?"):
                return None
        return None

    async def _answer(self, item: Item) -> None:
        question, line = item.waits.question, Line()
        while await self._person.type("answer:", line):
            answer = _inbox.answer_of(line.text, question)
            decision = self._client.answer(
                item.waits.run.run_id, answer, call_id=question.call_id, number=question.number, by=self._by
            )
            if await self._carry_out(item, "answered", decision):
                return

    async def _outcome(self, item: Item) -> None:
        line = Line()
        if await self._person.type(f"what did {item.waits.question.tool} return?", line):
            await self._resolve(item, line.text, "answered")

    async def _resolve(self, item: Item, answer: Any, word: str) -> None:
        call_id = item.waits.question.call_id
        await self._carry_out(
            item, word, self._client.answer(item.waits.run.run_id, answer, call_id=call_id, by=self._by)
        )

    async def _carry_out(self, item: Item, word: str, decision: Awaitable[object]) -> bool:
        """Do it; False where it was not valid, and may be said in another way."""
        self._person.tell("…")
        question = item.waits.question
        try:
            await decision
        except InvalidInput as error:
            self._person.tell(describe(error)[1], "red")
            return False
        except (Conflict, NotFound) as error:
            why = describe(error)[1]
            with contextlib.suppress(AgentQError):
                why = await said_before(self._client, item.waits.run.run_id, question.call_id) or why
            self._person.tell(f"too late: {why}", "yellow")
            self._person.ended(item, why, is_done=False)
        except StoreUnavailable:
            self._person.tell("Redis is away: it is not known to be done; try again when it is back", "red")
        else:
            self._person.tell(f"{word}: {_inbox.what(question)}", "green")
            self._person.ended(item, word, is_done=True)
        return True


def _with(tool: str, before: Mapping[str, Any], changed: Mapping[str, Any]) -> str:
    """A call in terms of what somebody changed: `refund with cents=900, without note`."""
    others = {name: value for name, value in changed.items() if name not in before or before[name] != value}
    parts = [f"with {_words.call('', others)[1:-1]}"] if others else []
    if dropped := [name for name in before if name not in changed]:
        parts.append(f"without {', '.join(dropped)}")
    return f"{tool} {', '.join(parts)}"
