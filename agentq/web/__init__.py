"""The web: one Starlette application with an API, streams and a page, for any Python web app. Needs the extra `web`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from agentq.errors import InvalidInput
from agentq.web.chat import ChatHooks, ChatIdentity, ChatResult, chat_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from starlette.applications import Starlette

    from agentq.app import AgentQ
    from agentq.client_async import AsyncClient

__all__ = ["ChatHooks", "ChatIdentity", "ChatResult", "chat_turn", "web_app"]


def web_app(
    over: AsyncClient | AgentQ | None = None,
    *,
    authorize: Callable[..., Any] | None = None,
    token: str | None = None,
    read_only: bool = False,
    redact_arguments: Callable[[str, Mapping[str, Any]], Mapping[str, Any]] | None = None,
    max_upload_bytes: int | None = None,
    allowed_hosts: Sequence[str] | None = None,
    allowed_origins: Sequence[str] = (),
    page: bool = True,
) -> Starlette:
    """The application, to be served alone or mounted under any prefix of another one.

    It works `over` a client, which whoever made it closes; over an `AgentQ` app, of which it also shows the agents that
    no worker has published; or over Redis as the environment names it. `authorize(request, action, run)` says
    whether somebody may: False or an error refuses, and a name is who it was; `run` is None where none is concerned.
    With a `token`, requests bring it as a bearer token, and people give it to the page once.
    `read_only` refuses every change. `redact_arguments(tool, arguments)` returns the arguments that are shown.
    `max_upload_bytes` is the size of one request. Requests for hosts other than `allowed_hosts` are refused, and so are
    changes from pages of other origins than our own and `allowed_origins`. Without `page` there is only the API.
    Raises `InvalidInput`, also where the extra is not installed.
    """
    for name in ("starlette", "python_multipart", *(("jinja2",) if page else ())):
        if find_spec(name) is None:
            raise InvalidInput(f"the web app needs {name}, which is not installed: pip install 'agentq-redis[web]'")
    from agentq.web.building import build

    return build(
        over,
        authorize=authorize,
        token=token,
        read_only=read_only,
        redact_arguments=redact_arguments,
        max_upload_bytes=max_upload_bytes,
        allowed_hosts=allowed_hosts,
        allowed_origins=allowed_origins,
        page=page,
    )
