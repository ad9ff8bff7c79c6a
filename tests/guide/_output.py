"""Compares what a page shows with what was printed: as it stands, but for what is another each time.

These stand for any of their kind: run ids, times of day, dates, durations, ages, names of workers. An example id on a
page stands for the same id wherever it comes again. `…` stands for anything in its line, alone on a line for any lines.
How long something took, which stands at the end of a line behind two blanks, may be there or not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_KINDS = {
    "run_id": r"\b[0-9A-HJKMNP-TV-Z]{26}\b",
    "worker": r"\bagentq-[\w.-]+-\d+-[0-9a-f]{8}\b",
    "date": r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\b",
    "clock": r"\b\d\d:\d\d:\d\d\.\d{3}\b",
    "duration": r"\b\d+(?:\.\d+)? (?:ms|s|min|h|d)\b",
    "short": r"\b\d+(?:\.\d+)?(?:ms|s|m|h|d)\b",
    "any": "…",
}
_SAME_KIND = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _KINDS.items()))
_TOOK = re.compile(rf"  {_KINDS['duration']}$")
_ID = re.compile(_KINDS["run_id"])


@dataclass
class Names:
    """Which run ids the examples on a page stand for, and the one that was printed last."""

    known: dict[str, str] = field(default_factory=dict)
    last: str = ""

    def real(self, command: str) -> str:
        """The command with the ids that there are. `RUN_ID` is the one that was printed last."""
        command = _ID.sub(lambda found: self.known.get(found[0], found[0]), command)
        return command.replace("RUN_ID", self.last) if self.last else command

    def noticed(self, printed: str) -> None:
        if found := _ID.findall(printed):
            self.last = found[-1]


def is_as_shown(shown: str, printed: str, names: Names) -> bool:
    """Whether `printed` is what a page shows, and if so remember what its example ids stand for."""
    groups: dict[str, str] = {}
    lines = [_pattern(_TOOK.sub("", line.rstrip()), names, groups) for line in shown.splitlines()]
    wanted = "".join(r"(?:.*\n)*?" if line == ".*" else f"{line}\n" for line in lines)
    text = "".join(f"{_TOOK.sub('', line.rstrip())}\n" for line in printed.rstrip().splitlines())
    match = re.fullmatch(wanted, text)
    if match is None:
        return False
    names.known.update({example: match[group] for example, group in groups.items()})
    return True


def _pattern(line: str, names: Names, groups: dict[str, str]) -> str:
    """A regular expression for a line. `groups` collects under which name it catches what an example id stands for."""
    pattern, at = "", 0
    for found in _SAME_KIND.finditer(line):
        pattern += re.escape(line[at : found.start()])
        at = found.end()
        kind, text = str(found.lastgroup), found[0]
        if kind == "any":
            pattern += ".*"
        elif kind != "run_id":
            pattern += f"(?:{_KINDS[kind]})"
        elif text in names.known:
            pattern += re.escape(names.known[text])
        elif text in groups:
            pattern += f"(?P={groups[text]})"
        else:
            groups[text] = f"id{len(groups)}"
            pattern += f"(?P<{groups[text]}>{_KINDS['run_id']})"
    return pattern + re.escape(line[at:])
