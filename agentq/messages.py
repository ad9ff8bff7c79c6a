"""Messages and their parts: what a transcript is made of, the same for every provider.

A transcript is append-only. Roles: `user`, `assistant`, `tool` (the results of one reply, in the order of its calls)
and `system` (a note of the loop that tells the model what went wrong, or a record of what the model reads less of).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
)

from agentq.errors import StoreCorrupted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


# Begins the URL of a file that the store holds.
STORED_FILE = "agentq:"


class Data(BaseModel):
    """A frozen value. Unknown fields are ignored: a newer version may have written them."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Lean(Data):
    """A value that is dumped without its `files` where it has none: most have none, and they are written twice."""

    @model_serializer(mode="wrap")
    def _without_no_files(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = dump(self)
        if not dumped.get("files", True):
            del dumped["files"]
        return dumped


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class StopReason(StrEnum):
    """Why the model stopped."""

    END = "end"
    TOOL_CALLS = "tool_calls"
    MAX_TOKENS = "max_tokens"
    REFUSAL = "refusal"
    CONTENT_FILTER = "content_filter"
    CANCELLED = "cancelled"


class NoteKind(StrEnum):
    """What a note of the loop is about."""

    PROVIDER_ERROR = "provider_error"
    CONTEXT_ERROR = "context_error"
    HOOK_ERROR = "hook_error"
    REFUSED = "refused"
    TOOL_ERROR = "tool_error"
    OUTPUT_INVALID = "output_invalid"
    RETRIED = "retried"
    RETRIEVED = "retrieved"
    COMPACTED = "compacted"


class TextPart(Data):
    """Text. `native` is what the provider sent along with it, kept verbatim for an exact replay; see `Origin`."""

    type: Literal["text"] = "text"
    text: str
    native: dict[str, Any] | None = None


class ReasoningPart(Data):
    """What the model thought aloud. `signature` and `native` are the provider's, kept verbatim for an exact replay."""

    type: Literal["reasoning"] = "reasoning"
    text: str = ""
    signature: str | None = None
    native: dict[str, Any] | None = None


class FilePart(Data):
    """A file by reference: `url` is where the provider fetches it, or `agentq:<digest>` for one that the store holds.

    `size` is in bytes, None where it is not known.
    """

    type: Literal["file"] = "file"
    url: str
    media_type: str
    name: str | None = None
    size: int | None = None

    @property
    def digest(self) -> str | None:
        """The SHA-256 of a stored file, in hex; None for a file by URL."""
        return self.url.removeprefix(STORED_FILE) if self.url.startswith(STORED_FILE) else None


class ToolCallPart(Data):
    """The model asks for a tool. `call_id` is ours, `provider_call_id` the provider's (it may repeat or be missing).

    `arguments` is the object that the model sent; where it was no JSON object, `arguments_error` says why.
    `native` is what the provider sent along with the call, kept verbatim for an exact replay.
    """

    type: Literal["tool_call"] = "tool_call"
    call_id: str
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    provider_call_id: str | None = None
    arguments_error: str | None = None
    native: dict[str, Any] | None = None


class ToolResultPart(Lean):
    """The result of one call. `outcome` says whether it is the tool's value, an error, or not known.

    The model gets `content` and the `files`. `data` is for programs: what the tool gave them beside the text, as JSON.
    """

    type: Literal["tool_result"] = "tool_result"
    call_id: str
    name: str
    content: str
    outcome: Literal["ok", "error", "unknown", "cancelled"] = "ok"
    files: tuple[FilePart, ...] = ()
    data: Any = None
    provider_call_id: str | None = None

    @property
    def is_error(self) -> bool:
        return self.outcome != "ok"


Part = Annotated[
    TextPart | ReasoningPart | FilePart | ToolCallPart | ToolResultPart,
    Field(discriminator="type"),
]


class Usage(Data):
    """Tokens billed. Sums with `+`.

    `input_tokens` is all input: `cached_input_tokens` of it were read from the provider's cache, `cache_write_tokens`
    were written to it. `output_tokens` is all output, with the `reasoning_tokens`. `cost_nanousd` is what the replies
    cost whose price is known, in billionths of a US dollar, by the prices that `prices` names; None: of none it is.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nanousd: int | None = None
    prices: str | None = None

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def cost_usd(self) -> float | None:
        """The known cost in US dollars."""
        return None if self.cost_nanousd is None else self.cost_nanousd / 1e9

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            cost_nanousd=_sum(self.cost_nanousd, other.cost_nanousd),
            prices=other.prices or self.prices,
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return other if one is None else one + (other or 0)


class Origin(Data):
    """Whose `native` parts and signatures a reply holds: they mean something to this API and model only.

    `api` names the wire format and its version, such as `anthropic/2023-06-01`; `model` is the name that was asked for.
    """

    api: str
    model: str


# What was done to make a transcript fit, the cheapest first.
CompactionStrategy = Literal["tool_results", "whitespace", "summary", "dropped"]


class CompactionRecord(Data):
    """From here on, the model reads less than what is stored. Indexes count the messages of the session and the run.

    Those before `left_out` are replaced by the text of the record's message, but for the one at `kept`. Results of
    tools before `results_upto` are cut to `max_tool_result_chars`, and those before `whitespace_upto` have their white
    space collapsed. Only the last record of a transcript counts.
    """

    strategy: CompactionStrategy
    left_out: int = 0
    kept: int | None = None
    results_upto: int = 0
    max_tool_result_chars: int = 0
    whitespace_upto: int = 0


class Message(Data):
    """One entry of a transcript.

    `model`, `origin`, `stop_reason` and `usage` stand on replies, `note` on notes of the loop. A reply has an `origin`
    where a part of it has `native` or a signature. `compacted` makes a message a record that no model reads; its text
    is the summary, if there is one, `model` and `usage` say who wrote that and what it took.
    """

    role: Role
    parts: tuple[Part, ...]
    model: str | None = None
    origin: Origin | None = None
    stop_reason: StopReason | None = None
    usage: Usage | None = None
    note: NoteKind | None = None
    compacted: CompactionRecord | None = None

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))

    @property
    def tool_results(self) -> tuple[ToolResultPart, ...]:
        return tuple(part for part in self.parts if isinstance(part, ToolResultPart))


_message = TypeAdapter(Message)


def neutral(message: Message) -> Message:
    """The message without what only its own provider understands."""
    if message.origin is None:
        return message
    parts = tuple(
        part.model_copy(update={"native": None, "signature": None})
        if isinstance(part, ReasoningPart)
        else part.model_copy(update={"native": None})
        if isinstance(part, TextPart | ToolCallPart)
        else part
        for part in message.parts
    )
    return message.model_copy(update={"parts": parts, "origin": None})


def user_message(text: str, files: Iterable[FilePart] = ()) -> Message:
    """What a person said; the files stand before the text that speaks of them."""
    return Message(role=Role.USER, parts=(*files, TextPart(text=text)))


def note_message(text: str, kind: NoteKind) -> Message:
    return Message(role=Role.SYSTEM, parts=(TextPart(text=text),), note=kind)


def results_message(results: Iterable[ToolResultPart]) -> Message:
    return Message(role=Role.TOOL, parts=tuple(results))


def encode_message(message: Message) -> bytes:
    """The stored form: compact JSON without the fields that have their default, apart from `type`."""
    return _message.serializer.to_json(message, exclude_none=True)


def decode_message(data: bytes | str) -> Message:
    """Read the stored form. Raises `StoreCorrupted`."""
    try:
        return _message.validate_json(data)
    except ValueError as error:
        raise StoreCorrupted(f"a stored message cannot be read: {error}") from error


def unanswered_calls(messages: Sequence[Message]) -> tuple[str, ...]:
    """Ids of the calls in `messages` that no later message of it answers (promise P5: there are none)."""
    open_calls: dict[str, None] = {}
    for message in messages:
        for call in message.tool_calls:
            open_calls[call.call_id] = None
        for result in message.tool_results:
            open_calls.pop(result.call_id, None)
    return tuple(open_calls)
