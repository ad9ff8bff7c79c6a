"""Which Python files of a project have changed since the last look."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist"})


@dataclass
class Files:
    """The .py files below `root`, without hidden folders, virtual environments and what was installed.

    A large project takes long to look at: it is left in peace then for `rest` times as long.
    """

    root: Path
    rest: float = 10.0
    _seen: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _rests_until: float = 0.0

    def __post_init__(self) -> None:
        self._seen = self._look()

    def changed(self, *, at_once: bool = False) -> list[Path]:
        """Those that were written, made or removed since the last look, as paths below the root.

        None while it rests, unless `at_once`: where something has just changed, more is to come.
        """
        if not at_once and time.monotonic() < self._rests_until:
            return []
        before, self._seen = self._seen, self._look()
        paths = before.keys() | self._seen.keys()
        return sorted(path.relative_to(self.root) for path in paths if before.get(path) != self._seen.get(path))

    def _look(self) -> dict[Path, tuple[int, int]]:
        began = time.monotonic()
        found: dict[Path, tuple[int, int]] = {}
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if not self._is_skipped(Path(folder, name))]
            for name in names:
                if name.endswith(".py"):
                    path = Path(folder, name)
                    try:
                        status = path.stat()
                    except OSError:  # removed between the two looks
                        continue
                    found[path] = (status.st_mtime_ns, status.st_size)
        ended = time.monotonic()
        self._rests_until = ended + self.rest * (ended - began)
        return found

    def _is_skipped(self, folder: Path) -> bool:
        return folder.name.startswith(".") or folder.name in _SKIPPED or (folder / "pyvenv.cfg").exists()
