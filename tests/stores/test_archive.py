"""What was exported and imported is what was there: the same runs, sessions, events and files, kept anew."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq._ids import new_run_id
from agentq.archive.exporting import Selection, export_archive
from agentq.archive.records import RunRecord, SessionRecord, canonical, decode, encode
from agentq.errors import SessionNotFound
from agentq.events.model import RunCompleted
from agentq.messages import Usage, user_message
from agentq.runs import FINAL, RunState, SessionState, Status
from agentq.stores._records import fields_of_ended_run, run_of_hash
from agentq.stores.base import EventBatch, NewRun
from agentq.stores.filters import RunFilter, SessionFilter
from agentq.stores.values import SCOPES, Change
from agentq.testing._contract import commit_of, completed, deltas_of, events_of, new_run, reply_message, texts
from tests.stores.archive_parts import Place, edited, outcomes, units
from tests.stores.retention_parts import DIGEST, DRAWN, DRAWN_DIGEST, ENDINGS, FILE, SETTINGS, every_ending, strays

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def here(redis_url: str) -> AsyncIterator[Place]:
    place = Place(redis_url)
    yield place
    await place.aclose()


@pytest.fixture
async def there(redis_url: str) -> AsyncIterator[Place]:
    place = Place(redis_url, "there")
    yield place
    await place.aclose()


async def test_what_is_exported_again_after_an_import_is_the_same(here: Place, there: Place):
    runs = await every_ending(here.deployment)
    lines, left_out = await here.exported()
    assert left_out == []
    imported = await there.imported(lines)
    assert {each.outcome for each in imported} == {"new"}
    assert {each.name for each in imported} == {*runs.values(), "s1", "s 2 ü"}
    again = await there.lines()
    assert units(again) == units(lines)
    assert again[-1] == lines[-1]


async def test_what_tools_keep_for_a_run_and_its_session_comes_along(here: Place, there: Place):
    run_id = await here.deployment.enqueue("answers", session_id="s1")
    claim = await here.deployment.take(run_id)
    kept = tuple(Change(scope, f"{scope} {number}", b'{"a":null}') for scope in SCOPES for number in range(1200))
    closing = (RunCompleted(output="", usage=Usage(), iterations=1),)
    await here.store.commit(claim.lease, commit_of(claim, Status.COMPLETED, closing=closing, changes=kept))
    lines = await here.lines()
    await there.imported(lines)
    assert await there.store.values("run", run_id) == await here.store.values("run", run_id) != {}
    assert await there.store.values("session", "s1") == await here.store.values("session", "s1") != {}
    # A user is neither: what is kept for one belongs to runs that are not in the archive, too.
    assert await there.store.values("user", "u1") == {}
    for key in (there.keys.values("run", run_id), there.keys.values("session", "s1")):
        assert await there.command("PTTL", key) > 0
    assert {each.outcome for each in await there.imported(lines)} == {"known"}
    await there.store.pipeline.execute("HSET", there.store.keys.values("run", run_id), "run 0", "1")
    assert {(each.kind, each.outcome) for each in await there.imported(lines)} == {
        ("run", "conflict"),
        ("session", "known"),
    }
    # An archive of an earlier version holds none.
    older = [edited(line, values=None, sha256=None) for line in lines]
    assert {each.outcome for each in await there.imported(older)} == {"known"}


async def test_an_imported_run_is_read_followed_listed_and_found_by_its_key_like_the_original(
    here: Place, there: Place
):
    runs = await every_ending(here.deployment)
    await there.imported(await here.lines())
    deltas = 0
    for fate, run_id in runs.items():
        assert await there.store.read(run_id) == await here.store.read(run_id), fate
        assert await there.store.messages(run_id) == await here.store.messages(run_id)
        events = [event async for event in here.parts.stream.follow(run_id)]
        assert [event async for event in there.parts.stream.follow(run_id)] == events
        deltas += len(deltas_of(events))
    assert deltas > 5
    filters = [
        RunFilter(limit=100),
        RunFilter(agent="answers"),
        RunFilter(user_id="u1", limit=100),
        RunFilter(session_id="s1"),
        *(RunFilter(status=status) for status in FINAL),
    ]
    for which in filters:
        assert await there.store.list(which) == await here.store.list(which) != ()
    for session_id in ("s1", "s 2 ü"):
        assert await there.store.session(session_id) == await here.store.session(session_id)
        assert await there.store.session_messages(session_id) == await here.store.session_messages(session_id)
    for user_id in (None, "u1"):
        sessions = await here.store.list_sessions(SessionFilter(user_id))
        assert await there.store.list_sessions(SessionFilter(user_id)) == sessions
    for fate in ("with a file", "alone in a session, with a file"):
        assert await there.store.file(runs[fate], DIGEST) == FILE
    for fate in ("draws", "draws in a session"):
        assert await there.store.file(runs[fate], DRAWN_DIGEST) == DRAWN
    known = new_run(agent="answers", idempotency_key="key answers", user_id="u1")
    assert (await there.store.create(known)).run_id == runs["answers"]


async def test_a_session_goes_on_where_it_is_imported(here: Place, there: Place):
    await every_ending(here.deployment)
    await there.imported(await here.lines())
    said = [message.text for message in await here.store.session_messages("s1")]
    run_id = await there.deployment.enqueue("answers", session_id="s1")
    claim = await there.deployment.take(run_id)
    assert [message.text for message in claim.history] == said
    assert await there.deployment.ttl_ms(there.keys.session("s1")) == -1
    await there.store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("More.")))
    assert (await there.store.session_messages("s1"))[-1].text == "More."
    assert (await there.store.session("s1")).run_count == (await here.store.session("s1")).run_count + 1


async def test_what_comes_in_is_kept_anew_and_nothing_for_ever(here: Place):
    runs = await every_ending(here.deployment)
    lines = await here.lines()
    await here.command("FLUSHALL")
    await here.imported(lines)
    for run_id in runs.values():
        run = await here.store.read(run_id)
        kept_ms = SETTINGS.ttl_ms(run.status)
        for key in await here.deployment.keys_of(run):
            assert kept_ms - 5_000 < await here.deployment.ttl_ms(key) <= kept_ms, key
    for key in ("s1", "s 2 ü"):
        session_ttl_ms = await here.deployment.ttl_ms(here.keys.session(key))
        assert SETTINGS.session_ttl_ms - 5_000 < session_ttl_ms <= SETTINGS.session_ttl_ms
    assert await strays(here.deployment) == []
    await here.parts.pass_time(40 * 86_400)
    await here.deployment.sweep()
    assert await here.deployment.keys() == {"agentq:sweep"}


@pytest.mark.parametrize(
    ("ttl_ms", "run_ttl_ms", "agent_ttl_ms", "kept"),
    [
        (9_000, {"completed": 8_000}, {"completed": 7_000}, 9_000),
        (None, {"completed": 8_000}, {"completed": 7_000}, 8_000),
        (None, {"failed": 8_000}, {"completed": 7_000}, 7_000),
        (None, {}, {}, 6_000),
    ],
)
async def test_the_time_to_live_is_that_of_the_import_the_run_its_agent_or_the_settings(
    here: Place, there: Place, ttl_ms: int | None, run_ttl_ms: Any, agent_ttl_ms: Any, kept: int
):
    run_id = await here.deployment.enqueue("answers", ttl_ms=run_ttl_ms)
    await here.deployment.work()
    await there.store.publish_agents({"answers": {"name": "answers", "ttl_ms": agent_ttl_ms}})
    lines = await here.lines(run_ids=(run_id,))
    await there.imported(lines, replace(SETTINGS, ttl_completed_ms=6_000), ttl_ms)
    assert kept - 1_000 < await there.deployment.ttl_ms(there.keys.run(run_id)) <= kept


async def test_importing_again_changes_nothing(here: Place, there: Place):
    await every_ending(here.deployment)
    lines = await here.lines()
    await there.imported(lines)
    before = await there.dump()
    assert {each.outcome for each in await there.imported(lines)} == {"known"}
    assert await there.dump() == before
    # And where it came from, too.
    before = await here.dump()
    assert {each.outcome for each in await here.imported(lines)} == {"known"}
    assert await here.dump() == before


async def test_runs_that_are_alive_are_named_and_left_out(here: Place, there: Place):
    done = await here.deployment.enqueue("answers", session_id="s1")
    await here.deployment.work()
    alive = {await here.deployment.enqueue("answers", session_id="s1") for _ in range(2)}
    held = await here.deployment.take(await here.deployment.enqueue("answers"))
    lines, left_out = await here.exported()
    assert {(left.name, left.why) for left in left_out} == {(name, "alive") for name in {*alive, held.lease.run_id}}
    assert outcomes(await there.imported(lines)) == {"new": {done, "s1"}}
    assert (await there.store.session("s1")).open_runs == 0
    assert [run.run_id for run in await there.store.list(RunFilter())] == [done]


async def test_what_is_selected_is_exported_with_its_session(here: Place):
    runs = {
        "a": await here.deployment.enqueue("answers", session_id="s1"),
        "b": await here.deployment.enqueue("fails", session_id="s2"),
        "c": await here.deployment.enqueue("answers", user_id="u2"),
    }
    await here.deployment.work()
    created = {name: (await here.store.read(run_id)).created_ms for name, run_id in runs.items()}

    async def found(**selection: Any) -> set[str]:
        heads = [json.loads(line) for line in await here.lines(**selection)]
        return {head.get("run_id") or head["session_id"] for head in heads if head["type"] in ("run", "session")}

    everything = {*runs.values(), "s1", "s2"}
    assert await found() == everything
    assert await found(run_ids=(runs["a"], runs["a"])) == {runs["a"], "s1"}
    assert await found(agent="fails") == {runs["b"], "s2"}
    assert await found(status=Status.COMPLETED) == {runs["a"], "s1", runs["c"]}
    assert await found(session_id="s1") == {runs["a"], "s1"}
    assert await found(user_id="u1") == {runs["a"], runs["b"], "s1", "s2"}
    assert await found(user_id="u1", status=Status.FAILED) == {runs["b"], "s2"}
    assert await found(since_ms=max(created.values()) + 1) == set()
    assert await found(since_ms=min(created.values())) == everything
    assert await found(until_ms=min(created.values())) == set()
    with pytest.raises(SessionNotFound):
        await found(session_id="s3")


async def test_a_session_is_exported_when_its_runs_are_gone_and_a_run_when_its_session_is(here: Place, there: Place):
    short = await here.deployment.enqueue("answers", session_id="s1", ttl_ms={"completed": 1_000})
    long = await here.deployment.enqueue("answers", session_id="s2")
    await here.deployment.work()
    await here.command("DEL", here.keys.session("s2"), here.keys.session_messages("s2"))
    await here.parts.pass_time(2)
    lines = await here.lines()
    assert outcomes(await there.imported(lines)) == {"new": {"s1", long}}
    assert short.encode() not in b"".join(line for line in lines if b'"type":"run"' in line)
    assert len(await there.store.session_messages("s1")) == 4


async def test_a_run_that_was_asked_for_and_is_not_there_is_named(here: Place):
    run_id = new_run_id()
    lines, left_out = await here.exported(run_ids=(run_id,))
    assert [(left.name, left.why) for left in left_out] == [(run_id, "not found")]
    assert len(lines) == 2


@pytest.mark.parametrize("broken", ["message", "event", "state", "field"])
async def test_a_run_that_cannot_be_read_is_named_and_spoils_nothing(here: Place, there: Place, broken: str):
    bad, good = [await here.deployment.enqueue("answers") for _ in range(2)]
    await here.deployment.work()
    match broken:
        case "message":
            await here.command("LSET", here.keys.messages(bad), 1, "{")
        case "event":
            await here.command("XDEL", here.keys.events(bad), "3-0")
            seq = int(await here.command("HGET", here.keys.run(bad), "seq"))
            await here.command("XADD", here.keys.events(bad), f"{seq + 1}-0", "e", "{", "t", "1")
        case "state":
            await here.command("HSET", here.keys.run(bad), "usage", "{")
        case "field":
            await here.command("HSET", here.keys.run(bad), "usage", '{"input_tokens":-1}')
    selection = {"run_ids": (bad, good)}
    lines, left_out = await here.exported(**selection)
    assert [(left.name, left.why) for left in left_out] == [(bad, "broken")]
    found = outcomes(await there.imported(lines))
    assert found.pop("broken off", {bad}) == {bad}
    assert found == {"new": {good}}
    assert not any(bad in key for key in await there.own_keys())


async def test_a_run_whose_time_passes_while_it_is_exported_is_broken_off(here: Place, there: Place):
    run_id = await here.deployment.enqueue("answers", ttl_ms={"completed": 5_000})
    await here.deployment.work()
    items = []
    async for item in export_archive(here.store, here.reader, Selection(run_ids=(run_id,))):
        items.append(item)
        if len(items) == 2:
            await here.parts.pass_time(10)
    lines = [item for item in items if isinstance(item, bytes)]
    assert json.loads(lines[-2])["type"] == "broken_off"
    assert outcomes(await there.imported(lines)) == {"broken off": {run_id}}
    assert await there.own_keys() == set()


async def test_deltas_that_were_never_folded_come_through(here: Place, there: Place):
    run_id = await here.deployment.enqueue("answers")
    claim = await here.deployment.take(run_id)
    await here.store.journal(claim.lease, [], EventBatch(1, texts("a", "b")))
    batch = EventBatch(2, (completed(deltas_of(await events_of(here.parts.stream, run_id))),))
    await here.store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("ab"), batch=batch))
    entries = await here.command("XRANGE", here.keys.events(run_id), "-", "+")
    assert [fields[0] for _, fields in entries].count(b"d") == 2
    await there.imported(await here.lines())
    assert await there.command("XRANGE", there.keys.events(run_id), "-", "+") == entries


async def test_long_transcripts_and_many_events_come_through_in_pages(here: Place, there: Place):
    prompts = tuple(user_message(f"{number} {'x' * (number % 7) * 1000}") for number in range(1_234))
    new = NewRun(new_run_id(), "answers", prompts, session_id="s1")
    await here.store.create(new)
    claim = await here.deployment.take(new.run_id)
    for number in range(1, 8):
        await here.store.journal(claim.lease, [], EventBatch(number, texts(*"abcdefghij" * 10)))
    await here.store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("done")))
    lines = await here.lines()
    assert outcomes(await there.imported(lines)) == {"new": {new.run_id, "s1"}}
    assert units(await there.lines()) == units(lines)
    assert await there.command("LLEN", there.keys.session_messages("s1")) == 1_235


def test_the_endings_of_the_deployment_are_all_of_them():
    assert set(ENDINGS.values()) == {str(status) for status in FINAL}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
IDS = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20))
COUNTS = st.integers(0, 2**53)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
NUMBERS = (
    *("iteration", "turn", "errors", "recoveries", "signals", "fence", "committed", "seq", "wake"),
    *("message_count", "history_length", "created_ms", "updated_ms", "finished_ms"),
)
STATES = st.builds(
    RunState,
    run_id=st.builds(new_run_id),
    agent=st.just("a.b-c"),
    status=st.sampled_from(sorted(FINAL)),
    prompt=TEXT,
    model=IDS,
    session_id=IDS,
    user_id=IDS,
    metadata=st.dictionaries(TEXT, JSON, max_size=3),
    phase=st.none(),
    owner=st.none(),
    lease_until_ms=st.just(0),
    not_before_ms=st.just(0),
    waits_for_session=st.just(False),
    cancel_reason=st.none() | TEXT,
    last_error=st.none() | TEXT.filter(bool),
    usage=st.dictionaries(st.sampled_from(["input_tokens", "output_tokens"]), COUNTS),
    ttl_ms=st.dictionaries(st.sampled_from(["completed", "failed"]), st.integers(1, 2**53)),
    idempotency_key=IDS,
    **dict.fromkeys(NUMBERS, COUNTS),
)


VALUES = st.dictionaries(TEXT.filter(bool), st.none() | COUNTS | TEXT | st.lists(st.none() | TEXT), max_size=3)


@given(STATES, TEXT, VALUES)
def test_the_state_of_a_run_goes_through_its_line_and_its_hash(
    state: RunState, request_hash: str, values: dict[str, Any]
):
    record = RunRecord.of(state, request_hash, values)
    assert record.values == values
    line = encode(record)
    assert canonical(line) == line
    assert decode(line, 1) == record
    flat = [
        item.encode() if isinstance(item, str) else item for item in fields_of_ended_run(record.state, request_hash)
    ]
    assert run_of_hash(state.run_id, flat) == record.state == state


@given(st.builds(SessionState, session_id=IDS.filter(bool), user_id=IDS, run_count=COUNTS, created_ms=COUNTS), VALUES)
def test_the_state_of_a_session_goes_through_its_line(state: SessionState, values: dict[str, Any]):
    record = SessionRecord.of(state, values)
    assert record.values == values
    assert decode(encode(record), 1) == record
    assert (record.session_id, record.user_id, record.run_count) == (state.session_id, state.user_id, state.run_count)
