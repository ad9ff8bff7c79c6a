"""The site: a client, the rules of access, what is shown. Handlers find it with `site_of`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agentq.app import AgentQ
from agentq.client_async import AsyncClient
from agentq.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import HTTPConnection

    from agentq.settings import Settings
    from agentq.web.access import Access
    from agentq.web.redaction import Redaction

# Beside the files of a run: its prompt, and what a form needs around them.
_BESIDE_FILES_BYTES = 1_000_000


class Site:
    """What handlers work with. `app` is the `AgentQ` that was given, if one was."""

    def __init__(
        self,
        over: AsyncClient | AgentQ | None,
        *,
        access: Access,
        redaction: Redaction,
        max_upload_bytes: int | None = None,
        has_page: bool = True,
    ) -> None:
        _check_kind(over)
        self.app = over if isinstance(over, AgentQ) else None
        self._given = over if isinstance(over, AsyncClient) else None
        self.client = self._given or self._made()
        self.access = access
        self.redaction = redaction
        self.has_page = has_page
        settings = self.client.settings
        least = settings.max_files_bytes + settings.max_value_bytes + _BESIDE_FILES_BYTES
        self.max_upload_bytes = least if max_upload_bytes is None else max_upload_bytes
        if self.max_upload_bytes < 1:
            raise InvalidInput(f"max_upload_bytes must be at least 1, not {max_upload_bytes}", field="max_upload_bytes")

    @property
    def settings(self) -> Settings:
        return self.client.settings

    def _made(self) -> AsyncClient:
        """A client of our own. It connects at its first use, so a host need not tell us of its start."""
        app = self.app
        if app is None:
            return AsyncClient()
        return AsyncClient(settings=app.settings, store=app.store, stream=app.stream, executor=app.executor)

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncIterator[None]:
        """Close our own connections at the end. A host that tells nothing of it leaves them to the process's end."""
        try:
            yield
        finally:
            if self._given is None:
                closing, self.client = self.client, self._made()
                await closing.aclose()


def _check_kind(over: object) -> None:
    if over is not None and not isinstance(over, AsyncClient | AgentQ):
        kind = type(over).__name__
        raise InvalidInput(f"web_app works over an AsyncClient or an AgentQ, not over a {kind}", field="over")


def site_of(request: HTTPConnection) -> Site:
    """The site that a request came to."""
    site: Site = request.app.state.site
    return site


def link(request: HTTPConnection, name: str, /, **params: Any) -> str:
    """The path of a route of ours, by its name, wherever we are mounted; `url_for` would ask the app that mounts us."""
    root: str = request.scope["agentq_root"]
    return f"{root}{request.app.url_path_for(name, **params)}"
