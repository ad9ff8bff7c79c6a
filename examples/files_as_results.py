"""Tools that give files and data: `python -m examples.files_as_results`. Needs no model, key or Redis."""

from __future__ import annotations

import asyncio
import struct
import zlib

from agentq import Agent, AgentQ, File, ToolResult, tool
from agentq.events.model import ToolFinished

SALES = {"jan": 120, "feb": 90, "mar": 150}


@tool(effect="none")
async def chart_sales() -> ToolResult:
    """Draw what we sold, month by month."""
    return ToolResult(
        f"{len(SALES)} months, {sum(SALES.values())} EUR.",  # the model reads this, and sees the files
        files=[
            File(_bars(list(SALES.values())), name="sales.png"),
            File("".join(f"{month},{eur}\n" for month, eur in SALES.items()).encode(), name="sales.csv"),
        ],
        data=SALES,  # and programs get this
    )


def _bars(values: list[int]) -> bytes:
    """A PNG of bars, ten pixels wide each, in one colour."""
    rows = [bytes([0]) + bytes(255 if y >= value else 60 for value in values for _ in range(10)) for y in range(200)]
    header = struct.pack(">IIBBBBB", 10 * len(values), 200, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(reversed(rows)))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


app = AgentQ(agents=[Agent("analyst", model="mock", tools=[chart_sales])])


def show(event: object) -> None:
    """What a web app sees: the files by name and type, each with a digest for `client.file(run_id, digest)`."""
    if isinstance(event, ToolFinished):
        print(event.content)
        for file in event.files:
            print(f"+ {file.name} ({file.media_type})")


async def main() -> None:
    result = await app.run("analyst", "call chart_sales {}\nsay $1", on_event=show)
    (charted,) = (part for message in result.messages for part in message.tool_results)
    print("best month:", max(charted.data, key=charted.data.get))


if __name__ == "__main__":
    asyncio.run(main())
