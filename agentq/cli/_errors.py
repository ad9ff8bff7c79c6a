"""Exit codes, and errors in one line. The only place where an exception becomes an exit code."""

from __future__ import annotations

import json
from enum import IntEnum
from typing import TYPE_CHECKING

import click

from agentq import errors
from agentq.cli._output import Output, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping


class ExitCode(IntEnum):
    """What a command says to the shell. 69 is EX_UNAVAILABLE, 124 what timeout(1) says, the rest above 128 a signal."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    CANCELLED = 4
    WAITS_FOR_PERSON = 5
    CONFLICT = 6
    UNAVAILABLE = 69
    TIMEOUT = 124
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


# What each code means, in the words of `agentq --help` and docs/cli.md.
MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.OK: "ok",
    ExitCode.FAILED: "run failed",
    ExitCode.USAGE: "usage",
    ExitCode.NOT_FOUND: "not found",
    ExitCode.CANCELLED: "cancelled",
    ExitCode.WAITS_FOR_PERSON: "waits for a person",
    ExitCode.CONFLICT: "conflict",
    ExitCode.UNAVAILABLE: "Redis unavailable",
    ExitCode.TIMEOUT: "timeout",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.OUTPUT_CLOSED: "output closed",
}
# What any command can say; the others are named by the commands (`exits=`). OUTPUT_CLOSED is for a shell's pipes only.
COMMON_EXITS = (ExitCode.OK, ExitCode.USAGE, ExitCode.INTERRUPTED)
# How a run ended or rests, for the commands that answer with it.
RUN_EXITS = (ExitCode.FAILED, ExitCode.CANCELLED, ExitCode.WAITS_FOR_PERSON)

# An exception has the code of its nearest base that is named here. A test holds this against `agentq.errors`.
EXIT_CODES: Mapping[type[errors.AgentQError], ExitCode] = {
    errors.InvalidInput: ExitCode.USAGE,
    errors.NotFound: ExitCode.NOT_FOUND,
    errors.Conflict: ExitCode.CONFLICT,
    errors.LeaseError: ExitCode.FAILED,
    errors.RunFailed: ExitCode.FAILED,
    errors.RunCancelled: ExitCode.CANCELLED,
    errors.RunError: ExitCode.FAILED,
    errors.ResultTimeout: ExitCode.TIMEOUT,
    errors.StoreUnavailable: ExitCode.UNAVAILABLE,
    errors.StoreCorrupted: ExitCode.FAILED,
    errors.WebhookNotVerified: ExitCode.FAILED,
    errors.ForeignJob: ExitCode.FAILED,
    errors.ContextError: ExitCode.FAILED,
    errors.PolicyRefused: ExitCode.FAILED,
    errors.ProviderError: ExitCode.FAILED,
    errors.ToolError: ExitCode.FAILED,
}

# By the values of `Status`, which is not imported for `agentq --help`. A test holds this against it.
STATUS_CODES: Mapping[str, ExitCode] = {
    "queued": ExitCode.OK,
    "running": ExitCode.OK,
    "waiting": ExitCode.WAITS_FOR_PERSON,
    "paused": ExitCode.OK,
    "completed": ExitCode.OK,
    "failed": ExitCode.FAILED,
    "cancelled": ExitCode.CANCELLED,
}

# From harmless to bad: a command about several runs says the worst.
_SEVERITY = (
    ExitCode.OK,
    ExitCode.WAITS_FOR_PERSON,
    ExitCode.CANCELLED,
    ExitCode.TIMEOUT,
    ExitCode.CONFLICT,
    ExitCode.NOT_FOUND,
    ExitCode.FAILED,
)

# What to do about it, in terms of the command line, which the library does not know.
_FIXES: Mapping[type[errors.AgentQError], str] = {
    errors.StoreUnavailable: "start Redis, or name another with --redis or REDIS_URL",
    errors.AccessRefused: "correct it in --redis or REDIS_URL: redis://user:password@host:port/number",
    errors.IdempotencyConflict: "send the same input, or use another --key",
}


def exit_code(error: BaseException) -> ExitCode:
    """The exit code for an exception of any kind."""
    for kind in type(error).__mro__:
        if kind in EXIT_CODES:
            return EXIT_CODES[kind]
    if isinstance(error, click.UsageError) or _is_wrong_database(error):
        return ExitCode.USAGE
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return ExitCode.INTERRUPTED
    return ExitCode.FAILED


def worst(codes: list[ExitCode]) -> ExitCode:
    """The code that matters most."""
    return max(codes, key=_SEVERITY.index, default=ExitCode.OK)


def report(error: BaseException, out: Output, *, as_json: bool = False, debug: bool = False) -> None:
    """Say what went wrong in one line, or as a JSON object; with `debug` after the traceback."""
    if debug:
        import traceback

        out.write("".join(traceback.format_exception(error)))
    kind, message = describe(error)
    if kind == "Interrupted" and out.is_tty:
        out.line()  # the terminal has written ^C
    if as_json:
        out.line(json.dumps({"error": {"type": kind, "message": message}}, ensure_ascii=False))
    else:
        out.line(f"{out.style('error:', 'red', 'bold')} {message}")


def describe(error: BaseException) -> tuple[str, str]:
    """The error's kind, and one line about it with what to do."""
    match error:
        case click.UsageError():
            help_of = f" (see: {error.ctx.command_path} --help)" if error.ctx else ""
            return "UsageError", one_line(error.format_message()) + help_of
        case click.ClickException():
            return type(error).__name__, one_line(error.format_message())
        case errors.AgentQError():
            message = one_line(str(error))
            # What was noted on the way here is nearer to the case than what can be said of its kind.
            fix = next(iter(getattr(error, "__notes__", ())), None) or fix_of(error)
            return type(error).__name__, f"{message.rstrip('.')} ({fix})" if fix else message
        case KeyboardInterrupt() | click.Abort():
            return "Interrupted", "interrupted"
        case _ if _is_wrong_database(error):
            return "InvalidInput", "this Redis has no database of that number; correct the end of --redis or REDIS_URL"
        case _ if type(error).__name__ == "NoPermissionError":  # by name, as above
            return "NoPermission", f"Redis refuses: {one_line(str(error))} (allow it: ACL SETUSER; see agentq doctor)"
        case _:
            text = one_line(str(error))
            name = type(error).__name__
            return name, f"{name}{f': {text}' if text else ''} (a bug? --debug shows the traceback)"


def fix_of(error: errors.AgentQError) -> str:
    """What can be done about errors of this kind; empty where the message says it."""
    return next((_FIXES[kind] for kind in type(error).__mro__ if kind in _FIXES), "")


def _is_wrong_database(error: BaseException) -> bool:
    """Whether Redis refused the number in its URL. By name: redis is not imported to say what went wrong."""
    text = str(error).lower()
    return type(error).__name__ == "ResponseError" and (
        "db index is out of range" in text or "invalid db index" in text
    )
