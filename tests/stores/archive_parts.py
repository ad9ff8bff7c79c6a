"""Two Redis layouts side by side: one to export from, one to import into."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agentq._redis.connection import Connection
from agentq.archive.exporting import LeftOut, Selection, export_archive
from agentq.archive.importing import Imported, import_archive
from agentq.archive.reading import ArchiveReader
from agentq.archive.restoring import Restorer
from agentq.archive.terms import Terms
from tests.stores.redis_parts import TimedParts, timed_script
from tests.stores.retention_parts import SETTINGS, Deployment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentq.settings import Settings

Unit = tuple[dict[str, Any], ...]


class Place:
    """A Redis with what exports from it and imports into it."""

    def __init__(self, redis_url: str, prefix: str = "agentq") -> None:
        self.parts = TimedParts(Connection(redis_url), prefix=prefix)
        self.deployment = Deployment(self.parts)
        self.store = self.parts.store
        self.keys = self.store.keys
        self.reader = ArchiveReader(self.store.pipeline, self.keys)
        self.restorer = Restorer(self.store.pipeline, self.keys, scripts=timed_script)

    async def exported(self, **selection: Any) -> tuple[list[bytes], list[LeftOut]]:
        """The lines of an export, and what was left out."""
        items = [item async for item in export_archive(self.store, self.reader, Selection(**selection))]
        return [item for item in items if isinstance(item, bytes)], [i for i in items if isinstance(i, LeftOut)]

    async def lines(self, **selection: Any) -> list[bytes]:
        return (await self.exported(**selection))[0]

    async def imported(
        self, lines: Iterable[bytes], settings: Settings = SETTINGS, ttl_ms: int | None = None
    ) -> list[Imported]:
        terms = Terms(settings, ttl_ms, await self.store.known_agents())
        return [each async for each in import_archive(self.restorer, self.reader, iter(lines), terms)]

    async def command(self, *command: Any) -> Any:
        return await self.store.pipeline.execute(*command)

    async def own_keys(self) -> set[str]:
        """The keys under the prefix."""
        keys: list[bytes] = await self.command("KEYS", f"{self.keys.prefix}:*")
        return {key.decode() for key in keys}

    async def dump(self) -> dict[str, bytes]:
        """Every key with its value, without what time does to it."""
        return {key: await self.command("DUMP", key) for key in await self.own_keys()}

    async def aclose(self) -> None:
        await self.parts.aclose()


def units(lines: Iterable[bytes]) -> set[str]:
    """The runs and sessions of an archive, each as one text, in no order."""
    found, unit = set(), []
    for line in list(lines)[1:-1]:
        unit.append(json.dumps(json.loads(line), sort_keys=True))
        if json.loads(line)["type"] in ("end", "broken_off"):
            found.add("\n".join(unit))
            unit = []
    assert unit == []
    return found


def edited(line: bytes, **changes: Any) -> bytes:
    """The line with other fields; None takes one out."""
    record = {**json.loads(line), **changes}
    return json.dumps({name: value for name, value in record.items() if value is not None}).encode()


def without_digests(lines: Iterable[bytes]) -> list[bytes]:
    """The archive as somebody who changes it writes it."""
    return [edited(line, sha256=None) for line in lines]


def outcomes(imported: Iterable[Imported]) -> dict[str, set[str]]:
    """Ids by what became of them."""
    found: dict[str, set[str]] = {}
    for each in imported:
        found.setdefault(each.outcome, set()).add(each.name)
    return found
