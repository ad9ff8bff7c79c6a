"""agentq's page, API and streams under /agents of a Flask app. README.md says how to run it.

Each stream that somebody reads takes a thread of the server, as every response of a WSGI server does.
"""

from typing import Any, cast

from a2wsgi import ASGIMiddleware
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from agentq.web import web_app

app = Flask(__name__)
# authorize= asks your own login; see docs/guide/web.md.
agents = ASGIMiddleware(cast("Any", web_app()))
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/agents": cast("Any", agents)})  # type: ignore[method-assign]


@app.get("/")
def home() -> dict[str, str]:
    return {"agents": "/agents/"}
