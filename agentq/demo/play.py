"""The story of the demo: a Redis, two workers, one run, what happened, what to try next."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agentq.cli._errors import ExitCode
from agentq.cli._group import Options
from agentq.cli._output import count
from agentq.cli._watch import Look, Watch
from agentq.client_async import AsyncClient
from agentq.demo.place import Place, place
from agentq.demo.workers import COUNT, running_workers
from agentq.errors import AppNotFound
from agentq.events.model import IterationStarted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.cli._output import Output

AGENT = "calculator"
SCRIPT = """\
call add_numbers {"a": 7, "b": 9}
call multiply_numbers {"a": "$1", "b": 12}
call square_root {"x": "$2"}
say The answer is $3."""
QUESTION = "Take 7 + 9, times 12, and the square root of that. Use a tool for each step, and end with the answer."
# Chat Completions is what a server that is not OpenAI's has.
_MODEL_OF_A_SERVER = "openai-chat:gpt-4o-mini"
# A cheap model of each vendor, by the variable of its key.
_MODELS = {
    "OPENAI_API_KEY": "openai:gpt-4o-mini",
    "ANTHROPIC_API_KEY": "anthropic:claude-haiku-5-5",
    "GEMINI_API_KEY": "google:gemini-3-flash",
}
_NARROW = 68


@dataclass(frozen=True, slots=True)
class Model:
    """Which model plays, what it is asked, and a word about it for people."""

    name: str
    prompt: str
    about: str


def model_of(environ: Mapping[str, str]) -> Model:
    """The model that AGENTQ_MODEL names, else one that the environment has a key for; else the mock."""
    by = next((name for name in _MODELS if environ.get(name)), None)
    has_server = bool(environ.get("OPENAI_BASE_URL"))
    name = environ.get("AGENTQ_MODEL") or (_MODELS[by] if by else "mock")
    if by == "OPENAI_API_KEY" and has_server and not environ.get("AGENTQ_MODEL"):
        name = _MODEL_OF_A_SERVER
    if name.startswith("openai") and has_server and by is None:
        by = "OPENAI_BASE_URL"
    if name.partition(":")[0] == "mock" or by is None:
        return Model("mock", SCRIPT, "mock: built in, plays the script in the prompt; no key, no network")
    costs = "" if name.startswith("openai") and has_server else "; its calls cost a little"
    return Model(name, QUESTION, f"{name}, by your {by}{costs}")


async def play(out: Output, environ: Mapping[str, str]) -> ExitCode:
    """Play the demo from beginning to end. Raises `AgentQError` and `WorkersGone`, after everything is taken down."""
    checkout = _checkout()
    out.line(f"{out.style('agentq demo', 'bold')}: an agent takes 7 + 9, times 12, and the square root of that.\n")
    with place(environ.get("REDIS_URL") or None) as here:
        _fact(out, "redis", here.redis)
        for line in textwrap.wrap(here.warning, _NARROW):
            _fact(out, "", out.style(line, "yellow"))
        queue = here.settings.queue
        model = model_of(environ)
        with running_workers(
            here.folder, checkout=checkout, queue=queue, environ=_environ_of_workers(environ, here, model)
        ) as workers:
            async with AsyncClient(settings=here.settings) as client:

                async def are_ready() -> bool:
                    return len(await client.workers(queue) or ()) == COUNT and here.has_agents()

                await workers.ready(are_ready)
                _fact(out, "workers", f"{COUNT} processes: agentq worker -q {queue}")
                _fact(out, "model", model.about)
                if model.name == "mock" and not any(environ.get(name) for name in _MODELS):
                    _fact(out, "", f"with {' or '.join(_MODELS)} set, it is a real one")
                out.line()
                run = await client.enqueue(AGENT, model.prompt, queue=queue)
                watch = Watch(Options(redis_url=here.settings.redis_url), Look())
                code = await workers.do(watch.follow(client, [run.id]))
                if code is ExitCode.OK:
                    out.line(f"\n{await _account(client, run.id)}")
    if code is ExitCode.OK:
        _next(out)
    elif model.name != "mock":
        out.line("\nWithout a key, or with AGENTQ_MODEL=mock, the built-in model plays the demo.")
    return code


def _checkout() -> Path:
    """The directory with the deployment that the workers serve. Raises `AppNotFound`."""
    checkout = Path(__file__).parents[2]
    if not (checkout / "workers" / "app.py").is_file():
        raise AppNotFound("the demo needs a checkout of agentq: clone the repository and run `make demo` there")
    return checkout


def _environ_of_workers(environ: Mapping[str, str], here: Place, model: Model) -> dict[str, str]:
    """The environment without settings of agentq, which belong to other workers, and with those of the demo."""
    kept = {name: value for name, value in environ.items() if not name.startswith("AGENTQ_")}
    settings = here.settings
    return kept | {"REDIS_URL": settings.redis_url, "AGENTQ_PREFIX": settings.prefix, "AGENTQ_MODEL": model.name}


async def _account(client: AsyncClient, run_id: str) -> str:
    """Who did what, told from the events of the run."""
    iterations: Counter[str] = Counter()
    async with aclosing(client.events(run_id, live=False)) as events:
        async for event in events:
            if isinstance(event, IterationStarted):
                iterations[event.worker] += 1
    most, *others = [taken for _, taken in iterations.most_common()]
    who = f"one worker took {most}, the other {sum(others)}" if others else "one worker took them all"
    total = count(most + sum(others), "iteration")
    return (
        f"{total}, each a job on the queue: {who}.\n"
        "In between, the run is in Redis alone: any worker can go on with it, and does\n"
        "so when one dies."
    )


def _next(out: Output) -> None:
    """What to try next: commands that work when they are pasted."""
    agentq = _agentq()
    where = out.style("# REDIS_URL, or localhost:6379", "dim")
    out.line("\nThe demo has removed everything that it started. Three commands to go on with:\n")
    _fact(out, "without Redis", f"{agentq} run 'call roll_dice {{\"sides\": 20}}'", width=14)
    _fact(out, "a worker", f"{agentq} worker   {where}", width=14)
    _fact(out, "a run for it", f"{agentq} enqueue calculator 'call slow_count' -f", width=14)


def _agentq() -> str:
    """The command as the reader can type it here."""
    beside = Path(sys.executable).with_name("agentq")
    if shutil.which("agentq") == str(beside) or not beside.exists():
        return "agentq"
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else str(beside)


def _fact(out: Output, name: str, value: str, *, width: int = 8) -> None:
    out.line(f"  {out.style(f'{name:<{width}}', 'dim')} {value}")
