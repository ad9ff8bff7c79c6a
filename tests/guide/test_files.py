"""Files: attached to a prompt by path, bytes or URL, and handed to models that take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, AsyncClient, Client, File, InvalidInput, Settings
from agentq.messages import FilePart
from agentq.testing import ScriptedModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


class SeeingModel(ScriptedModel):
    """A model that takes pictures."""

    media_types = ("image/*",)


def app_with(model: Any, **settings: Any) -> AgentQ:
    return AgentQ([Agent("painter", model="house:best")], models={"house": model}, settings=Settings(**settings))


def files_of(model: ScriptedModel, request: int = -1) -> list[FilePart]:
    return [
        part for message in model.requests[request].messages for part in message.parts if isinstance(part, FilePart)
    ]


async def test_a_model_gets_the_content_of_what_is_attached(tmp_path: Path):
    (tmp_path / "photo.png").write_bytes(PNG)
    model = SeeingModel(["A cat."])
    app = app_with(model)
    await app.run("painter", "What is it?", files=[tmp_path / "photo.png", "https://example.org/other.jpg"])
    stored, linked = files_of(model)
    assert (stored.name, stored.media_type, stored.size) == ("photo.png", "image/png", len(PNG))
    assert dict(model.requests[0].files) == {stored.digest: PNG}
    assert (linked.url, linked.digest) == ("https://example.org/other.jpg", None)


async def test_a_later_run_of_the_session_sees_the_file_again():
    model = SeeingModel(["A cat."])
    app = app_with(model)
    await app.run("painter", "What is it?", files=[PNG], session_id="s1")
    await app.run("painter", "Which colour?", session_id="s1")
    assert list(model.requests[-1].files.values()) == [PNG]


async def test_a_model_that_cannot_take_it_is_not_asked():
    model = SeeingModel(["A cat."])
    with pytest.raises(InvalidInput, match=r"house:best cannot take notes.txt \(text/plain\); it takes image/\*"):
        await app_with(model).run("painter", "Read it.", files=[File(b"x", name="notes.txt")])
    blind = ScriptedModel(["What?"])
    with pytest.raises(InvalidInput, match="it takes no files"):
        await app_with(blind).run("painter", "What is it?", files=[PNG])
    assert model.requests == blind.requests == []


async def test_a_file_that_is_too_large_is_refused_before_anything_is_stored(redis_url: str):
    async with AsyncClient(settings=Settings(redis_url=redis_url, max_file_bytes=100)) as client:
        with pytest.raises(InvalidInput, match=r"files\[0\] has 264 bytes, more than the 100"):
            await client.enqueue("painter", "What is it?", files=[PNG])
        assert await client.list() == ()


def test_a_worker_hands_the_file_to_the_model(redis_url: str, project: Path, agentq: Callable[..., str]):
    """The model says how many bytes it got: in the first run, and in one of the same session in another process."""
    (project / "workers" / "app.py").write_text(
        "from agentq import Agent, AgentQ\n"
        "from agentq.testing import ScriptedModel\n\n\n"
        "class Counting(ScriptedModel):\n"
        '    media_types = ("image/*",)\n\n\n'
        "model = Counting([lambda request: str(sum(map(len, request.files.values())))])\n"
        'app = AgentQ([Agent("painter", model="house:best")], models={"house": model})\n'
    )
    with Client(redis_url) as client:
        first = client.enqueue("painter", "What is it?", files=[PNG, File(PNG, name="again.png")], session_id="s1")
        agentq("worker", "--burst")
        second = client.enqueue("painter", "Which colour?", session_id="s1")
        agentq("worker", "--burst")
        assert [run.result(timeout=5).output for run in (first, second)] == ["264", "264"]
        with pytest.raises(InvalidInput, match=r"house:best cannot take a.txt \(text/plain\); it takes image/\*"):
            client.enqueue("painter", "Read it.", files=[File(b"x", name="a.txt")])
        assert len(client.list()) == 2


def test_a_repeated_request_with_another_file_is_another_request(redis_url: str):
    from agentq import Conflict

    with Client(redis_url) as client:
        first = client.enqueue("painter", "What is it?", files=[PNG], idempotency_key="k")
        assert client.enqueue("painter", "What is it?", files=[PNG], idempotency_key="k").id == first.id
        with pytest.raises(Conflict):
            client.enqueue("painter", "What is it?", files=[PNG + b"."], idempotency_key="k")
        with pytest.raises(Conflict):
            client.enqueue("painter", "What is it?", idempotency_key="k")
