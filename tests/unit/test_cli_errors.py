"""Exceptions become exit codes in one place, and one line on stderr."""

from __future__ import annotations

import inspect
import io
import json

import click
import pytest
import redis

from agentq import errors
from agentq.cli._errors import EXIT_CODES, STATUS_CODES, ExitCode, describe, exit_code, report, worst
from agentq.cli._output import Output
from agentq.runs import Status

TREE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.AgentQError) and kind is not errors.AgentQError
]


@pytest.mark.parametrize("kind", TREE)
def test_every_exception_of_the_tree_has_an_exit_code(kind: type[errors.AgentQError]):
    assert any(base in EXIT_CODES for base in kind.__mro__), f"{kind.__name__} has no exit code"


def test_the_map_names_no_exception_that_is_not_in_the_tree():
    assert set(EXIT_CODES) <= set(TREE)


def test_every_status_has_an_exit_code():
    assert set(STATUS_CODES) == set(Status)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RunFailed(), 1),
        (errors.UnknownAgent(), 2),
        (errors.AppNotFound(), 2),
        (errors.InvalidInput(), 2),
        (errors.RunNotFound(), 3),
        (errors.RunCancelled(), 4),
        (errors.IdempotencyConflict(), 6),
        (errors.RunAlreadyFinished(), 6),
        (errors.StoreUnavailable(), 69),
        (errors.ResultTimeout(), 124),
        (errors.LeaseLost(), 1),
        (click.UsageError("no"), 2),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (ValueError("x"), 1),
    ],
)
def test_the_code_of_an_exception(error: BaseException, code: int):
    assert exit_code(error) == code


def test_several_runs_say_the_worst():
    assert worst([]) == ExitCode.OK
    assert worst([ExitCode.OK, ExitCode.CANCELLED, ExitCode.WAITS_FOR_PERSON]) == ExitCode.CANCELLED
    assert worst([ExitCode.FAILED, ExitCode.CANCELLED]) == ExitCode.FAILED
    assert worst([ExitCode.NOT_FOUND, ExitCode.OK]) == ExitCode.NOT_FOUND


def reported(error: BaseException, **how: bool) -> str:
    stream = io.StringIO()
    report(error, Output(stream, {}), **how)
    return stream.getvalue()


def test_an_error_is_one_line_with_what_to_do():
    text = reported(errors.StoreUnavailable("Redis at localhost:6379\ncannot be reached"))
    assert text == (
        "error: Redis at localhost:6379 cannot be reached (start Redis, or name another with --redis or REDIS_URL)\n"
    )


def test_the_word_error_is_red_where_colours_are_wanted():
    stream = io.StringIO()
    report(errors.RunNotFound("gone"), Output(stream, {"FORCE_COLOR": "1"}))
    assert stream.getvalue() == "\x1b[31;1merror:\x1b[0m gone\n"


def test_with_json_an_error_is_an_object():
    assert json.loads(reported(errors.RunNotFound("gone"), as_json=True)) == {
        "error": {"type": "RunNotFound", "message": "gone"}
    }


def test_the_traceback_comes_with_debug_only():
    error = errors.RunNotFound("gone")
    assert reported(error) == "error: gone\n"
    assert reported(error, debug=True) == "agentq.errors.RunNotFound: gone\nerror: gone\n"


@pytest.mark.parametrize("said", ["DB index is out of range", "ERR invalid DB index"])
def test_a_database_that_redis_does_not_have_is_a_wrong_url(said: str):
    error = redis.exceptions.ResponseError(said)
    assert exit_code(error) == 2
    assert describe(error)[1] == "this Redis has no database of that number; correct the end of --redis or REDIS_URL"
    assert exit_code(redis.exceptions.ResponseError("WRONGTYPE")) == 1


def test_an_unforeseen_error_says_what_it_is():
    assert describe(ValueError("too big")) == ("ValueError", "ValueError: too big (a bug? --debug shows the traceback)")
    assert describe(ValueError()) == ("ValueError", "ValueError (a bug? --debug shows the traceback)")
