"""Server-sent events, byte for byte: bytes in, frames out, wherever the network cut them. Pure.

https://html.spec.whatwg.org/multipage/server-sent-events.html, read as model servers need it: lines end with LF, CRLF
or CR and nothing else, since JSON may hold U+0085, U+2028 and U+2029 as they are; the last frame counts even where its
blank line did not come; and JSON that stands in the stream without `data:`, as errors of Google do, is a frame too.
"""

from __future__ import annotations

from dataclasses import dataclass

# The longest reply of a model is a fraction of this; a server that never ends its frame must not fill the memory.
MAX_FRAME_BYTES = 8_000_000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class FrameTooLarge(ValueError):
    """A frame grew beyond the limit."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One event. `data` are its data lines, joined with LF; `event_id` is the last id that was sent, in any frame.

    `is_bare`: the lines had no `data:` before them, and begin as JSON does.
    """

    data: bytes
    event: str = ""
    event_id: str = ""
    is_bare: bool = False


class SseParser:
    """Takes a stream in pieces of any size; `feed` returns the frames that are complete, `end` what was left.

    `progress` counts the bytes so far of lines that say something: neither comments nor blank lines.
    """

    def __init__(self, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.progress = 0
        self._max_frame_bytes = max_frame_bytes
        self._line: list[bytes] = []  # the pieces of a line that has not ended
        self._size = 0  # of that line and of the frame that it belongs to
        self._skips_lf = False
        self._is_first_line = True
        self._data: list[bytes] = []
        self._is_bare = False  # what the data lines are
        self._event = ""
        self._event_id = ""

    def feed(self, piece: bytes) -> list[Frame]:
        """The frames that `piece` completes. Raises `FrameTooLarge`."""
        if self._skips_lf and piece:
            # A CR ended the last line at once. An LF after it belongs to it.
            self._skips_lf = False
            piece = piece.removeprefix(b"\n")
        if b"\r" in piece:
            self._skips_lf = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *rest = piece.split(b"\n")
        self._keep(first)
        if not rest:
            return []
        frames: list[Frame] = []
        self._take(b"".join(self._line), frames)
        for line in rest[:-1]:
            self._count(line, line)
            self._take(line, frames)
        self._line = []
        self._keep(rest[-1])
        return frames

    def end(self) -> list[Frame]:
        """The frame that the end of the stream completes, if there is one."""
        frames: list[Frame] = []
        if self._line:
            self._take(b"".join(self._line), frames)
            self._line = []
        self._dispatch(frames)
        return frames

    def _keep(self, piece: bytes) -> None:
        """A piece of a line that goes on."""
        if piece:
            self._line.append(piece)
            self._count(piece, self._line[0])

    def _count(self, piece: bytes, line: bytes) -> None:
        self._size += len(piece)
        if self._size > self._max_frame_bytes:
            raise FrameTooLarge(f"an event has more than {self._max_frame_bytes} bytes")
        if not line.startswith(b":"):
            self.progress += len(piece)

    def _take(self, line: bytes, frames: list[Frame]) -> None:
        """A whole line."""
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            self._dispatch(frames)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                if self._is_bare:
                    self._begin_anew(line, frames)
                self._data.append(value)
            case b"event":
                self._event = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._event_id = value.decode("utf-8", "replace")
            case b"":
                self._size -= len(line)  # comments may come for as long as they like
            case _ if self._is_bare or line.lstrip().startswith((b"{", b"[")):
                if not self._is_bare:
                    self._begin_anew(line, frames)
                self._is_bare = True
                self._data.append(line)

    def _begin_anew(self, line: bytes, frames: list[Frame]) -> None:
        """The line is the first of another frame, and no blank one has come before it."""
        self._dispatch(frames)
        self._size = len(line)

    def _dispatch(self, frames: list[Frame]) -> None:
        if self._data:
            frames.append(Frame(b"\n".join(self._data), self._event, self._event_id, self._is_bare))
            self._data = []
        self._is_bare = False
        self._event = ""
        self._size = 0
