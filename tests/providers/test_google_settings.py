"""Settings of Gemini are checked before the first call; what its wire cannot say is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from agentq import Agent, AgentQ
from agentq.errors import InvalidInput
from agentq.providers._google_settings import GoogleEnvironment, GoogleSettings, read_settings, server_of
from agentq.providers.google import Google
from agentq.providers.registry import resolve
from tests.helpers import ROOT

KEY = GoogleEnvironment(gemini_key="key-env")


def server(environment: GoogleEnvironment = KEY, **settings: Any):
    return server_of("google", read_settings("google", settings), environment)


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "field", "words"),
        [
            ({"temprature": 0.5}, "temprature", "no such setting, did you mean 'temperature'"),
            ({"top_k": 0}, "top_k", "greater than or equal to 1"),
            ({"thinking_budget": -2}, "thinking_budget", "greater than or equal to -1"),
            ({"safety_settings": [1]}, "safety_settings.0", "valid dictionary"),
            ({"reasoning_effort": "none"}, "reasoning_effort", "one of minimal, low, .* not 'none'; thinking_budget=0"),
            ({"reasoning_effort": "max"}, "reasoning_effort", "not 'max'"),
            ({"reasoning_effort": "low", "thinking_budget": 0}, "thinking_budget", "set one of the two"),
            ({"parallel_tool_calls": False}, "parallel_tool_calls", "cannot keep a model from calling several"),
            ({"strict_tools": ["f"]}, "strict_tools", "all tools to their schemas or none"),
            ({"tool_choice": {"streamFunctionCallArguments": True}}, "tool_choice", "calls are read whole"),
            ({"cached_content": "cachedContents/a", "tool_choice": "auto"}, "tool_choice", "brings its own tools"),
            ({"cached_content": "cachedContents/a", "strict_tools": True}, "strict_tools", "brings its own tools"),
            ({"extra_body": {"contents": []}}, "extra_body", "'contents', which agentq writes itself"),
            ({"extra_body": {"tools": []}}, "extra_body", "'tools'"),
        ],
    )
    def test_a_mistake_is_named(self, settings: dict[str, Any], field: str, words: str):
        with pytest.raises(InvalidInput, match=words) as caught:
            read_settings("google", settings)
        assert caught.value.field == f"model_settings.{field}"

    @pytest.mark.parametrize("settings", [{"parallel_tool_calls": True}, {"strict_tools": []}, {"strict_tools": True}])
    def test_what_gemini_does_anyway_may_be_said(self, settings: dict[str, Any]):
        read_settings("google", settings)

    def test_a_key_does_not_show_when_settings_are_printed(self):
        assert "key-1" not in repr(read_settings("google", {"api_key": "key-1"}))

    def test_every_setting_is_on_the_page(self):
        page = (ROOT / "docs" / "guide" / "models.md").read_text()
        assert [name for name in GoogleSettings.model_fields if f"`{name}`" not in page] == []


class TestServer:
    def test_google_is_the_default(self):
        found = server()
        base = "https://generativelanguage.googleapis.com/v1beta"
        assert found.url("gemini-3-flash") == f"{base}/models/gemini-3-flash:streamGenerateContent?alt=sse"
        assert (found.headers["x-goog-api-key"], found.key_source) == ("key-env", "GEMINI_API_KEY")

    @pytest.mark.parametrize("base", ["http://host/v1beta", "http://host/v1beta/", "http://host/v1beta/models"])
    def test_paths_are_joined_with_one_slash(self, base: str):
        url = "http://host/v1beta/models/m:streamGenerateContent?alt=sse"
        assert server(base_url=base).url("m") == url
        assert server(GoogleEnvironment(base_url=base)).url("m") == url

    @pytest.mark.parametrize(
        ("model", "path"),
        [
            ("models/gemini-x", "models/gemini-x"),
            ("tunedModels/mine", "tunedModels/mine"),
            ("gemini-x@1 b", "models/gemini-x@1%20b"),
        ],
    )
    def test_models_may_be_named_by_their_path(self, model: str, path: str):
        assert server(base_url="http://host").url(model) == f"http://host/{path}:streamGenerateContent?alt=sse"

    @pytest.mark.parametrize(
        ("environment", "source", "key"),
        [
            (GoogleEnvironment(gemini_key="a", google_key="b"), "GEMINI_API_KEY", "a"),
            (GoogleEnvironment(google_key="b"), "GOOGLE_API_KEY", "b"),
        ],
    )
    def test_the_key_has_two_names(self, environment: GoogleEnvironment, source: str, key: str):
        found = server(environment)
        assert (found.key_source, found.headers["x-goog-api-key"]) == (source, key)

    def test_the_environment_is_read_under_googles_own_names(self, monkeypatch: pytest.MonkeyPatch):
        """Its SDK adds the version to its base; ours stands as it is, and comes first."""
        assert GoogleEnvironment.load() == GoogleEnvironment()
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://proxy/")
        assert server_of("google", read_settings("google", {}), GoogleEnvironment.load()).base == "http://proxy/v1beta"
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "proxy")
        with pytest.raises(InvalidInput, match="GOOGLE_GEMINI_BASE_URL must be a URL"):
            server(GoogleEnvironment.load())
        monkeypatch.setenv("GEMINI_BASE_URL", "http://ours/v1")
        monkeypatch.setenv("GOOGLE_API_KEY", "b")
        monkeypatch.setenv("GEMINI_API_KEY", "a")
        assert GoogleEnvironment.load() == GoogleEnvironment("a", "b", "http://ours/v1")

    def test_the_key_never_stands_in_the_address(self):
        assert "key-env" not in server().url("gemini-x")

    def test_another_server_is_not_told_the_key_of_google(self):
        """The key of the environment belongs to the server of the environment."""
        found = server(base_url="https://proxy.example.org/v1beta")
        assert (found.key_source, "x-goog-api-key" in found.headers) == (None, False)
        both = GoogleEnvironment(gemini_key="key-env", base_url="https://proxy.example.org/v1beta")
        assert server(both).headers["x-goog-api-key"] == "key-env"

    def test_the_key_may_stand_in_a_variable_of_any_name(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("PROXY_KEY", " key-p \n")
        found = server(base_url="https://proxy.example.org/v1beta", api_key_env="PROXY_KEY")
        assert (found.headers["x-goog-api-key"], found.key_source) == ("key-p", "PROXY_KEY")

    @pytest.mark.parametrize("header", ["Authorization", "X-Goog-Api-Key"])
    def test_a_credential_of_ones_own_replaces_the_key(self, header: str):
        found = server(extra_headers={header: "mine"})
        assert "key-env" not in str(found.headers)
        assert (found.headers[header], found.key_source) == ("mine", "extra_headers")

    @pytest.mark.parametrize(
        ("environment", "settings", "field"),
        [
            (GoogleEnvironment(), {}, "GEMINI_API_KEY"),
            (GoogleEnvironment(gemini_key="a\nb"), {}, "GEMINI_API_KEY"),
            (KEY, {"base_url": "host"}, "model_settings.base_url"),
            (GoogleEnvironment(base_url="http://host/?key=1"), {}, "GEMINI_BASE_URL"),
        ],
    )
    def test_what_cannot_work_is_named(self, environment: GoogleEnvironment, settings: dict[str, Any], field: str):
        with pytest.raises(InvalidInput) as caught:
            server(environment, **settings)
        assert caught.value.field == field
        assert "a\nb" not in str(caught.value)


class TestApp:
    def app(self, model: str = "google:gemini-3-flash", **settings: Any) -> AgentQ:
        return AgentQ([Agent("writer", model=model, model_settings=settings)])

    def test_it_is_built_in(self):
        provider, model = resolve("google:gemini-3-flash")
        assert (provider.name, model) == ("google", "gemini-3-flash")
        assert isinstance(provider, Google)

    def test_a_missing_key_is_told_before_the_first_call(self, monkeypatch: pytest.MonkeyPatch):
        with pytest.raises(InvalidInput, match="GEMINI_API_KEY is not set"):
            self.app().check_models()
        monkeypatch.setenv("GOOGLE_API_KEY", "key")
        self.app().check_models()

    @pytest.mark.parametrize("model", ["a/../b", "a?key=1", "a#b", "/a", "a//b", "a%2e"])
    def test_a_name_cannot_lead_elsewhere(self, model: str):
        with pytest.raises(InvalidInput, match="cannot be the name of a model") as caught:
            Google().check(model, {"api_key": "key"})
        assert caught.value.field == "model"

    def test_a_provider_alone_is_no_model(self):
        with pytest.raises(InvalidInput, match="name the model after the colon, such as google:gemini-3-flash"):
            self.app("google", api_key="key").check_models()
