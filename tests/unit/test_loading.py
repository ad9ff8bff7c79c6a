"""`load_app` finds the app, and says in one line why it did not and what to do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from agentq.errors import AppNotFound
from agentq.loading import load_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

APP = "class AgentQ:\n    agents = {}\n\napp = AgentQ()\nother = AgentQ()\nnumber = 7\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Write a module into a project of its own, which is the current directory; imports are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _refusal(spec: str) -> str:
    with pytest.raises(AppNotFound) as caught:
        load_app(spec)
    assert caught.value.field == "app"
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_app_is_found_in_the_current_directory(write: Callable[[str, str], None], tmp_path: Path):
    write("deployment/agents.py", APP)
    app = load_app("deployment.agents:app")
    assert type(app).__name__ == "AgentQ"
    assert sys.path[0] == str(tmp_path)


def test_the_current_directory_is_added_once(write: Callable[[str, str], None], tmp_path: Path):
    write("project.py", APP)
    load_app("project:app")
    load_app("project:other")
    assert sys.path.count(str(tmp_path)) == 1


def test_an_attribute_of_an_attribute_can_be_named(write: Callable[[str, str], None]):
    write("project.py", f"{APP}class Deployment:\n    app = AgentQ()\n")
    assert type(load_app("project:Deployment.app")).__name__ == "AgentQ"


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("workers.app", "workers.app:app"),
        ("workers/app.py:main", "workers.app:main"),
        ("./workers/app.py", "workers.app:app"),
        ("", "workers.app:app"),
        (":app", "workers.app:app"),
        ("a:b:c", "workers.app:app"),
        ("two words:app", "workers.app:app"),
    ],
)
def test_a_path_in_another_form_says_how_to_write_it(spec: str, meant: str):
    assert _refusal(spec) == f"{spec!r} is not the path of an app; write MODULE:OBJECT, such as {meant}"


@pytest.mark.parametrize("spec", ["nowhere:app", "nowhere.inside:app"])
def test_a_missing_module_says_where_it_was_looked_for(spec: str, write: Callable[[str, str], None], tmp_path: Path):
    message = _refusal(spec)
    assert message.startswith(f"there is no module 'nowhere' in {tmp_path}; run the command in the project's directory")
    assert "--app MODULE:OBJECT or AGENTQ_APP" in message


def test_a_missing_submodule_names_the_submodule(write: Callable[[str, str], None]):
    write("deployment/__init__.py", "")
    assert "there is no module 'deployment.app'" in _refusal("deployment.app:app")


def test_an_import_that_fails_inside_the_module_names_the_import_and_its_line(write: Callable[[str, str], None]):
    write("deployment/app.py", "import json\nimport not_installed_anywhere\n")
    assert _refusal("deployment.app:app") == (
        "deployment.app cannot be imported: deployment/app.py line 2 imports 'not_installed_anywhere', "
        "which is not installed; install it, or correct the import"
    )


def test_an_import_that_fails_further_down_names_the_file_that_imports(write: Callable[[str, str], None]):
    write("deployment/app.py", "from deployment import tools\n")
    write("deployment/tools.py", "\n\nimport not_installed_anywhere\n")
    assert "deployment/tools.py line 3 imports 'not_installed_anywhere'" in _refusal("deployment.app:app")


def test_a_module_that_raises_names_the_line_and_the_reason(write: Callable[[str, str], None]):
    write("project.py", "import json\n\njson.loads('{')\n")
    message = _refusal("project:app")
    assert message.startswith("project cannot be imported: project.py line 3: JSONDecodeError: Expecting property name")


def test_a_syntax_error_names_its_line(write: Callable[[str, str], None]):
    write("project.py", "x = 1\nx = = 2\n")
    assert _refusal("project:app").startswith("project cannot be imported: project.py line 2: SyntaxError:")


def test_a_reason_of_several_lines_is_cut_to_the_first(write: Callable[[str, str], None]):
    write("project.py", "raise ValueError('first\\nsecond')\n")
    assert _refusal("project:app").endswith("ValueError: first")


def test_a_missing_attribute_says_which_apps_there_are(write: Callable[[str, str], None]):
    write("project.py", APP)
    assert _refusal("project:ap") == "module 'project' has no 'ap'; there is: project:app, project:other"


def test_a_module_without_an_app_says_how_to_make_one(write: Callable[[str, str], None]):
    write("project.py", "number = 7\n")
    assert _refusal("project:app") == "module 'project' has no 'app'; write app = AgentQ(agents=[...]) there"


def test_another_object_says_what_it_is(write: Callable[[str, str], None]):
    write("project.py", APP)
    assert _refusal("project:number") == (
        "project:number is of type int, not an AgentQ; there is: project:app, project:other"
    )
    assert _refusal("project:AgentQ").startswith("project:AgentQ is the class AgentQ, not an AgentQ")
