"""agentq: a durable agent loop on a Redis-queue worker pool.

The names below are the public ones. They are imported when they are first used, so that `agentq --help` and a web app
that only enqueues stay quick to start.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentq.app import AgentQ
    from agentq.attachments import File
    from agentq.callbacks import Callbacks
    from agentq.client import Client
    from agentq.client_async import AsyncClient
    from agentq.context.compaction import Compaction, compact
    from agentq.context.files import FileRetriever
    from agentq.context.memory import Fact, SessionMemory, UserMemory
    from agentq.context.retrieval import Passage, Retrieval, Retriever
    from agentq.context.sections import Section
    from agentq.context.shortening import budget_tool_results
    from agentq.context.tokens import estimate_tokens
    from agentq.deciding import DecisionRequest, Waiting
    from agentq.errors import (
        AgentQError,
        Conflict,
        InvalidInput,
        NotWaiting,
        PolicyRefused,
        RunCancelled,
        RunFailed,
        RunNotFound,
        ScheduleNotFound,
        SessionBusy,
        SessionConflict,
        SessionNotFound,
        StoreUnavailable,
        ToolError,
        WebhookNotFound,
        WebhookNotVerified,
    )
    from agentq.limits import RunLimits, SpendLimit, Spent
    from agentq.loop import Agent
    from agentq.loop.class_agent import agent
    from agentq.loop.hooks import HookContext, Hooks, RunEnd
    from agentq.results import RunResult
    from agentq.schedules import Schedule, ScheduleState
    from agentq.settings import Settings
    from agentq.signing import verify_webhook
    from agentq.tools.behaviour import Permission, Reconciled
    from agentq.tools.context import ToolContext
    from agentq.tools.function import Tool, tool
    from agentq.tools.rates import CircuitBreaker, RateLimit
    from agentq.tools.results import ToolResult
    from agentq.tools.toolset import Toolset
    from agentq.webhooks import Webhook, WebhookState

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AgentQ",
    "AgentQError",
    "AsyncClient",
    "Callbacks",
    "CircuitBreaker",
    "Client",
    "Compaction",
    "Conflict",
    "DecisionRequest",
    "Fact",
    "File",
    "FileRetriever",
    "HookContext",
    "Hooks",
    "InvalidInput",
    "NotWaiting",
    "Passage",
    "Permission",
    "PolicyRefused",
    "RateLimit",
    "Reconciled",
    "Retrieval",
    "Retriever",
    "RunCancelled",
    "RunEnd",
    "RunFailed",
    "RunLimits",
    "RunNotFound",
    "RunResult",
    "Schedule",
    "ScheduleNotFound",
    "ScheduleState",
    "Section",
    "SessionBusy",
    "SessionConflict",
    "SessionMemory",
    "SessionNotFound",
    "Settings",
    "SpendLimit",
    "Spent",
    "StoreUnavailable",
    "Tool",
    "ToolContext",
    "ToolError",
    "ToolResult",
    "Toolset",
    "UserMemory",
    "Waiting",
    "Webhook",
    "WebhookNotFound",
    "WebhookNotVerified",
    "WebhookState",
    "agent",
    "budget_tool_results",
    "compact",
    "estimate_tokens",
    "tool",
    "verify_webhook",
]

_HOMES = {
    "Agent": "loop",
    "AgentQ": "app",
    "AgentQError": "errors",
    "AsyncClient": "client_async",
    "Callbacks": "callbacks",
    "CircuitBreaker": "tools.rates",
    "Client": "client",
    "Compaction": "context.compaction",
    "Conflict": "errors",
    "DecisionRequest": "deciding",
    "Fact": "context.memory",
    "File": "attachments",
    "FileRetriever": "context.files",
    "HookContext": "loop.hooks",
    "Hooks": "loop.hooks",
    "InvalidInput": "errors",
    "NotWaiting": "errors",
    "Passage": "context.retrieval",
    "Permission": "tools.behaviour",
    "PolicyRefused": "errors",
    "RateLimit": "tools.rates",
    "Reconciled": "tools.behaviour",
    "Retrieval": "context.retrieval",
    "Retriever": "context.retrieval",
    "RunCancelled": "errors",
    "RunEnd": "loop.hooks",
    "RunFailed": "errors",
    "RunLimits": "limits",
    "RunNotFound": "errors",
    "RunResult": "results",
    "Schedule": "schedules",
    "ScheduleNotFound": "errors",
    "ScheduleState": "schedules",
    "Section": "context.sections",
    "SessionBusy": "errors",
    "SessionConflict": "errors",
    "SessionMemory": "context.memory",
    "SessionNotFound": "errors",
    "Settings": "settings",
    "SpendLimit": "limits",
    "Spent": "limits",
    "StoreUnavailable": "errors",
    "Tool": "tools.function",
    "ToolContext": "tools.context",
    "ToolError": "errors",
    "ToolResult": "tools.results",
    "Toolset": "tools.toolset",
    "UserMemory": "context.memory",
    "Waiting": "deciding",
    "Webhook": "webhooks",
    "WebhookNotFound": "errors",
    "WebhookNotVerified": "errors",
    "WebhookState": "webhooks",
    "agent": "loop.class_agent",
    "budget_tool_results": "context.shortening",
    "compact": "context.compaction",
    "estimate_tokens": "context.tokens",
    "tool": "tools.function",
    "verify_webhook": "signing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'agentq' has no attribute {name!r}")
    return getattr(import_module(f"agentq.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
