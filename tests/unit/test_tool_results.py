"""What tools return that is more than a value: texts with files, data for programs, and what cannot be kept."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from agentq import AsyncClient
from agentq.attachments import File, described
from agentq.errors import FileNotStored, LeaseLost, ToolError
from agentq.events.encoding import decode_event, encode_event
from agentq.events.model import ToolFinished
from agentq.messages import FilePart, ToolResultPart, decode_message, encode_message, results_message
from agentq.settings import Settings
from agentq.steps import read_steps
from agentq.testing import ScriptedModel, call
from agentq.tools.function import Tool, tool
from agentq.tools.results import ToolResult, returned, returned_text, within_limits
from agentq.tools.secrets import Secrets
from tests.unit._loop import Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.providers.base import Chunk, ModelRequest

PNG = b"\x89PNG\r\n\x1a\n\x00\xff chart"
DIGEST = hashlib.sha256(PNG).hexdigest()
CHART = FilePart(url=f"agentq:{DIGEST}", media_type="image/png", name="chart.png", size=len(PNG))
SMALL = Settings(max_file_bytes=100, max_files_bytes=150, max_value_bytes=400)


class Order(BaseModel):
    number: int


@dataclass
class Point:
    x: float


@pytest.mark.parametrize(
    ("value", "content", "data", "types"),
    [
        ("as ever", "as ever", None, []),
        ({"a": 1}, '{"a":1}', None, []),
        (Order(number=7), '{"number":7}', None, []),
        (File(PNG), "", None, ["image/png"]),
        ([File(PNG), "and", {"b": 2}, File(b"hi")], 'and\n{"b":2}', None, ["image/png", "text/plain"]),
        (("one", File(url="https://x.org/a.pdf")), "one", None, ["application/pdf"]),
        (ToolResult("Charged 5 EUR", data={"id": 7}), "Charged 5 EUR", {"id": 7}, []),
        (ToolResult(Order(number=7), [PNG]), '{"number":7}', None, ["image/png"]),
        # The data is what the model reads, so it is not kept twice.
        (ToolResult(data=Order(number=7)), '{"number":7}', None, []),
        (ToolResult("at", data=[Point(1.5), None]), "at", [{"x": 1.5}, None], []),
        (ToolResult("odd", data=math.nan), "odd", "NaN", []),
        (ToolResult(), "", None, []),
        (ToolResult("", (), None), "", None, []),
    ],
)
async def test_a_value_is_divided_into_text_files_and_data(value: Any, content: str, data: Any, types: list[str]):
    came = await returned(value, SMALL)
    assert (came.content, came.data, [file.media_type for file in came.files]) == (content, data, types)
    stored = {file.digest for file in came.files if file.digest is not None}
    assert set(came.contents) == stored
    assert all(hashlib.sha256(content).hexdigest() == digest for digest, content in came.contents.items())


async def test_a_path_is_read_where_a_result_says_that_it_is_a_file(tmp_path: Path):
    path = tmp_path / "notes.md"
    path.write_text("# Notes")
    came = await returned(ToolResult("Written.", [path]), SMALL)
    assert [(file.name, file.media_type, file.size) for file in came.files] == [("notes.md", "text/markdown", 7)]
    # What returned a path returns it still: nobody's file is read by mistake.
    assert (await returned(path, SMALL)).files == (await returned(str(path), SMALL)).files == ()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (File(b"x" * 101), r"files\[0\] has 101 bytes, more than the 100 .* raise AGENTQ_MAX_FILE_BYTES"),
        (ToolResult("", [b"x" * 90, b"y" * 90]), r"more than the 150 .* raise AGENTQ_MAX_FILES_BYTES"),
        (File(b"\x00\x01"), r"the media type of files\[0\] cannot be told; give it"),
        (File(), "needs content or a url"),
        (ToolResult("", [Path("/no/such/file")]), "cannot be read: No such file"),
        (ToolResult("", "https://example.org/a.png"), "files must be a list"),
        (ToolResult("", [42]), r"files\[0\] must be a pathlib.Path, bytes, a URL or a File, not int"),  # type: ignore[list-item]
        (ToolResult("", data={"when": object()}), "data cannot be stored as JSON"),
        (ToolResult(object()), "returned object that cannot be serialised"),
        ({"chart": File(PNG)}, r"return ToolResult\(data=\{...\}, files=\[...\]\)"),
        (b"\xff", "bytes that cannot be serialised: .*; return a File for what is no text"),
    ],
)
async def test_what_cannot_be_kept_is_an_error_that_says_why(value: Any, why: str):
    with pytest.raises(ToolError, match=why):
        await returned(value, SMALL)


async def test_secrets_are_taken_out_of_texts_data_and_files():
    secrets = Secrets({"KEY": "s3cret-ü"})
    files = [
        File("log: s3cret-ü".encode() + b"\xff\x00", name="s3cret-ü.log", media_type="text/plain"),
        File(url="https://x.org/a.png?sig=s3cret-%C3%BC&s3cret-ü"),
        File(PNG),
    ]
    data = {"s3cret-ü": ["s3cret-ü", 1, None]}
    came = await returned(ToolResult("with s3cret-ü", files, data), SMALL, secrets)
    assert (came.content, came.data) == ("with [secret KEY]", {"[secret KEY]": ["[secret KEY]", 1, None]})
    log, image, chart = came.files
    assert (log.name, log.size, came.contents[str(log.digest)]) == (
        "[secret KEY].log",
        19,
        b"log: [secret KEY]\xff\x00",
    )
    assert "s3cret-ü" not in image.url
    assert came.contents[str(chart.digest)] == PNG
    assert set(came.contents) == {log.digest, chart.digest}
    # Nothing is in there: nothing is touched.
    assert await returned(ToolResult("well", [PNG], data), SMALL) == await returned(
        ToolResult("well", [PNG], data), SMALL, Secrets({"KEY": "other"})
    )


def test_an_answer_of_a_person_takes_data_and_no_files():
    assert returned_text(ToolResult("Paid.", data={"id": 1})).data == {"id": 1}
    with pytest.raises(ToolError, match="files cannot be given here"):
        returned_text(File(PNG))
    with pytest.raises(ToolError, match="data cannot be stored"):
        returned_text(ToolResult("Paid.", data=object()))


def test_text_is_cut_and_data_is_kept_whole_or_not_at_all():
    part = ToolResultPart(call_id="R.1.0", name="look", content="x" * 50, files=(CHART,), data={"a": "y" * 50})
    assert within_limits(part, 50, 100) is part
    cut = within_limits(part, 10, 100)
    assert cut.content == "x" * 10 + "\n[Truncated: 50 chars total, showing first 10]"
    assert (cut.files, cut.data) == (part.files, part.data)
    without = within_limits(part, 50, 20)
    assert without.data is None
    assert without.content.endswith("[Data left out: 58 bytes of JSON, more than the 20 of AGENTQ_MAX_VALUE_BYTES]")
    assert without.files == (CHART,)


@pytest.mark.parametrize(
    ("size", "words"),
    [(None, ""), (12, ", 12 bytes"), (12_345, ", 12 KB"), (999_499, ", 999 KB"), (1_260_000, ", 1.3 MB")],
)
def test_a_file_in_a_few_words(size: int | None, words: str):
    assert described(FilePart(url="agentq:d", media_type="image/png", name="a b.png", size=size)) == (
        f"image/png a b.png{words}"
    )
    assert described(FilePart(url="agentq:d", media_type="image/png", size=size)) == f"image/png{words}"
    assert described(FilePart(url="https://x.org/a", media_type="image/png")) == "image/png https://x.org/a"


def test_a_result_without_files_is_stored_as_ever():
    plain = ToolResultPart(call_id="R.1.0", name="look", content="16")
    assert encode_message(results_message([plain])) == (
        b'{"role":"tool","parts":[{"type":"tool_result","call_id":"R.1.0","name":"look","content":"16","outcome":"ok"}]}'
    )
    event = ToolFinished(call_id="R.1.0", name="look", content="16", duration_ms=3)
    assert encode_event(event) == (
        b'{"type":"tool.finished","call_id":"R.1.0","name":"look","content":"16","duration_ms":3}'
    )


def test_files_and_data_of_a_result_come_back():
    data = {"a": None, "b": [1, 2.5, "ü"]}
    message = results_message([ToolResultPart(call_id="R.1.0", name="look", content="", files=(CHART,), data=data)])
    assert decode_message(encode_message(message)) == message
    event = ToolFinished(call_id="R.1.0", name="look", content="", files=(CHART,), data=data)
    assert decode_event(encode_event(event), run_id="", seq=0, at_ms=0) == event


# --- in a run


@tool(effect="none")
def chart() -> Any:
    """Draw a chart."""
    return ToolResult("Here it is.", [File(PNG, name="chart.png")], data={"points": 3})


@tool(effect="once")
async def charge() -> Any:
    """Charge and give the receipt."""
    return [File(PNG, name="chart.png"), "Charged."]


class Seeing(ScriptedModel):
    """Takes images as results, and remembers what it was sent."""

    result_media_types: tuple[str, ...] = ("image/*",)

    def __init__(self, *turns: Any) -> None:
        super().__init__(list(turns))
        self.requests: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        self.requests.append(request)
        async for chunk in super().stream(request):
            yield chunk

    @property
    def results(self) -> list[ToolResultPart]:
        return [result for message in self.requests[-1].messages for result in message.tool_results]


@pytest.mark.parametrize("made", [chart, charge])
async def test_files_of_a_result_go_to_the_transcript_the_event_and_the_model(made: Tool):
    model = Seeing([call(made.name)], "I see.")
    stage = Stage(model, made)
    assert (await stage.play()).status == "completed"
    (result,) = await stage.results()
    assert result.files == (CHART,)
    assert await stage.store.file(stage.run_id, DIGEST) == PNG
    (event,) = [event for event in await stage.events() if isinstance(event, ToolFinished)]
    assert (event.content, event.files, event.data) == (result.content, result.files, result.data)
    assert model.results == [result]
    assert model.requests[-1].files == {DIGEST: PNG}


async def test_a_client_gets_the_content_by_the_part_or_by_the_digest():
    stage = Stage(Seeing([call("chart")], "I see."), chart)
    await stage.play()
    async with AsyncClient(store=stage.store, executor=stage.executor) as client:
        run = await client.get(stage.run_id)
        (part,) = (await run.messages())[2].tool_results[0].files
        assert await run.file(part) == await client.file(run.id, DIGEST) == PNG


async def test_the_last_result_is_journaled_where_it_has_a_file():
    stage = Stage(Seeing([call("chart")], "I see."), chart, coalesce_ms=60_000)
    await stage.advance()
    assert stage.store.writes == ["journal", "journal", "commit"]


async def test_a_worker_that_dies_after_the_call_leaves_the_file_and_the_next_one_shows_it():
    model = Seeing([call("charge")], "I see.")
    stage = Stage(model, charge)

    async def die(write: str, _: object) -> None:
        if write == "commit":
            raise LeaseLost

    stage.store.before = die
    assert (await stage.advance()).kind == "lost"
    stage.store.before = None
    claim = await stage.lose_lease()
    (step,) = read_steps(claim.journal).calls.values()
    assert step.result is not None
    assert step.result.files == (CHART,)
    await stage.loop.begin(claim).run()
    await stage.play()
    assert model.requests[-1].files == {DIGEST: PNG}


async def test_a_model_that_takes_no_such_file_reads_a_line_about_it():
    model = Seeing([call("chart")], "I see.")
    model.result_media_types = ("application/pdf",)
    stage = Stage(model, chart)
    assert (await stage.play()).status == "completed"
    line = f"[image/png chart.png, {len(PNG)} bytes: this model does not take it]"
    assert [(result.content, result.files) for result in model.results] == [(f"Here it is.\n{line}", ())]
    assert model.requests[-1].files == {}
    # The transcript has it nevertheless: another model may take it.
    assert (await stage.results())[0].files == (CHART,)


async def test_a_file_that_is_gone_does_not_fail_the_run(caplog: pytest.LogCaptureFixture):
    model = Seeing([call("chart")], "I see.")
    stage = Stage(model, chart)
    await stage.advance()
    stage.store._runs[stage.run_id].files.clear()  # noqa: SLF001 - nothing of ours deletes one
    assert (await stage.play()).status == "completed"
    assert model.requests[-1].files == {}
    assert "chart.png is gone" in caplog.text


async def test_a_file_that_is_too_large_is_an_error_for_the_model():
    stage = Stage(Seeing([call("charge")], "Sorry."), charge)
    stage.loop.settings = Settings(lease_ms=9_000, coalesce_ms=0, max_file_bytes=5)
    assert (await stage.play()).status == "completed"
    (result,) = await stage.results()
    assert result.outcome == "error"
    assert result.content.startswith("the tool has run, but what it returned cannot be kept: files[0] (chart.png) has")
    assert result.content.endswith("raise AGENTQ_MAX_FILE_BYTES")
    with pytest.raises(FileNotStored):
        await stage.store.file(stage.run_id, DIGEST)


async def test_files_of_calls_at_once_are_written_one_after_the_other():
    @tool(effect="none")
    async def draw(number: int) -> File:
        """Draw."""
        return File(PNG + bytes([number]), media_type="image/png")

    stage = Stage(Seeing([call("draw", number=number) for number in range(4)], "I see."), draw, coalesce_ms=60_000)
    sent: list[int] = []

    async def look(write: str, what: Any) -> None:
        if write == "journal":
            sent.append(sum(len(record.files) for record in what))

    stage.store.before = look
    assert (await stage.play()).status == "completed"
    assert sent == [0, 1, 1, 1, 1]
    assert len({result.files[0].digest for result in await stage.results()}) == 4
