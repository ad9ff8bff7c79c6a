"""Why a run rests, judged from what was seen: each status and each cause, in words and as a code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentq.insight.facts import Place, QueueFacts, ServerHistory, Snapshot, SweepFacts, WorkerInfo
from agentq.insight.reasons import Code, Reason
from agentq.insight.why import explain
from agentq.runs import SCHEMA_VERSION, Pause, Phase, Question, RunState, Status
from tests.unit._why_limits import CASES_OF_LIMITS

RUN, OTHER = "01JD3ZK8W5Q0X9V7T2M4N6P8RA", "01JD3ZK8W5Q0X9V7T2M4N6P8RB"
NOW = 1_700_000_000_000
OURS = WorkerInfo("w1", ("slow",), in_flight=0, concurrency=2, agents=("calculator",), version="0.1.0")
STOCK = WorkerInfo("s1", ("slow",))
SWEEP = SweepFacts(due_ms=NOW + 1500, woken_ms=NOW - 60_000, swept_ms=NOW - 100)


def run(status: Status = Status.QUEUED, **fields: Any) -> RunState:
    return RunState(RUN, "calculator", status, **{"queue": "slow", "created_ms": NOW - 60_000, "wake": 1, **fields})


def queue(*workers: WorkerInfo, ahead: int | None = 0, waiting: int = 5, **fields: Any) -> QueueFacts:
    return QueueFacts(workers, Place(waiting, ahead, looked_at=10_000), **fields)


def why(state: RunState, **seen: Any) -> Reason:
    return explain(Snapshot(state, NOW, **{"queue": queue(OURS), "sweep": SWEEP, **seen}))


HELD: dict[str, Any] = {
    "owner": "w1",
    "lease_until_ms": NOW + 8200,
    "updated_ms": NOW - 12_000,
    "phase": Phase.THINKING,
    "iteration": 2,
}
LOST: dict[str, Any] = {"owner": "w1", "lease_until_ms": NOW - 40_000, "iteration": 2}
GONE = queue(OURS, ahead=None)


CASES: list[tuple[str, RunState, dict[str, Any], Code, str]] = [
    *CASES_OF_LIMITS,
    # it has ended
    (
        "completed",
        run(Status.COMPLETED, finished_ms=NOW - 300_000, iteration=3),
        {"expires_ms": NOW + 7_200_000},
        Code.COMPLETED,
        "it completed 5 m ago, after 3 iterations",
    ),
    (
        "failed",
        run(Status.FAILED, finished_ms=NOW - 5000, last_error="model\nsaid no"),
        {},
        Code.FAILED,
        "it failed 5 s ago: model said no",
    ),
    (
        "cancelled",
        run(Status.CANCELLED, finished_ms=NOW - 5000, cancel_reason="enough"),
        {},
        Code.CANCELLED,
        "it was cancelled 5 s ago: enough",
    ),
    (
        "cancelled without a reason",
        run(Status.CANCELLED, finished_ms=NOW - 5000, cancel_reason=""),
        {},
        Code.CANCELLED,
        "it was cancelled 5 s ago",
    ),
    (
        "waiting for an answer",
        run(
            Status.WAITING,
            updated_ms=NOW - 60_000,
            questions=(Question(call_id="R.1.0", tool="charge", text="?", arguments={"cents": 500}),),
        ),
        {},
        Code.WAITS_FOR_ANSWER,
        "it has waited for 1 m 00 s for somebody to say what became of charge(cents=500), whose worker died in it",
    ),
    *[
        (
            f"waiting for {kind}",
            run(
                Status.WAITING,
                updated_ms=NOW - 60_000,
                questions=(
                    Question(
                        call_id="R.1.0",
                        tool="pay",
                        text="?",
                        kind=kind,
                        arguments={"cents": 500},
                        name=name,
                        until_ms=NOW + 5000,
                        approvers=("ann", "bob") if kind == "approval" else (),
                    ),
                ),
            ),
            {},
            code,
            text,
        )
        for kind, name, code, text in (
            (
                "approval",
                "",
                Code.WAITS_FOR_APPROVAL,
                (
                    "it has waited for 1 m 00 s for somebody (ann or bob) to allow pay(cents=500); in 5.0 s it is "
                    "given up"
                ),
            ),
            (
                "input",
                "Which size?",
                Code.WAITS_FOR_INPUT,
                "it has waited for 1 m 00 s for an answer to: Which size?; in 5.0 s it is given up",
            ),
            (
                "signal",
                "packed",
                Code.WAITS_FOR_SIGNAL,
                "it has waited for 1 m 00 s for the signal packed; in 5.0 s it is given up",
            ),
            ("timer", "", Code.WAITS_FOR_TIME, "pay sleeps, and goes on in 5.0 s"),
        )
    ],
    (
        "called too often",
        run(
            Status.WAITING,
            not_before_ms=NOW + 12_000,
            questions=(Question(call_id="R.1.0", tool="ask", text="ask may be called 5/minute", kind="limit"),),
        ),
        {},
        Code.RATE_LIMITED,
        "it goes on in 12.0 s: ask may be called 5/minute",
    ),
    (
        "waiting for another run",
        run(
            Status.WAITING,
            updated_ms=NOW - 60_000,
            questions=(Question(call_id="R.1.0", tool="research", text="?", kind="child", run_id="CHILD"),),
        ),
        {},
        Code.WAITS_FOR_RUN,
        "it has waited for 1 m 00 s for run CHILD, which research started",
    ),
    (
        "ended, by a newer version",
        run(Status.COMPLETED, finished_ms=NOW, version=SCHEMA_VERSION + 1),
        {},
        Code.COMPLETED,
        "it completed 0 s ago, after 0 iterations",
    ),
    # it rests
    (
        "waiting",
        run(Status.WAITING, updated_ms=NOW - 90_000),
        {},
        Code.WAITING,
        "it has waited for 1 m 30 s for something from outside",
    ),
    (
        "paused",
        run(Status.PAUSED, pause=Pause(at_ms=NOW - 90_000)),
        {},
        Code.PAUSED,
        "somebody paused it 1 m 30 s ago",
    ),
    (
        "paused with a reason",
        run(Status.PAUSED, pause=Pause("on the phone", "ada", NOW - 90_000)),
        {},
        Code.PAUSED,
        "ada paused it 1 m 30 s ago: on the phone",
    ),
    (
        "paused while it is held",
        run(Status.RUNNING, pause=Pause(at_ms=NOW - 1000), **HELD),
        {},
        Code.RUNNING,
        "worker w1 has had it for 12.0 s and is thinking, in iteration 3",
    ),
    # somebody is at it
    (
        "thinking",
        run(Status.RUNNING, **HELD),
        {},
        Code.RUNNING,
        "worker w1 has had it for 12.0 s and is thinking, in iteration 3",
    ),
    (
        "using tools",
        run(Status.RUNNING, **{**HELD, "phase": Phase.USING_TOOLS}),
        {},
        Code.RUNNING,
        "worker w1 has had it for 12.0 s and uses tools, in iteration 3",
    ),
    (
        "held by one that is not registered",
        run(Status.RUNNING, **HELD),
        {"queue": queue(is_owner_registered=False)},
        Code.OWNER_MISSING,
        "worker w1 holds its lease for another 8.2 s, but is not registered",
    ),
    (
        "held and cancelled",
        run(Status.RUNNING, **HELD, cancel_reason=""),
        {},
        Code.CANCELLING,
        "cancel was requested, and worker w1 is stopping it",
    ),
    # its worker is gone
    (
        "lease expired",
        run(Status.RUNNING, **LOST),
        {"queue": GONE},
        Code.LEASE_EXPIRED,
        "worker w1 stopped renewing its lease 40.0 s ago; the next sweep hands the run to another",
    ),
    (
        "lease expired, wake-up in line",
        run(Status.RUNNING, **LOST),
        {"queue": queue(OURS, ahead=3)},
        Code.LEASE_EXPIRED,
        "worker w1 stopped renewing its lease 40.0 s ago; another takes it over, after 3 wake-ups before it in line",
    ),
    (
        "lease expired, nobody swept",
        run(Status.RUNNING, **LOST),
        {"queue": queue(OURS, STOCK, ahead=None), "sweep": replace(SWEEP, swept_ms=NOW - 60_000)},
        Code.NOT_SWEPT,
        "worker w1 stopped renewing its lease 40.0 s ago, and nobody has swept for 1 m 00 s",
    ),
    (
        "lease expired, no worker",
        run(Status.RUNNING, **LOST),
        {"queue": queue()},
        Code.NO_WORKER,
        "worker w1 stopped renewing its lease 40.0 s ago; no worker on queue slow",
    ),
    (
        "lease expired after a pause of all",
        run(Status.RUNNING, **LOST),
        {"sweep": replace(SWEEP, recovers_from_ms=NOW + 3000)},
        Code.RECOVERY_HELD,
        "worker w1 stopped renewing its lease 40.0 s ago; as nobody swept for a while, workers get 3.0 s more to renew",
    ),
    (
        "lease expired, on another store",
        run(Status.RUNNING, **LOST),
        {"queue": None, "sweep": None},
        Code.LEASE_EXPIRED,
        "worker w1 stopped renewing its lease 40.0 s ago; the next sweep hands the run to another",
    ),
    # it is queued, for later
    (
        "delayed",
        run(not_before_ms=NOW + 100_000),
        {},
        Code.DELAYED,
        "it starts in 1 m 40 s, as it was asked to",
    ),
    (
        "backing off",
        run(not_before_ms=NOW + 4000, errors=1, last_error="503"),
        {},
        Code.BACKING_OFF,
        "its last turn failed (503); it tries again in 4.0 s",
    ),
    (
        "backing off again",
        run(not_before_ms=NOW + 4000, errors=3),
        {},
        Code.BACKING_OFF,
        "its last 3 turns failed (no reason was recorded); it tries again in 4.0 s",
    ),
    (
        "cancelled, and nobody has it",
        run(cancel_reason="", waits_for_session=True),
        {},
        Code.CANCEL_REQUESTED,
        "cancel was requested, and the next worker that takes it ends it",
    ),
    # it is queued, and somebody must do something
    ("no worker", run(), {"queue": queue()}, Code.NO_WORKER, "no worker on queue slow"),
    (
        "suspended",
        run(),
        {"queue": queue(OURS, is_suspended=True)},
        Code.SUSPENDED,
        "all workers are suspended (`rq suspend`)",
    ),
    (
        "no worker has the agent",
        run(),
        {"queue": queue(replace(OURS, agents=("other",)))},
        Code.UNSERVED,
        "no worker on queue slow has agent 'calculator'",
    ),
    (
        "parked, and only a stock worker, which does not say",
        run(),
        {"queue": queue(STOCK, ahead=None), "sweep": replace(SWEEP, is_parked=True, due_ms=None)},
        Code.UNSERVED,
        "no worker on queue slow has agent 'calculator'",
    ),
    (
        "silent workers",
        run(),
        {"queue": queue(*(replace(OURS, name=f"w{n}", is_silent=True) for n in range(5)))},
        Code.WORKERS_SILENT,
        "no worker on queue slow is heard any more: w0, w1, w2 and 2 more",
    ),
    (
        "quiet workers",
        run(),
        {"queue": queue(replace(OURS, is_quiet=True), replace(OURS, name="w2", agents=("other",)))},
        Code.WORKERS_QUIET,
        "what could take it on queue slow was told to be quiet: w1",
    ),
    (
        "a quiet worker is not counted among those that serve the queue",
        run(),
        {"queue": queue(replace(OURS, is_quiet=True), replace(OURS, name="w2"))},
        Code.IN_LINE,
        "it is next on queue slow, which 1 worker serves",
    ),
    (
        "a worker that was killed a moment ago sweeps no more",
        run(),
        {"sweep": replace(SWEEP, swept_ms=NOW - 11_000)},
        Code.WORKERS_SILENT,
        "no worker on queue slow is heard any more: w1",
    ),
    (
        "newer version",
        run(version=SCHEMA_VERSION + 1),
        {},
        Code.NEWER_VERSION,
        f"a newer agentq has stored it (form {SCHEMA_VERSION + 1}, this one reads {SCHEMA_VERSION})",
    ),
    (
        "wake-up gone and nobody swept for a day",
        run(),
        {"queue": queue(STOCK, ahead=None), "sweep": replace(SWEEP, swept_ms=None)},
        Code.NOT_SWEPT,
        "its wake-up is gone, and nobody has swept for a day",
    ),
    (
        "out of every list",
        run(),
        {"queue": GONE, "sweep": replace(SWEEP, due_ms=None)},
        Code.STUCK,
        "its wake-up is gone, and it is not among the runs that a sweep looks at",
    ),
    # it is queued, and moves by itself
    (
        "a worker that has not swept yet, because it has just started",
        run(),
        {"queue": queue(replace(OURS, started_ms=NOW - 300)), "sweep": replace(SWEEP, swept_ms=None)},
        Code.IN_LINE,
        "it is next on queue slow, which 1 worker serves",
    ),
    ("next", run(), {}, Code.IN_LINE, "it is next on queue slow, which 1 worker serves"),
    (
        "in line",
        run(),
        {"queue": queue(OURS, STOCK, ahead=1)},
        Code.IN_LINE,
        "1 wake-up before it on queue slow, which 2 workers serve",
    ),
    (
        "far behind",
        run(),
        {"queue": queue(OURS, ahead=None, waiting=100_000)},
        Code.IN_LINE,
        "more than 10000 wake-ups before it on queue slow, which 1 worker serves",
    ),
    (
        "all busy",
        run(),
        {"queue": queue(replace(OURS, in_flight=2), replace(STOCK, state="busy"), ahead=7)},
        Code.WORKERS_BUSY,
        "all 2 workers are busy (3 iterations at once), with 7 wake-ups before it on queue slow",
    ),
    (
        "next, and its only worker is busy",
        run(),
        {"queue": queue(replace(OURS, in_flight=2))},
        Code.WORKERS_BUSY,
        "its worker is busy (2 iterations at once), with no wake-up before it on queue slow",
    ),
    (
        "just woken",
        run(),
        {"queue": GONE, "sweep": replace(SWEEP, woken_ms=NOW - 40)},
        Code.WAKING,
        "it was woken 40 ms ago, and is being taken",
    ),
    (
        "parked, and its agent is there again",
        run(),
        {"queue": GONE, "sweep": replace(SWEEP, is_parked=True, due_ms=None)},
        Code.WAKING,
        "a worker has its agent now, and wakes it with its next sweep",
    ),
    (
        "wake-up lost",
        run(),
        {"queue": GONE},
        Code.WAKEUP_LOST,
        "its wake-up is lost; a sweep makes a new one in 1.5 s",
    ),
    (
        "wake-up lost and overdue",
        run(),
        {"queue": GONE, "sweep": replace(SWEEP, due_ms=NOW - 10)},
        Code.WAKEUP_LOST,
        "its wake-up is lost; a sweep makes a new one at once",
    ),
    # what cannot be told
    (
        "another store",
        run(),
        {"queue": None, "sweep": None},
        Code.DUE,
        "it is due, and what advances it cannot be asked from here",
    ),
    (
        "an executor that names workers only",
        run(),
        {"queue": QueueFacts((STOCK,)), "sweep": None},
        Code.DUE,
        "it is due on queue slow, which 1 worker serves",
    ),
    (
        "the safety net may not be asked",
        run(),
        {"queue": GONE, "sweep": None, "refused": ("ZSCORE",)},
        Code.DUE,
        "it is due, and no wake-up of it is in the queue",
    ),
]


@pytest.mark.parametrize(("state", "seen", "code", "text"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_the_reason(state: RunState, seen: dict[str, Any], code: Code, text: str):
    reason = why(state, **seen)
    assert (reason.code, reason.text) == (code, text)
    assert (reason.run_id, reason.status) == (RUN, state.status)
    assert "\n" not in reason.text


def test_every_code_is_the_reason_of_some_case():
    named = {case[3] for case in CASES} | {Code.BEHIND, Code.BEHIND_NOTHING}
    assert named == set(Code)


@pytest.mark.parametrize("case", CASES, ids=[c[0] for c in CASES])
def test_what_needs_help_says_what_to_do(case: tuple[str, RunState, dict[str, Any], Code, str]):
    reason = why(case[1], **case[2])
    assert reason.fix or not reason.needs_help


NEEDS_HELP = {
    "paused",
    "limit_reached",
    "waits_for_answer",
    "waits_for_approval",
    "waits_for_input",
    "no_worker",
    "workers_silent",
    "suspended",
    "workers_quiet",
    "unserved",
    "not_swept",
    "newer_version",
    "stuck",
}


def test_what_moves_by_itself_needs_no_help():
    assert {str(code) for _, state, seen, code, _ in CASES if why(state, **seen).needs_help} == NEEDS_HELP


@pytest.mark.parametrize(
    ("queue_name", "fix"), [("default", "start: agentq worker"), ("slow", "start: agentq worker -q slow")]
)
def test_the_command_that_starts_a_worker_names_another_queue_than_the_default(queue_name: str, fix: str):
    assert why(run(queue=queue_name), queue=queue()).fix == fix


def test_a_run_behind_another_says_why_that_one_rests():
    first = Snapshot(replace(run(), run_id=OTHER), NOW, queue(), SWEEP)
    reason = why(run(waits_for_session=True), behind=first, behind_id=OTHER, line_ahead=0)
    assert reason.code is Code.BEHIND
    assert reason.text == f"run {OTHER} is before it in its session; that run is queued: no worker on queue slow"
    assert reason.fix == "start: agentq worker -q slow"
    assert reason.needs_help
    assert reason.because is not None
    assert (reason.because.run_id, reason.because.code) == (OTHER, Code.NO_WORKER)
    assert reason.details == {"behind": OTHER, "line_ahead": 0}


def test_a_run_far_back_in_its_session_says_how_far():
    first = Snapshot(replace(run(Status.RUNNING, **HELD), run_id=OTHER), NOW, queue(OURS), SWEEP)
    reason = why(run(waits_for_session=True), behind=first, behind_id=OTHER, line_ahead=2)
    assert reason.text.startswith(f"run {OTHER} and 2 others are before it in its session; that run is running: worker")
    assert not reason.needs_help


def test_a_run_behind_one_that_was_deleted_by_hand_says_so():
    reason = why(run(waits_for_session=True), behind_id=OTHER)
    assert reason.code is Code.BEHIND_NOTHING
    assert OTHER in reason.text
    assert reason.needs_help


def test_a_delay_that_nobody_will_end_is_told():
    sweep = replace(SWEEP, swept_ms=None)
    (note,) = why(run(not_before_ms=NOW + 1000), queue=queue(STOCK), sweep=sweep).notes
    assert note == "only a worker of agentq starts it then, and none is there; start: agentq worker -q slow"


def test_a_delayed_run_without_a_worker_says_so_already():
    (note,) = why(run(not_before_ms=NOW + 1000), queue=queue()).notes
    assert note == "now: no worker on queue slow; start: agentq worker -q slow"


def test_a_run_in_line_says_for_how_long():
    assert why(run(), queue=queue(OURS, ahead=4)).notes == ("it has been in line for 1 m 00 s",)


def test_what_redis_refuses_is_told():
    reason = why(run(), queue=None, refused=("LPOS",))
    assert reason.notes == ("this user of Redis may not use LPOS, so part of the picture is missing",)


def test_figures_come_with_the_reason():
    assert why(run(), queue=queue(OURS, ahead=4)).details == {"queue": "slow", "workers": 1, "ahead": 4, "waiting": 5}
    assert why(run(Status.RUNNING, **HELD)).details == {
        "owner": "w1",
        "phase": "thinking",
        "since_ms": NOW - 12_000,
        "lease_until_ms": NOW + 8200,
    }


def test_a_long_error_is_cut():
    reason = why(run(Status.FAILED, finished_ms=NOW, last_error="x" * 5000))
    assert len(reason.text) < 400
    assert reason.text.endswith("x…")


class TestPast:
    @pytest.mark.parametrize(
        ("recoveries", "note"),
        [
            (1, "it lost its worker once since its last commit"),
            (2, "it lost its worker twice since its last commit, so it is worked on alone"),
            (4, "it lost its worker 4 times since its last commit, so it is worked on alone"),
        ],
    )
    def test_crashes_are_told_while_they_count(self, recoveries: int, note: str):
        assert note in why(run(Status.RUNNING, recoveries=recoveries, **HELD)).notes
        assert note in why(run(recoveries=recoveries)).notes
        assert note not in why(run(Status.FAILED, recoveries=recoveries, finished_ms=NOW)).notes

    def test_a_run_that_was_set_aside_can_be_taken_up_again(self):
        found = why(run(Status.FAILED, finished_ms=NOW, last_error="its worker died 6 times"))
        assert f"agentq retry {RUN}" in found.fix

    def test_a_retry_is_told(self):
        assert "it was taken up again 2 times after its end" in why(run(retries=2)).notes

    def test_what_redis_lost_is_told(self):
        notes = why(run(lost_ms=NOW - 3000), history=ServerHistory(3, NOW - 4000, NOW - 3000)).notes
        assert "Redis has lost a part of it; that was noticed 3 s ago" in notes
        assert "Redis was restarted or replaced 4 s ago (epoch 3)" in notes
        other = why(run(), history=ServerHistory(3, NOW - 4000, NOW - 3000)).notes
        assert "Redis was restarted or replaced 4 s ago (epoch 3), and has lost data of other runs" in other

    @pytest.mark.parametrize("history", [ServerHistory(), ServerHistory(1, NOW - 4000), ServerHistory(2, NOW - 90_000)])
    def test_a_server_that_was_there_all_the_time_is_no_news(self, history: ServerHistory):
        assert why(run(), history=history).notes == why(run()).notes

    def test_a_long_argument_is_cut(self):
        asked = Question(call_id="R.1.0", tool="post", text="?", arguments={"text": "x" * 1000})
        assert len(why(run(Status.WAITING, updated_ms=NOW, questions=(asked,))).text) < 300
