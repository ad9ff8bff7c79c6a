"""docs/http-api.md is what the API says of itself, and every code that it may answer with is there."""

from __future__ import annotations

import inspect
import re
from difflib import unified_diff

import pytest

from agentq import errors
from agentq.web.api import endpoints
from agentq.web.problems import STATUS_OF, TITLES, code_of, document, status_of
from scripts.http_reference import PAGE, page
from tests.helpers import ROOT

ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.AgentQError)]
RAISED = re.compile(r"Problem\(\s*(\d+),\s*\"(\w+)\"")


def test_the_page_is_not_stale():
    changes = "\n".join(unified_diff(PAGE.read_text().splitlines(), page().splitlines(), n=0, lineterm=""))
    if changes:
        pytest.fail(f"docs/http-api.md is not what the API says now; run: make docs\n{changes}", pytrace=False)


def test_every_address_is_there():
    text = PAGE.read_text()
    assert [each.path for each in endpoints if f"`{each.method} {each.path.replace(':path}', '}')}`" not in text] == []


@pytest.mark.parametrize("kind", ERRORS, ids=code_of)
def test_every_error_has_a_code_of_its_own_and_a_status(kind: type[errors.AgentQError]):
    assert [each for each in ERRORS if code_of(each) == code_of(kind)] == [kind]
    assert code_of(kind) not in TITLES
    assert status_of(kind()) in STATUS_OF.values()
    assert f"| `{code_of(kind)}` | {status_of(kind())} | " in PAGE.read_text()


def test_every_code_that_is_answered_is_there_with_its_status():
    raised = {
        (int(status), code)
        for path in (ROOT / "agentq" / "web").rglob("*.py")
        for status, code in RAISED.findall(path.read_text())
    }
    assert len(raised) > 8
    for status, code in raised:
        assert f"| `{code}` | {status} | {TITLES[code]}" in PAGE.read_text()


def test_a_problem_says_what_the_standard_asks_for():
    assert document(404, "run_not_found", "There is no such run.", "there is no run R") == {
        "type": "urn:agentq:problem:run_not_found",
        "title": "There is no such run.",
        "status": 404,
        "detail": "there is no run R",
        "code": "run_not_found",
    }
