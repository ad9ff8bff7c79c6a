"""`agentq inbox`, `approve`, `deny`, `answer` and `signal`: what they do, what they print, and their exit codes."""

from __future__ import annotations

import getpass
import json

import pytest

from agentq.cli import _inbox, _who
from agentq.errors import RunNotFound
from agentq.runs import Question
from tests.unit._desk import REFUND, SHIP, Desk

TWICE = 'call look_up {"word": "tea"} & call look_up {"word": "soap"}\nsay $1, $2'


@pytest.fixture
def desk(redis_url: str) -> Desk:
    return Desk(redis_url)


class TestInbox:
    def test_what_waits_is_listed_the_longest_first(self, desk: Desk):
        first = desk.enqueue("clerk", REFUND, session_id="s1", user_id="ann")
        second = desk.enqueue("shipper", SHIP)
        head, *rows = desk.say("inbox").stdout.splitlines()
        assert head.split() == ["CALL", "WAITS", "LEFT", "AGENT", "FOR", "WHAT"]
        assert [row.split()[0] for row in rows] == [f"{first}.1.0", f"{second}.1.0"]
        assert rows[0].endswith('clerk    finance  refund(order="A-17", cents=25000)')
        assert rows[1].endswith("? Which box?")

    def test_as_json(self, desk: Desk):
        run_id = desk.enqueue("clerk", REFUND, session_id="s1", user_id="ann")
        (waits,) = json.loads(desk.say("inbox", "--json").stdout)["waiting"]
        assert (
            waits.items()
            >= {
                "run_id": run_id,
                "call_id": f"{run_id}.1.0",
                "kind": "approval",
                "tool": "refund",
                "arguments": {"order": "A-17", "cents": 25000},
                "approvers": ["finance"],
                "agent": "clerk",
                "session_id": "s1",
                "user_id": "ann",
            }.items()
        )
        assert waits["until_ms"] - waits["since_ms"] == 3_600_000

    @pytest.mark.parametrize(
        ("narrowed", "found"),
        [
            (("--agent", "clerk"), 1),
            (("--agent", "nobody"), 0),
            (("--tool", "ship"), 1),
            (("--session", "s1"), 1),
            (("--user", "ann", "--agent", "shipper"), 0),
            ((), 2),
        ],
    )
    def test_it_can_be_narrowed_down(self, desk: Desk, narrowed: tuple[str, ...], found: int):
        desk.enqueue("clerk", REFUND, session_id="s1", user_id="ann")
        desk.enqueue("shipper", SHIP)
        assert len(json.loads(desk.say("inbox", "--json", *narrowed).stdout)["waiting"]) == found

    def test_nothing_waits(self, desk: Desk):
        result = desk.say("inbox")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "nothing waits for anybody\n")

    def test_runs_that_wait_for_no_person_stand_in_no_inbox(self, desk: Desk):
        asks = desk.enqueue("clerk", REFUND)
        sleeps = desk.enqueue("shipper", SHIP)
        for answer in ("small", "3"):
            desk.say("answer", sleeps, answer)
            desk.work()
        (waits,) = json.loads(desk.say("inbox", "--json").stdout)["waiting"]
        assert waits["run_id"] == asks


class TestApprove:
    def test_a_call_is_allowed_and_made(self, desk: Desk):
        run_id = desk.enqueue("clerk", REFUND)
        result = desk.say("approve", run_id)
        who = getpass.getuser()
        assert (result.exit_code, result.stdout) == (0, f"{run_id}.1.0 approved as {who}: the run is queued\n")
        desk.work()
        assert desk.output(run_id) == "refunded 25000 for A-17"
        assert f"» {who} allowed refund" in desk.say("tail", run_id).stdout

    def test_with_other_arguments(self, desk: Desk):
        run_id = desk.enqueue("clerk", REFUND)
        bad = desk.say("approve", run_id, "--args", '{"order": "A-17"}')
        assert bad.exit_code == 2
        assert "arguments do not fit refund: cents" in bad.stderr
        given = '{"order": "A-17", "cents": 900}'
        result = desk.say("approve", f"{run_id}.1.0", "--args", "-", "--as", "ada", "--json", stdin=given)
        assert json.loads(result.stdout) == {
            "calls": [
                {
                    "run_id": run_id,
                    "call_id": f"{run_id}.1.0",
                    "decision": "approved",
                    "by": "ada",
                    "status": "queued",
                }
            ]
        }
        desk.work()
        assert desk.output(run_id) == "refunded 900 for A-17"
        assert 'ada allowed refund, as refund(order="A-17", cents=900)' in desk.say("tail", run_id).stdout

    def test_one_of_several_calls_has_to_be_named(self, desk: Desk):
        run_id = desk.enqueue("clerk", TWICE)
        result = desk.say("approve", run_id)
        assert result.exit_code == 2
        assert 'has 2 calls that wait; name some, or say --all: 1.0 look_up(word="tea"), 1.1' in result.stderr
        assert desk.say("deny", run_id, "1.1", "--reason", "too late").exit_code == 0
        assert desk.say("approve", run_id, "1.0").exit_code == 0
        desk.work()
        assert f"nothing about tea, look_up was denied by {getpass.getuser()}: too late" in desk.output(run_id)

    def test_all_calls_of_a_run(self, desk: Desk):
        run_id = desk.enqueue("clerk", TWICE)
        assert desk.say("approve", run_id, "--all").stdout.count("approved") == 2
        desk.work()
        assert desk.output(run_id) == "nothing about tea, nothing about soap"

    def test_who_was_faster_is_told(self, desk: Desk):
        run_id = desk.enqueue("clerk", REFUND)
        desk.say("deny", run_id, "--as", "bob", "--reason", "no")
        result = desk.say("approve", run_id, "1.0")
        assert result.exit_code == 6
        assert "bob denied refund: no, 0 s ago" in result.stderr
        desk.work()
        late = desk.say("approve", run_id)
        assert late.exit_code == 6
        assert "does not wait for an approval" in late.stderr
        assert "bob denied refund: no" in late.stderr

    def test_the_same_again_by_the_same_person_has_no_effect(self, desk: Desk):
        run_id = desk.enqueue("clerk", REFUND)
        assert [desk.say("approve", run_id, "1.0").exit_code for _ in range(2)] == [0, 0]
        desk.work()
        assert desk.say("tail", run_id).stdout.count("allowed refund") == 1

    @pytest.mark.parametrize("call", ["9.9", "nonsense", "1.1"])
    def test_a_call_that_is_not_there(self, desk: Desk, call: str):
        run_id = desk.enqueue("clerk", REFUND)
        result = desk.say("approve", run_id, call)
        assert result.exit_code == 6
        assert "does not wait for an approval" in result.stderr

    def test_what_is_wrong_with_one_call_does_not_keep_the_others(self, desk: Desk):
        run_id = desk.enqueue("clerk", TWICE)
        result = desk.say("approve", run_id, "7.0", "1.0", "--json")
        assert result.exit_code == 6
        assert [each["call_id"] for each in json.loads(result.stdout)["calls"]] == [f"{run_id}.1.0"]

    @pytest.mark.parametrize("verb", ["approve", "deny"])
    def test_many_are_decided_only_after_a_yes(self, desk: Desk, verb: str):
        runs = [desk.enqueue("clerk", REFUND) for _ in range(3)]
        other = desk.enqueue("shipper", SHIP)
        refused = desk.say(verb, "--tool", "refund")
        assert refused.exit_code == 2
        assert f"that would {verb} 3 calls; --yes says so" in refused.stderr
        done = desk.say(verb, "--all", "--yes")
        assert done.exit_code == 0
        assert [line.split(".")[0] for line in done.stdout.splitlines()] == runs
        assert desk.say(verb, "--all", "--yes").stderr == "no call waits for that\n"
        assert json.loads(desk.say("inbox", "--json").stdout)["waiting"][0]["run_id"] == other


class TestAnswer:
    def test_the_answer_is_what_the_question_wants(self, desk: Desk):
        run_id = desk.enqueue("shipper", SHIP)
        wrong = desk.say("answer", run_id, "medium")
        assert wrong.exit_code == 2
        assert "'medium' is not one of ['small', 'large']" in wrong.stderr
        no_result = desk.say("answer", run_id, "--unknown")
        assert no_result.exit_code == 2
        assert "asks 'Which box?', which takes a RESULT only" in no_result.stderr
        assert desk.say("answer", run_id, "small", "--call", "1.0").exit_code == 0
        desk.work()
        assert desk.say("answer", f"{run_id}.1.0", "3").exit_code == 0
        desk.work()
        told = desk.say("tail", run_id, "--no-follow").stdout
        assert "? ship asks: Which box?" in told
        assert "nobody knows" not in told
        result = desk.say("signal", run_id, "packed", '"ann"', "--as", "ada")
        assert (result.exit_code, result.stdout) == (0, f"{run_id} queued: packed was sent as ada\n")
        desk.work()
        assert desk.output(run_id) == "C-9 in a small box, 3 labels, packed by ann"
        assert desk.say("signal", run_id, "packed").exit_code == 6

    @pytest.mark.parametrize(
        ("schema", "text", "answer"),
        [
            (None, "5", "5"),
            ({}, "5", "5"),
            ({"type": "string"}, "5", "5"),
            ({"type": "integer"}, "5", 5),
            ({"type": "object"}, '{"a": [1]}', {"a": [1]}),
            ({"type": "integer"}, "five", "five"),
        ],
    )
    def test_a_text_is_read_as_json_where_no_text_fits(self, schema: dict[str, str] | None, text: str, answer: object):
        assert _inbox.answer_of(text, Question("R.1.0", "t", "?", "input", schema=schema)) == answer


class TestSignal:
    def test_a_signal_that_comes_first_is_kept_and_a_repeated_one_dropped(self, desk: Desk):
        run_id = desk.enqueue("shipper", SHIP)
        for _ in range(2):
            assert desk.say("signal", run_id, "packed", '{"by": "ann"}', "--id", "p-1").exit_code == 0
        as_json = json.loads(desk.say("signal", run_id, "late", "-", "--json", "--as", "x", stdin="[1]").stdout)
        assert as_json.items() >= {"run_id": run_id, "signal": "late", "by": "x"}.items()
        assert desk.say("tail", run_id, "--no-follow").stdout.count("sent the signal packed") == 1


@pytest.mark.parametrize(
    ("run", "calls", "found"),
    [
        ("01JD3ZK8W5Q0X9V7T2M4N6P8RA", (), ()),
        ("01jd3zk8w5q0x9v7t2m4n6p8ra.1.0", (), ("01JD3ZK8W5Q0X9V7T2M4N6P8RA.1.0",)),
        ("01JD3ZK8W5Q0X9V7T2M4N6P8RA", ("2.1", "x"), ("01JD3ZK8W5Q0X9V7T2M4N6P8RA.2.1", "X")),
    ],
)
def test_calls_are_named_in_short_or_in_full(run: str, calls: tuple[str, ...], found: tuple[str, ...]):
    assert _inbox.split_call(run, calls) == ("01JD3ZK8W5Q0X9V7T2M4N6P8RA", found)


def test_a_call_of_no_run_is_no_call():
    with pytest.raises(RunNotFound):
        _inbox.split_call("x.1.0", ())


def test_a_user_without_a_name_is_told_by_number(monkeypatch: pytest.MonkeyPatch):
    def no_name() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", no_name)
    monkeypatch.setattr("os.getuid", lambda: 4711)
    assert _who.who(None) == "uid 4711"
    assert _who.who("ada") == "ada"


@pytest.mark.parametrize(("passed_ms", "urgent"), [(0, False), (79_000, False), (80_000, True), (200_000, True)])
def test_what_is_nearly_over_is_urgent(passed_ms: int, urgent: bool):
    question = Question("R.1.0", "t", "?", "approval", since_ms=1000, until_ms=101_000)
    assert _inbox.is_urgent(question, 1000 + passed_ms) is urgent
    assert not _inbox.is_urgent(Question("R.1.0", "t", "?", "approval", since_ms=1000), 1000 + passed_ms)
