"""What an import refuses, and what it leaves when it does: whole runs and whole sessions, or nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from agentq.archive import importing
from agentq.archive.importing import Imported, import_archive, lines_of
from agentq.archive.terms import Terms
from agentq.errors import InvalidInput, StoreUnavailable
from agentq.messages import STORED_FILE, FilePart, Message, Role, ToolCallPart, user_message
from agentq.runs import Status
from agentq.stores.filters import RunFilter
from agentq.testing._contract import commit_of, new_run, reply_message
from tests.stores.archive_parts import Place, edited, outcomes, units, without_digests
from tests.stores.retention_parts import DIGEST, FILE, SETTINGS, with_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


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


async def an_archive(here: Place) -> list[bytes]:
    """A session with a file and one run, then a run with a file and no session."""
    attached: dict[str, Any] = {"messages": with_file(), "files": {DIGEST: FILE}}
    await here.deployment.enqueue("answers", **attached)
    await here.deployment.enqueue("answers", session_id="s1", idempotency_key="k", **attached)
    await here.deployment.work()
    return await here.lines()


def places(lines: list[bytes], kind: str) -> list[int]:
    """Where the lines of a kind stand."""
    return [index for index, line in enumerate(lines) if json.loads(line)["type"] == kind]


def with_line(kind: str, nth: int, **changes: Any) -> Callable[[list[bytes]], list[bytes]]:
    """Change the n-th line of a kind, as somebody does who leaves the digests out."""

    def change(lines: list[bytes]) -> list[bytes]:
        at = places(lines, kind)[nth]
        return without_digests([*lines[:at], edited(lines[at], **changes), *lines[at + 1 :]])

    return change


def without_line(kind: str, nth: int) -> Callable[[list[bytes]], list[bytes]]:
    def leave_out(lines: list[bytes]) -> list[bytes]:
        at = places(lines, kind)[nth]
        return [*lines[:at], *lines[at + 1 :]]

    return leave_out


CALL = {"role": "assistant", "parts": [{"type": "tool_call", "call_id": "R.1.0", "name": "f", "arguments": {}}]}
ZEROS = "0" * 64
WRONG: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "nothing": (lambda _: [], "line 1: the export is empty"),
    "blank lines only": (lambda _: [b"\n", b" \n"], "line 2: the export is empty"),
    "no NDJSON": (lambda lines: [b"hello\n", *lines], "line 1: it is not JSON: expected value at column 1"),
    "half a line": (lambda lines: [*lines[:3], lines[3][:50]], "line 4: it is not JSON: EOF"),
    "binary": (lambda lines: [lines[0], b"\xff\xfe\x00", *lines[1:]], "line 2: it is not JSON"),
    "one document": (lambda _: [b"[]"], "line 1: Input should be an object"),
    "other NDJSON": (lambda _: [b'{"seq":1,"type":"run.queued"}'], "line 1: Input tag 'run.queued'"),
    "no type": (lambda _: [b'{"a":1}'], "line 1: Unable to extract tag using discriminator 'type'"),
    "no header": (lambda lines: lines[1:], "line 1: it is not the first line of an export"),
    "another header": (with_line("header", 0, agentq="backup"), "line 1: header: agentq: Input should be 'export'"),
    "a newer version": (with_line("header", 0, version=2), "line 1: version 2 was written by a newer agentq"),
    "a newer run": (with_line("run", 0, version=9), r"line \d+: run: version: Input should be less than or equal to 1"),
    "no trailer": (lambda lines: lines[:-1], r"the export ends here without its last line: it was cut"),
    "cut in a run": (lambda lines: lines[:-4], r"the export ends here without its last line: it was cut"),
    "two in one": (lambda lines: [*lines[:-1], *lines], "an export begins before the one above it has ended"),
    "a run without end": (without_line("end", 0), "line .*: session s1 has no end before it|line .*: run"),
    "a unit too few": (with_line("trailer", 0, runs=3), "3 runs and 1 sessions were exported, but 2 and 1 are here"),
    "a message too few": (without_line("message", 2), "message: index is .*, not"),
    "an event too few": (without_line("event", 2), "events, not"),
    "a file too few": (without_line("file", 1), "has 0 files, not 1"),
    "messages in disorder": (with_line("message", 1, index=7), "message: index is 7, not 1"),
    "events in disorder": (with_line("event", 3, seq=1), "event: seq is 1, but must be above"),
    "an event behind the last": (with_line("event", 3, seq=10_000), "event: seq is 10000, but must be"),
    "another's message": (with_line("message", -1, run_id="01" + "A" * 24), "message: it does not belong to run"),
    "a message of nobody": (with_line("message", -1, run_id=None), "message: it does not belong to run"),
    "a run id that is none": (with_line("run", 0, run_id="x"), "run: run_id: String should match pattern"),
    "a number in quotes": (with_line("run", 0, seq="12"), "run: seq: Input should be a valid integer"),
    "a run that is alive": (with_line("run", 0, status="queued"), "run: status: Input should be 'completed', 'failed'"),
    "no agent": (with_line("run", 0, agent=None), "run: agent: Field required"),
    "an agent that is no name": (with_line("run", 0, agent="a:b"), "run: agent: String should match pattern"),
    "a time to live of nothing": (with_line("run", 0, ttl_ms={"failed": 0}), "run: ttl_ms.failed: Input should be"),
    "a time to live of no end": (with_line("run", 0, ttl_ms={"queued": 9}), "run: ttl_ms.queued"),
    "a message that is none": (with_line("message", 0, message={"role": "x"}), "message: a stored message cannot be"),
    "an event that is none": (with_line("event", 0, event={"type": "x"}), "event: event 1 of run .* cannot be read"),
    "a call without a result": (with_line("message", 0, message=CALL), "has calls without a result: R.1.0"),
    "a file that is no base 64": (with_line("file", 0, content="ü!"), "file: content is not base 64"),
    "another file": (with_line("file", 0, content="AAAA"), "file: digest is not the SHA-256 of its content"),
    "another digest": (with_line("file", 0, digest=ZEROS), "file: digest is not the SHA-256 of its content"),
    "other counts": (with_line("end", 0, files=0), "end: .* has 1 files, not 0"),
    "other message count": (with_line("run", 0, message_count=9), "has another message_count"),
    "other last event": (with_line("run", 0, seq=9_999), "the last event of .* is not its seq"),
    "a changed line": (
        lambda lines: [line.replace(b"Look", b"Book") for line in lines], "are not those that were exported"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), WRONG.values(), ids=WRONG)
async def test_what_is_wrong_is_named_with_its_line_and_nothing_is_half_written(
    here: Place, there: Place, damage: Callable[[list[bytes]], list[bytes]], message: str
):
    lines = await an_archive(here)
    with pytest.raises(InvalidInput, match=message) as caught:
        await there.imported(damage(lines))
    assert str(caught.value).startswith("line ")
    assert caught.value.field
    # What came in before the line at fault is whole.
    complete = units(lines)
    found = units(await there.lines())
    assert {unit.replace(digests(unit), "") for unit in found} <= {unit.replace(digests(unit), "") for unit in complete}
    assert not [key for key in await there.own_keys() if ":staged:" in key]
    # And the whole archive still fits on top of it.
    assert {each.outcome for each in await there.imported(lines)} <= {"new", "known"}
    assert units(await there.lines()) == complete


def digests(unit: str) -> str:
    """The digest of a unit, which is another when a line before it was changed."""
    return str(json.loads(unit.splitlines()[-1]).get("sha256", "-"))


async def test_a_line_that_is_too_long_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importing, "MAX_LINE_BYTES", 100)
    file = io.BytesIO(b"{}\n" + b"x" * 1_000_000)
    lines = lines_of(file)
    assert next(lines) == b"{}\n"
    with pytest.raises(InvalidInput, match="line 2: it has more than 100 bytes; no line of an export is so long"):
        next(lines)
    assert file.tell() < 1_000


def test_what_is_no_archive_is_not_read_to_its_end():
    file = io.BytesIO(b"\0" * 1_000_000)
    with pytest.raises(InvalidInput, match=r"line 1: .* it is not the first line of an export"):
        next(lines_of(file))
    assert file.tell() < 200_000


async def test_a_file_that_a_setting_has_allowed_comes_back_however_large(here: Place, there: Place):
    content = b"x" * 50_000_000
    digest = hashlib.sha256(content).hexdigest()
    part = FilePart(url=STORED_FILE + digest, media_type="text/plain", size=len(content))
    run_id = await here.deployment.enqueue(
        "answers", messages=(user_message("Look.", [part]),), files={digest: content}
    )
    await here.deployment.work()
    written = io.BytesIO(b"".join(line + b"\n" for line in await here.lines()))
    assert outcomes(await there.imported(lines_of(written))) == {"new": {run_id}}
    assert await there.store.file(run_id, digest) == content


async def test_blanks_other_line_ends_and_several_archives_in_one_file_do_no_harm(here: Place, there: Place):
    lines = await an_archive(here)
    spread = [json.dumps(json.loads(line), ensure_ascii=True, indent=None).encode() + b"\r\n" for line in lines]
    found = outcomes(await there.imported([*spread, b"\n", *lines, b"\n"]))
    assert found["new"] == found["known"]
    assert units(await there.lines()) == units(lines)


async def test_fields_of_a_later_version_do_no_harm(here: Place, there: Place):
    lines = [edited(line, later=1) for line in without_digests(await an_archive(here))]
    assert {each.outcome for each in await there.imported(lines)} == {"new"}
    assert {each.outcome for each in await there.imported(lines)} == {"known"}


async def test_a_run_that_is_here_with_other_content_stays_and_the_others_come_in(here: Place, there: Place):
    first, second = [await here.deployment.enqueue("answers") for _ in range(2)]
    await here.deployment.work()
    lines = without_digests(await here.lines())
    at = next(at for at in places(lines, "run") if json.loads(lines[at])["run_id"] == first)
    changed = [*lines[:at], edited(lines[at], prompt="other"), *lines[at + 1 :]]
    await there.imported(await here.lines(run_ids=(first,)))
    before = await there.command("DUMP", there.keys.run(first))
    imported = await there.imported(changed)
    assert outcomes(imported) == {"conflict": {first}, "new": {second}}
    (reason,) = [each.reason for each in imported if each.outcome == "conflict"]
    assert reason == f"run {first} is here and is left as it is: it has other content"
    assert await there.command("DUMP", there.keys.run(first)) == before


async def test_a_run_that_is_alive_here_is_a_conflict(here: Place, there: Place):
    run_id = await here.deployment.enqueue("answers")
    await here.deployment.work()
    await there.store.create(new_run(run_id=run_id, agent="answers"))
    (imported,) = await there.imported(await here.lines())
    assert (imported.outcome, imported.reason) == (
        "conflict", f"run {run_id} is here and is left as it is: it is queued"
    )  # fmt: skip
    assert (await there.store.read(run_id)).status is Status.QUEUED


async def test_a_run_here_that_cannot_be_read_is_a_conflict(here: Place, there: Place):
    run_id = await here.deployment.enqueue("answers")
    await here.deployment.work()
    lines = await here.lines()
    await there.imported(lines)
    await there.command("HSET", there.keys.run(run_id), "usage", "{")
    (imported,) = await there.imported(lines)
    assert imported.outcome == "conflict"
    assert "it cannot be compared with what is here" in imported.reason


async def test_an_idempotency_key_of_another_run_is_a_conflict(here: Place, there: Place):
    run_id = await here.deployment.enqueue("answers", idempotency_key="k")
    await here.deployment.work()
    other = (await there.store.create(new_run(idempotency_key="k"))).run_id
    (imported,) = await there.imported(await here.lines())
    assert (imported.name, imported.outcome) == (run_id, "conflict")
    assert imported.reason == f"run {run_id}: the idempotency key was used before with other input."
    assert await there.command("GET", there.keys.idempotency("k")) == other.encode()
    assert not any(run_id in key for key in await there.own_keys())


async def talk(place: Place, *runs: str, **fields: Any) -> None:
    for answer in runs:
        new = new_run(session_id="s1", **fields)
        await place.store.create(new)
        claim = await place.deployment.take(new.run_id)
        await place.store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message(answer)))


async def test_a_session_that_has_gone_on_here_is_known(here: Place, there: Place):
    await talk(here, "one", "two")
    lines = await here.lines()
    await there.imported(lines)
    await talk(there, "three")
    assert {each.outcome for each in await there.imported(lines)} == {"known"}
    assert [message.text for message in await there.store.session_messages("s1")][1::2] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("said", "fields", "reason"),
    [
        (["one", "other"], {}, "it has other messages"),
        (["one"], {}, "it has 2 messages, not 4 or more"),
        (["one", "two"], {"user_id": "u2"}, "it belongs to another user"),
    ],
)
async def test_a_session_that_is_another_here_stays_and_its_runs_stay_out(
    here: Place, there: Place, said: list[str], fields: dict[str, Any], reason: str
):
    await talk(here, "one", "two", user_id="u1")
    alone = await here.deployment.enqueue("answers")
    await here.deployment.work()
    await talk(there, *said, **{"user_id": "u1", **fields})
    before = await there.store.session_messages("s1")
    imported = await there.imported(await here.lines())
    runs = {run.run_id for run in await here.store.list(RunFilter(session_id="s1"))}
    assert outcomes(imported) == {"conflict": {"s1", *runs}, "new": {alone}}
    reasons = {each.name: each.reason for each in imported}
    assert reasons["s1"] == f"session s1 is here and is left as it is: {reason}"
    assert {reasons[run] for run in runs} == {
        f"run {run} belongs to session 's1', which is another here" for run in runs
    }
    assert await there.store.session_messages("s1") == before
    assert not [key for key in await there.own_keys() if ":staged:" in key]


async def test_a_session_that_lacks_a_file_is_another(here: Place, there: Place):
    lines = await an_archive(here)
    await there.imported(lines)
    await there.command("DEL", there.keys.files("", "s1"))
    found = {each.name: each.reason for each in await there.imported(lines) if each.outcome == "conflict"}
    assert found["s1"].endswith("it lacks files")


async def test_a_run_of_a_session_that_was_not_exported_does_not_slip_into_that_of_another_user(
    here: Place, there: Place
):
    await talk(here, "one", user_id="u1")
    await here.command("DEL", here.keys.session("s1"), here.keys.session_messages("s1"))
    await talk(there, "one", user_id="u2")
    (imported,) = await there.imported(await here.lines())
    assert imported.outcome == "conflict"
    assert "session belongs to another user" in imported.reason


async def test_an_import_that_is_cut_short_leaves_no_half_run(here: Place, there: Place):
    lines = await an_archive(here)
    whole = units(lines)
    terms = Terms(SETTINGS)
    # Killed after any line: what has been staged is of no run, and goes within an hour.
    for count in range(1, len(lines)):
        feed = iter(lines[:count])
        reading = import_archive(there.restorer, there.reader, feed, terms)
        async with aclosing(reading):
            with pytest.raises(InvalidInput, match="it was cut"):
                async for _ in reading:
                    pass
        assert units(await there.lines()) <= whole
    assert not [key for key in await there.own_keys() if ":staged:" in key]


async def test_what_a_killed_import_had_staged_is_invisible_and_goes_within_an_hour(
    here: Place, there: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("agentq.archive.restoring._BATCH", 1)
    lines = await an_archive(here)
    imported = import_archive(there.restorer, there.reader, iter([*lines[:3], b"never read"]), Terms(SETTINGS))

    async def killed(*_: Any) -> None:
        """Nobody tidies up after a kill -9."""

    monkeypatch.setattr("agentq.archive.restoring.Staged.discard", killed)
    with pytest.raises(InvalidInput):
        await anext(imported)
    left = await there.own_keys()
    assert left
    assert all(":staged:" in key for key in left)
    assert await there.lines() != []
    assert len(await there.lines()) == 2
    for key in left:
        assert 0 < await there.command("PTTL", key) <= 3_600_000
    await there.imported(lines)
    assert units(await there.lines()) == units(lines)
    await there.parts.pass_time(3_601)
    assert not [key for key in await there.own_keys() if ":staged:" in key]


async def test_a_script_whose_reply_was_lost_can_be_sent_again(here: Place, there: Place):
    lines = await an_archive(here)
    run = there.restorer.pipeline.run
    sent: list[str] = []

    async def twice(script: Any, **values: Any) -> Any:
        sent.append(script.name)
        await run(script, **values)
        return await run(script, **values)

    there.restorer.pipeline.run = twice  # type: ignore[method-assign]
    assert {each.outcome for each in await there.imported(lines)} == {"new"}
    assert {"stage", "restore", "restore_session"} == set(sent)
    there.restorer.pipeline.run = run  # type: ignore[method-assign]
    assert units(await there.lines()) == units(lines)


async def test_staged_parts_that_are_lost_are_told_from_a_run_without_parts(here: Place, there: Place):
    lines = await an_archive(here)
    run = there.restorer.pipeline.run

    async def losing(script: Any, **values: Any) -> Any:
        if script.name.startswith("restore"):
            for key in [key for key in await there.own_keys() if ":staged:" in key]:
                await there.command("DEL", key)
        return await run(script, **values)

    there.restorer.pipeline.run = losing  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable, match="Redis has lost what this import had put there; import again"):
        await there.imported(lines)
    assert await there.own_keys() == set()


async def test_two_imports_of_one_archive_at_once_do_not_mix(here: Place, there: Place):
    lines = await an_archive(here)
    terms = Terms(SETTINGS)
    first, second = (import_archive(there.restorer, there.reader, iter(lines), terms) for _ in range(2))
    found: list[Imported] = []
    while len(found) < 2 * len(units(lines)):
        found += [await anext(first), await anext(second)]
    assert [each async for each in first] == [each async for each in second] == []
    assert [each.outcome for each in found] == ["new", "known"] * len(units(lines))
    assert units(await there.lines()) == units(lines)


async def test_what_somebody_left_of_a_run_that_he_deleted_does_not_get_into_the_imported_one(
    here: Place, there: Place
):
    run_id = await here.deployment.enqueue("answers")
    await here.deployment.work()
    lines = await here.lines()
    for key in (there.keys.messages(run_id), there.keys.session_messages("s1")):
        await there.command("RPUSH", key, "stale")
    await there.command("HSET", there.keys.files(run_id), "stale", "stale")
    await there.imported(lines)
    assert units(await there.lines()) == units(lines)
    assert await there.command("EXISTS", there.keys.files(run_id)) == 0


def test_a_call_without_a_result_is_what_the_table_says():
    part = ToolCallPart(call_id="R.1.0", name="f")
    assert Message.model_validate(CALL) == Message(role=Role.ASSISTANT, parts=(part,))
    assert hashlib.sha256(base64.b64decode("AAAA")).hexdigest() != DIGEST
