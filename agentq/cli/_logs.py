"""Log lines of the worker: for a person, or one JSON object each."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from agentq.cli._output import Output, one_line, printable, remark, time_of_day

# What every record has; the rest came by `extra=`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_COLOURS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


class TextFormat(logging.Formatter):
    """`12:03:04.123 INFO  message  key=value`: the extras that the message does not name itself stand at the end.

    Not the worker: a person reads the lines of one process, or of several behind prefixes.
    """

    def __init__(self, out: Output) -> None:
        super().__init__()
        self._out = out

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        extras = " ".join(
            f"{key}={value}"
            for key, value in _extras(record).items()
            if key != "worker" and value is not None and str(value) not in message
        )
        level = f"{record.levelname:<7}"
        if colour := _COLOURS.get(record.levelno):
            level = self._out.style(level, colour)
        at = self._out.style(time_of_day(int(record.created * 1000)), "dim")
        line = f"{at} {level} {' '.join(printable(message).splitlines())}"
        if extras:
            line += self._out.style(f"  {one_line(extras)}", "dim")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormat(logging.Formatter):
    """One object per line: at, level, logger, message, the extras, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def configure(*, as_json: bool, level: str) -> None:
    """Send the logs of this process to stderr. Libraries are heard from `warning` on, unless all is asked for."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormat() if as_json else TextFormat(Output(sys.stderr)))
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING))
    logging.getLogger("agentq").setLevel(number)
    logging.getLogger("workers").setLevel(number)
    logging.captureWarnings(True)
    # What no line shows need not be found out for each: the source line, the thread, the process. As the manual of
    # `logging` advises under "Optimization".
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - it has no other name


def remarks(*, as_json: bool, debug: bool, level: int = logging.WARNING) -> None:
    """Show what the library warns of while a command runs that is not the worker; with `debug` where it comes from."""
    logging.basicConfig(handlers=[_Remarks(as_json=as_json, debug=debug)], level=logging.WARNING if debug else level)


class _Remarks(logging.Handler):
    def __init__(self, *, as_json: bool, debug: bool) -> None:
        super().__init__()
        self._as_json = as_json
        self._debug = debug

    def emit(self, record: logging.LogRecord) -> None:
        message = one_line(record.getMessage())
        if not self._as_json:
            message = f"{record.levelname.lower()}: {message}"
        if record.exc_info and self._debug:
            message += f"\n{logging.Formatter().formatException(record.exc_info)}"
        remark("log", message, as_json=self._as_json)


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD and not key.startswith("_")}
