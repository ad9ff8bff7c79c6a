"""Style sheets and scripts: their addresses change with their content, so browsers keep them for a year."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response

from agentq.web.site import link

if TYPE_CHECKING:
    from starlette.requests import Request

HERE = Path(__file__).parent
_FOLDER = HERE / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOREVER = "public, max-age=31536000, immutable"


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Content and hash of each file, by its path below the folder."""
    found = {}
    for path in sorted(_FOLDER.rglob("*")):
        if path.suffix in _TYPES:
            content = path.read_bytes()
            found[path.relative_to(_FOLDER).as_posix()] = (content, hashlib.sha256(content).hexdigest()[:16])
    return found


def address(request: Request, name: str) -> str:
    """Where a file is, in the version that we have."""
    return f"{link(request, 'page_asset', name=name)}?v={_files()[name][1]}"


async def asset(request: Request) -> Response:
    """One file."""
    name = request.path_params["name"]
    if name not in _files():
        raise HTTPException(404)
    content, version = _files()[name]
    etag = f'"{version}"'
    is_ours = request.query_params.get("v") == version
    headers = {"etag": etag, "cache-control": _FOREVER if is_ours else "no-cache"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=_TYPES[Path(name).suffix])
