"""`Tool` and the `@tool` decorator: a function with a name, a schema, an effect and a time limit. Runs nothing."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import re
from dataclasses import replace
from enum import Enum
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Unpack, overload

import pydantic_core
from typing_extensions import ParamSpec, TypeVar

from agentq.errors import InvalidInput, ToolError
from agentq.tools.behaviour import (
    Behaviour,
    Effect,
    OnInterrupt,
    OnUnknown,
    Reconcile,
    ToolOptions,
    behaviour,
)
from agentq.tools.schema import raw_arguments
from agentq.tools.signature import typed_arguments
from agentq.tools.spec import ToolSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agentq.tools.arguments import Arguments

# What all the model APIs accept.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

# Up to here a float holds every integer (IEEE 754 double), so that its ".0" says nothing.
_EXACT = 2.0**53

P = ParamSpec("P", default=...)
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True, default=Any)

# Options of a tool that may be methods of the same class.
_HOOKS = ("reconcile", "validate", "permission", "concurrency_safe")


class Tool(Generic[P, R_co]):
    """A function that a model may call. It can still be called like that function.

    Made from a typed function by `@tool`, or here from a JSON Schema of type object. `function` gets the arguments by
    keyword, and the `ToolContext` in a parameter annotated with that class. Without an `effect` a tool counts as
    "once", and `declared_effect` is False. The options are those of `@tool`. Raises `InvalidInput`, naming the field.

    In the body of a class, `@tool` makes a tool of a method. It is one of an instance: `thing.look` is the tool that is
    bound to `thing`, while `Thing.look` has `is_method` and belongs to no agent yet.

    Of a schema given here, `bind` checks that required arguments are there, that names are known (where
    `additionalProperties` is false, or the function takes no others), and the `type` of top-level values.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    function: Callable[P, R_co]
    effect: Effect
    declared_effect: bool
    timeout_s: float | None
    interrupt: OnInterrupt
    reconcile: Reconcile | None
    on_unknown: OnUnknown
    behaviour: Behaviour
    is_async: bool
    is_method: bool = False
    context_parameter: str | None
    spec: ToolSpec
    # The agent whose run a call is, where it is one.
    agent: Any = None

    def __init__(
        self,
        name: str,
        description: str,
        parameters: Mapping[str, Any],
        function: Callable[P, R_co],
        **options: Unpack[ToolOptions],
    ) -> None:
        if not callable(function):
            raise InvalidInput(f"function must be callable, not {type(function).__name__}", field="function")
        self._define(name, description, raw_arguments(parameters, function), function, options)

    @classmethod
    def from_function(
        cls,
        function: Callable[P, R_co],
        *,
        name: str | None = None,
        description: str | None = None,
        namespace: Mapping[str, Any] | None = None,
        **options: Unpack[ToolOptions],
    ) -> Tool[P, R_co]:
        """A tool from a typed function: its schema from the signature, its description from the docstring.

        `namespace` holds local names that string annotations use. Raises `InvalidInput`, naming parameter and fix.
        """
        _check_function(function)
        summary, descriptions = _documentation(function)
        self = cls.__new__(cls)
        self._define(
            function.__name__ if name is None else name,
            summary if description is None else description,
            typed_arguments(function, namespace=namespace or {}, descriptions=descriptions),
            function,
            options,
        )
        return self

    @classmethod
    def from_method(
        cls,
        function: Callable[P, R_co],
        *,
        name: str | None = None,
        description: str | None = None,
        namespace: Mapping[str, Any] | None = None,
        **options: Unpack[ToolOptions],
    ) -> Tool[P, R_co]:
        """A tool from a function in the body of a class, which takes an instance first; see `from_function`."""
        _check_function(function)
        # Bound to anything, its signature has no `self`.
        of_anything = MethodType(function, cls)
        self: Tool[P, R_co] = cls.from_function(
            of_anything, name=name, description=description, namespace=namespace, **options
        )
        self._put(function)
        self.is_method = True
        return self

    def _put(self, function: Callable[P, R_co]) -> None:
        self.function = function
        vars(self)["__wrapped__"] = function

    def _define(
        self,
        name: str,
        description: str,
        arguments: Arguments,
        function: Callable[P, R_co],
        options: ToolOptions,
    ) -> None:
        _check_names(name, description)
        behaves = behaviour(**options)
        functools.update_wrapper(self, function, updated=())
        self.name = name
        self.description = description
        self.parameters = arguments.parameters
        self.function = function
        self.effect = behaves.effect
        self.declared_effect = behaves.declared_effect
        self.timeout_s = behaves.timeout_s
        self.interrupt = behaves.interrupt
        self.reconcile = behaves.reconcile
        self.on_unknown = behaves.on_unknown
        self.behaviour = behaves
        self.is_async = is_async(function)
        self.context_parameter = arguments.context_parameter
        self.spec = ToolSpec(name, description, arguments.parameters)
        self._bind = arguments.bind

    @property
    def takes_context(self) -> bool:
        """Whether the function or one of its hooks gets the `ToolContext`."""
        behaves = self.behaviour
        return self.context_parameter is not None or behaves.has_checks or behaves.reconcile is not None

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Check what the model sent and return keyword arguments for the function, without the context.

        Raises `InvalidArguments`, one line per problem (`b: Field required`), for the model to read.
        """
        return self._bind(arguments)

    def renamed(self, name: str) -> Tool[P, R_co]:
        """The same tool under another name. Raises `InvalidInput`."""
        _check_names(name, self.description)
        other = copy.copy(self)
        other.name = name
        other.spec = replace(self.spec, name=name)
        return other

    def bound(self, bind: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Tool[..., R_co]:
        """The tool of a method for one instance: `bind` gives its function, and each hook that is a method, `self`."""
        other: Tool[..., R_co] = copy.copy(self)
        other._put(bind(self.function))
        other.is_method = False
        hooks: dict[str, Any] = {name: getattr(self.behaviour, name) for name in _HOOKS}
        hooks = {name: bind(hook) for name, hook in hooks.items() if takes_self(hook)}
        other.behaviour = replace(self.behaviour, **hooks)
        other.reconcile = other.behaviour.reconcile
        return other

    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> Tool[P, R_co]: ...

    @overload
    def __get__(
        self: Tool[Concatenate[Any, Q], R_co], instance: object, owner: type[Any] | None = None, /
    ) -> Tool[Q, R_co]: ...

    def __get__(self, instance: Any, owner: type[Any] | None = None, /) -> Any:
        if instance is None or not self.is_method:
            return self
        return self.bound(lambda function: MethodType(function, instance))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Tool {self.name} effect={self.effect}>"


@overload
def tool(
    function: Callable[P, R_co],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    **options: Unpack[ToolOptions],
) -> Tool[P, R_co]: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    **options: Unpack[ToolOptions],
) -> Callable[[Callable[P, R_co]], Tool[P, R_co]]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    **options: Unpack[ToolOptions],
) -> Any:
    """Make a tool of a typed function, sync or async; `@tool` and `@tool(effect="none", timeout=30)` both work.

    The model sees the docstring's text, the parameters' types and defaults, and their descriptions: from the docstring
    (Google, NumPy or Sphinx style), from `Annotated[int, "text"]` or from a pydantic `Field`.

    Options: `effect` says what repeating a call does; a tool that does not say counts as "once". `timeout` is in
    seconds. `interrupt` says what happens to a running call when its run is cancelled: "cancel" stops it (the default
    of tools that only read), "block" waits for its end. For effect "once": `reconcile` is a function, sync or async,
    that finds out what became of a call whose worker died, from `ToolContext` and arguments; it returns the result, or
    a `Reconciled`. Where nobody knows, `on_unknown` says who is to hear of it: "tell" the model, or "ask" a person,
    for whom the run waits.

    `validate` and `permission` are functions, sync or async, of `ToolContext` and arguments, asked before each call:
    the first returns None, or arguments in their place, and refuses by ValueError; the second returns True, False, a
    `Permission` or the reason why not. `retries` is how often a call that failed is made again at once, where `effect`
    allows it, `retry_backoff_s` the first pause, which doubles. `max_result_chars` cuts longer results.
    `concurrency_safe` (by default: effect "none") says whether a call may run beside others: True, False, or a function
    of the arguments. `secrets` are names of those that it finds in `ctx.secrets`.

    `rate_limit` is how often it may be called by all workers ("5/minute", or a `RateLimit`): a run that has to wait is
    put off. `breaker` is a `CircuitBreaker`, which leaves it in peace when it fails. `approval` says that somebody has
    to allow each call: True, or a function of the arguments (`lambda a: a.amount > 100`); after `approval_ttl` seconds
    without a word it is denied. `approvers` are shown to those who decide. `read_only` (by default: effect "none") and
    `destructive` (what it does cannot be undone) are for people. Raises `InvalidInput`.
    """

    def decorate(function: Callable[..., Any]) -> Tool[..., Any]:
        caller = inspect.currentframe()
        for _ in range(depth):
            caller = caller.f_back if caller else None
        namespace = caller.f_locals if caller else {}
        # What Python puts into the body of a class, and nowhere else.
        if caller is not None and "__qualname__" in namespace and "__module__" in namespace:
            around = caller.f_back.f_locals if caller.f_back else {}
            namespace = {**around, **namespace}
            if takes_self(function):
                return Tool.from_method(function, name=name, description=description, namespace=namespace, **options)
        return Tool.from_function(function, name=name, description=description, namespace=namespace, **options)

    # How far above `decorate` the frame is whose local types the annotations may use.
    depth = 1 if function is None else 2
    return decorate if function is None else decorate(function)


def takes_self(function: Any) -> bool:
    """Whether it is a function as it stands in the body of a class, with `self` first."""
    return (
        inspect.isfunction(function)
        and function.__code__.co_varnames[:1] == ("self",)
        and function.__code__.co_argcount > 0
    )


def is_async(function: Callable[..., Any]) -> bool:
    """Whether it has to be awaited; else it runs in a thread."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method of an object that is called like a function
    )


def dump_result(value: Any) -> str:
    """The text of a result that the model reads: a string as it is, everything else as compact JSON.

    None gives `null`, a whole float loses its `.0`. Raises `ToolError` for a value that has no JSON form.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        value = int(value)
    try:
        return pydantic_core.to_json(value, inf_nan_mode="constants").decode()
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error).removeprefix("Error serializing to JSON: ")
        hint = "; return a File for what is no text" if isinstance(value, bytes | bytearray | memoryview) else ""
        raise ToolError(
            f"the tool returned {type(value).__name__} that cannot be serialised: {reason}{hint}"
        ) from error


def _check_names(name: Any, description: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput(f"name must be 1 to 64 letters, digits, _ or -, not {name!r}; give name=...", field="name")
    if not isinstance(description, str):
        raise InvalidInput(f"description must be a string, not {type(description).__name__}", field="description")


def _check_function(function: Any) -> None:
    problem = None
    if isinstance(function, Tool):
        problem = f"{function.name} is a tool already"
    elif isinstance(function, str):
        problem = f"@tool takes its name by keyword: @tool(name={json.dumps(function)})"
    elif not (inspect.isfunction(function) or inspect.ismethod(function)):
        problem = f"{function!r} is not a function; wrap it in one with annotations"
    elif function.__name__ == "<lambda>":
        problem = "a lambda has no annotations; write a function with def"
    elif inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        problem = f"{function.__name__} is a generator; return a list, and report on the way with ctx.progress()"
    if problem is not None:
        raise InvalidInput(problem, field="function")


def _documentation(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The text of a docstring without its sections, and the descriptions of its arguments."""
    text = inspect.getdoc(function)
    if not text:
        return "", {}
    import docstring_parser  # a tenth of the time to import agentq, and only tools need it

    parsed = docstring_parser.parse(text)
    described = {param.arg_name: param.description.strip() for param in parsed.params if param.description}
    return (parsed.description or "").strip(), described
