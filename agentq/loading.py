"""Finding the app that a command works on: `module:object`, from the current directory."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

from agentq.errors import AppNotFound

_SPEC = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def load_app(spec: str) -> object:
    """Import `module:object` and return the object, an AgentQ. Raises `AppNotFound` with one line that says what to do.

    The current directory can be imported from, as with `python -m`.
    """
    if not _SPEC.fullmatch(spec):
        raise AppNotFound(f"{spec!r} is not the path of an app; {_better(spec)}", field="app")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    module_name, _, path = spec.partition(":")
    module = _import(module_name)
    app: object = module
    for name in path.split("."):
        if not hasattr(app, name):
            raise AppNotFound(f"module {module_name!r} has no {path!r}; {_apps_in(module, module_name)}", field="app")
        app = getattr(app, name)
    if not _is_app(app):
        what = f"the class {app.__name__}" if isinstance(app, type) else f"of type {type(app).__name__}"
        raise AppNotFound(f"{spec} is {what}, not an AgentQ; {_apps_in(module, module_name)}", field="app")
    return app


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise AppNotFound(
                f"there is no module {error.name!r} in {Path.cwd()}; run the command in the project's directory, "
                "or name the app with --app MODULE:OBJECT or AGENTQ_APP",
                field="app",
            ) from error
        raise AppNotFound(
            f"{name} cannot be imported: {_place(error, own=False)} imports {error.name!r}, which is not installed; "
            "install it, or correct the import",
            field="app",
        ) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
        raise AppNotFound(f"{name} cannot be imported: {_place(error)}: {reason}", field="app") from error


def _place(error: Exception, *, own: bool = True) -> str:
    """The last line that was reached, of the user's own code if there is one, as `workers/app.py line 3`."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)} line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    last = ([frame for frame in frames if own and _is_own(frame.filename)] or frames)[-1]
    return f"{_shown(last.filename)} line {last.lineno}"


def _is_own(filename: str) -> bool:
    path = Path(filename)
    is_library = "site-packages" in path.parts or path.is_relative_to(Path(__file__).parent)
    return path.is_relative_to(Path.cwd()) and not is_library


def _shown(filename: str) -> str:
    return str(Path(filename).relative_to(Path.cwd())) if _is_own(filename) else filename


def _better(spec: str) -> str:
    """The path that was probably meant."""
    file, _, name = spec.partition(":")
    module = file.removesuffix(".py").replace("/", ".").strip(".")
    meant = f"{module}:{name or 'app'}"
    return f"write MODULE:OBJECT, such as {meant if _SPEC.fullmatch(meant) else 'workers.app:app'}"


def _is_app(value: object) -> bool:
    return not isinstance(value, type | ModuleType) and hasattr(value, "agents")


def _apps_in(module: ModuleType, name: str) -> str:
    apps = sorted(key for key, value in vars(module).items() if _is_app(value) and not key.startswith("_"))
    if apps:
        return f"there is: {', '.join(f'{name}:{key}' for key in apps)}"
    return "write app = AgentQ(agents=[...]) there"
