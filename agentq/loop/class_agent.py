"""`@agent`: an agent written as a class. Its docstring is the instructions, its methods with `@tool` are the tools."""

from __future__ import annotations

import functools
import inspect
import os
import re
import threading
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

from agentq.context.sections import Section
from agentq.errors import InvalidInput
from agentq.loop.agent import OF_CLASS, Agent
from agentq.tools.function import Tool, is_async, takes_self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from agentq.context.compaction import Compaction
    from agentq.context.memory import Memory
    from agentq.context.retrieval import Retrieval, Retriever
    from agentq.limits import RunLimits, SpendLimit
    from agentq.loop.hooks import Hooks
    from agentq.runs import WhenBusy

C = TypeVar("C")
# Between the words of a name in capitals: before a capital after a small letter, and before the last of several.
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class AgentOptions(TypedDict, total=False):
    """The fields of `Agent`, as keywords of `@agent`."""

    name: str
    instructions: str | Sequence[str | Section]
    model: str | Sequence[str]
    tools: Sequence[Any]
    max_iterations: int
    max_error_retries: int
    queue: str | None
    when_busy: WhenBusy
    model_settings: Mapping[str, Any]
    retry_backoff_s: float
    ttl_s: float | Mapping[str, float] | None
    output_type: Any
    max_parallel: int
    retriever: Retriever | Retrieval | None
    memory: Memory | None
    compaction: Compaction | None
    hooks: Hooks | Sequence[Hooks]
    limits: RunLimits | None
    spend: Sequence[SpendLimit]


@overload
def agent(cls: type[C], /) -> type[C]: ...


@overload
def agent(**options: Unpack[AgentOptions]) -> Callable[[type[C]], type[C]]: ...


def agent(cls: type[Any] | None = None, /, **options: Unpack[AgentOptions]) -> Any:
    """Make an agent of a class: `AgentQ(agents=[Support])` takes it, and `Agent.of(Support)` is what it amounts to.

    Its methods with `@tool` are the tools, in their order, inherited ones first; then come those of `tools`. Its
    docstring is the instructions; or its attribute `instructions`, or a method of that name, sync or async, which may
    take the `RunState` and is asked in every iteration. Other attributes that are called like fields of `Agent` are
    those, and `options` go before them. The name is the class's, as in `order_desk` of OrderDesk.

    The class is called without arguments, once a process, when the first of its methods is needed: what it keeps is for
    all runs together. Methods may be called at the same time, synchronous tools from threads. Raises `InvalidInput`.
    """

    def decorate(cls: type[C]) -> type[C]:
        setattr(cls, OF_CLASS, _agent_of(cls, options))
        return cls

    if cls is None:
        return decorate
    if not isinstance(cls, type):
        raise InvalidInput(f"@agent is for classes; {cls!r:.80} is none", field="agent")
    return decorate(cls)


def _agent_of(cls: type[Any], options: AgentOptions) -> Agent:
    given: dict[str, Any] = {**_attributes(cls), **options}
    instance = _Instance(cls)
    tools = [found.bound(instance.bind) if found.is_method else found for found in _tools(cls)]
    more = given.pop("tools", ())
    if isinstance(more, str) or callable(more):
        raise InvalidInput(f"tools of {cls.__name__} must be a list, which comes behind its methods", field="tools")
    instructions = given.pop("instructions", inspect.getdoc(cls) or "")
    if takes_self(instructions):
        instructions = [Section("instructions", instance.bind(instructions), kind="dynamic")]
    name = given.pop("name", _WORDS.sub("_", cls.__name__).lower())
    try:
        return Agent(name, instructions, tools=[*tools, *more], **given)
    except InvalidInput as error:
        raise type(error)(f"class {cls.__name__}: {error}", field=error.field) from error


def _attributes(cls: type[Any]) -> dict[str, Any]:
    """The attributes of the class that are options of an agent. A method is none, but for `instructions`."""
    found = {}
    for field in fields(Agent):
        value = inspect.getattr_static(cls, field.name, None)
        is_method = isinstance(value, Tool | property | classmethod | staticmethod) or inspect.isfunction(value)
        if value is not None and (not is_method or (field.name == "instructions" and inspect.isfunction(value))):
            found[field.name] = value
    return found


def _tools(cls: type[Any]) -> Iterator[Tool]:
    names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
    for name in names:
        value = inspect.getattr_static(cls, name)
        if isinstance(value, staticmethod):
            value = value.__func__
        if isinstance(value, Tool):
            yield value
        elif value is not None and any(isinstance(vars(base).get(name), Tool) for base in cls.__mro__):
            raise InvalidInput(
                f"{cls.__name__}.{name} takes the place of a tool and is none; decorate it with @tool, or set it to "
                "None to leave the tool out",
                field=name,
            )


class _Instance:
    """The one instance of a class in this process, made when it is first needed."""

    def __init__(self, cls: type[Any]) -> None:
        self._cls = cls
        self._lock = threading.RLock()
        self._made: tuple[int, Any] | None = None
        try:
            inspect.signature(cls).bind()
        except TypeError as error:
            raise InvalidInput(
                f"class {cls.__name__} wants arguments when it is made ({error}); give them defaults, for agentq has "
                "none to give",
                field="agent",
            ) from error
        except ValueError:
            pass  # a class of C that does not say

    def get(self) -> Any:
        """The instance. A process that was forked makes one of its own: connections cannot be shared."""
        with self._lock:
            if self._made is None or self._made[0] != os.getpid():
                self._made = (os.getpid(), self._cls())
            return self._made[1]

    def bind(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The method of the instance, as a function that has no `self` to give."""
        bound: Callable[..., Any]
        if is_async(function):

            async def bound(*args: Any, **kwargs: Any) -> Any:
                return await function(self.get(), *args, **kwargs)

        else:

            def bound(*args: Any, **kwargs: Any) -> Any:
                return function(self.get(), *args, **kwargs)

        functools.update_wrapper(bound, function)
        parameters = list(inspect.signature(function).parameters.values())[1:]
        vars(bound)["__signature__"] = inspect.signature(function).replace(parameters=parameters)
        return bound
