"""`Agent`: what a model is told, which tools it has, and how far a run of it may go."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.context.compaction import Compaction
from agentq.context.memory import Memory
from agentq.context.retrieval import checked_retrieval
from agentq.context.sections import Prompt
from agentq.decide import Limits
from agentq.errors import InvalidInput
from agentq.limits import RunLimits, SpendLimit, checked_spend
from agentq.loop.children import tool_of
from agentq.loop.hooks import Hooks, checked_hooks
from agentq.loop.remembering import MEMORY_TOOLS
from agentq.loop.toolbox import Toolbox, find_tools
from agentq.output import OutputType
from agentq.providers.registry import check_settings, parse_model
from agentq.runs import WHEN_BUSY, WhenBusy
from agentq.settings import check_name, times_to_live
from agentq.tools.toolset import Offered, ToolList, Unasked, checked_tools, clash, flatten, manifest_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq.context.retrieval import Retrieval, Retriever
    from agentq.context.sections import Section
    from agentq.runs import RunState
    from agentq.tools.function import Tool

logger = logging.getLogger(__name__)
_BACKOFF_MAX_MS = 30_000
# Where a class that is an agent keeps it.
OF_CLASS = "__agentq_agent__"
_AT_LEAST = {"max_iterations": 1, "max_parallel": 1, "max_error_retries": 0, "retry_backoff_s": 0}


@dataclass(frozen=True)
class Agent:
    """An agent by name. Validated when it is built; raises `InvalidInput` naming the field.

    `instructions` are a text, or a list of texts and `Section`s; `prompt` is where those are computed and kept.
    `memory` is what it remembers from run to run: `SessionMemory()` or `UserMemory()`.
    `retriever` finds passages for what the user said, before the model is asked; a `Retrieval` says how it is used.
    `compaction` says how much of a long transcript the model reads; without it, all.
    `model` is "provider:model", or several of them: the next one is asked where the ones before it fail.
    `model_settings` go to the provider as they are; those of one model alone stand under its name. `output_type` is
    what answers are: a pydantic model, or another type whose JSON is an object. `queue` is where its runs wait, if not
    on the queue that the settings name.
    `tools` are tools, functions, toolsets and sources such as MCP servers, or one function of the run, sync or async,
    that returns such a list and is asked in each iteration.
    `max_parallel` is how many calls of one reply run at once, where they may.
    `max_iterations` counts turns that made progress, `max_error_retries` consecutive turns that failed.
    `retry_backoff_s` is the first wait after a model call failed; it doubles up to 30 s.
    `hooks` are functions for policy; those of the app are asked after them.
    `limits` say what one run may use, where it does not say so itself;
    `spend` what runs may use together.
    `when_busy` is what a message of a session does while another one is answered, where the call does not say.
    `ttl_s` is how long its runs are kept when they have ended: one length, or a mapping such as `{"failed": 3600}`.
    """

    name: str
    instructions: str | Sequence[str | Section] = ""
    model: str | Sequence[str] = "mock"
    tools: ToolList = ()
    max_iterations: int = 16
    max_error_retries: int = 10
    queue: str | None = None
    when_busy: WhenBusy = "queue"
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    retry_backoff_s: float = 1.0
    ttl_s: float | Mapping[str, float] | None = None
    output_type: Any = None
    max_parallel: int = 10
    retriever: Retriever | Retrieval | None = None
    memory: Memory | None = None
    compaction: Compaction | None = None
    limits: RunLimits | None = None
    hooks: Hooks | Sequence[Hooks] = ()
    spend: Sequence[SpendLimit] = ()

    def __post_init__(self) -> None:
        check_name(self.name, field="name")
        if self.queue is not None:
            check_name(self.queue, field="queue")
        if self.when_busy not in WHEN_BUSY:
            raise InvalidInput(
                f"when_busy must be one of {', '.join(WHEN_BUSY)}, not {self.when_busy!r}", field="when_busy"
            )
        models = (self.model,) if isinstance(self.model, str) else tuple(self.model)
        if not models:
            raise InvalidInput("model names none; leave it out for mock", field="model")
        for model in models:
            parse_model(model)
        asked = self._models_asked(models)
        object.__setattr__(self, "_prompt", Prompt(self.instructions))
        if self.memory is not None and not isinstance(self.memory, Memory):
            raise InvalidInput(
                f"memory must be a SessionMemory or UserMemory, not {type(self.memory).__name__}", field="memory"
            )
        if self.limits is not None and not isinstance(self.limits, RunLimits):
            raise InvalidInput(f"limits must be RunLimits(...), not {self.limits!r}", field="limits")
        object.__setattr__(self, "spend", checked_spend(self.spend))
        object.__setattr__(self, "_retrieval", checked_retrieval(self.retriever))
        object.__setattr__(self, "hooks", checked_hooks(self.hooks))
        object.__setattr__(self, "_models", tuple(dict.fromkeys(models)))
        object.__setattr__(self, "_output", None if self.output_type is None else OutputType(self.output_type))
        for name, least in _AT_LEAST.items():
            if getattr(self, name) < least:
                raise InvalidInput(f"{name} must be at least {least}, not {getattr(self, name)}", field=name)
        object.__setattr__(self, "_ttl_ms", times_to_live(self.ttl_s, field="ttl_s"))
        settings = _without_functions(self.model_settings)
        _json.checked(settings, field="model_settings")
        object.__setattr__(self, "_has_own_settings", any(":" in name for name in settings))
        unused = sorted(name for name in settings if ":" in name and name not in asked)
        if unused:
            raise InvalidInput(
                f"model_settings has settings of {unused[0]!r}, which is no model of this agent", field="model_settings"
            )
        for model in asked:
            try:
                check_settings(model, self.settings_of(model))
            except InvalidInput as error:
                raise InvalidInput(f"agent {self.name!r}: {error}", field=error.field) from error
        self._take_tools()

    @classmethod
    def of(cls, given: Agent | type[Any]) -> Agent:
        """The agent that a class with `@agent` amounts to; an agent is its own. Raises `InvalidInput`."""
        if isinstance(given, Agent):
            return given
        found = vars(given).get(OF_CLASS) if isinstance(given, type) else None
        if not isinstance(found, Agent):
            name = given.__name__ if isinstance(given, type) else repr(given)
            raise InvalidInput(
                f"{name:.80} is no agent; use Agent(...), or decorate the class with @agent", field="agents"
            )
        return found

    def _models_asked(self, models: tuple[str, ...]) -> tuple[str, ...]:
        """Its models, and the one that writes summaries."""
        if self.compaction is None:
            return models
        if not isinstance(self.compaction, Compaction):
            raise InvalidInput(
                f"compaction must be a Compaction(max_tokens=...), not {self.compaction!r}", field="compaction"
            )
        if self.compaction.model is None:
            return models
        parse_model(self.compaction.model)
        return tuple(dict.fromkeys((*models, self.compaction.model)))

    def _take_tools(self) -> None:
        object.__setattr__(self, "tools", checked_tools(self.tools))
        has_memory_tools = self.memory is not None and self.memory.tools
        parts = (*flatten(self.tools), *(MEMORY_TOOLS if has_memory_tools else ()))
        ambiguous = clash(parts)
        if ambiguous is not None:
            raise InvalidInput(f"agent {self.name!r} {ambiguous[1]}", field="tools")
        known = Toolbox(each for each in parts if isinstance(each, Offered))
        silent = [each.tool.name for each in known.offered if not each.tool.declared_effect]
        if silent:
            logger.info(
                "agent %s: %s did not say what repeating a call does, so a call is never repeated after a crash "
                '(effect="once"); say effect="none", "idempotent" or "once"',
                self.name,
                ", ".join(silent),
            )
        object.__setattr__(self, "_parts", parts)
        object.__setattr__(self, "_known", known)
        object.__setattr__(self, "_toolsets", tuple(dict.fromkeys(name for each in parts for name in each.toolsets)))
        object.__setattr__(self, "_tools_vary", len(known.offered) < len(parts))

    @property
    def known_tools(self) -> Toolbox:
        """The tools that it has in any iteration."""
        known: Toolbox = self._known  # type: ignore[attr-defined]  # set in _take_tools
        return known

    @property
    def tools_vary(self) -> bool:
        """Whether there is somebody to ask for more tools in each iteration."""
        vary: bool = self._tools_vary  # type: ignore[attr-defined]  # set in _take_tools
        return vary

    def toolbox(self, run: RunState) -> Toolbox | None:
        """The tools of an iteration of this run; None where they have to be asked for."""
        if self.tools_vary:
            return None
        known = self.known_tools
        if self.memory is not None and not self.memory.is_on(run):
            known = Toolbox(part for part in self._parts_for(run) if isinstance(part, Offered))
        return known if run.tools is None else known.only(run.tools)

    async def find_tools(self, run: RunState) -> Toolbox:
        """The tools of an iteration of this run, from whoever has to be asked; what fails is the toolbox's problem."""
        return await find_tools(self._parts_for(run), run)

    def _parts_for(self, run: RunState) -> tuple[Offered | Unasked, ...]:
        """Where its tools come from; without those of a memory that the run does not have."""
        parts: tuple[Offered | Unasked, ...] = self._parts  # type: ignore[attr-defined]  # set in _take_tools
        if self.memory is None or self.memory.is_on(run):
            return parts
        return tuple(part for part in parts if part not in MEMORY_TOOLS)

    @property
    def prompt(self) -> Prompt:
        """Its instructions, put together for each request; `prompt.invalidate(key)` has a section computed anew."""
        prompt: Prompt = self._prompt  # type: ignore[attr-defined]  # set in __post_init__
        return prompt

    @property
    def retrieval(self) -> Retrieval | None:
        """How its retriever is used, if it has one."""
        retrieval: Retrieval | None = self._retrieval  # type: ignore[attr-defined]  # set in __post_init__
        return retrieval

    def as_tool(self, name: str | None = None, *, description: str = "") -> Tool:
        """A tool whose calls are runs of this agent, each with a transcript and budgets of its own.

        The model gives a `prompt`, and gets the answer; a run that fails is an error. The run that calls waits, and
        holds no worker meanwhile. Cancelling it cancels the other. Raises `InvalidInput`.
        """
        return tool_of(self, name or self.name, description or f"Hand a task to {self.name}; the result is its answer.")

    @property
    def models(self) -> tuple[str, ...]:
        """Its models, the first one first."""
        models: tuple[str, ...] = self._models  # type: ignore[attr-defined]  # set in __post_init__
        return models

    @property
    def output(self) -> OutputType | None:
        """What its answers must be, if not just text."""
        output: OutputType | None = self._output  # type: ignore[attr-defined]  # set in __post_init__
        return output

    def settings_of(self, model: str) -> Mapping[str, Any]:
        """The settings for one of its models: those of all, and in their place those of this one."""
        if not self._has_own_settings:  # type: ignore[attr-defined]  # set in __post_init__
            return self.model_settings
        common = {name: value for name, value in self.model_settings.items() if ":" not in name}
        return common | dict(self.model_settings.get(model) or {})

    @property
    def ttl_ms(self) -> Mapping[str, int]:
        """How long its runs are kept, by outcome, where that is not for the settings to say."""
        ttl_ms: Mapping[str, int] = self._ttl_ms  # type: ignore[attr-defined]  # set in __post_init__
        return ttl_ms

    def budgets(self, max_recoveries: int) -> Limits:
        return Limits(
            self.max_iterations,
            self.max_error_retries,
            max_recoveries,
            int(self.retry_backoff_s * 1000),
            _BACKOFF_MAX_MS,
        )

    def manifest(self) -> dict[str, Any]:
        """What clients without agent code are told of the agent."""
        return {
            "name": self.name,
            "queue": self.queue,
            "when_busy": self.when_busy,
            "model": self.models[0],
            "max_iterations": self.max_iterations,
            "max_error_retries": self.max_error_retries,
            "ttl_ms": dict(self.ttl_ms),
            "spend": [asdict(each) for each in self.spend],
            "tools": [manifest_of(each) for each in self.known_tools.offered],
            "toolsets": list(self._toolsets),  # type: ignore[attr-defined]  # set in _take_tools
            "tools_vary": self.tools_vary,
        }


def _without_functions(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A key may be a function, which is called for each request; settings of one model stand one level down."""
    return {
        name: _without_functions(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if not callable(value)
    }
