"""Where a run's lines go: text that grows in place, whole lines, and a line that is replaced by the next one."""

from __future__ import annotations

from agentq.cli._output import Output, clip, columns, time_of_day


class Page:
    """The lines of one run on an output.

    With a `label` several runs share the output: then a line is written only when it is whole, so that texts do not
    mix. Without one, streamed text appears piece by piece.
    """

    def __init__(self, out: Output, *, label: str = "", colour: str = "cyan", timestamps: bool = False) -> None:
        self._out = out
        self._label = f"{out.style(label, colour)} {out.style('│', 'dim')} " if label else ""
        self._label_columns = columns(label) + 3 if label else 0
        self._timestamps = timestamps
        self.can_replace = out.is_tty and not label
        self._open: tuple[str, ...] | None = None
        self._buffer = ""
        self._is_replaceable = False
        self._is_mid_line = False
        self.at_ms = 0

    @property
    def room(self) -> int | None:
        """Columns that are left for a line; None where nothing limits it."""
        width = self._out.width
        if width is None:
            return None
        return max(width - self._label_columns - (13 if self._timestamps else 0), 20)

    def style(self, text: str, *styles: str) -> str:
        return self._out.style(text, *styles)

    def line(self, text: str) -> None:
        """Write one whole line, after what was open."""
        self.close()
        self._out.write(f"{self._prefix()}{text}\n")
        self._out.flush()

    def replaceable(self, text: str) -> None:
        """Write a line that the next one replaces; where that cannot be, an ordinary line. `text` has no styles."""
        if not self.can_replace:
            self.line(self.style(text, "dim"))
            return
        self.close()
        self._out.write(self._prefix() + self.style(clip(text, self.room and self.room - 1), "dim"))
        self._out.flush()
        self._is_replaceable = True

    def stream(self, text: str, *styles: str, marker: str = "") -> None:
        """Add `text` to the open text of the same `styles`, or begin one; each of its lines begins with `marker`."""
        if not text:
            return
        if self._open != styles:
            self.close()
            self._open = styles
        for number, piece in enumerate(text.split("\n")):
            if number:
                self._end_line()
            if piece:
                self._begin_line(self.style(marker, *styles))
                self._put(self.style(piece, *styles))
        if not self._label:
            self._out.flush()

    def close(self) -> None:
        """End the open text, if any, and wipe a replaceable line."""
        if self._is_replaceable:
            self._wipe()
        if self._is_mid_line:
            self._end_line()
        self._open = None

    def _wipe(self) -> None:
        self._out.write("\r\x1b[2K")
        self._is_replaceable = False

    def _begin_line(self, marker: str) -> None:
        if not self._is_mid_line:
            self._put(self._prefix() + marker)
            self._is_mid_line = True

    def _end_line(self) -> None:
        self._begin_line("")
        self._put("\n")
        self._is_mid_line = False
        if self._label:
            self._out.write(self._buffer)
            self._out.flush()
            self._buffer = ""

    def _put(self, text: str) -> None:
        if self._label:
            self._buffer += text
        else:
            self._out.write(text)

    def _prefix(self) -> str:
        stamp = self._out.style(time_of_day(self.at_ms), "dim") + " " if self._timestamps else ""
        return stamp + self._label
