"""Files of prompts and results: what may be attached, and what of it a message says and the store keeps."""

from __future__ import annotations

import fnmatch
import hashlib
import mimetypes
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agentq.errors import InvalidInput
from agentq.messages import STORED_FILE, FilePart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentq.settings import Settings

_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")
# How the content of common files begins, for those that have no name to tell.
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
)
# Providers refuse longer ones, and an address is not a place for data.
_MAX_URL_CHARS = 8_000
_MAX_NAME_CHARS = 200
_MAX_FILES = 100


@dataclass(frozen=True, slots=True)
class File:
    """A file to attach: its content, or the `url` where the model's provider fetches it.

    Where `media_type` (`image/png`) is not given, the name tells it, else how the content begins; other UTF-8 is text.
    """

    content: bytes | None = None
    name: str | None = None
    media_type: str | None = None
    url: str | None = None


# A path is read where it is given; text is a URL and never a path, so that what a user typed opens no file.
Attachable = File | Path | bytes | str


@dataclass(frozen=True, slots=True)
class Attached:
    """What a message says of its files, and the contents to store, by SHA-256 in hex: each of them once."""

    parts: tuple[FilePart, ...] = ()
    contents: Mapping[str, bytes] = field(default_factory=dict)


def read_files(given_files: Iterable[Attachable], settings: Settings) -> Attached:
    """Read and check what is attached. Blocks while it reads. Raises `InvalidInput` that names the file and the fix."""
    if isinstance(given_files, str | bytes | os.PathLike | File):
        raise InvalidInput("files must be a list: [...] around the one", field="files")
    if not isinstance(given_files, Iterable):
        raise InvalidInput(f"files must be a list, not {type(given_files).__name__}", field="files")
    files = tuple(given_files)
    if len(files) > _MAX_FILES:
        raise InvalidInput(f"{len(files)} files are attached, more than {_MAX_FILES}", field="files")
    parts: list[FilePart] = []
    contents: dict[str, bytes] = {}
    total = 0
    for number, given in enumerate(files):
        field = f"files[{number}]"
        file = _opened(given, settings.max_file_bytes, field)
        if file.url is not None:
            parts.append(_by_url(file, field))
            continue
        content = file.content or b""
        _check_size(len(content), settings.max_file_bytes, field, file.name, "MAX_FILE_BYTES")
        digest = hashlib.sha256(content).hexdigest()
        total += 0 if digest in contents else len(content)
        # At once, so that not everything is read that is too much together.
        _check_size(total, settings.max_files_bytes, "files", None, "MAX_FILES_BYTES")
        contents[digest] = content
        media_type = _media_type(file, content, field)
        parts.append(
            FilePart(url=STORED_FILE + digest, media_type=media_type, name=_name(file, field), size=len(content))
        )
    return Attached(tuple(parts), contents)


def refusal(files: Sequence[FilePart], taken: Sequence[str], model: str) -> str | None:
    """Why `model` cannot take one of the files, in words for people; None if it takes all.

    `taken` are the media types that it takes, as patterns such as `image/*`.
    """
    for file in files:
        if not is_taken(file, taken):
            what = f"it takes {', '.join(taken)}" if taken else "it takes no files"
            return f"model {model} cannot take {file.name or file.url} ({file.media_type}); {what}"
    return None


def is_taken(file: FilePart, taken: Sequence[str]) -> bool:
    """Whether the file is of one of the media types, which are patterns such as `image/*`."""
    return any(fnmatch.fnmatchcase(file.media_type, pattern) for pattern in taken)


def described(file: FilePart) -> str:
    """What a file is, in a few words: `image/png chart.png, 12 KB`."""
    name = file.name or (file.url if file.digest is None else "")
    size = "" if file.size is None else f", {in_words(file.size)}"
    return f"{file.media_type} {name}".rstrip() + size


def untaken(file: FilePart, why: str = "this model does not take it") -> str:
    """The line that a model reads in place of a file that a tool returned."""
    return f"[{described(file)}: {why}]"


def in_words(size: int) -> str:
    """A number of bytes: `812 bytes`, `12 KB`, `1.2 MB`."""
    if size < 1_000:
        return f"{size} bytes"
    return f"{size / 1_000:.0f} KB" if size < 999_500 else f"{size / 1_000_000:.1f} MB"


def _opened(given: object, max_bytes: int, field: str) -> File:
    match given:
        case File():
            if (given.content is None) == (given.url is None):
                raise InvalidInput(f"{field} needs content or a url, one of them", field=field)
            for what, text in (("name", given.name), ("url", given.url)):
                _check_is_text(text, f"the {what} of {field}", field)
            content: object = given.content
            if content is not None and not isinstance(content, bytes):
                kind = type(content).__name__
                raise InvalidInput(f"the content of {field} must be bytes, not {kind}", field=field)
            return given
        case bytes():
            return File(given)
        case str():
            return File(url=given)
        case os.PathLike():
            return _read(Path(given), max_bytes, field)
        case _:
            kind = type(given).__name__
            raise InvalidInput(f"{field} must be a pathlib.Path, bytes, a URL or a File, not {kind}", field=field)


def _read(path: Path, max_bytes: int, field: str) -> File:
    try:
        # One byte more than is allowed tells that it is too large, however large it is or grows.
        with path.open("rb") as stream:
            content = stream.read(max_bytes + 1)
            size = max(os.fstat(stream.fileno()).st_size, len(content))
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"{field} {str(path)!r} cannot be read: {reason}", field=field) from error
    _check_size(size, max_bytes, field, path.name, "MAX_FILE_BYTES")
    return File(content, name=path.name)


def _by_url(file: File, field: str) -> FilePart:
    url = file.url or ""
    try:
        parts = urlsplit(url)
        has_place = bool(parts.netloc) and parts.port != 0
    except ValueError:
        parts, has_place = urlsplit(""), False
    if "@" in parts.netloc:
        raise InvalidInput(
            f"the URL of {field} has a user or a password in it, which would be stored; give one that needs none",
            field=field,
        )
    # Halves of surrogate pairs have no UTF-8 form.
    if parts.scheme not in ("http", "https") or not has_place or re.search(r"[\s\x00-\x1f\x7f\ud800-\udfff]", url):
        raise InvalidInput(
            f"{field} {url[:80]!r} is not an http or https URL; a file on this machine is given as pathlib.Path(...)",
            field=field,
        )
    if len(url) > _MAX_URL_CHARS:
        raise InvalidInput(f"the URL of {field} has {len(url)} characters, more than {_MAX_URL_CHARS}", field=field)
    named = file if file.name or file.media_type else File(url=url, name=parts.path.rpartition("/")[2] or None)
    return FilePart(url=url, media_type=_media_type(named, b"", field), name=_name(named, field))


def _media_type(file: File, content: bytes, field: str) -> str:
    if file.media_type is not None:
        if not isinstance(file.media_type, str) or not _MEDIA_TYPE.fullmatch(file.media_type):
            raise InvalidInput(
                f"the media_type of {field} is {file.media_type!r}; write it as 'image/png', in lower case", field=field
            )
        return file.media_type
    guessed, packed = mimetypes.guess_type(file.name) if file.name else (None, None)
    if packed is not None:
        guessed = f"application/{'' if packed == 'gzip' else 'x-'}{packed}"
    if guessed is None:
        guessed = next((kind for start, kind in _SIGNATURES if content.startswith(start)), None)
    if guessed is None and content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        guessed = "image/webp"
    if guessed is None and content and _is_text(content):
        guessed = "text/plain"
    if guessed is None:
        which = f" ({file.name})" if file.name else ""
        raise InvalidInput(
            f"the media type of {field}{which} cannot be told; give it: File(..., media_type='image/png')", field=field
        )
    return guessed


def _check_is_text(text: object, what: str, field: str) -> None:
    if text is not None and not isinstance(text, str):
        raise InvalidInput(f"{what} must be text, not {type(text).__name__}", field=field)


def _is_text(content: bytes) -> bool:
    try:
        return "\x00" not in content.decode()
    except UnicodeDecodeError:
        return False


def _name(file: File, field: str) -> str | None:
    name = file.name
    if name is None:
        return None
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME_CHARS or not name.isprintable():
        raise InvalidInput(
            f"the name of {field} must be printable text of 1 to {_MAX_NAME_CHARS} characters", field=field
        )
    return name


def _check_size(size: int, most: int, field: str, name: str | None, setting: str) -> None:
    if size > most:
        which = f" ({name})" if name else ""
        raise InvalidInput(
            f"{field}{which} has {size} bytes, more than the {most} that are allowed; "
            f"give a URL instead, or raise AGENTQ_{setting}",
            field=field,
        )
