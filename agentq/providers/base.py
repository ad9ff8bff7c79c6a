"""The provider protocol: a request in, streamed deltas out, one reply at the end. No HTTP here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from agentq.messages import Message, Origin, StopReason, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from agentq.tools.spec import ToolSpec


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """What the text of the final reply must be: JSON that follows `schema`, which has a `name` of its own."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model. `model` is the name after the provider's colon, `settings` what the user set for it.

    `whole` is the transcript that `messages` were made from by leaving something out, empty where nothing was; no
    provider sends it, a script finds its place by it. The first `history_length` of the messages come from earlier
    runs of the session. `files` holds the bytes of every stored file that a message refers to, by
    `FilePart.digest`; a file by URL is the provider's to fetch. `stable` says where in `instructions` the
    beginnings end, in characters, that other requests have in common with this one, for providers that want to be
    told what to cache. `output` asks for a structured answer; the loop checks it, so a provider whose API cannot
    promise the form need not.
    """

    model: str
    messages: tuple[Message, ...]
    history_length: int = 0
    whole: tuple[Message, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    instructions: str = ""
    stable: tuple[int, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    output: OutputFormat | None = None
    run_id: str = ""
    session_id: str | None = None


@dataclass(slots=True)
class TextChunk:
    """A piece of text. `native` is what the provider wants back with the part, and closes it, even if it is empty."""

    text: str
    native: dict[str, Any] | None = None


@dataclass(slots=True)
class ReasoningChunk:
    """A piece of reasoning. `signature` and `native` are what the provider wants back with the part, and close it."""

    text: str
    signature: str | None = None
    native: dict[str, Any] | None = None


@dataclass(slots=True)
class ToolCallChunk:
    """A piece of a tool call. `index` tells the calls of one reply apart; `arguments` is a fragment of JSON text.

    `native` is what the provider wants back with the call.
    """

    index: int
    name: str | None = None
    arguments: str = ""
    provider_call_id: str | None = None
    native: dict[str, Any] | None = None


@dataclass(slots=True)
class ReplyEnd:
    """The reply is complete. Comes exactly once, last: a stream that ends without it was cut.

    `model` is the name that the provider says, `origin` whose the `native` parts are.
    """

    stop_reason: StopReason
    usage: Usage = field(default_factory=Usage)
    model: str | None = None
    origin: Origin | None = None


@dataclass(slots=True)
class Retried:
    """The call failed and is made again after `wait_s`, as attempt number `attempt`: what came before is void."""

    attempt: int
    wait_s: float
    error: str


Chunk = TextChunk | ReasoningChunk | ToolCallChunk | Retried | ReplyEnd


class Provider(Protocol):
    """One model API.

    `stream` yields chunks and then one `ReplyEnd`. It raises `ProviderError` for everything that goes wrong with the
    call, and lets cancellation through at once, closing its connection. It may make the call more than once, and says
    so by `Retried`; a wait of more than a minute is the run's, so then it raises. It keeps no state between calls: any
    worker may make the next one.

    It may have more: `media_types`, see `media_types_of`; `result_media_types`, see `result_media_types_of`;
    `promises_output(request)`, see there; `check(model, settings)`, see `check_model_settings`; and `aclose()`, which
    closes what it holds open in the running event loop.
    """

    name: str

    def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]: ...


def check_model_settings(provider: Provider, model: str, settings: Mapping[str, Any]) -> None:
    """Have the provider look at the settings of a model before the first call. Raises its `InvalidInput`."""
    check: Callable[[str, Mapping[str, Any]], None] | None = getattr(provider, "check", None)
    if check is not None:
        check(model, settings)


def promises_output(provider: Provider, request: ModelRequest) -> bool:
    """Whether the provider tells the model of `request.output`. Else the loop puts it into words."""
    promises: Callable[[ModelRequest], bool] | None = getattr(provider, "promises_output", None)
    return promises is not None and promises(request)


def media_types_of(provider: Provider) -> tuple[str, ...]:
    """The files that the provider's models take in a message of the user, as patterns such as `image/*`.

    A provider that says nothing takes none.
    """
    given: tuple[str, ...] = getattr(provider, "media_types", ())
    return given


def result_media_types_of(provider: Provider, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that the provider's models take in the result of a tool, as patterns.

    A provider that says nothing takes none: its models read a line about each in its place. So does a model whose
    settings say `tool_files=False`, because it only reads.
    """
    if settings.get("tool_files") is False:
        return ()
    given: tuple[str, ...] = getattr(provider, "result_media_types", ())
    return given
