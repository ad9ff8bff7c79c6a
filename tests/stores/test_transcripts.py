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


def messages_of(transcripts: Transcripts, run_id: str, committed: int, length: int) -> tuple[Message, ...] | None:
    found = transcripts.get(run_id, committed, length)
    return None if found is None else found.messages


def test_a_commit_adds_to_what_is_held():
    transcripts, before = Transcripts(), transcript(3)
    transcripts.put("R", 1, before)
    assert transcripts.begin_commit("R", 2, NEW)
    transcripts.end_commit("R", 2)
    assert transcripts.get("R", 2, 5) == Transcript(HISTORY, before.messages + NEW)
    assert transcripts.get("R", 1, 3) is None


def test_a_claim_that_comes_before_the_answer_to_the_commit():
    transcripts, before = Transcripts(), transcript(3)
    transcripts.put("R", 1, before)
    transcripts.begin_commit("R", 2, NEW)
    assert messages_of(transcripts, "R", 1, 3) == before.messages
    after = transcripts.get("R", 2, 5)
    assert after == Transcript(HISTORY, before.messages + NEW)
    transcripts.put("R", 2, after)
    transcripts.end_commit("R", 2)
    assert transcripts.get("R", 2, 5) is after


def test_a_commit_that_is_sent_again_adds_nothing_twice():
    """The answer was lost, and this worker had claimed the run again before it sent the commit again."""
    transcripts, before = Transcripts(), transcript(3)
    transcripts.put("R", 1, before)
    assert transcripts.begin_commit("R", 2, NEW)
    after = Transcript(HISTORY, before.messages + NEW)
    transcripts.put("R", 2, after)
    assert not transcripts.begin_commit("R", 2, NEW)
    transcripts.end_commit("R", 2)
    assert transcripts.get("R", 2, 5) is after
    assert transcripts.get("R", 2, 7) is None


def test_the_answer_to_an_older_commit_ends_no_newer_one():
    transcripts = Transcripts()
    transcripts.put("R", 2, transcript(5))
    assert transcripts.begin_commit("R", 3, NEW)
    transcripts.end_commit("R", 2)
    assert transcripts.get("R", 3, 7) is not None
    assert transcripts.get("R", 2, 5) is not None


def test_a_transcript_of_the_same_length_that_another_commit_left_is_not_taken():
    transcripts = Transcripts()
    transcripts.put("R", 2, transcript(5))
    assert transcripts.get("R", 4, 5) is None


def test_a_run_that_is_not_held_is_not_kept():
    transcripts = Transcripts()
    assert not transcripts.begin_commit("R", 2, NEW)
    transcripts.end_commit("R", 2)
    assert transcripts.get("R", 2, 2) is None


def test_a_full_cache_takes_no_further_run():
    transcripts = Transcripts(limit=12)
    for name in "ABC":
        transcripts.put(name, 1, transcript(3))  # 4 with its history
    transcripts.put("D", 1, transcript(3))
    assert [name for name in "ABCD" if transcripts.get(name, 1, 3)] == ["A", "B", "C"]
    assert not transcripts.begin_commit("D", 2, NEW)


def test_runs_that_did_not_come_back_make_room():
    clock = Clock()
    transcripts = Transcripts(limit=12, now=clock)
    for name in "ABC":
        transcripts.put(name, 1, transcript(3))
    clock.now = 45
    transcripts.put("B", 1, transcript(3))
    clock.now = 75
    transcripts.put("D", 1, transcript(7))
    assert [name for name, length in zip("ABCD", (3, 3, 3, 7), strict=True) if transcripts.get(name, 1, length)] == [
        "B",
        "D",
    ]


def test_one_run_is_held_however_long_it_is():
    transcripts = Transcripts(limit=3)
    transcripts.put("R", 1, transcript(50))
    assert transcripts.get("R", 1, 50) is not None
    transcripts.put("S", 1, transcript(1))
    assert transcripts.get("S", 1, 1) is None
    transcripts.drop("R")
    transcripts.put("S", 1, transcript(1))
    assert transcripts.get("S", 1, 1) is not None
