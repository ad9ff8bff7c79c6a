"""Nothing inside the package imports the package root. The layers are import-linter's (pyproject.toml)."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.helpers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FILES = sorted(set((ROOT / "agentq").rglob("*.py")) - {ROOT / "agentq" / "__init__.py"})


def _imports_of_root(source: str, path: Path) -> list[int]:
    """Line numbers of `import agentq`, `from agentq import name` and its relative form; a submodule is not a name."""
    to_root = len(path.relative_to(ROOT / "agentq").parts)
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names) if any(alias.name == "agentq" for alias in names):
                found.append(node.lineno)
            case ast.ImportFrom(module="agentq", level=0, names=names) if not _are_modules(names):
                found.append(node.lineno)
            case ast.ImportFrom(module=None, level=level, names=names) if level == to_root and not _are_modules(names):
                found.append(node.lineno)
    return found


def _are_modules(names: list[ast.alias]) -> bool:
    root = ROOT / "agentq"
    return all((root / f"{alias.name}.py").exists() or (root / alias.name).is_dir() for alias in names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_does_not_import_the_package_root(path: Path):
    assert _imports_of_root(path.read_text(), path) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import agentq", [1]),
        ("from agentq import tool", [1]),
        ("from .. import tool", [1]),
        ("from agentq import errors, tool", [1]),
        ("from agentq import errors", []),
        ("from . import base", []),
        ("from agentq.runs import Status", []),
    ],
)
def test_each_form_of_import_is_recognised(line: str, found: list[int]):
    assert _imports_of_root(line, ROOT / "agentq" / "stores" / "redis.py") == found
