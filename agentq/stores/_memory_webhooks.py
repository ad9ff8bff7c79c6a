"""The outbox of webhooks in memory; see `Webhooks`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agentq import _json
from agentq.events.encoding import encode_event
from agentq.runs import Status
from agentq.stores.webhooks import LOCK_MS, asks_of
from agentq.webhooks import KEPT_MS, Delivery, Taken, WebhookState, message_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq.stores._memory_run import MemoryRun
    from agentq.stores.data import Rest
    from agentq.webhooks import DeliveryState, Webhook


@dataclass(slots=True)
class _Message:
    delivery: Delivery
    expires_ms: int
    asks: bytes | None = None
    token: str = ""
    settled: str = ""
    retried: str = ""


@dataclass(slots=True)
class _Known:
    """A webhook, what is to be delivered to it, and what each owner has taken last."""

    state: WebhookState
    messages: dict[str, _Message]
    taken: dict[str, tuple[str, list[str], int]]


class MemoryWebhooks:
    """A dictionary. `known_run` finds runs."""

    def __init__(self, now_ms: Callable[[], int], known_run: Callable[[str], MemoryRun | None]) -> None:
        self._now_ms = now_ms
        self._run = known_run
        self._known: dict[str, _Known] = {}

    def tell_of_end(self, run: MemoryRun) -> None:
        """Leave messages about a run that has ended."""
        self._tell(run, None)

    def tell_of_rest(self, run: MemoryRun, rest: Rest | None) -> None:
        """Leave messages about a run that waits for people, if it asks what was not told before."""
        if not self._known or run.state.status is not Status.WAITING or not (asks := asks_of(rest)):
            return
        ids = {(each["call_id"], each["number"]) for each in _json.loads(asks)}
        if not ids <= run.asked:
            run.asked = ids
            self._tell(run, asks)

    def _tell(self, run: MemoryRun, asks: bytes | None) -> None:
        state, now = run.state, self._now_ms()
        event, message_id = f"run.{state.status}", message_id_of(state.run_id, state.fence)
        for name, known in self._known.items():
            if event in known.state.events and (not known.state.agents or state.agent in known.state.agents):
                delivery = Delivery(
                    name, message_id, event, state.run_id, state.agent, now, seq=run.log.seq, next_ms=now,
                    session_id=state.session_id, user_id=state.user_id, parent_run_id=state.parent_run_id,
                )  # fmt: skip
                known.messages[message_id] = _Message(delivery, now + KEPT_MS, asks)

    async def publish(self, webhooks: Sequence[Webhook]) -> None:
        for each in webhooks:
            known = self._known.setdefault(each.name, _Known(WebhookState(each.name), {}, {}))
            known.state = replace(
                known.state, where=each.where, events=tuple(each.events), agents=tuple(each.agents),
                seen_ms=self._now_ms(),
            )  # fmt: skip

    async def take(self, name: str, *, owner: str, token: str, limit: int) -> tuple[Taken, ...]:
        known, now = self._known.get(name), self._now_ms()
        if known is None:
            return ()
        before, again, until = known.taken.get(owner, ("", [], 0))
        if before == token and now < until:
            return self._held(known, again, token)
        due = [each for each in self._ordered(known) if each.delivery.next_ms is not None]
        ids = [each.delivery.message_id for each in due if (each.delivery.next_ms or 0) <= now][:limit]
        for message in (known.messages[message_id] for message_id in ids):
            message.token = token
            attempts = message.delivery.attempts + 1
            message.delivery = replace(message.delivery, attempts=attempts, next_ms=now + LOCK_MS)
        if ids:
            known.taken[owner] = token, ids, now + LOCK_MS
        return self._held(known, ids, token)

    def _held(self, known: _Known, ids: Sequence[str], token: str) -> tuple[Taken, ...]:
        messages = [known.messages[each] for each in ids if each in known.messages]
        return tuple(self._taken(message) for message in messages if message.token == token)

    def _taken(self, message: _Message) -> Taken:
        delivery = message.delivery
        run = self._run(delivery.run_id)
        last = [] if run is None or message.asks else run.log.read(delivery.seq - 1)[:1]
        event = encode_event(last[0]) if last else None
        return Taken(delivery, message.token, event, message.asks, None if run is None else run.metadata)

    async def delivered(self, taken: Taken) -> None:
        known = self._known.get(taken.delivery.webhook)
        if known and known.messages.pop(taken.delivery.message_id, None):
            known.state = replace(known.state, delivered=known.state.delivered + 1, delivered_ms=self._now_ms())

    async def failed(self, taken: Taken, error: str, *, delay_ms: int | None) -> bool:
        known = self._known.get(taken.delivery.webhook)
        message = known and known.messages.get(taken.delivery.message_id)
        if not known or not message or message.token != taken.token:
            return False
        if message.settled != taken.token:
            now = self._now_ms()
            message.settled = taken.token
            next_ms = None if delay_ms is None else now + delay_ms
            if next_ms is None:
                message.expires_ms = now + KEPT_MS
            message.delivery = replace(message.delivery, error=error, next_ms=next_ms)
            known.state = replace(known.state, failed_ms=now, error=error)
        return True

    async def known(self) -> tuple[WebhookState, ...]:
        return tuple(self._counted(known) for _, known in sorted(self._known.items()))

    def _counted(self, known: _Known) -> WebhookState:
        waiting = [each.delivery.next_ms for each in self._ordered(known)]
        dead = waiting.count(None)
        return replace(known.state, pending=len(waiting) - dead, dead=dead)

    async def messages(
        self, name: str, *, state: DeliveryState | None = None, limit: int = 100
    ) -> tuple[Delivery, ...]:
        known = self._known.get(name)
        deliveries = [] if known is None else [each.delivery for each in self._ordered(known)]
        return tuple([each for each in deliveries if state in (None, each.state)][:limit])

    async def message(self, name: str, message_id: str) -> Delivery | None:
        return next((each for each in await self.messages(name) if each.message_id == message_id), None)

    async def retry(self, name: str, message_ids: Sequence[str], *, token: str) -> int:
        known, now, count = self._known.get(name), self._now_ms(), 0
        for message_id in message_ids:
            message = known and known.messages.get(message_id)
            if not message:
                continue
            is_held = message.token != message.settled and (message.delivery.next_ms or 0) > now
            if message.retried == token or not is_held:
                count += 1
            if message.retried != token and not is_held:
                message.retried, message.expires_ms = token, now + KEPT_MS
                message.delivery = replace(message.delivery, attempts=0, next_ms=now)
        return count

    async def forget(self, name: str) -> None:
        self._known.pop(name, None)

    def _ordered(self, known: _Known) -> list[_Message]:
        """Those whose time has not passed, the next to be tried first, those that were given up last."""
        now = self._now_ms()
        known.messages = {id_: each for id_, each in known.messages.items() if each.expires_ms > now}
        return sorted(known.messages.values(), key=lambda each: each.delivery.next_ms or float("inf"))
