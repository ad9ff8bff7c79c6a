"""A terminal as a screen: keys as they are pressed, lines where they belong, and everything as it was at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
from typing import TYPE_CHECKING, Any, Self

from agentq.cli._output import OutputClosed, stdout
from agentq.cli.inbox.keys import Key, Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# A terminal sends the rest of a key's bytes at once; over a slow line somewhat later.
_ESCAPE_S = 0.05
# The other screen, no cursor, no wrapping, pasted text marked; and all of that taken back.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?2004h\x1b[2J"
_LEAVE = "\x1b[?2004l\x1b[?7h\x1b[?25h\x1b[?1049l"
# What ends a program. Without a word from us they would leave the terminal as it is.
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Terminal:
    """The terminal of standard input and output, taken over for a block.

    `on_key` gets each key, `on_change` is called when the screen has to be drawn anew, `on_end` when a signal ends the
    program.
    """

    def __init__(
        self, *, on_key: Callable[[Key], None], on_change: Callable[[], None], on_end: Callable[[], None]
    ) -> None:
        self._on_key = on_key
        self._on_change = on_change
        self._on_end = on_end
        self._keys = Keys()
        self._settle: asyncio.TimerHandle | None = None
        self._shown: list[str] = []
        self._before: list[Any] = []
        self.is_lent = False
        self._in = sys.stdin.fileno()
        self.out = stdout()

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._in)
        self._take()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._in, self._read)
        loop.add_signal_handler(signal.SIGWINCH, self._changed)
        loop.add_signal_handler(signal.SIGTSTP, self._stop)
        for ends in _ENDS:
            loop.add_signal_handler(ends, self._ended, ends)
        return self

    def __exit__(self, *exc_info: object) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._in)
        for each in (signal.SIGWINCH, signal.SIGTSTP, *_ENDS):
            loop.remove_signal_handler(each)
        self._give_back()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now."""
        try:
            columns, lines = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            columns, lines = 0, 0
        return columns or 80, lines or 24

    def draw(self, lines: Sequence[str], cursor: tuple[int, int] | None = None) -> None:
        """Show `lines`, of which those are written that have changed; `cursor` is line and column from 0."""
        parts = ["\x1b[?25l"]
        for number in range(max(len(lines), len(self._shown))):
            line = lines[number] if number < len(lines) else ""
            if number >= len(self._shown) or self._shown[number] != line:
                parts.append(f"\x1b[{number + 1};1H\x1b[2K{line}")
        if cursor is not None:
            parts.append(f"\x1b[{cursor[0] + 1};{cursor[1] + 1}H\x1b[?25h")
        self._shown = list(lines)
        self.out.write("".join(parts))
        self.out.flush()

    def redraw(self) -> None:
        """Forget what is shown: the next frame is written in full."""
        self._shown = []
        self.out.write("\x1b[2J")

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Give the terminal to another program for the block."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._in)
        self._give_back()
        self.is_lent = True
        try:
            yield
        finally:
            self.is_lent = False
            self._take()
            loop.add_reader(self._in, self._read)

    def _take(self) -> None:
        attributes = termios.tcgetattr(self._in)
        attributes[3] &= ~(termios.ICANON | termios.ECHO)
        attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._in, termios.TCSAFLUSH, attributes)
        self._shown = []
        self.out.write(_ENTER)
        self.out.flush()

    def _give_back(self) -> None:
        with contextlib.suppress(OSError, OutputClosed):  # it may be gone
            self.out.write(_LEAVE)
            self.out.flush()
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(self._in, termios.TCSAFLUSH, self._before)

    def _read(self) -> None:
        try:
            read = os.read(self._in, 4096)
        except OSError:
            read = b""
        if not read:  # the terminal is gone
            asyncio.get_running_loop().remove_reader(self._in)
            self._on_end()
            return
        if self._settle is not None:
            self._settle.cancel()
            self._settle = None
        for key in self._keys.feed(read):
            self._on_key(key)
        if self._keys.is_waiting:
            self._settle = asyncio.get_running_loop().call_later(_ESCAPE_S, self._settled)

    def _settled(self) -> None:
        for key in self._keys.settle():
            self._on_key(key)

    def _changed(self) -> None:
        if not self.is_lent:
            self.redraw()
            self._on_change()

    def _ended(self, ends: signal.Signals) -> None:
        if not (self.is_lent and ends is signal.SIGINT):  # that was meant for the other program
            self._on_end()

    def _stop(self) -> None:
        """Ctrl-Z: the shell gets its terminal as it was, until it says `fg`."""
        if self.is_lent:
            os.kill(os.getpid(), signal.SIGSTOP)
            return
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self._changed()
