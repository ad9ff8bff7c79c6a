"""A vendor's name is enough: its server, its key and its words. Its key goes nowhere else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from agentq import Agent, AgentQ
from agentq.errors import InvalidInput, ProviderError
from agentq.messages import NoteKind, note_message, user_message
from agentq.providers._chat_request import request_body
from agentq.providers._chat_settings import read_settings, vendor_server_of
from agentq.providers._http import Connections
from agentq.providers._vendors import VENDORS, dialect_of
from agentq.providers.base import ModelRequest, OutputFormat
from agentq.providers.openai_chat import OpenAIChat
from tests.guide._pages import table
from tests.helpers import ROOT
from tests.providers.faults import call, chunk, fails, says, streams
from tests.providers.strict import check
from tests.providers.test_chat_request import WEATHER, calls, results, without_words_of_others

if TYPE_CHECKING:
    from agentq.providers._openai_server import Server
    from agentq.providers._vendors import Vendor
    from tests.providers.faults import FaultServer

HOSTED = sorted(name for name, vendor in VENDORS.items() if vendor.needs_key and vendor.base_url)
LOCAL = sorted(name for name, vendor in VENDORS.items() if not vendor.needs_key)
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.fixture(autouse=True)
def _clean_environment_of_vendors(monkeypatch: pytest.MonkeyPatch) -> None:
    for vendor in VENDORS.values():
        for name in (vendor.key, vendor.base_variable):
            if name:
                monkeypatch.delenv(name, raising=False)


def server(name: str, **settings: Any) -> Server:
    return vendor_server_of(VENDORS[name], read_settings(name, settings))


def body(name: str, *messages: Any, request: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """The body for a vendor, of the SDK's type but for the words that are the vendor's own."""
    asked = ModelRequest("m", messages or (user_message("Hi"),), **(request or {}))
    checked = read_settings(name, {"api_key": "k", "base_url": VENDORS[name].base_url or "https://x/v1", **settings})
    made = request_body(asked, checked, vendor_server_of(VENDORS[name], checked), provider=name)
    known = without_words_of_others(made)
    known.pop("random_seed", None)
    check(CompletionCreateParamsStreaming, known)
    return made


class TestWhere:
    @pytest.mark.parametrize("name", HOSTED)
    def test_a_hosted_vendor_needs_its_own_key(self, name: str, monkeypatch: pytest.MonkeyPatch):
        vendor = VENDORS[name]
        with pytest.raises(InvalidInput, match=f"{vendor.key} is not set: put a key of {vendor.title}") as caught:
            server(name)
        assert caught.value.field == vendor.key
        monkeypatch.setenv(vendor.key, "sk-own")
        found = server(name)
        assert (found.url, found.headers["Authorization"]) == (f"{vendor.base_url}/chat/completions", "Bearer sk-own")
        assert (found.key_source, found.key_name) == (vendor.key, vendor.key)

    @pytest.mark.parametrize("name", LOCAL)
    def test_a_local_server_needs_none(self, name: str, monkeypatch: pytest.MonkeyPatch):
        assert (server(name).url, server(name).key_source) == (f"{VENDORS[name].base_url}/chat/completions", None)
        monkeypatch.setenv(VENDORS[name].key, "sk-own")
        assert server(name).headers["Authorization"] == "Bearer sk-own"

    @pytest.mark.parametrize("name", sorted({*HOSTED, *LOCAL}))
    @pytest.mark.parametrize("base", ["https://example.org/v1", "http://api.openai.com/v1", "http://127.0.0.1:1/v1"])
    def test_another_server_is_not_told_the_key(self, name: str, base: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv(VENDORS[name].key, "sk-own")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
        found = server(name, base_url=base)
        assert not [value for value in found.headers.values() if "sk-" in value]
        assert found.key_source is None

    @pytest.mark.parametrize("name", HOSTED)
    def test_another_path_of_the_vendor_is_still_the_vendor(self, name: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv(VENDORS[name].key, "sk-own")
        place = re.match(r"https://[^/]+", VENDORS[name].base_url or "")
        assert place
        found = server(name, base_url=f"{place[0]}:443/beta")
        assert (found.url, found.key_source) == (f"{place[0]}:443/beta/chat/completions", VENDORS[name].key)
        insecure = server(name, base_url=place[0].replace("https", "http"))
        assert insecure.key_source is None

    @pytest.mark.parametrize("name", sorted(VENDORS))
    def test_no_vendor_is_told_the_key_of_another(self, name: str, monkeypatch: pytest.MonkeyPatch):
        for vendor in VENDORS.values():
            monkeypatch.setenv(vendor.key, f"sk-{vendor.key}")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
        monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com")
        found = server(name)
        assert [value for value in found.headers.values() if "sk-" in value or "org-" in value] == [
            f"Bearer sk-{VENDORS[name].key}" if name != "azure" else "sk-AZURE_OPENAI_API_KEY"
        ]

    def test_a_key_from_the_settings_wins(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("GROQ_API_KEY", "sk-own")
        monkeypatch.setenv("OTHER_KEY", "sk-other")
        assert server("groq", api_key_env="OTHER_KEY").headers["Authorization"] == "Bearer sk-other"
        assert server("groq", base_url="http://h/v1", api_key="sk-set").headers["Authorization"] == "Bearer sk-set"
        assert server("groq", extra_headers={"authorization": "Basic x"}).key_source == "extra_headers"

    @pytest.mark.parametrize(
        ("host", "url"),
        [
            ("127.0.0.1", "http://127.0.0.1:11434/v1"),
            ("0.0.0.0", "http://127.0.0.1:11434/v1"),  # noqa: S104
            ("0.0.0.0:8080", "http://127.0.0.1:8080/v1"),
            (":8080", "http://127.0.0.1:8080/v1"),
            ("gpu.local:1234", "http://gpu.local:1234/v1"),
            ("http://gpu.local", "http://gpu.local/v1"),
            ("https://ollama.com/", "https://ollama.com/v1"),
            ("https://gpu.local:8443/ollama/v1", "https://gpu.local:8443/ollama/v1"),
            ("[::1]", "http://[::1]:11434/v1"),
            ("http://[::]:8080", "http://127.0.0.1:8080/v1"),
        ],
    )
    def test_ollamas_host_is_read_as_ollama_reads_it(self, host: str, url: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("OLLAMA_HOST", host)
        monkeypatch.setenv("OLLAMA_API_KEY", "sk-own")
        found = server("ollama")
        assert found.url == f"{url}/chat/completions"
        assert found.headers["Authorization"] == "Bearer sk-own"

    def test_a_host_of_ollama_that_is_none_is_told(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("OLLAMA_HOST", "gpu local")
        with pytest.raises(InvalidInput, match="OLLAMA_HOST must be a URL such as") as caught:
            server("ollama")
        assert caught.value.field == "OLLAMA_HOST"

    @pytest.mark.parametrize("end", ["", "/", "/openai/v1", "/openai/v1/"])
    def test_azure_is_where_its_endpoint_says_and_has_a_header_of_its_own(
        self, end: str, monkeypatch: pytest.MonkeyPatch
    ):
        with pytest.raises(InvalidInput, match="AZURE_OPENAI_ENDPOINT is not set"):
            server("azure")
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", f"https://mine.openai.azure.com{end}")
        with pytest.raises(InvalidInput, match="AZURE_OPENAI_API_KEY is not set"):
            server("azure")
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", "k1")
        found = server("azure")
        assert found.url == "https://mine.openai.azure.com/openai/v1/chat/completions"
        assert found.headers["api-key"] == "k1"
        assert "Authorization" not in found.headers
        signed = server("azure", extra_headers={"Authorization": "Bearer entra"})
        assert signed.key_source == "extra_headers"
        assert "api-key" not in signed.headers
        assert server("azure", base_url="https://gateway/openai/v1").key_source is None

    def test_the_origin_of_replies_is_the_server(self):
        assert server("openrouter", api_key="k").chat_api == "openai-chat/openrouter.ai"
        assert server("vllm").chat_api == "openai-chat/127.0.0.1:8000"


class TestWords:
    @pytest.mark.parametrize("name", sorted(VENDORS))
    def test_every_vendor_gets_a_body_of_the_known_kind(self, name: str):
        made = body(
            name,
            user_message("Hi"),
            calls(("R.1.0", None), ("R.1.1", "call_1"), reasoning="hm"),
            results(("R.1.0", None), ("R.1.1", "call_1")),
            note_message("Go on.", NoteKind.TOOL_ERROR),
            request={"instructions": "Be brief.", "tools": (WEATHER,), "output": OutputFormat("a", SCHEMA)},
            max_tokens=9,
            seed=7,
            temperature=0.5,
            stop="END",
        )
        dialect = VENDORS[name].dialect
        assert made[dialect.max_tokens_field] == 9
        assert made[dialect.seed_field] == 7
        assert made["messages"][0] == {"role": dialect.system_role, "content": "Be brief."}
        reply = made["messages"][2]
        assert {field: reply[field] for field in reply if field.startswith("reasoning")} == dict.fromkeys(
            dialect.reasoning_fields, "hm"
        )
        ids = [each["id"] for each in reply["tool_calls"]]
        assert ids == [message["tool_call_id"] for message in made["messages"] if message["role"] == "tool"]
        assert all(re.fullmatch(dialect.call_ids, each) for each in ids)
        assert ("response_format" in made) is (dialect.json_schema == "always")
        assert ("stream_options" in made) is dialect.asks_for_usage
        assert "prompt_cache_key" not in made

    @pytest.mark.parametrize(
        ("name", "alone"), [("ollama", True), ("vllm", True), ("openrouter", True), ("deepseek", False)]
    )
    def test_a_schema_goes_where_it_is_taken(self, name: str, alone: bool):
        """A grammar for the answer keeps a local model from calling a tool. The loop checks the answer in any case."""
        assert ("response_format" in body(name, request={"output": OutputFormat("a", SCHEMA)})) is alone

    def test_mistral_takes_nothing_from_a_user_right_after_a_tool(self):
        messages = (
            user_message("Hi"),
            calls(("R.1.0", "abcDEF123")),
            results(("R.1.0", "abcDEF123")),
            note_message("Go on.", NoteKind.PROVIDER_ERROR),
        )
        roles = [(message["role"], message["content"]) for message in body("mistral", *messages)["messages"]]
        assert roles[2:] == [("tool", "rain"), ("assistant", "OK."), ("user", "Go on.")]
        assert [message["role"] for message in body("groq", *messages)["messages"][2:]] == ["tool", "user"]

    def test_what_was_set_wins_over_the_vendors_words(self):
        made = body("mistral", max_tokens=9, max_tokens_field="max_completion_tokens", include_usage=True)
        assert (made["max_completion_tokens"], made["stream_options"]) == (9, {"include_usage": True})

    @pytest.mark.parametrize("name", HOSTED)
    def test_a_vendor_whose_address_was_given_by_hand_gets_its_words_too(self, name: str):
        host = re.match("https://([^/]+)", VENDORS[name].base_url or "")
        assert host
        assert dialect_of(host[1]) is VENDORS[name].dialect


class TestRuns:
    async def test_its_name_stands_in_its_errors(self, model_server: FaultServer):
        provider = OpenAIChat("openrouter", vendor=VENDORS["openrouter"], connections=Connections())
        model_server.answers(fails(401, {"error": {"message": "Wrong key."}}))
        request = ModelRequest("m", (user_message("Hi"),), settings={"base_url": model_server.url})
        with pytest.raises(
            ProviderError, match=r"openrouter answered 401: Wrong key; no key was sent: set model_settings\.api_key, or"
        ):
            [each async for each in provider.stream(request)]
        await provider.aclose()

    async def test_details_go_back_in_the_next_turn(self, model_server: FaultServer):
        provider = OpenAIChat("openrouter", vendor=VENDORS["openrouter"], connections=Connections())
        detail = {"type": "reasoning.text", "text": "Hm, rain?", "signature": "c2ln", "index": 0}
        model_server.answers(
            streams(
                [
                    chunk({"content": "", "reasoning_details": [detail]}),
                    *call(0, "call_1", "unknown_tool", '{"city": "Oslo"}'),
                    chunk(finish="tool_calls"),
                ]
            ),
            streams(says("Rain.")),
        )
        agent = Agent("a", model="openrouter:x/y", model_settings={"base_url": model_server.url})
        app = AgentQ([agent], models={"openrouter": provider})
        assert (await app.run("a", "Weather?")).output == "Rain."
        turn = model_server.asked[1].body["messages"][1]
        assert turn["reasoning_details"] == [detail]
        assert turn["tool_calls"][0]["function"]["arguments"] == '{"city": "Oslo"}'
        await app.aclose()

    @pytest.mark.parametrize("name", sorted(VENDORS))
    def test_its_name_alone_is_no_model(self, name: str):
        with pytest.raises(InvalidInput, match=f"name the model after the colon, such as {name}:") as caught:
            AgentQ([Agent("a", model=name)]).check_models()
        assert caught.value.field == "model"


def row(name: str, vendor: Vendor) -> list[str]:
    """What the page says of a vendor."""
    places = [f"`{vendor.base_url}`"] if vendor.base_url else []
    if vendor.base_variable:
        places.append(f"`{vendor.base_variable}`")
    key = f"`{vendor.key}`" if vendor.needs_key else f"none, or `{vendor.key}`"
    return [f"`{name}:{vendor.example}`", vendor.title, ", or ".join(places), key]


def test_the_page_has_every_vendor_as_it_is():
    shown = table(ROOT / "docs" / "guide" / "models.md", "Vendors and local servers")
    assert shown == [row(name, vendor) for name, vendor in sorted(VENDORS.items())]
