"""The OpenAPI document holds: schemathesis makes up requests from it, and no answer is an error or contradicts it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import schemathesis
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi

from agentq.app import AgentQ
from agentq.client import Client
from agentq.settings import Settings
from agentq.web import web_app
from agentq.web.api import endpoints
from agentq.web.api.openapi import document
from tests._redis_server import RedisServer
from tests.web.threaded import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKS = [
    checks.not_a_server_error,
    openapi.content_type_conformance,
    openapi.negative_data_rejection,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.status_code_conformance,
    openapi.unsupported_method,
]
# What is there; made-up names find nothing.
SESSION, SCHEDULE = "talk", "daily"
schema = schemathesis.openapi.from_dict(document(endpoints))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """The URL of a site over a Redis of its own, and the ids of runs that are there: queued, and cancelled."""
    redis = RedisServer(tmp_path_factory.mktemp("redis"), durable=False)
    redis.start()
    try:
        settings = Settings(redis_url=redis.url)
        with Client(settings=settings) as client, serving(web_app(AgentQ(settings=settings))) as url:
            runs = [client.enqueue("calculator", f"say {number}", session_id=SESSION).id for number in range(3)]
            runs.append(client.enqueue("calculator", "say x").id)
            client.cancel(runs[-1])
            client.schedule(SCHEDULE, "calculator", "say hello", cron="@daily")
            yield url, runs
    finally:
        redis.kill()


@schema.parametrize()
@hypothesis.settings(max_examples=15, suppress_health_check=list(hypothesis.HealthCheck), deadline=None)
@pytest.mark.timeout(120)
def test_no_answer_contradicts_the_document(case: schemathesis.Case[Any], site: tuple[str, list[str]]):
    url, runs = site
    made_up: dict[str, Any] = dict(case.path_parameters or {})
    if (number := sum(map(ord, str(made_up)))) % 3:
        there = {"run_id": runs[number % len(runs)], "session_id": SESSION, "name": SCHEDULE}
        case.path_parameters = {name: there.get(name, value) for name, value in made_up.items()}
    # Nobody ends these runs, and the test is not for waiting.
    given: Any
    for given in (case.query, case.body):
        for name in {"wait", "wait_s"} & set(given if isinstance(given, dict) else ()):
            if re.fullmatch(r"[0-9]{1,2}(\.[0-9]+)?", str(given[name])) and float(given[name]) <= 60:
                given[name] = 0.01
    case.call_and_validate(base_url=url, checks=CHECKS, timeout=20)
