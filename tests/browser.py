"""What a browser does: it asks over HTTP, and reads server-sent events as an EventSource does."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

# Longer than anything here lasts; a test that waits for it has failed.
_TIMEOUT_S = 30


def ask(url: str, body: str | None = None, **headers: str) -> tuple[int, str]:
    """The status and the body; status 0 when nobody answers."""
    request = urllib.request.Request(url, body.encode() if body else None, headers)  # noqa: S310 - our own server
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except (urllib.error.URLError, ConnectionError, http.client.HTTPException) as error:
        return 0, str(error)


@dataclass(frozen=True)
class Received:
    """One event as JavaScript gets it."""

    id: int
    type: str
    data: dict[str, Any]


class Browser:
    """One connection of an EventSource. `beats` counts the comments, which JavaScript does not see."""

    def __init__(self, url: str, *, last_event_id: int | None = None) -> None:
        place = urllib.parse.urlsplit(url)
        self._connection = http.client.HTTPConnection(place.netloc, timeout=_TIMEOUT_S)
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        self._connection.request(
            "GET", f"{place.path}?{place.query}", headers={"Accept": "text/event-stream"} | headers
        )
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.headers = self._answer.headers
        self.beats = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Go away without a word."""
        self._answer.close()
        self._connection.close()

    def __iter__(self) -> Iterator[Received]:
        """The events until the server ends the answer, or is gone."""
        fields: dict[str, str] = {}
        while line := self._line():
            name, _, value = line.rstrip("\n").partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
            elif line != "\n":
                self.beats += 1
            elif "data" not in fields:  # how long to wait before it connects again, say
                fields = {}
            else:
                yield Received(int(fields["id"]), fields["event"], json.loads(fields["data"]))
                fields = {}

    def read_all(self) -> list[Received]:
        return list(self)

    def read(self, count: int) -> list[Received]:
        """The next so many events."""
        events = iter(self)
        return [next(events) for _ in range(count)]

    def wait_for_beats(self, count: int) -> None:
        """Read on, past no event, until there were so many signs of life."""
        while self.beats < count:
            line = self._line()
            assert line in (":\n", "\n"), f"not a sign of life: {line!r}"
            self.beats += line == ":\n"

    def _line(self) -> str:
        try:
            return self._answer.readline().decode()
        except (ConnectionError, http.client.IncompleteRead):
            return ""
