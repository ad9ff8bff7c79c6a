"""The vendors' own SDKs, reading streams and nothing more: `python -m bench.programs.sdk_streams API URL STREAMS`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from bench.programs.measuring import measured

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Read = Callable[[str], Awaitable[None]]

api, url, streams = sys.argv[1], sys.argv[2], int(sys.argv[3])
_HELLO: Any = [{"role": "user", "content": "Hello"}]


def openai_chat() -> Read:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key="k", base_url=f"{url}/v1")

    async def read(model: str) -> None:
        async for chunk in await client.chat.completions.create(model=model, messages=_HELLO, stream=True):
            _ = chunk.choices[0].delta.content if chunk.choices else None

    return read


def openai() -> Read:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key="k", base_url=f"{url}/v1")

    async def read(model: str) -> None:
        async for event in await client.responses.create(model=model, input="Hello", stream=True):
            _ = event.type

    return read


def anthropic() -> Read:
    from anthropic import AsyncAnthropic

    client = AsyncAnthropic(api_key="k", base_url=url)

    async def read(model: str) -> None:
        async for event in await client.messages.create(model=model, messages=_HELLO, max_tokens=9, stream=True):
            _ = event.type

    return read


def google() -> Read:
    from google import genai

    client = genai.Client(api_key="k", http_options={"base_url": url, "api_version": "v1beta"})

    async def read(model: str) -> None:
        async for chunk in await client.aio.models.generate_content_stream(model=model, contents="Hello"):
            _ = chunk.text

    return read


async def main() -> None:
    read = {"openai": openai, "openai-chat": openai_chat, "anthropic": anthropic, "google": google}[api]()
    await read("warm-up")  # imports at first use, caches
    with measured():
        await asyncio.gather(*[read("bench") for _ in range(streams)])


if __name__ == "__main__":
    asyncio.run(main())
