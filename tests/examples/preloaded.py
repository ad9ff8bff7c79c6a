"""The WSGI examples as a server loads them before it forks, after the client was used: its thread and connections are
the parent's. Each answer says which process gave it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agentq import StoreUnavailable
from examples import django_app, flask_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_Wsgi = Any

for module in (flask_app, django_app):
    with suppress(StoreUnavailable):
        module.client.list(limit=1)


def _signed(app: _Wsgi) -> _Wsgi:
    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *args: Any) -> Any:
            return start_response(status, [*headers, ("X-Pid", str(os.getpid()))], *args)

        return app(environ, start)  # type: ignore[no-any-return]

    return answer


flask_wsgi = _signed(flask_app.app)
django_wsgi = _signed(django_app.app)
