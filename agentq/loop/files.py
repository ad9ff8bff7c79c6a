"""The files that a model call needs: which of them the model takes, and their contents, kept for the next iteration."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentq.attachments import is_taken, refusal, untaken
from agentq.errors import FileNotStored, ProviderError
from agentq.messages import FilePart, Role, ToolResultPart
from agentq.providers.base import media_types_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agentq.messages import Message, Part
    from agentq.providers.base import Provider
    from agentq.stores.base import Store

logger = logging.getLogger(__name__)
# A run asks for its files with every iteration; many runs share few files.
_CACHE_BYTES = 64_000_000
_RUNS_SEEN = 10_000


@dataclass(frozen=True, slots=True)
class _Found:
    """How many messages of a run were looked through, the files attached to them, and whether tools returned some.

    Those are not remembered: what the model is shown of them may get less from one call to the next.
    """

    seen: int = 0
    attached: tuple[FilePart, ...] = ()
    has_returned: bool = False


_NOT_SEEN = _Found()


class Files:
    """Contents of stored files, those used last in memory. A digest names the same content wherever it is stored."""

    def __init__(self, store: Store, *, cache_bytes: int = _CACHE_BYTES) -> None:
        self._store = store
        self._cache_bytes = cache_bytes
        self._held: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._size = 0
        self._found: OrderedDict[str, _Found] = OrderedDict()

    async def of(
        self,
        run_id: str,
        messages: Sequence[Message],
        provider: Provider,
        model: str,
        *,
        taken: Sequence[str] = (),
        are_whole: bool = True,
    ) -> Mapping[str, bytes]:
        """The contents of the stored files that `messages` refer to and the model takes, by digest.

        `taken` are the media types that it takes in results. `are_whole`: the messages are all that there are so far,
        so that the next time there are these and more.

        Raises `ProviderError`, not retryable, for an attached file that the model does not take or that is gone. For
        want of a file that a tool returned no run fails: the model reads a line about it.
        """
        found = self._look_through(run_id, messages) if are_whole else _found_in(messages)
        if refused := refusal(found.attached, media_types_of(provider), model):
            raise ProviderError(refused, provider=provider.name, retryable=False)
        contents: dict[str, bytes] = {}
        for file in found.attached:
            if file.digest is not None and file.digest not in contents:
                contents[file.digest] = await self._content(run_id, file.digest, file.name)
        for file in _returned(messages) if found.has_returned else ():
            if file.digest is not None and file.digest not in contents and is_taken(file, taken):
                try:
                    contents[file.digest] = await self._content(run_id, file.digest, file.name)
                except ProviderError as error:
                    logger.warning("run %s goes on: %s", run_id, error, extra={"run_id": run_id})
        return contents

    def shown(
        self, run_id: str, messages: tuple[Message, ...], taken: Sequence[str], *, are_whole: bool = True
    ) -> tuple[Message, ...]:
        """The messages, with a line of text for each file of a result that is not of the media types `taken`."""
        if are_whole and not self._look_through(run_id, messages).has_returned:
            return messages
        return tuple(_with_words(message, taken) if message.role is Role.TOOL else message for message in messages)

    def _look_through(self, run_id: str, messages: Sequence[Message]) -> _Found:
        """A transcript is long and only grows, so what an earlier iteration looked through is not looked at again."""
        known = self._found.get(run_id, _NOT_SEEN)
        if known.seen == len(messages):
            return known
        self._found.pop(run_id, None)
        if known.seen > len(messages):
            known = _NOT_SEEN
        new = _found_in(messages[known.seen :])
        found = self._found[run_id] = _Found(
            len(messages), known.attached + new.attached, known.has_returned or new.has_returned
        )
        if len(self._found) > _RUNS_SEEN:
            self._found.popitem(last=False)
        return found

    async def _content(self, run_id: str, digest: str, name: str | None) -> bytes:
        key = (run_id, digest)
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        try:
            content = await self._store.file(run_id, digest)
        except FileNotStored as error:
            raise ProviderError(f"file {name or digest[:12]} is gone: {error}", retryable=False) from error
        self._held[key] = content
        self._size += len(content)
        while self._size > self._cache_bytes and len(self._held) > 1:
            self._size -= len(self._held.popitem(last=False)[1])
        return content


def _found_in(messages: Sequence[Message]) -> _Found:
    attached: list[FilePart] = []
    has_returned = False
    for message in messages:
        if message.role is Role.USER:  # only people attach files
            for part in message.parts:
                if isinstance(part, FilePart):
                    attached.append(part)  # noqa: PERF401 - most messages have none, and a list for each costs more
        elif message.role is Role.TOOL:
            has_returned = has_returned or any(result.files for result in message.tool_results)
    return _Found(len(messages), tuple(attached), has_returned)


def _returned(messages: Sequence[Message]) -> Iterator[FilePart]:
    """The files that tools returned."""
    for message in messages:
        if message.role is Role.TOOL:
            for result in message.tool_results:
                yield from result.files


def _with_words(message: Message, taken: Sequence[str]) -> Message:
    """The results with a line in place of each file that is not taken."""
    if all(is_taken(file, taken) for file in _returned((message,))):
        return message
    parts: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResultPart) and part.files:
            lines = [untaken(file) for file in part.files if not is_taken(file, taken)]
            content = "\n".join(filter(None, (part.content, *lines)))
            files = tuple(file for file in part.files if is_taken(file, taken))
            parts.append(part.model_copy(update={"content": content, "files": files}))
        else:
            parts.append(part)
    return message.model_copy(update={"parts": tuple(parts)})
