"""The vendors and servers with a name of their own: where each is, which key it takes, which words it wants. Data only.

docs/guide/models.md has the table for people; a test holds both together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server wants the same Chat Completions request. The defaults are what most compatible servers take.

    `reasoning_fields`: under which names the reasoning of this run goes back with its calls. `json_schema`: when a
    structured answer may be asked for. `call_ids`: what the ids of calls must look like, as a regular expression.
    `parts_tools_from_users`: the server takes no message of the user right after the result of a tool.
    """

    system_role: Literal["system", "developer"] = "system"
    # The chat templates of many open models take a system message at the beginning only.
    note_role: Literal["system", "developer", "user"] = "user"
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    seed_field: str = "seed"
    reasoning_fields: tuple[str, ...] = ()
    json_schema: Literal["always", "without tools", "never"] = "always"
    call_ids: str = ".+"
    asks_for_usage: bool = True
    has_cache_key: bool = False
    parts_tools_from_users: bool = False


OLLAMA_HOST = "OLLAMA_HOST"

COMMON = Dialect()
# OpenAI's reasoning models refuse the old name of the limit, most other servers do not know the new one. OpenAI refuses
# ids of calls beyond 40 characters, and some servers make longer ones.
OPENAI = Dialect(
    system_role="developer",
    note_role="developer",
    max_tokens_field="max_completion_tokens",
    call_ids=".{1,40}",
    has_cache_key=True,
)


@dataclass(frozen=True, slots=True)
class Vendor:
    """One server, or kind of server. `key` is the variable of its key, `base_variable` that of its address, if any.

    Without a `base_url` the variable must be set; `base_path` is what the variable leaves out of the address.
    """

    title: str
    base_url: str | None
    key: str
    example: str
    needs_key: bool = True
    base_variable: str | None = None
    base_path: str = ""
    key_header: str = "Authorization"
    dialect: Dialect = COMMON


# A server that keeps an open model to a grammar for the answer keeps it from calling a tool.
_LOCAL = Dialect(json_schema="without tools")

VENDORS = {
    "azure": Vendor(
        "Azure OpenAI",
        None,
        "AZURE_OPENAI_API_KEY",
        "my-deployment",
        base_variable="AZURE_OPENAI_ENDPOINT",
        base_path="/openai/v1",
        key_header="api-key",
        # Models of other makers stand behind the same address, and know no `developer`.
        dialect=Dialect(note_role="system", max_tokens_field="max_completion_tokens", call_ids=".{1,40}"),
    ),
    "deepseek": Vendor(
        "DeepSeek",
        "https://api.deepseek.com",
        "DEEPSEEK_API_KEY",
        "deepseek-v4-flash",
        dialect=Dialect(reasoning_fields=("reasoning_content",), json_schema="never"),
    ),
    "fireworks": Vendor(
        "Fireworks",
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        "accounts/fireworks/models/gpt-oss-120b",
        dialect=Dialect(reasoning_fields=("reasoning_content",)),
    ),
    "groq": Vendor(
        "Groq",
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        "openai/gpt-oss-120b",
        # Not all of its models take a schema.
        dialect=Dialect(max_tokens_field="max_completion_tokens", json_schema="never"),
    ),
    "litellm": Vendor(
        "LiteLLM's proxy",
        "http://127.0.0.1:4000/v1",
        "LITELLM_PROXY_API_KEY",
        "gpt-4o-mini",
        needs_key=False,
        base_variable="LITELLM_PROXY_API_BASE",
    ),
    "llamacpp": Vendor(
        "llama.cpp",
        "http://127.0.0.1:8080/v1",
        "LLAMA_API_KEY",
        "default",
        needs_key=False,
        dialect=Dialect(json_schema="without tools", reasoning_fields=("reasoning_content",)),
    ),
    "lmstudio": Vendor(
        "LM Studio",
        "http://127.0.0.1:1234/v1",
        "LM_API_TOKEN",
        "openai/gpt-oss-20b",
        needs_key=False,
        dialect=_LOCAL,
    ),
    "mistral": Vendor(
        "Mistral",
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        "mistral-small-latest",
        # Mistral refuses what it does not know, and sends the usage unasked.
        dialect=Dialect(
            seed_field="random_seed", call_ids="[a-zA-Z0-9]{9}", asks_for_usage=False, parts_tools_from_users=True
        ),
    ),
    "ollama": Vendor(
        "Ollama",
        "http://127.0.0.1:11434/v1",
        "OLLAMA_API_KEY",
        "llama3.2",
        needs_key=False,
        base_variable=OLLAMA_HOST,
        base_path="/v1",
        dialect=Dialect(json_schema="without tools", reasoning_fields=("reasoning",)),
    ),
    "openrouter": Vendor(
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        "qwen/qwen3-32b",
    ),
    "together": Vendor(
        "Together",
        "https://api.together.xyz/v1",
        "TOGETHER_API_KEY",
        "openai/gpt-oss-120b",
    ),
    "vllm": Vendor(
        "vLLM",
        "http://127.0.0.1:8000/v1",
        "VLLM_API_KEY",
        "openai/gpt-oss-20b",
        needs_key=False,
        # Old versions read the one field, new ones the other.
        dialect=Dialect(json_schema="without tools", reasoning_fields=("reasoning", "reasoning_content")),
    ),
    "xai": Vendor(
        "xAI",
        "https://api.x.ai/v1",
        "XAI_API_KEY",
        "grok-4",
        dialect=Dialect(max_tokens_field="max_completion_tokens"),
    ),
}

_BY_HOST = {
    urlsplit(vendor.base_url).hostname: vendor.dialect
    for vendor in VENDORS.values()
    if vendor.base_url is not None and vendor.needs_key
}


def dialect_of(host: str) -> Dialect:
    """The dialect of whoever has that host, also where its address was given by hand."""
    if host == "api.openai.com" or host.endswith(".api.openai.com"):
        return OPENAI
    return _BY_HOST.get(host, COMMON)
