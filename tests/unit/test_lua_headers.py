"""The header of a Lua command is its contract: held against the body here, by a parser that is not the loader's."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import takewhile

import pytest

from agentq import errors
from agentq._redis.scripts import script
from tests.helpers import LUA

HEADER = re.compile(r"--\[\[\n(.*?)\n\]\]\n", re.DOTALL)
ARGUMENT = re.compile(r"(KEYS|ARGV)\[(\d+)(\.\.)?\]  +([a-z][a-z0-9_]*)(\*)?(?:  +(\S.*))?")
ERROR = re.compile(r"  (-\d+)  +([A-Z]\w+)(?:  +\S.*)?")
INCLUDE = re.compile(r"^ *-- @include (\w+)$", re.MULTILINE)
FUNCTION = re.compile(r"^local function (\w+)\(.*?^end$", re.MULTILINE | re.DOTALL)
STRING_OR_COMMENT = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|--\[\[.*?\]\]|--[^\n]*""", re.DOTALL)
INCLUDES = {path.stem[1:]: path.read_text() for path in LUA.glob("_*.lua")}
COMMANDS = {path.stem: path.read_text() for path in LUA.glob("[!_]*.lua")}


@dataclass
class Header:
    names: dict[str, list[str]] = field(default_factory=lambda: {"KEYS": [], "ARGV": []})
    tails: set[str] = field(default_factory=set)  # "KEYS": its last entry stands for any number of them
    lists: set[int] = field(default_factory=set)  # positions of list arguments: their length is passed there
    errors: dict[int, str] = field(default_factory=dict)


def read_header(text: str, problems: list[str]) -> Header:
    """Read a header; whatever is not in the form that style asks for goes to `problems`."""
    header = Header()
    arguments, returns, answer = text.partition("\nReturns ")
    if not returns:
        problems.append("no line begins with `Returns `")
    for line in re.findall(r"^.*(?:KEYS|ARGV)\[.*$", arguments, re.MULTILINE):
        if not (found := ARGUMENT.fullmatch(line)):
            problems.append(f"not `KEYS[n]  name  description`: {line}")
            continue
        kind, number, tail, name, starred, description = found.groups()
        if kind in header.tails or int(number) != len(header.names[kind]) + 1:
            problems.append(f"out of order: {line}")
        if not description:
            problems.append(f"no description: {line}")
        header.names[kind].append(name)
        if tail:
            header.tails.add(kind)
        if starred:
            header.lists.add(int(number))
    for line in answer.splitlines():
        if found := ERROR.fullmatch(line):
            header.errors[int(found[1])] = found[2]
        elif re.match(r"\s*-\d", line):
            problems.append(f"not `  -n  ErrorName   text`: {line}")
    names = header.names["KEYS"] + header.names["ARGV"]
    problems += [f"two arguments are called {name}" for name in sorted(set(names)) if names.count(name) > 1]
    return header


def code_of(source: str) -> str:
    """The source without its comments."""
    return STRING_OR_COMMENT.sub(lambda found: found[1] or "", source)


def used_code(source: str, includes: dict[str, str], problems: list[str]) -> str:
    """The body, and of its includes (and theirs) those functions that it calls, directly or not."""
    functions: dict[str, str] = {}
    seen: set[str] = set()
    waiting = INCLUDE.findall(source)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in includes:
            problems.append(f"there is no _{name}.lua")
            continue
        waiting += INCLUDE.findall(includes[name])
        functions |= {found[1]: found[0] for found in FUNCTION.finditer(code_of(includes[name]))}
    used = code_of(source)
    while called := [name for name in functions if re.search(rf"\b{name}\(", used)]:
        used += "".join("\n" + functions.pop(name) for name in called)
    return used


def check_indices(header: Header, code: str, problems: list[str]) -> None:
    """Listed and used are the same. `lists(9, 5)` uses five list arguments from ARGV[9] on."""
    by_lists: set[int] = set()
    for first, count in re.findall(r"\blists\((\d+), *(\d+)\)", code):
        by_lists |= set(range(int(first), int(first) + int(count)))
    if by_lists != header.lists:
        problems.append(f"list arguments: marked {sorted(header.lists)}, used {sorted(by_lists)}")
    for kind, names in header.names.items():
        used = {int(number) for number in re.findall(rf"\b{kind}\[(\d+)\]", code)}
        if kind == "ARGV":
            used |= by_lists
        listed = set(range(1, len(names) + 1))
        if kind in header.tails:
            if re.search(rf"\b{kind}\b(?!\[\d)", code):
                used.add(len(names))
            used = {min(number, len(names)) for number in used}
        problems += [f"{kind}[{number}] is used and not listed" for number in sorted(used - listed)]
        problems += [f"{kind}[{number}] is listed and not used" for number in sorted(listed - used)]


def problems_of(source: str, includes: dict[str, str]) -> list[str]:
    """Everything in which a command's header and its body disagree."""
    problems: list[str] = []
    found = HEADER.match(source)
    if not found:
        return ["the file does not begin with a header, --[[ … ]]"]
    if not next(takewhile(str.strip, found[1].splitlines()), ""):
        problems.append("the header does not begin with what the command does")
    header = read_header(found[1], problems)
    code = used_code(source, includes, problems)
    check_indices(header, code, problems)
    returned = {int(number) for number in re.findall(r"\breturn *\{? *(-\d+)", code)}
    listed = set(header.errors)
    problems += [f"{number} is returned and not listed" for number in sorted(returned - listed, reverse=True)]
    problems += [f"{number} is listed and not returned" for number in sorted(listed - returned, reverse=True)]
    for name in header.errors.values():
        exception = getattr(errors, name, None)
        if not (isinstance(exception, type) and issubclass(exception, errors.AgentQError)):
            problems.append(f"errors.py has no {name}")
    return problems


def test_there_are_commands():
    assert COMMANDS


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_header_and_body_agree(name: str):
    assert problems_of(COMMANDS[name], INCLUDES) == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_carries_the_functions_that_it_calls_and_no_others(name: str):
    """Lua makes each of them anew whenever the command is called."""
    carried = code_of(script(name).source.decode())
    functions = {found[1]: found[0] for found in FUNCTION.finditer(carried)}
    for called, body in functions.items():
        assert len(re.findall(rf"\b{called}\b", carried)) > len(re.findall(rf"\b{called}\b", body)), called
    known = {found[1] for source in INCLUDES.values() for found in FUNCTION.finditer(code_of(source))}
    own = set(re.findall(r"\blocal (\w+) =", carried))
    assert known & set(re.findall(r"(?<![\w.])(\w+)\(", carried)) - own <= functions.keys()


def test_every_include_is_used():
    everything = "".join([*COMMANDS.values(), *INCLUDES.values()])
    assert set(INCLUDES) - set(INCLUDE.findall(everything)) == set()


INCLUDE_SAMPLES = {
    "guard": """\
local function refused(state)
  if not state then
    return -1
  end
end

local function unheard_of()
  return -9
end
""",
    "lists": "local function lists(first, count)\n  return ARGV[first + count]\nend\n",
}
SAMPLE = """\
--[[
Take something, unless it is not there.

KEYS[1]    run     run hash
KEYS[2..]  queues  most urgent first

ARGV[1]  owner   worker id
ARGV[2]  names*  what to take

Returns {how many}, or
  -1  RunNotFound
  -2  LeaseLost     another claim came since
]]
-- @include guard
-- @include lists
local names = lists(2, 1) -- and not ARGV[7]
if refused(redis.call('GET', KEYS[1] .. ARGV[1])) then
  return {-2, 'ARGV'}
end
for i = 2, #KEYS do
  redis.call('DEL', KEYS[i])
end
return {#names}
"""


def test_a_sample_is_accepted():
    assert problems_of(SAMPLE, INCLUDE_SAMPLES) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("--[[\n", "-- \n", "the file does not begin with a header, --[[ … ]]"),
        ("Take something", "\nTake something", "the header does not begin with what the command does"),
        ("Returns {how many}, or", "It gives", "no line begins with `Returns `"),
        ("ARGV[1]  owner   worker id", "ARGV[1] owner   worker id", "not `KEYS[n]  name  description`"),
        ("ARGV[1]  owner   worker id", "ARGV[1]  owner", "no description"),
        ("ARGV[1]  owner ", "ARGV[3]  owner ", "out of order"),
        ("ARGV[1]  owner ", "ARGV[1]  run ", "two arguments are called run"),
        ("ARGV[2]  names*", "ARGV[2]  names", "list arguments: marked [], used [2]"),
        ("lists(2, 1)", "lists(2, 2)", "ARGV[3] is used and not listed"),
        (".. ARGV[1]", "", "ARGV[1] is listed and not used"),
        ("KEYS[1] ..", "KEYS[2] ..", "KEYS[1] is listed and not used"),
        ("for i = 2, #KEYS do\n  redis.call('DEL', KEYS[i])\nend\n", "", "KEYS[2] is listed and not used"),
        ("  -1  RunNotFound\n", "", "-1 is returned and not listed"),
        ("return {-2, 'ARGV'}", "return nil", "-2 is listed and not returned"),
        ("-2  LeaseLost", "-2  LeaseFound", "errors.py has no LeaseFound"),
        ("-2  LeaseLost", "-2 lost", "not `  -n  ErrorName   text`"),
        ("@include guard", "@include gard", "there is no _gard.lua"),
    ],
)
def test_each_disagreement_is_found(old: str, new: str, problem: str):
    assert old in SAMPLE
    found = problems_of(SAMPLE.replace(old, new), INCLUDE_SAMPLES)
    assert any(line.startswith(problem) for line in found), found
