"""Bodies of requests as models. Unknown fields are ignored: the protocols have more than is used here."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from agentq.errors import InvalidInput
from agentq.web.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


class Given(BaseModel):
    """A part of a body."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


G = TypeVar("G", bound=Given)


async def read(request: Request, model: type[G]) -> G:
    """The body of the request. Raises `InvalidInput`, and `Problem` for a form or what is no JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _FORMS:
        raise Problem(415, "unsupported_media_type", f"send application/json, not {kind}")
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise Problem(400, "malformed", f"the body is no JSON: {first['msg']}") from error
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{where or 'the body'}: {first['msg']}", field=where or None) from error
