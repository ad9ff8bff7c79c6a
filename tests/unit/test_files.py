"""The files that a model call needs, found in a transcript that grows."""

from __future__ import annotations

from typing import Any

from agentq.loop.files import Files
from agentq.messages import FilePart, Message, Role, TextPart, user_message
from agentq.providers.mock import MockProvider
from agentq.stores.memory import MemoryStore


class Reads(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.read_files: list[tuple[str, str]] = []

    async def file(self, run_id: str, digest: str) -> bytes:
        self.read_files.append((run_id, digest))
        return digest.encode()


class Counted(tuple[Message, ...]):
    """A transcript that knows from where on it was looked through."""

    looked_from: list[int]

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            self.looked_from.append(at.start)
        return super().__getitem__(at)


def attached(digest: str) -> Message:
    return user_message("Look at this.", [FilePart(url=f"agentq:{digest}", media_type="image/png")])


async def test_files_of_a_transcript_that_grows_are_found_once_each():
    store = Reads()
    files, model = Files(store), MockProvider()
    answer = Message(role=Role.ASSISTANT, parts=(TextPart(text="I see."),))
    first = (attached("a"), answer)
    later = (*first, attached("b"), answer, attached("a"))
    assert await files.of("r1", first, model, "mock") == {"a": b"a"}
    assert await files.of("r1", later, model, "mock") == {"a": b"a", "b": b"b"}
    assert await files.of("r2", (answer,), model, "mock") == {}
    assert store.read_files == [("r1", "a"), ("r1", "b")]
    # A transcript that is shorter than what was seen is not the one that was seen.
    assert await files.of("r1", first, model, "mock") == {"a": b"a"}


async def test_what_was_looked_through_is_not_looked_at_again():
    files = Files(Reads())
    looked_from: list[int] = []
    for length in (1000, 1002, 1004):
        messages = Counted([user_message("Hello.")] * length)
        messages.looked_from = looked_from
        await files.of("r1", messages, MockProvider(), "mock")
    assert looked_from == [0, 1000, 1002]
