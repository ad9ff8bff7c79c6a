"""The files that a model call needs: which of them the model takes, and their contents, kept for the next iteration."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from agentq.attachments import refusal
from agentq.errors import FileNotStored, ProviderError
from agentq.messages import FilePart, Role
from agentq.providers.base import media_types_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentq.messages import Message
    from agentq.providers.base import Provider
    from agentq.stores.base import Store

# A run asks for its files with every iteration; many runs share few files.
_CACHE_BYTES = 64_000_000
_RUNS_SEEN = 10_000


class Files:
    """Contents of stored files, those used last in memory. A digest names the same content wherever it is stored."""

    def __init__(self, store: Store, *, cache_bytes: int = _CACHE_BYTES) -> None:
        self._store = store
        self._cache_bytes = cache_bytes
        self._held: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._size = 0
        # Run → how many of its messages were looked through, and the files that they refer to.
        self._found: OrderedDict[str, tuple[int, tuple[FilePart, ...]]] = OrderedDict()

    async def of(self, run_id: str, messages: Sequence[Message], provider: Provider, model: str) -> Mapping[str, bytes]:
        """The contents of the stored files that `messages` refer to, by digest.

        Raises `ProviderError`, not retryable, for a file that the model does not take or that is gone.
        """
        files = self._files_in(run_id, messages)
        if not files:
            return {}
        if refused := refusal(files, media_types_of(provider), model):
            raise ProviderError(refused, provider=provider.name, retryable=False)
        contents: dict[str, bytes] = {}
        for file in files:
            digest = file.digest
            if digest is not None and digest not in contents:
                contents[digest] = await self._content(run_id, digest, file.name)
        return contents

    def _files_in(self, run_id: str, messages: Sequence[Message]) -> tuple[FilePart, ...]:
        """A transcript is long and only grows, so what an earlier iteration looked through is not looked at again."""
        seen, files = self._found.pop(run_id, (0, ()))
        if seen > len(messages):
            seen, files = 0, ()
        # Only people attach files.
        asked = (message for message in messages[seen:] if message.role is Role.USER)
        files += tuple(part for message in asked for part in message.parts if isinstance(part, FilePart))
        self._found[run_id] = (len(messages), files)
        if len(self._found) > _RUNS_SEEN:
            self._found.popitem(last=False)
        return files

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
