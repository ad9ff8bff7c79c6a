"""What a worker remembers of the runs that it works on, so that it reads only what is new."""

from __future__ import annotations

from agentq.messages import Message, user_message
from agentq.stores._transcripts import Transcript, Transcripts

HISTORY = (user_message("before"),)
NEW = (user_message("new"), user_message("newer"))


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def transcript(length: int) -> Transcript:
    return Transcript(HISTORY, tuple(user_message(str(number)) for number in range(length)))


def messages_of(transcripts: Transcripts, run_id: str, length: int) -> tuple[Message, ...] | None:
    found = transcripts.get(run_id, length)
    return None if found is None else found.messages


def test_a_commit_adds_to_what_is_held():
    transcripts, before = Transcripts(), transcript(3)
    transcripts.put("R", before)
    assert transcripts.begin_commit("R", NEW)
    transcripts.end_commit("R")
    assert transcripts.get("R", 5) == Transcript(HISTORY, before.messages + NEW)
    assert transcripts.get("R", 3) is None


def test_a_claim_that_comes_before_the_answer_to_the_commit():
    transcripts, before = Transcripts(), transcript(3)
    transcripts.put("R", before)
    transcripts.begin_commit("R", NEW)
    assert messages_of(transcripts, "R", 3) == before.messages
    after = transcripts.get("R", 5)
    assert after == Transcript(HISTORY, before.messages + NEW)
    transcripts.put("R", after)
    transcripts.end_commit("R")
    assert transcripts.get("R", 5) is after


def test_a_run_that_is_not_held_is_not_kept():
    transcripts = Transcripts()
    assert not transcripts.begin_commit("R", NEW)
    transcripts.end_commit("R")
    assert transcripts.get("R", 2) is None


def test_a_full_cache_takes_no_further_run():
    transcripts = Transcripts(limit=12)
    for name in "ABC":
        transcripts.put(name, transcript(3))  # 4 with its history
    transcripts.put("D", transcript(3))
    assert [name for name in "ABCD" if transcripts.get(name, 3)] == ["A", "B", "C"]
    assert not transcripts.begin_commit("D", NEW)


def test_runs_that_did_not_come_back_make_room():
    clock = Clock()
    transcripts = Transcripts(limit=12, now=clock)
    for name in "ABC":
        transcripts.put(name, transcript(3))
    clock.now = 45
    transcripts.put("B", transcript(3))
    clock.now = 75
    transcripts.put("D", transcript(7))
    assert [name for name, length in zip("ABCD", (3, 3, 3, 7), strict=True) if transcripts.get(name, length)] == [
        "B",
        "D",
    ]


def test_one_run_is_held_however_long_it_is():
    transcripts = Transcripts(limit=3)
    transcripts.put("R", transcript(50))
    assert transcripts.get("R", 50) is not None
    transcripts.put("S", transcript(1))
    assert transcripts.get("S", 1) is None
    transcripts.drop("R")
    transcripts.put("S", transcript(1))
    assert transcripts.get("S", 1) is not None
