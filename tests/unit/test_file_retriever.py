"""Passages out of a folder: how files are cut, ranked and read again, and which are left out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq import FileRetriever, InvalidInput
from agentq.context.files import _pieces

if TYPE_CHECKING:
    from pathlib import Path

GUIDE = """Read this first.

# Refunds

Refunds go up to 50 euros.

```
# not a heading
```

## Shipping costs ##

Shipping takes three days. Shipping is free.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "guide.md").write_text(GUIDE)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "days.md").write_text("Days off: refunds of days are not possible, days end.")
    (tmp_path / "notes.txt").write_text("refunds refunds refunds")
    return tmp_path


def of(folder: Path, **options: Any) -> FileRetriever:
    return FileRetriever(folder, refresh_s=0, **options)


async def sources(retriever: FileRetriever, query: str, k: int = 9) -> list[str]:
    return [passage.source for passage in await retriever.retrieve(query, k)]


async def test_the_best_comes_first_and_says_where_it_stands(folder: Path):
    found = await of(folder).retrieve("How long does SHIPPING take?", 4)
    assert [passage.source for passage in found] == ["guide.md#Shipping costs"]
    assert found[0].text.startswith("## Shipping costs ##\n\nShipping takes")
    assert found[0].metadata == {"path": "guide.md", "line": 11}
    assert (found[0].score or 0) > 0


async def test_short_passages_and_rare_words_count_more(folder: Path):
    assert await sources(of(folder), "refunds") == ["guide.md#Refunds", "sub/days.md"]
    assert await sources(of(folder), "refunds days") == ["sub/days.md", "guide.md#Refunds", "guide.md#Shipping costs"]


async def test_no_more_than_k_and_nothing_without_a_common_word(folder: Path):
    assert len(await of(folder).retrieve("refunds days shipping", 2)) == 2
    assert await of(folder).retrieve("zebra", 4) == await of(folder).retrieve("?!", 4) == []


async def test_files_that_change_come_and_go_are_noticed(folder: Path):
    retriever = of(folder)
    assert await sources(retriever, "zebra") == []
    (folder / "zoo.md").write_text("A zebra.")
    assert await sources(retriever, "zebra") == ["zoo.md"]
    (folder / "zoo.md").write_text("A lion, no more.")
    assert await sources(retriever, "zebra") == []
    assert await sources(retriever, "lion") == ["zoo.md"]
    (folder / "zoo.md").unlink()
    assert await sources(retriever, "lion") == []


async def test_a_file_that_stays_is_read_once(folder: Path):
    retriever = of(folder)
    before = await retriever.retrieve("shipping", 1)
    stat = (folder / "guide.md").stat()
    (folder / "guide.md").write_bytes(b"X" * stat.st_size)
    os.utime(folder / "guide.md", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert await retriever.retrieve("shipping", 1) == before


async def test_it_does_not_look_at_the_folder_for_every_query(folder: Path):
    retriever = FileRetriever(folder, refresh_s=3_600)
    assert await sources(retriever, "zebra") == []
    (folder / "zoo.md").write_text("A zebra.")
    assert await sources(retriever, "zebra") == []


async def test_what_cannot_be_read_is_left_out_and_named_once(folder: Path, caplog: pytest.LogCaptureFixture):
    (folder / "latin.md").write_bytes("Größe refunds".encode("latin-1"))
    (folder / "large.md").write_text("refunds " * 100)
    retriever = of(folder, max_file_bytes=400)
    for _ in range(3):
        assert await sources(retriever, "refunds") == ["guide.md#Refunds", "sub/days.md"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder / 'large.md'} is left out: it has 800 bytes, more than 400 (max_file_bytes)",
        f"{folder / 'latin.md'} is left out: it is not UTF-8 (byte 2)",
    ]


async def test_no_more_files_than_the_limit(folder: Path, caplog: pytest.LogCaptureFixture):
    retriever = of(folder, max_files=1)
    for _ in range(2):
        assert await sources(retriever, "refunds") == ["guide.md#Refunds"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder} has 2 files that match **/*.md; those after the first 1 (max_files) are left out"
    ]


async def test_another_pattern(folder: Path):
    assert await sources(of(folder, pattern="*.txt"), "refunds") == ["notes.txt"]


async def test_an_empty_folder_has_nothing(tmp_path: Path):
    assert await of(tmp_path).retrieve("refunds", 4) == []


@given(st.text(st.sampled_from("ab \n"), max_size=200), st.integers(1, 30))
def test_pieces_lose_no_word_and_keep_the_limit(text: str, limit: int):
    pieces = list(_pieces(text, limit))
    assert all(len(piece) <= limit for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"folder": "nowhere"}, "folder", "'nowhere' is not there"),
        ({"pattern": "/etc/*"}, "pattern", "below the folder"),
        ({"pattern": "../*"}, "pattern", "below the folder"),
        ({"pattern": ""}, "pattern", "below the folder"),
        ({"max_files": 0}, "max_files", "above 0, not 0"),
        ({"max_passage_chars": 2.5}, "max_passage_chars", "whole number"),
    ],
)
def test_what_is_wrong_is_said_where_it_is_built(tmp_path: Path, options: dict[str, Any], field: str, words: str):
    with pytest.raises(InvalidInput, match=words) as raised:
        FileRetriever(**{"folder": tmp_path, **options})
    assert raised.value.field == field
