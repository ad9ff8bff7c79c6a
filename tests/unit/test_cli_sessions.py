"""`agentq sessions`, over a store in memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from agentq.cli import cli
from agentq.errors import SessionNotFound
from agentq.messages import Message, Role, TextPart, user_message
from agentq.runs import SessionState
from tests.unit._cli import RUN, T0, ScriptedClient, ScriptedOptions

if TYPE_CHECKING:
    from collections.abc import Sequence


def session(session_id: str = "s1", **fields: Any) -> SessionState:
    known: dict[str, Any] = {"user_id": "ada", "run_count": 2, "message_count": 4, "created_ms": T0, "used_ms": T0}
    return SessionState(session_id, **(known | fields))


class SessionClient(ScriptedClient):
    """As much of `AsyncClient` as the command uses."""

    def __init__(self, known: Sequence[SessionState] = ()) -> None:
        super().__init__()
        self.known = known
        self.asked: list[dict[str, Any]] = []

    async def sessions(self, **which: Any) -> tuple[SessionState, ...]:
        self.asked.append(which)
        return tuple(self.known)[: which["limit"]]

    async def session(self, session_id: str) -> SessionState:
        for each in self.known:
            if each.session_id == session_id:
                return each
        raise SessionNotFound(f"session {session_id!r} is not there")

    async def session_messages(self, session_id: str) -> tuple[Message, ...]:
        return (user_message("I am Ada."), Message(role=Role.ASSISTANT, parts=(TextPart(text="Hello Ada."),)))


def invoke(client: SessionClient, *args: str) -> Result:
    return CliRunner().invoke(cli, ["sessions", *args], obj=ScriptedOptions(client=client))


def test_sessions_are_listed_in_a_table():
    result = invoke(SessionClient([session(), session("longer name", user_id=None, open_runs=1)]))
    assert result.exit_code == 0
    heads, first, second = (line.split() for line in result.stdout.splitlines())
    assert heads == ["SESSION", "USER", "RUNS", "OPEN", "MESSAGES", "USED"]
    assert first[:5] == ["s1", "ada", "2", "0", "4"]
    assert second[:5] == ["longer", "name", "2", "1", "4"]


def test_a_full_page_says_how_to_go_on():
    client = SessionClient([session("a"), session("b")])
    result = invoke(client, "-n", "2", "--user", "a b", "--offset", "3")
    assert result.stderr == "more: agentq sessions --user 'a b' --offset 5\n"
    assert client.asked == [{"user_id": "a b", "limit": 2, "offset": 3}]


def test_no_sessions_is_a_remark():
    result = invoke(SessionClient())
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no sessions\n")


def test_one_session_is_shown_with_its_transcript():
    result = invoke(SessionClient([session(open_runs=3, live_run_id=RUN)]), "s1")
    assert result.exit_code == 0
    assert f"live run   {RUN}, 2 in line behind it\n" in result.stdout
    assert "runs       2, 3 of them not ended\n" in result.stdout
    assert result.stdout.endswith("\n> I am Ada.\nHello Ada.\n")


def test_both_are_documents_in_json():
    client = SessionClient([session()])
    listed = json.loads(invoke(client, "--json", "-n", "1").stdout)
    shown = json.loads(invoke(client, "s1", "--json").stdout)
    assert listed["next"] == 1
    assert listed["sessions"][0] == shown["session"]
    assert [message["role"] for message in shown["messages"]] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["nowhere"], 3, "error: session 'nowhere' is not there\n"),
        (["s1", "--user", "ada"], 2, "error: --user filters the list; leave it out to show one session"),
        (["-n", "0"], 2, "0 is not in the range 1<=x<=1000"),
        (["--offset", "-1"], 2, "-1 is not in the range x>=0"),
        (["s1", "s2"], 2, "Got unexpected extra argument"),
    ],
)
def test_bad_input_is_one_line(args: list[str], code: int, words: str):
    result = invoke(SessionClient([session()]), *args)
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
