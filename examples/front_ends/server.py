"""The pages of this folder beside agentq's web app: README.md of the examples says how to build and run them."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from agentq.web import web_app

PUBLIC = Path(__file__).parent / "public"

app = Starlette(routes=[Mount("/agentq", web_app()), Mount("/", StaticFiles(directory=PUBLIC, html=True))])
