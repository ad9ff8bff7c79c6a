"""Checks of this machine: Python, what is installed under our name, and the app that workers are to load."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from agentq.errors import AgentQError, AppNotFound
from agentq.insight.checks import Check, failed, ok, warning
from agentq.loading import load_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from agentq.app import AgentQ

_OURS = "agentq-redis"
_THEIRS = "agentq"
_MIN_PYTHON = (3, 11)


def own_version() -> str:
    """The version of agentq that is installed, or that it runs from a checkout."""
    try:
        return metadata.version(_OURS)
    except metadata.PackageNotFoundError:
        return "(from a checkout)"


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """Whether this Python is new enough."""
    shown = ".".join(map(str, version))
    if version[:2] < _MIN_PYTHON:
        least = ".".join(map(str, _MIN_PYTHON))
        return failed("python", f"Python {shown} is too old", f"agentq needs Python {least} or newer")
    return ok("python", f"{platform.python_implementation()} {shown}")


def check_installed(
    find_version: Callable[[str], str] = metadata.version,
    providers: Callable[[], Mapping[str, Sequence[str]]] = metadata.packages_distributions,
) -> Iterator[Check]:
    """What is installed under our name. Another project is called `agentq` on the package index, and its files would
    lie on ours."""
    versions = {}
    for name in (_OURS, "rq", "redis", _THEIRS):
        try:
            versions[name] = find_version(name)
        except metadata.PackageNotFoundError:
            continue
    others = [name for name in dict.fromkeys(providers().get(_THEIRS, ())) if name not in (_OURS, _THEIRS)]
    if _OURS in versions:
        yield ok("agentq", f"{_OURS} {versions[_OURS]}, rq {versions.get('rq')}, redis-py {versions.get('redis')}")
    else:
        yield ok("agentq", f"agentq from the checkout at {Path(__file__).parents[2]}")
    if _THEIRS in versions:
        others.insert(0, f"{_THEIRS} {versions[_THEIRS]}")
    if others:
        names = " ".join(name.split()[0] for name in others)
        yield failed(
            "shadow",
            f"{' and '.join(others)}, another project, is installed too and brings a package `agentq` of its own",
            f"pip uninstall {names} {_OURS}; then: pip install {_OURS}",
        )
    else:
        yield ok("shadow", "no other distribution brings a package `agentq`")


def check_app(spec: str, *, is_named: bool) -> Iterator[Check]:
    """Load the app and look at its agents. Without a name, a missing default app is no fault: web apps need none."""
    try:
        app: AgentQ = load_app(spec)  # type: ignore[assignment]  # load_app has looked at it
    except AppNotFound as error:
        if is_named or not _is_absent(error, spec):
            yield failed("app", str(error), "correct it; workers cannot start")
        else:
            yield warning(
                "app",
                f"no app here: there is no {spec.partition(':')[0].replace('.', '/')}.py",
                "run this in the project's directory, or name it with --app; who only enqueues needs none",
            )
        return
    if not app.agents:
        yield failed("app", f"{spec} loads, but has no agents", "write AgentQ(agents=[...])")
        return
    yield ok("app", f"{spec} loads; agents: {', '.join(app.agents)}")
    yield _check_models(app)
    yield from _check_secrets(app)
    yield from _check_effects(app)


def _is_absent(error: AppNotFound, spec: str) -> bool:
    """Whether the module of `spec` is not there at all, rather than broken."""
    missing = error.__cause__
    return isinstance(missing, ModuleNotFoundError) and f"{spec.partition(':')[0]}.".startswith(f"{missing.name}.")


def _check_models(app: AgentQ) -> Check:
    """Whether every agent's model has a provider that is ready: a provider says itself that its key is missing."""
    try:
        app.check_models()
    except AgentQError as error:
        return failed("models", str(error), "correct the agent's model=, or set the key")
    models = sorted({model for agent in app.agents.values() for model in agent.models})
    return ok("models", f"models: {', '.join(models)}")


def _check_secrets(app: AgentQ) -> Iterator[Check]:
    try:
        app.check_secrets()
    except AgentQError as error:
        yield failed("secrets", str(error), "set the variable, or give AgentQ(secrets=...)")


def _check_effects(app: AgentQ) -> Iterator[Check]:
    silent = {
        agent.name: names
        for agent in app.agents.values()
        if (names := [each.tool.name for each in agent.known_tools.offered if not each.tool.declared_effect])
    }
    for agent, names in silent.items():
        yield warning(
            "effects",
            f"agent {agent}: no effect is declared for {', '.join(names)}, so no call is repeated after a crash",
            'write @tool(effect="none"), "idempotent" or "once"',
        )
