"""Settings are checked before the first call; each mistake is named, with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from agentq import Agent, AgentQ
from agentq.errors import InvalidInput
from agentq.providers._chat_settings import ChatSettings, read_settings, server_of
from agentq.settings import OpenAIEnvironment
from agentq.worker import Worker
from tests.helpers import ROOT

KEY = OpenAIEnvironment(api_key="sk-env", organization="org-1", project="proj-1")


def server(environment: OpenAIEnvironment = KEY, **settings: Any):
    return server_of(read_settings("openai-chat", settings), environment)


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "field", "words"),
        [
            ({"temprature": 0.5}, "temprature", "no such setting, did you mean 'temperature'"),
            ({"zzz": 1}, "zzz", "no such setting; it has: base_url, api_key"),
            ({"temperature": "hot"}, "temperature", "valid number"),
            ({"temperature": -1}, "temperature", "greater than or equal to 0"),
            ({"temperature": True}, "temperature", "valid number"),
            ({"top_p": 2}, "top_p", "less than or equal to 1"),
            ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
            ({"max_tokens": 1.5}, "max_tokens", "valid integer"),
            ({"timeout_s": 0}, "timeout_s", "greater than 0"),
            ({"idle_timeout_s": 1e9}, "idle_timeout_s", "less than or equal to 86400"),
            ({"max_tokens_field": "max"}, "max_tokens_field", "'max_tokens' or 'max_completion_tokens'"),
            ({"system_role": "user"}, "system_role", "'system' or 'developer'"),
            ({"extra_headers": {"a b": "x"}}, "extra_headers", "cannot name a header"),
            ({"extra_headers": {"X": 1}}, "extra_headers.X", "valid string"),
            ({"extra_headers": {"X": "a\r\nY: b"}}, "extra_headers.X", "printable ASCII"),
            ({"extra_body": {"messages": []}}, "extra_body", "'messages', which agentq writes itself"),
            ({"extra_body": {"stream": False}}, "extra_body", "'stream'"),
        ],
    )
    def test_a_mistake_is_named(self, settings: dict[str, Any], field: str, words: str):
        with pytest.raises(InvalidInput, match=words) as caught:
            read_settings("openai-chat", settings)
        assert caught.value.field == f"model_settings.{field}"
        assert str(caught.value).startswith(f"model_settings.{field}")

    def test_none_is_as_good_as_not_set(self):
        assert read_settings("openai-chat", {"temperature": None, "base_url": None}) == read_settings("openai-chat", {})

    def test_a_key_does_not_show_when_settings_are_printed(self):
        assert "sk-1" not in repr(read_settings("openai-chat", {"api_key": "sk-1"}))

    def test_every_setting_is_on_the_page(self):
        page = (ROOT / "docs" / "guide" / "models.md").read_text()
        assert [name for name in ChatSettings.model_fields if f"`{name}`" not in page] == []


class TestServer:
    def test_openai_is_the_default(self):
        found = server()
        assert (found.url, found.is_openai) == ("https://api.openai.com/v1/chat/completions", True)
        assert found.key_source == "OPENAI_API_KEY"
        assert found.headers["Authorization"] == "Bearer sk-env"
        assert (found.headers["OpenAI-Organization"], found.headers["OpenAI-Project"]) == ("org-1", "proj-1")

    @pytest.mark.parametrize(
        ("base", "url"),
        [
            ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1/chat/completions"),
            ("http://127.0.0.1:11434/v1/", "http://127.0.0.1:11434/v1/chat/completions"),
            ("https://api.deepseek.com", "https://api.deepseek.com/chat/completions"),
            ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
            ("http://host/v1/chat/completions", "http://host/v1/chat/completions"),
        ],
    )
    def test_paths_are_joined_with_one_slash(self, base: str, url: str):
        assert server(base_url=base).url == url
        assert server(OpenAIEnvironment(base_url=base)).url == url

    def test_regions_of_openai_are_openai(self):
        assert server(base_url="https://eu.api.openai.com/v1").is_openai
        assert not server(base_url="https://api.openai.com.example.org/v1").is_openai

    def test_the_settings_win_over_the_environment(self):
        found = server(
            OpenAIEnvironment(api_key="sk-env", base_url="http://env/v1"), base_url="http://set/v1", api_key="sk-set"
        )
        assert (found.url, found.headers["Authorization"]) == ("http://set/v1/chat/completions", "Bearer sk-set")

    def test_another_server_is_not_told_the_key_of_openai(self):
        """The key of the environment belongs to the server of the environment."""
        found = server(base_url="https://openrouter.ai/api/v1")
        assert found.key_source is None
        assert not {"Authorization", "OpenAI-Organization", "OpenAI-Project"} & found.headers.keys()

    def test_the_server_of_the_environment_is_told_its_key(self):
        both = OpenAIEnvironment(api_key="sk-env", base_url="http://127.0.0.1:8000/v1")
        assert server(both).headers["Authorization"] == "Bearer sk-env"
        assert server(both, base_url="http://127.0.0.1:8000/v1").headers["Authorization"] == "Bearer sk-env"

    def test_the_key_may_stand_in_a_variable_of_any_name(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("OPENROUTER_API_KEY", " sk-or \n")
        found = server(base_url="https://openrouter.ai/api/v1", api_key_env="OPENROUTER_API_KEY")
        assert (found.headers["Authorization"], found.key_source) == ("Bearer sk-or", "OPENROUTER_API_KEY")

    def test_the_key_may_come_from_a_function_that_each_call_asks(self):
        keys = iter(["sk-1", " sk-2 "])
        settings = read_settings("openai-chat", {"base_url": "http://host/v1", "api_key": lambda: next(keys)})
        given = [server_of(settings, OpenAIEnvironment()).headers["Authorization"] for _ in range(2)]
        assert given == ["Bearer sk-1", "Bearer sk-2"]

    @pytest.mark.parametrize(
        ("give", "words"),
        [(lambda: 1 / 0, "raised ZeroDivisionError"), (lambda: None, "returned NoneType"), (lambda: " ", "is empty")],
    )
    def test_a_function_that_gives_no_key(self, give: Any, words: str):
        with pytest.raises(InvalidInput, match=words) as raised:
            server(base_url="http://host/v1", api_key=give)
        assert raised.value.field == "model_settings.api_key"

    def test_a_header_of_ones_own_replaces_ours(self):
        found = server(extra_headers={"authorization": "Basic x", "api-key": "k"})
        assert "Authorization" not in found.headers
        assert (found.headers["authorization"], found.headers["api-key"]) == ("Basic x", "k")

    @pytest.mark.parametrize(
        ("environment", "settings", "field", "words"),
        [
            (OpenAIEnvironment(), {}, "OPENAI_API_KEY", "OPENAI_API_KEY is not set"),
            (OpenAIEnvironment(), {"base_url": "https://api.openai.com/v1"}, "OPENAI_API_KEY", "is not set"),
            (KEY, {"api_key_env": "NOWHERE_KEY"}, "model_settings.api_key_env", "NOWHERE_KEY, which is not set"),
            (KEY, {"api_key": " "}, "model_settings.api_key", "is empty"),
            (KEY, {"api_key": "sk-é"}, "model_settings.api_key", "copy it again"),
            (OpenAIEnvironment(api_key="sk\n1"), {}, "OPENAI_API_KEY", "copy it again"),
            (KEY, {"base_url": "localhost:11434"}, "model_settings.base_url", "must be a URL such as"),
            (KEY, {"base_url": "http://"}, "model_settings.base_url", "must be a URL such as"),
            (KEY, {"base_url": "http://host:99999/v1"}, "model_settings.base_url", "must be a URL such as"),
            (KEY, {"base_url": "http://ho st/v1"}, "model_settings.base_url", "must be a URL such as"),
            (KEY, {"base_url": "http://u:p@host/v1"}, "model_settings.base_url", "must not hold a password"),
            (KEY, {"base_url": "http://host/v1?x=1"}, "model_settings.base_url", "without \\? and #"),
            (OpenAIEnvironment(base_url="ftp://host"), {}, "OPENAI_BASE_URL", "must be a URL such as"),
            (OpenAIEnvironment(api_key="k", project="é"), {}, "OpenAI-Project", "printable ASCII"),
        ],
    )
    def test_what_cannot_work_is_told(self, environment: OpenAIEnvironment, settings: Any, field: str, words: str):
        with pytest.raises(InvalidInput, match=words) as caught:
            server(environment, **settings)
        assert caught.value.field == field
        assert "sk-env" not in str(caught.value)

    def test_the_environment_is_read_under_openais_names(self):
        environ = {
            "OPENAI_API_KEY": "k\n",
            "OPENAI_BASE_URL": " http://h/v1 ",
            "OPENAI_ORG_ID": "o",
            "OPENAI_PROJECT_ID": "",
        }
        assert OpenAIEnvironment.load(environ) == OpenAIEnvironment("k", "http://h/v1", "o", None)


class TestWhenItIsChecked:
    """Before anything is started: when a worker starts, and when `run` is called."""

    def app(self, model: str = "openai:gpt-4o-mini", **settings: Any) -> AgentQ:
        return AgentQ([Agent("helper"), Agent("writer", model=model, model_settings=settings)])

    def test_a_worker_does_not_start_without_a_key(self):
        with pytest.raises(InvalidInput, match=r"agent 'writer': OPENAI_API_KEY is not set"):
            Worker(self.app())

    def test_a_worker_does_not_start_with_a_wrong_setting(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
        with pytest.raises(InvalidInput, match=r"agent 'writer': model_settings.temprature") as caught:
            Worker(self.app(temprature=1))
        assert caught.value.field == "model_settings.temprature"

    @pytest.mark.parametrize("model", ["openai", "openai-chat"])
    def test_a_provider_alone_is_no_model(self, model: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
        with pytest.raises(InvalidInput, match=f"name the model after the colon, such as {model}:gpt-4o-mini"):
            self.app(model).check_models()

    def test_a_server_of_ones_own_needs_no_key(self, monkeypatch: pytest.MonkeyPatch):
        self.app("openai-chat:llama3.2", base_url="http://127.0.0.1:11434/v1").check_models()
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1")
        self.app("openai-chat:llama3.2").check_models()

    async def test_a_run_is_not_started_without_a_key(self):
        app = self.app()
        with pytest.raises(InvalidInput, match="OPENAI_API_KEY is not set"):
            await app.run("writer", "hello")
        with pytest.raises(InvalidInput, match="OPENAI_API_KEY is not set"):
            await app.run("helper", "hello", model="openai:gpt-4o-mini")

    async def test_only_the_model_of_the_run_is_asked_for_its_key(self):
        assert (await self.app().run("helper", "hello")).output == "hello"
        assert (await self.app().run("writer", "hello", model="mock")).output == "hello"
