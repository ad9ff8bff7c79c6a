"""`agentq inbox` on a pseudo terminal, over a real Redis and with real runs."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
import redis

from tests.unit._desk import REFUND, SHIP, Desk
from tests.unit._screen import Typist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests._redis_server import RedisServer

_TAKEN_OVER = {"?1049", "?2004"}


@pytest.fixture
def desk(redis_url: str) -> Desk:
    return Desk(redis_url)


@pytest.fixture
def inbox(redis_url: str) -> Iterator[Callable[..., Typist]]:
    open_ones: list[Typist] = []

    def sit(*args: str, columns: int = 80, lines: int = 24, **environ: str) -> Typist:
        typist = Typist(
            "inbox", "--as", "ada", *args, columns=columns, lines=lines, **{"REDIS_URL": redis_url, **environ}
        )
        open_ones.append(typist)
        return typist

    yield sit
    for each in open_ones:
        each.__exit__()


def test_somebody_decides_and_what_is_new_appears(desk: Desk, inbox: Callable[..., Typist]):
    first = desk.enqueue("clerk", REFUND, session_id="s1")
    typist = inbox()
    typist.sees("inbox  1 waits", "▸ ", 'refund(order="A-17", cents=25000)', "for       finance", "session s1")
    assert typist.screen.modes >= _TAKEN_OVER
    second = desk.enqueue("shipper", SHIP)
    typist.sees("inbox  2 wait", "? Which box?", "1 new thing below")
    typist.type("a")
    typist.sees('approve refund(order="A-17", cents=25000) as ada? y/n')
    typist.type("n")
    typist.sees_no("y/n")
    typist.type("a")
    typist.sees("y/n")
    typist.type("y")
    typist.sees("inbox  1 waits", "✓", 'approved: refund(order="A-17", cents=25000)')
    typist.sees("n answer")  # the next one is selected
    typist.type("nmedium\r")
    typist.sees("'medium' is not one of ['small', 'large']", "answer: medium")
    typist.type("\x15small\r")
    typist.sees("inbox  0 wait", "answered: ? Which box?")
    typist.type("q")
    assert typist.ended() == 0
    assert "1 approved, 1 answered; nothing waits" in typist.screen.text
    assert not typist.screen.modes & _TAKEN_OVER
    assert typist.attributes == typist.before
    desk.work()
    assert desk.output(first) == "refunded 25000 for A-17"
    assert "ada answered ship" in desk.say("tail", second, "--no-follow").stdout


def test_a_screen_that_can_read_no_more_does_not_stay_there(server: RedisServer, inbox: Callable[..., Typist]):
    """It would look as if nothing happened any more."""
    Desk(server.url).enqueue("clerk", REFUND)
    typist = inbox(REDIS_URL=server.url)
    typist.sees("inbox  1 waits")
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "default", "-zrevrangebylex", "-hgetall")
    assert typist.ended() == 1
    typist.sees("Redis refuses")


def test_a_denial_has_a_reason_and_escape_leaves_it(desk: Desk, inbox: Callable[..., Typist]):
    run_id = desk.enqueue("clerk", REFUND)
    typist = inbox()
    typist.sees("1 waits")
    typist.type("dno")
    typist.sees("why not?", "no")
    typist.type("\x1b")
    typist.sees_no("why not?")
    typist.type("d")
    typist.sees("why not?")
    typist.type("\x1b[200~ask\nfirst\x1b[201~\r")
    typist.sees("0 wait", "denied")
    desk.work()
    assert desk.output(run_id) == "refund was denied by ada: ask first"


def test_arguments_are_edited(desk: Desk, inbox: Callable[..., Typist], tmp_path: Path):
    run_id = desk.enqueue("clerk", REFUND)
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/25000/900/" "$1"\n')
    editor.chmod(0o700)
    typist = inbox(EDITOR=str(editor), VISUAL="")
    typist.sees("1 waits")
    typist.type("e")
    typist.sees("approve refund with cents=900 as ada? y/n")
    typist.type("y")
    typist.sees("0 wait", "approved, changed")
    desk.work()
    assert desk.output(run_id) == "refunded 900 for A-17"


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        ("exit 0", "nothing was changed"),
        ("exit 1", "the editor failed (EDITOR names another)"),
        ('echo nonsense > "$1"', "that is not JSON: "),
        ('echo "[1]" > "$1"', "arguments must be a JSON object; edit again? y/n"),
    ],
)
def test_what_an_editor_may_come_to(desk: Desk, inbox: Callable[..., Typist], tmp_path: Path, script: str, seen: str):
    desk.enqueue("clerk", REFUND)
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\nsleep 0.01\n{script}\n")
    editor.chmod(0o700)
    typist = inbox(EDITOR=str(editor), VISUAL="")
    typist.sees("1 waits")
    typist.type("e")
    typist.sees(seen)
    typist.type("n")
    typist.sees("1 waits", "a approve")
    typist.type("q")
    assert typist.ended() == 0


def test_whoever_is_too_late_is_told_who_was_faster(desk: Desk, inbox: Callable[..., Typist]):
    run_id = desk.enqueue("clerk", REFUND)
    typist = inbox()
    typist.sees("1 waits")
    typist.type("a")
    typist.sees("y/n")
    assert desk.say("deny", run_id, "--as", "bob").exit_code == 0
    typist.type("y")
    typist.sees("too late: bob denied refund", "0 wait")


def test_everything_of_one_thing_and_the_help(desk: Desk, inbox: Callable[..., Typist]):
    desk.enqueue("clerk", REFUND)
    typist = inbox()
    typist.sees("1 waits")
    typist.type("?")
    typist.sees("deny the call; the model reads the reason")
    typist.type("x")
    typist.sees("a approve")
    typist.type("\r")
    typist.sees("what was said before", "> call refund", "q back")
    typist.type("q")
    typist.sees("q quit")


def test_what_is_pasted_decides_nothing(desk: Desk, inbox: Callable[..., Typist]):
    desk.enqueue("clerk", REFUND)
    typist = inbox()
    typist.sees("1 waits")
    typist.type("\x1b[200~ay\x1b[201~?")
    typist.sees("go from one to the next")
    assert desk.say("inbox", "--json").stdout.count("call_id") == 1


def test_it_fits_a_terminal_that_changes(desk: Desk, inbox: Callable[..., Typist]):
    desk.enqueue("clerk", REFUND)
    typist = inbox(columns=120)
    typist.sees("─" * 120)
    typist.resize(44, 10)
    typist.sees_no("─" * 45)
    typist.sees("─" * 44, "▸", "? help  q quit")
    assert len(typist.screen.rows) <= 10


@pytest.mark.parametrize("how", ["ctrl-c", signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_as_it_was_however_it_ends(desk: Desk, inbox: Callable[..., Typist], how: str | signal.Signals):
    desk.enqueue("clerk", REFUND)
    typist = inbox()
    typist.sees("1 waits")
    typist.type("d")
    typist.sees("why not?")
    if isinstance(how, str):
        typist.type("\x03")
    else:
        typist.process.send_signal(how)
    assert typist.ended() == 130
    assert "1 still waits" in typist.screen.text
    assert not typist.screen.modes & _TAKEN_OVER
    assert typist.attributes == typist.before


def test_it_can_be_stopped_and_comes_back(desk: Desk, inbox: Callable[..., Typist]):
    desk.enqueue("clerk", REFUND)
    typist = inbox()
    typist.sees("1 waits")
    typist.type("\x1a")
    assert os.waitid(os.P_PID, typist.process.pid, os.WSTOPPED) is not None
    assert typist.attributes == typist.before
    typist.sees_no("1 waits")
    typist.process.send_signal(signal.SIGCONT)
    typist.sees("1 waits")
    typist.type("?")
    typist.sees("go from one to the next")


def test_no_redis_is_an_error_before_anything_is_drawn(inbox: Callable[..., Typist]):
    typist = inbox(REDIS_URL="redis://127.0.0.1:1/0")
    assert typist.ended() == 69
    assert "cannot be reached" in typist.screen.text.replace("\n", "")


def test_a_list_on_a_terminal_too(desk: Desk, inbox: Callable[..., Typist]):
    run_id = desk.enqueue("clerk", REFUND)
    typist = inbox("--list")
    assert typist.ended() == 0
    assert f"{run_id}.1.0" in typist.screen.text
    assert not typist.screen.modes & _TAKEN_OVER
