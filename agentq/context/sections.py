"""Instructions in sections: what of them is computed once, what for each user, and what in every iteration."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agentq import _json
from agentq.errors import ContextError, InvalidInput
from agentq.settings import check_name

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from agentq.runs import RunState

# So many texts of one volatile section are kept; the ones that were not used for longest go first.
_KEPT = 1_000
_BETWEEN = "\n\n"
_METADATA = "metadata."
# What of a run may be a volatile key: what does not change while the run goes on.
_OF_RUNS = ("agent", "model", "queue", "run_id", "session_id", "user_id")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of an agent's instructions. `content` is its text, or a function, sync or async, that gives it.

    The function of a `static` section takes nothing; it is called once a process, and its text is kept. With
    `volatile`, names of what the run was enqueued with ("user_id", "session_id", "metadata.plan", ...), it takes their
    values in that order and is called once for each; it sees no more of the run, so that what is kept for one user is
    never told to another. The function of a `dynamic` section is called in every iteration, and takes the `RunState`
    or nothing. None or an empty text leaves the section out.

    Static sections come first, then volatile ones, then dynamic ones, each in the order in which they are given: so the
    longest beginning of a prompt is the same as last time, and a provider's cache has it.

    A synchronous function is called in the event loop, so it must be quick. `timeout_s` is for one that waits. One that
    raises fails the turn: no model is asked with half a prompt. Raises `InvalidInput`, naming the field.
    """

    key: str
    content: str | Callable[..., str | Awaitable[str | None] | None]
    kind: Literal["static", "dynamic"] = "static"
    volatile: str | Sequence[str] = ()
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        check_name(self.key, field="key")
        if self.kind not in ("static", "dynamic"):
            raise self._wrong("kind", f"must be 'static' or 'dynamic', not {self.kind!r}")
        names = (self.volatile,) if isinstance(self.volatile, str) else tuple(self.volatile)
        object.__setattr__(self, "volatile", names)
        if isinstance(self.timeout_s, bool) or not isinstance(self.timeout_s, int | float) or not self.timeout_s > 0:
            raise self._wrong("timeout_s", f"must be a number of seconds above 0, not {self.timeout_s!r}")
        for name in names:
            if name not in _OF_RUNS and not _is_metadata(name):
                raise self._wrong("volatile", f"has {name!r}; there are {', '.join(_OF_RUNS)} and metadata.<name>")
        if names and self.kind == "dynamic":
            raise self._wrong("volatile", "is for static sections: a dynamic one is computed in every iteration anyway")
        if isinstance(self.content, str):
            if names:
                raise self._wrong("volatile", "is for a function: this text is always the same")
        elif not callable(self.content):
            raise self._wrong("content", f"must be a text or a function, not {type(self.content).__name__}")
        else:
            self._check_signature(self.content, len(names))

    def _check_signature(self, function: Callable[..., Any], keys: int) -> None:
        if self.kind == "dynamic":
            if not (_takes(function, 0) or _takes(function, 1)):
                raise self._wrong("content", "is a function that must take nothing, or the RunState")
        elif keys:
            if not _takes(function, keys):
                raise self._wrong("content", f"is a function that must take {', '.join(self.volatile)}, in this order")
        elif not _takes(function, 0):
            raise self._wrong(
                "content",
                "is a function that must take nothing, for its text is kept for all runs; name what it depends on: "
                "volatile='user_id', or have it called in every iteration: kind='dynamic'",
            )

    def _wrong(self, field: str, problem: str) -> InvalidInput:
        return InvalidInput(f"{field} of section {self.key!r} {problem}", field=field)


def _is_metadata(name: object) -> bool:
    return isinstance(name, str) and name.startswith(_METADATA) and name != _METADATA


def _takes(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * count)
    except ValueError:
        return True  # a function of C that does not say
    except TypeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Instructions:
    """What a model is told before the transcript: what is the same for all runs, for some, and for this iteration."""

    static: str = ""
    volatile: str = ""
    dynamic: str = ""

    @property
    def text(self) -> str:
        return _joined((self.static, self.volatile, self.dynamic)) if self.volatile or self.dynamic else self.static

    @property
    def stable(self) -> tuple[int, ...]:
        """Where in `text` the beginnings end that other requests have in common with this one, the shortest first."""
        if not self.volatile:
            return (len(self.static),) if self.static else ()
        beginnings = (self.static, _joined((self.static, self.volatile)))
        return tuple(sorted({len(beginning) for beginning in beginnings if beginning}))

    def with_static(self, words: str) -> Instructions:
        """With more that is the same for all runs."""
        return Instructions(_joined((self.static, words)), self.volatile, self.dynamic)

    def with_volatile(self, words: str) -> Instructions:
        """With more that is the same for all runs of somebody, and seldom changes."""
        return Instructions(self.static, _joined((self.volatile, words)), self.dynamic)

    def with_dynamic(self, words: str) -> Instructions:
        """With more that is of this run alone, before what changes in every iteration."""
        return Instructions(self.static, self.volatile, _joined((words, self.dynamic)))


class Prompt:
    """The instructions of an agent, and the texts of its sections that are kept in this process.

    May be used from several event loops. Raises `InvalidInput` where the sections do not fit together.
    """

    def __init__(self, given: str | Sequence[str | Section]) -> None:
        self._fixed: Instructions | None = None
        self._static: list[str | _Kept] = []
        self._volatile: list[_Kept] = []
        self._dynamic: list[Section] = []
        self._keys: dict[str, _Kept | None] = {}
        if isinstance(given, str):
            self._fixed = Instructions(given)
            return
        if not isinstance(given, Sequence):
            raise InvalidInput(
                f"instructions must be a text or a list of sections, not {type(given).__name__}", field="instructions"
            )
        for section in given:
            if isinstance(section, Section):
                self._add(section)
            elif isinstance(section, str):
                self._static.append(section)
            else:
                raise InvalidInput(
                    f"instructions has {section!r:.80}, which is neither a text nor a Section", field="instructions"
                )

    def _add(self, section: Section) -> None:
        if section.key in self._keys:
            raise InvalidInput(f"instructions has two sections {section.key!r}; rename one", field="instructions")
        kept = None if section.kind == "dynamic" else _Kept(section)
        self._keys[section.key] = kept
        if kept is None:
            self._dynamic.append(section)
        elif section.volatile:
            self._volatile.append(kept)
        else:
            self._static.append(kept)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the sections, in the order in which they were given."""
        return tuple(self._keys)

    def invalidate(self, key: str) -> None:
        """Have the section of that key computed anew by the next iteration of this process.

        Raises `InvalidInput` when there is none. Other workers keep what they have.
        """
        if key not in self._keys:
            known = ", ".join(self._keys) or "none"
            raise InvalidInput(f"there is no section {key!r}; there are: {known}", field="key")
        if (kept := self._keys[key]) is not None:
            kept.forget()

    def invalidate_all(self) -> None:
        """Have every section computed anew by the next iteration of this process."""
        for kept in self._keys.values():
            if kept is not None:
                kept.forget()

    async def compose(self, run: RunState) -> Instructions:
        """The instructions for the next request of a run. Raises `ContextError`, which names the section."""
        if self._fixed is not None:
            return self._fixed
        static = [each if isinstance(each, str) else await each.text(run) for each in self._static]
        volatile = [await each.text(run) for each in self._volatile]
        dynamic = [await _computed(each, _for_run(each, run)) for each in self._dynamic]
        return Instructions(_joined(static), _joined(volatile), _joined(dynamic))


class _Kept:
    """The texts of one static section, by the values of its volatile keys; those used last, up to a limit."""

    def __init__(self, section: Section) -> None:
        self._section = section
        self._texts: OrderedDict[bytes, str] = OrderedDict()
        self._making: dict[tuple[bytes, asyncio.AbstractEventLoop], asyncio.Task[str]] = {}
        # Grows when the texts are forgotten: one that was begun before must not be kept after.
        self._generation = 0
        self._lock = threading.Lock()

    def forget(self) -> None:
        with self._lock:
            self._generation += 1
            self._texts.clear()
            self._making.clear()

    async def text(self, run: RunState) -> str:
        values = [_value(run, name) for name in self._section.volatile]
        key = _json.dumps(values)
        with self._lock:
            if (text := self._texts.get(key)) is not None:
                self._texts.move_to_end(key)
                return text
        # A task of its own: hundreds of iterations may wait for one text, and whoever asked first may be cancelled.
        loop = asyncio.get_running_loop()
        with self._lock:
            if (making := self._making.get((key, loop))) is None:
                making = loop.create_task(self._make(key, values, self._generation), name="agentq-section")
                self._making[key, loop] = making
                making.add_done_callback(lambda task: self._made((key, loop), task))
        return await asyncio.shield(making)

    async def _make(self, key: bytes, values: list[Any], generation: int) -> str:
        text = await _computed(self._section, tuple(values))
        with self._lock:
            if generation == self._generation:
                self._texts[key] = text
                while len(self._texts) > _KEPT:
                    self._texts.popitem(last=False)
        return text

    def _made(self, key: tuple[bytes, asyncio.AbstractEventLoop], task: asyncio.Task[str]) -> None:
        with self._lock:
            if self._making.get(key) is task:
                del self._making[key]
        if not task.cancelled():
            task.exception()  # everybody who waited may have gone


def _value(run: RunState, name: str) -> Any:
    return run.metadata.get(name.removeprefix(_METADATA)) if name.startswith(_METADATA) else getattr(run, name)


def _for_run(section: Section, run: RunState) -> tuple[Any, ...]:
    return () if isinstance(section.content, str) or _takes(section.content, 0) else (run,)


async def _computed(section: Section, arguments: tuple[Any, ...]) -> str:
    if isinstance(section.content, str):
        return section.content
    within = asyncio.timeout(section.timeout_s)
    try:
        async with within:
            given: Any = section.content(*arguments)
            if inspect.isawaitable(given):
                given = await given
    except (Exception, SystemExit) as error:
        problem = f"took longer than {section.timeout_s:g} s" if within.expired() else f"raised {_words(error)}"
        raise ContextError(f"section {section.key!r} of the instructions {problem}") from error
    if given is not None and not isinstance(given, str):
        raise ContextError(f"section {section.key!r} of the instructions gave {type(given).__name__}, not a text")
    return _json.storable(given or "")


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _joined(texts: Iterable[str]) -> str:
    return _BETWEEN.join(text for text in texts if text)
