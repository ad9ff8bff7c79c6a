"""Files that come with a prompt: read, named, measured, and refused before anything is stored."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from agentq import File, Settings
from agentq.attachments import Attached, read_files, refusal
from agentq.errors import InvalidInput
from agentq.messages import FilePart

SETTINGS = Settings(max_file_bytes=100, max_files_bytes=150)
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 8


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def attached(*files: Any) -> Attached:
    return read_files(files, SETTINGS)


def test_a_path_is_read_and_named(tmp_path: Path):
    path = tmp_path / "report.pdf"
    path.write_bytes(b"%PDF-1.7")
    found = attached(path)
    assert found.parts == (
        FilePart(url=f"agentq:{digest(b'%PDF-1.7')}", media_type="application/pdf", name="report.pdf", size=8),
    )
    assert found.contents == {digest(b"%PDF-1.7"): b"%PDF-1.7"}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"%PDF-1.4", "application/pdf"),
        ("Grüße".encode(), "text/plain"),
    ],
)
def test_bytes_without_a_name_are_told_by_how_they_begin(content: bytes, kind: str):
    (part,) = attached(content).parts
    assert (part.media_type, part.name) == (kind, None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.txt", "text/plain"), ("a.tar.gz", "application/gzip"), ("PHOTO.JPG", "image/jpeg"), ("x.qqq", "text/plain")],
)
def test_a_name_tells_the_media_type(name: str, kind: str):
    (part,) = attached(File(b"x", name=name)).parts
    assert part.media_type == kind


def test_a_media_type_that_is_given_counts():
    (part,) = attached(File(PNG, name="a.txt", media_type="application/x-mine")).parts
    assert part.media_type == "application/x-mine"


def test_a_url_is_kept_as_it_is():
    found = attached("https://example.org/a%20b/photo.png?size=2", File(url="http://example.org/x", media_type="a/b"))
    assert found.parts == (
        FilePart(url="https://example.org/a%20b/photo.png?size=2", media_type="image/png", name="photo.png"),
        FilePart(url="http://example.org/x", media_type="a/b"),
    )
    assert found.contents == {}


def test_the_same_content_is_stored_once():
    found = attached(File(b"x", name="a.txt"), File(b"x", name="b.txt"))
    assert [part.name for part in found.parts] == ["a.txt", "b.txt"]
    assert found.contents == {digest(b"x"): b"x"}


def test_an_empty_file_is_a_file():
    (part,) = attached(File(b"", name="empty.txt")).parts
    assert part.size == 0


def test_what_is_large_as_a_whole_counts_once_for_each_content():
    assert len(attached(*[File(b"x" * 90, name="a.txt")] * 5).parts) == 5
    with pytest.raises(InvalidInput, match=r"files has 180 bytes, more than the 150 .*AGENTQ_MAX_FILES_BYTES"):
        attached(File(b"x" * 90, name="a.txt"), File(b"y" * 90, name="b.txt"))


BAD: list[tuple[Any, str]] = [
    ("photo.png", r"files\[0\] 'photo.png' is not an http or https URL; .*pathlib\.Path"),
    ("/etc/passwd", "not an http or https URL"),
    ("file:///etc/passwd", "not an http or https URL"),
    ("https://", "not an http or https URL"),
    ("https://exa mple.org/a.png", "not an http or https URL"),
    ("http://[::1/a.png", "not an http or https URL"),
    ("https://example.org/" + "a" * 8_000 + ".png", "characters, more than 8000"),
    ("https://example.org/page", "media type of .* cannot be told; give it"),
    (b"\xff\x00", r"media type of files\[0\] cannot be told"),
    (File(b"x\x00", name="x.qqq"), r"media type of files\[0\] \(x.qqq\) cannot be told"),
    (b"", r"media type of files\[0\] cannot be told"),
    (File(b"x", media_type="PNG"), "the media_type of .* is 'PNG'; write it as"),
    (File(b"x", media_type="image/png; charset=x"), "media_type"),
    (File(b"x", name="a\nb.txt"), "the name of .* printable"),
    (File(b"x", name="", media_type="a/b"), "the name of .* printable"),
    (File(b"x" * 101, name="a.txt"), r"files\[0\] \(a.txt\) has 101 bytes, more than the 100 .*AGENTQ_MAX_FILE_BYTES"),
    (File(), "needs content or a url"),
    (File(b"x", url="https://example.org/a.png"), "needs content or a url, one of them"),
    (File("text"), "must be bytes, not str"),  # type: ignore[arg-type]
    (Path("/nowhere/at/all.png"), r"files\[0\] '/nowhere/at/all.png' cannot be read: No such file"),
    (Path("/"), "cannot be read: Is a directory"),
    (17, r"must be a pathlib.Path, bytes, a URL or a File, not int"),
    (None, "not NoneType"),
]


@pytest.mark.parametrize(("given", "words"), BAD)
def test_what_cannot_be_attached_is_refused(given: Any, words: str):
    with pytest.raises(InvalidInput, match=words) as refused:
        attached(given)
    assert refused.value.field == "files[0]"


@pytest.mark.parametrize("given", ["https://example.org/a.png", b"x", Path("a"), File(b"x")])
def test_one_file_without_a_list_is_refused(given: Any):
    with pytest.raises(InvalidInput, match="files must be a list"):
        read_files(given, SETTINGS)


def test_any_iterable_of_files_will_do():
    assert len(read_files((file for file in [PNG, PNG]), SETTINGS).parts) == 2
    with pytest.raises(InvalidInput, match="files must be a list, not int"):
        read_files(7, SETTINGS)  # type: ignore[arg-type]


def test_too_many_files_are_refused():
    with pytest.raises(InvalidInput, match="101 files are attached, more than 100"):
        attached(*[PNG] * 101)


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path):
    path = tmp_path / "huge.bin"
    with path.open("wb") as stream:
        stream.truncate(10**12)  # takes no room on the disk, and none in memory
    with pytest.raises(InvalidInput, match=r"huge.bin\) has 1000000000000 bytes"):
        attached(path)


def test_a_model_refuses_what_it_does_not_take():
    files = attached(File(PNG, name="a.png"), File(b"x", name="b.txt")).parts
    assert refusal(files, ("image/*", "text/plain"), "m") is None
    assert refusal(files, ("image/*",), "m") == "model m cannot take b.txt (text/plain); it takes image/*"
    assert refusal(files, (), "m") == "model m cannot take a.png (image/png); it takes no files"
    assert refusal((), (), "m") is None


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (File(b"x", name=123), "the name of files[0] must be text, not int"),  # type: ignore[arg-type]
        (File(url=5), "the url of files[0] must be text, not int"),  # type: ignore[arg-type]
        (Path("a\0b"), "cannot be read: embedded null byte"),
        ("https://ada:secret@example.org/a.png", "has a user or a password in it"),
        ("ftp://ada:secret@example.org/a.png", "has a user or a password in it"),
        (File(url="https://example.org/\ud800", name="a.png"), "is not an http or https URL"),
        ("https://example.org:99999999/a.png", "is not an http or https URL"),
    ],
    ids=str,
)
def test_what_is_no_file_at_all_is_refused_by_name(given: Any, why: str):
    with pytest.raises(InvalidInput, match=re.escape(why)) as caught:
        read_files([given], Settings())
    assert caught.value.field == "files[0]"
    assert "secret" not in str(caught.value)


def test_what_is_too_much_together_is_not_read_to_its_end(tmp_path: Path):
    paths = [tmp_path / f"{number}.txt" for number in range(4)]
    for path in paths:
        path.write_text(path.name * 10)
    (tmp_path / "3.txt").unlink()
    # The fourth is not there, and nobody looks.
    with pytest.raises(InvalidInput, match="AGENTQ_MAX_FILES_BYTES"):
        read_files(paths, Settings(max_files_bytes=100))
