"""The guide page shows the examples as they are, and their README starts them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

from tests.guide._pages import Block, blocks, links
from tests.helpers import ROOT

PAGE = ROOT / "docs" / "guide" / "web-app.md"
README = ROOT / "examples" / "README.md"
EXAMPLES = [path.read_text() for path in sorted((ROOT / "examples").glob("*_app.py")) if path.stem != "wsgi_app"]
EXCERPTS = [shown for shown in blocks(PAGE, "python") if "sketch" in shown.words]


@pytest.mark.parametrize("shown", EXCERPTS, ids=str)
def test_an_excerpt_stands_in_an_example(shown: Block):
    assert any(shown.text in example for example in EXAMPLES)


def test_every_example_is_shown():
    assert all(any(shown.text in example for shown in EXCERPTS) for example in EXAMPLES)


def test_the_readme_of_the_examples_leads_to_what_is_there():
    assert [target for target in links(README) if not (README.parent / target).exists()] == []


@pytest.mark.parametrize("command", re.findall(r"`((?:gunicorn|uvicorn) [^`]+)`", README.read_text()))
def test_a_command_of_the_readme_has_options_and_an_app_that_exist(command: str):
    program, *arguments = shlex.split(command)
    module, _, name = arguments[-1].partition(":")
    # In a process of its own: Django is set up once in a process.
    subprocess.run(
        [sys.executable, "-c", f"from {module} import {name}; assert callable({name})"], cwd=ROOT, check=True
    )
    shown = subprocess.run([sys.executable, "-m", program, "--help"], capture_output=True, text=True, check=True).stdout
    options = {word for word in arguments if word.startswith("-")}
    assert options <= set(re.findall(r"(?<!\S)--?[a-z][\w-]*", shown))
