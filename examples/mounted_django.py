"""agentq's page, API and streams under /agents of a Django project. README.md says how to run it."""

from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from agentq.web import web_app

PREFIX = "/agents"


def home(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"agents": f"{PREFIX}/"})


# In a project of yours these stand in settings.py and urls.py, and what follows them in asgi.py.
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["localhost", "127.0.0.1"])
urlpatterns = [path("", home)]

django = get_asgi_application()
# authorize= asks your own login; see docs/guide/web.md.
agents = web_app()


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"].startswith(f"{PREFIX}/"):
        await agents({**scope, "root_path": PREFIX}, receive, send)
    else:
        await django(scope, receive, send)
