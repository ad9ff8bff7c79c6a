"""`Webhook`: who is told when the status of a run changes; and the messages that they get. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from agentq import _json
from agentq.errors import InvalidInput
from agentq.settings import check_name
from agentq.signing import secret_keys

WebhookEvent = Literal["run.completed", "run.failed", "run.cancelled", "run.waiting"]
"""What a webhook may be told. `run.waiting`: the run waits for a word of a person."""
EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)
DeliveryState = Literal["pending", "failed", "dead"]
"""A message that was not tried yet; one that was, and will be again; one that was given up."""
STATES: tuple[DeliveryState, ...] = get_args(DeliveryState)

# The first attempt is made at once. Standard Webhooks: some seconds, then some days.
RETRY_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
# How long what was not delivered is kept: from the change of the status on, which is beyond all attempts; and anew when
# it is given up, and when somebody has it tried again.
KEPT_MS = 7 * 86_400_000
# What an answer or a question may take of a message.
MAX_TEXT = 10_000
_MAX_METADATA_BYTES = 10_000
_MAX_URL_CHARS = 2_000
_MAX_ENDPOINTS = 50


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is told, signed, when the status of a run changes. `AgentQ(webhooks=...)` takes them.

    `secret` is `whsec_...`, or several of them while one takes the place of another; or `secret_name` names it, as
    secrets of tools are named: an environment variable, or one of `AgentQ(secrets=...)`. `events` are those that it is
    told, all of them if nothing is said, `agents` those whose runs it is told of, all if there are none. `name` is what
    operators see, the host if nothing is said. Raises `InvalidInput`, naming the field.
    """

    url: str = field(repr=False)
    secret: str | Sequence[str] = field(default=(), repr=False)
    events: Sequence[str] = EVENTS
    agents: Sequence[str] = ()
    name: str = ""
    secret_name: str = ""
    with_output: bool = True
    with_metadata: bool = False
    allow_http: bool = False

    def __post_init__(self) -> None:
        _set(self, "url", _checked_url(self.url, allow_http=self.allow_http is True))
        if not self.name:
            _set(self, "name", re.sub(r"[^A-Za-z0-9_.-]+", "-", urlsplit(self.url).hostname or "").strip("-._")[:100])
        check_name(self.name, field="name")
        _set(self, "events", _checked_words(self.events, field="events"))
        _set(self, "agents", _checked_words(self.agents, field="agents"))
        if odd := [event for event in self.events if event not in EVENTS]:
            listed = ", ".join(EVENTS)
            raise InvalidInput(f"events has {odd[0]!r}; a webhook may be told: {listed}", field="events")
        if not self.events:
            raise InvalidInput("events is empty, so there is nothing to tell; leave it out for all", field="events")
        for agent in self.agents:
            check_name(agent, field="agents")
        for each in ("with_output", "with_metadata", "allow_http"):
            if not isinstance(getattr(self, each), bool):
                raise InvalidInput(f"{each} must be True or False, not {getattr(self, each)!r:.80}", field=each)
        if not isinstance(self.secret_name, str):
            raise InvalidInput("secret_name must be text, the name of a secret", field="secret_name")
        if bool(self.secret) is bool(self.secret_name):
            raise InvalidInput(
                f"webhook {self.name}: give secret= or secret_name=, one of the two; `agentq webhooks secret` makes a "
                "secret",
                field="secret",
            )
        if self.secret:
            secret_keys(self.secret)
            _set(self, "secret", self.secret if isinstance(self.secret, str) else tuple(self.secret))

    @property
    def where(self) -> str:
        """Scheme, host and port. The rest of an address may be a secret in itself, and is shown nowhere."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def registration(self) -> bytes:
        """What is stored of it: neither the address nor the secret."""
        return _json.dumps({"events": list(self.events), "agents": list(self.agents), "where": self.where})


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message to a webhook that has not been delivered. Times are milliseconds since 1970 by the store's clock.

    `attempts` counts those that were begun; `next_ms` is when the next one is made, None for one that was given up.
    `error` is what became of the last.
    """

    webhook: str
    message_id: str
    type: str
    run_id: str
    agent: str
    at_ms: int
    seq: int = 0
    attempts: int = 0
    next_ms: int | None = None
    error: str = ""
    session_id: str | None = None
    user_id: str | None = None
    parent_run_id: str | None = None

    @property
    def state(self) -> DeliveryState:
        if self.next_ms is None:
            return "dead"
        return "failed" if self.attempts else "pending"


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that its holder is to deliver now. `event` is the last one of the run, None where it is gone.

    `token` says whose it is; `asks` is what the run waits for, and `metadata` the run's, as JSON.
    """

    delivery: Delivery
    token: str
    event: bytes | None = None
    asks: bytes | None = None
    metadata: bytes | None = None


@dataclass(frozen=True, slots=True)
class WebhookState:
    """A webhook as workers have made it known, and what has become of its messages.

    `pending` counts those that were not delivered and will be tried, `dead` those that were given up and `delivered`
    those that came through. `seen_ms` is when a worker last said that it has it, None where none has for a week.
    """

    name: str
    where: str = ""
    events: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    pending: int = 0
    dead: int = 0
    delivered: int = 0
    delivered_ms: int | None = None
    failed_ms: int | None = None
    error: str = ""
    seen_ms: int | None = None


def message_id_of(run_id: str, fence: int) -> str:
    """The id of the message about a change of status: each claim of a run leads to one at most."""
    return f"msg_{run_id}_{fence}"


def checked_webhooks(webhooks: Sequence[Webhook], agents: Mapping[str, object]) -> dict[str, Webhook]:
    """The webhooks of an app by name. Raises `InvalidInput`."""
    if isinstance(webhooks, Webhook) or not all(isinstance(each, Webhook) for each in webhooks):
        raise InvalidInput("webhooks must be a list of Webhook(url, secret=...)", field="webhooks")
    if len(webhooks) > _MAX_ENDPOINTS:
        raise InvalidInput(f"webhooks are {len(webhooks)}; an app has at most {_MAX_ENDPOINTS}", field="webhooks")
    known: dict[str, Webhook] = {}
    for each in webhooks:
        if each.name in known:
            raise InvalidInput(f"two webhooks are named {each.name!r}; give one of them a name=", field="webhooks")
        if odd := [agent for agent in each.agents if agent not in agents]:
            listed = ", ".join(sorted(agents)) or "none"
            raise InvalidInput(
                f"webhook {each.name} names the agent {odd[0]!r}; this app has: {listed}", field="webhooks"
            )
        known[each.name] = each
    return known


def body_of(taken: Taken, webhook: Webhook) -> bytes:
    """The body of a message, the same at each attempt while the run is kept; what the run said is missing later."""
    delivery = taken.delivery
    data: dict[str, Any] = {
        "run_id": delivery.run_id,
        "agent": delivery.agent,
        "status": delivery.type.partition(".")[2],
        "seq": delivery.seq,
        "session_id": delivery.session_id,
        "user_id": delivery.user_id,
        "parent_run_id": delivery.parent_run_id,
    }
    if delivery.type == "run.waiting":
        data["questions"] = _questions(taken.asks, with_text=webhook.with_output)
    else:
        data |= _ending(delivery.type, taken.event, with_output=webhook.with_output)
    if webhook.with_metadata:
        data["metadata"] = _metadata(taken.metadata)
    return message(delivery.message_id, delivery.type, delivery.at_ms, data)


def message(message_id: str, kind: str, at_ms: int, data: Mapping[str, Any]) -> bytes:
    """A body as Standard Webhooks proposes it, with the id in it."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return _json.dumps({"id": message_id, "type": kind, "timestamp": at, "data": dict(data)})


def _ending(kind: str, event: bytes | None, *, with_output: bool) -> dict[str, Any]:
    said: Mapping[str, Any] = {} if event is None else _json.loads(event)
    if said.get("type") != kind:
        said = {}
    found: dict[str, Any] = {"iterations": said.get("iterations"), "usage": said.get("usage")}
    if kind == "run.completed":
        output = said.get("output")
        shown = output if with_output else None
        found["output"] = shown if shown is None else shown[:MAX_TEXT]
        found["output_is_cut"] = shown is not None and len(shown) > MAX_TEXT
    else:
        reason = said.get("reason")
        found["reason"] = reason[:MAX_TEXT] if with_output and reason is not None else None
    return found


def _questions(asks: bytes | None, *, with_text: bool) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = [] if asks is None else _json.loads(asks)
    return [each if with_text else {name: value for name, value in each.items() if name != "text"} for each in asked]


def _metadata(stored: bytes | None) -> Any:
    """The run's metadata, if it is small: a receiver that wants more reads the run."""
    return None if stored is None or len(stored) > _MAX_METADATA_BYTES else _json.loads(stored)


def _checked_url(url: Any, *, allow_http: bool) -> str:
    if not isinstance(url, str) or not re.fullmatch(r"[!-~]{1,2000}", url):
        raise InvalidInput(f"url must be an address of at most {_MAX_URL_CHARS} ASCII characters", field="url")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInput(f"url cannot be read: {error}", field="url") from error
    if parts.scheme not in ("https", "http") or not host:
        raise InvalidInput("url must begin with https:// and a host", field="url")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("url must not hold a user or a password: messages are signed", field="url")
    if parts.fragment:
        raise InvalidInput("url must have no fragment (#): it never reaches a server", field="url")
    if parts.scheme == "http" and not allow_http and not _is_loopback(host):
        raise InvalidInput(
            f"url is http:// to {host}, where everybody on the way can read; use https://, or allow_http=True",
            field="url",
        )
    # Without a path, what comes after the host would be taken for a part of it.
    return parts._replace(path=parts.path or "/").geturl()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_words(words: Any, *, field: str) -> tuple[str, ...]:
    if isinstance(words, str) or not isinstance(words, Sequence) or not all(isinstance(each, str) for each in words):
        raise InvalidInput(f"{field} must be a list of texts, not {words!r:.80}", field=field)
    return tuple(dict.fromkeys(words))


def _set(webhook: Webhook, name: str, value: object) -> None:
    object.__setattr__(webhook, name, value)
