"""The Redis of `agentq dev`: the one that is named, else one of this project's own, whose data stays."""

from __future__ import annotations

import fcntl
import hashlib
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from agentq._redis.connection import Connection
from agentq.errors import Conflict, InvalidInput, StoreUnavailable
from agentq.private_redis import PrivateRedis, private_redis
from agentq.settings import state_folder

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is, and what people are told of it."""

    url: str
    about: str
    warning: str = ""
    is_own: bool = False

    @property
    def shown_url(self) -> str:
        """The URL as it may stand on a screen: a password of the user's is left out.

        The one of a Redis of our own opens nothing but that, and where would the user have it from?
        """
        has_secret = "@" in self.url or "password=" in self.url
        return "…  # the same as here" if has_secret and not self.is_own else self.url


@contextmanager
def place(project: Path, named_url: str | None) -> Iterator[Place]:
    """A Redis for the block.

    Raises `InvalidInput` for what is no Redis URL, `Conflict` when another `dev` of the project has its Redis, and
    `StoreUnavailable`.
    """
    if named_url is not None:
        # Connects nothing: the workers wait for a Redis that is away.
        where = Connection(named_url).where
        yield Place(named_url, f"at {where}, as REDIS_URL or --redis names it")
        return
    folder = folder_of(project)
    try:
        # Prompts and answers are nobody else's business.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "lock").touch()
    except OSError as error:
        raise InvalidInput(
            f"{error.filename or folder} cannot be written: {error.strerror or error}; "
            "name another folder with XDG_STATE_HOME, or a Redis with REDIS_URL",
            field="XDG_STATE_HOME",
        ) from error
    with _locked(folder) as note, _own_redis(folder) as own:
        # The same address the next time, so that what was pasted into other terminals stays true.
        (folder / "port").write_text(own.url.rpartition(":")[2].partition("/")[0])
        note(own.url)
        kept = "nothing is kept" if own.warning else f"kept in {_short(folder)}"
        yield Place(own.url, f"of this project's own; {kept}", own.warning, is_own=True)


@contextmanager
def _own_redis(folder: Path) -> Iterator[PrivateRedis]:
    with ExitStack() as stack:
        try:
            own = stack.enter_context(private_redis(folder, durable=True, port=_number(folder / "port")))
        except StoreUnavailable as error:
            if any(folder.glob("appendonly*")):
                error.add_note(f"its data and its log are in {folder}; it starts afresh when they are moved away")
            raise
        yield own


def folder_of(project: Path) -> Path:
    """Where a project's Redis keeps its data: in the user's state folder, by the project's name and path."""
    path = project.resolve()
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    return state_folder() / "agentq" / "dev" / f"{path.name or 'root'}-{digest}"


def running_here(project: Path) -> str | None:
    """The address of the Redis that a running `dev` of the project has; None where there is none."""
    try:
        with (folder_of(project) / "lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or None
            return None
    except (OSError, InvalidInput):  # no `dev` has ever been here, or none can be
        return None


@contextmanager
def _locked(folder: Path) -> Iterator[_Note]:
    """Hold the folder; a process that is killed lets it go."""
    with (folder / "lock").open("a+") as file:
        # `running_here` holds it for a moment.
        if not any(_lock(file, wait_s) for wait_s in (0, 0.05, 0.1)):
            file.seek(0)
            url = file.read().strip()
            where = f", with REDIS_URL={url}" if url else ""
            raise Conflict(f"agentq dev is running for this project already{where}")
        file.truncate(0)
        yield _Note(file.name)


def _lock(file: IO[str], wait_s: float) -> bool:
    time.sleep(wait_s)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Note:
    """Writes into the lock file, for who finds it locked."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def __call__(self, text: str) -> None:
        self._path.write_text(text)


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _short(path: Path) -> str:
    with suppress(RuntimeError, ValueError):  # this user has no home, or the path is elsewhere
        return f"~/{path.relative_to(Path.home())}"
    return str(path)
