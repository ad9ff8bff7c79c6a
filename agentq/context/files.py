"""`FileRetriever`: passages of the text files in a folder, ranked by BM25. Needs no model, no server, no library."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from agentq.context.retrieval import Passage
from agentq.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)
# Okapi BM25 with the usual constants, and with Lucene's form of the inverse document frequency, which is never
# negative: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), section 3.
_K1 = 1.2
_B = 0.75
_WORD = re.compile(r"\w+")
_HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"\s*(```|~~~)")


@dataclass(frozen=True, slots=True)
class _Indexed:
    passage: Passage
    words: Counter[str]
    length: int


@dataclass(frozen=True, slots=True)
class _File:
    stamp: tuple[int, int]
    passages: tuple[_Indexed, ...]


class FileRetriever:
    """Finds passages in the files of a folder by the words that they share with the query (BM25).

    A file is cut at its Markdown headings and, where that leaves more than `max_passage_chars`, between paragraphs.
    Files that have changed are read again, `refresh_s` after the last look at the earliest. A file that is not UTF-8,
    or larger than `max_file_bytes`, is left out, and the log says so once; files after the first `max_files`, too.
    Raises `InvalidInput`, naming the field. May be used from several event loops.
    """

    def __init__(
        self,
        folder: str | Path,
        pattern: str = "**/*.md",
        *,
        max_passage_chars: int = 2_000,
        max_file_bytes: int = 1_000_000,
        max_files: int = 5_000,
        refresh_s: float = 1.0,
    ) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise InvalidInput(f"folder {str(folder)!r} is not there, or is no folder", field="folder")
        if not pattern or PurePath(pattern).is_absolute() or ".." in PurePath(pattern).parts:
            raise InvalidInput(
                f"pattern {pattern!r} must name files below the folder, as '**/*.md' does", field="pattern"
            )
        limits = {"max_passage_chars": max_passage_chars, "max_file_bytes": max_file_bytes, "max_files": max_files}
        for name, limit in limits.items():
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
                raise InvalidInput(f"{name} must be a whole number above 0, not {limit!r}", field=name)
        self._pattern = pattern
        self._max_passage_chars = max_passage_chars
        self._max_file_bytes = max_file_bytes
        self._max_files = max_files
        self._refresh_s = refresh_s
        self._lock = threading.Lock()
        self._looked_at = -math.inf
        self._files: dict[Path, _File] = {}
        self._passages: list[_Indexed] = []
        self._postings: dict[str, list[tuple[int, int]]] = {}
        self._mean_length = 0.0
        self._has_told_of_many = False

    async def retrieve(self, query: str, k: int) -> list[Passage]:
        """The passages that share the rarest words with the query, the best first. Reads files in a thread."""
        return await asyncio.to_thread(self._retrieve, query, k)

    def _retrieve(self, query: str, k: int) -> list[Passage]:
        with self._lock:
            self._refresh()
            return self._ranked(query, k)

    def _ranked(self, query: str, k: int) -> list[Passage]:
        scores: dict[int, float] = defaultdict(float)
        total = len(self._passages)
        for word in dict.fromkeys(_words(query)):
            postings = self._postings.get(word, ())
            rarity = math.log(1 + (total - len(postings) + 0.5) / (len(postings) + 0.5))
            for index, times in postings:
                length = self._passages[index].length / self._mean_length
                scores[index] += rarity * times * (_K1 + 1) / (times + _K1 * (1 - _B + _B * length))
        best = sorted(scores.items(), key=lambda scored: (-scored[1], scored[0]))[:k]
        return [_scored(self._passages[index].passage, score) for index, score in best]

    # --- reading

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < self._refresh_s:
            return
        files = {path: self._file(path) for path in self._paths()}
        self._looked_at = now
        is_same = list(files) == list(self._files) and all(file is self._files[path] for path, file in files.items())
        if is_same:
            return
        self._files = files
        self._passages = [indexed for file in files.values() for indexed in file.passages]
        postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for index, indexed in enumerate(self._passages):
            for word, times in indexed.words.items():
                postings[word].append((index, times))
        self._postings = dict(postings)
        self._mean_length = sum(each.length for each in self._passages) / max(len(self._passages), 1)

    def _paths(self) -> list[Path]:
        paths = sorted(path for path in self._folder.glob(self._pattern) if path.is_file())
        if len(paths) > self._max_files and not self._has_told_of_many:
            self._has_told_of_many = True
            logger.warning(
                "%s has %d files that match %s; those after the first %d (max_files) are left out",
                self._folder, len(paths), self._pattern, self._max_files,
            )  # fmt: skip
        return paths[: self._max_files]

    def _file(self, path: Path) -> _File:
        """The file, read again if it has changed."""
        known = self._files.get(path)
        stamp, problem = (-1, -1), ""
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if known is not None and known.stamp == stamp:
                return known
            if stat.st_size <= self._max_file_bytes:
                return _File(stamp, tuple(self._cut(path, path.read_bytes().decode("utf-8-sig"))))
            problem = f"it has {stat.st_size} bytes, more than {self._max_file_bytes} (max_file_bytes)"
        except UnicodeDecodeError as error:
            problem = f"it is not UTF-8 (byte {error.start})"
        except OSError as error:
            problem = f"it cannot be read: {error.strerror}"
            if known is not None and known.stamp == (-1, -1):
                return known
        logger.warning("%s is left out: %s", path, problem)
        return _File(stamp, ())

    def _cut(self, path: Path, text: str) -> Iterator[_Indexed]:
        name = path.relative_to(self._folder).as_posix()
        for heading, line, part in _parts(text):
            for piece in _pieces(part, self._max_passage_chars):
                words = _words(piece)
                if words:
                    source = f"{name}#{heading}" if heading else name
                    passage = Passage(piece, source, metadata={"path": name, "line": line})
                    yield _Indexed(passage, Counter(words), len(words))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _scored(passage: Passage, score: float) -> Passage:
    return Passage(passage.text, passage.source, round(score, 4), passage.metadata)


def _parts(text: str) -> Iterator[tuple[str, int, str]]:
    """A text cut before its Markdown headings: the heading, the number of the first line, and the text with it."""
    heading, first = "", 1
    lines: list[str] = []
    is_code = False
    for number, line in enumerate(text.splitlines(), 1):
        if _FENCE.match(line):
            is_code = not is_code
        found = None if is_code else _HEADING.match(line)
        if found:
            yield heading, first, "\n".join(lines)
            heading, first, lines = found[1], number, []
        lines.append(line)
    yield heading, first, "\n".join(lines)


def _pieces(text: str, max_chars: int) -> Iterator[str]:
    """A text in pieces of at most `max_chars`, cut between paragraphs where that can be."""
    piece = ""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        for start in range(0, max(len(paragraph), 1), max_chars):
            more = paragraph[start : start + max_chars]
            if piece and len(piece) + 2 + len(more) > max_chars:
                yield piece
                piece = more
            else:
                piece = f"{piece}\n\n{more}" if piece else more
    if piece:
        yield piece
