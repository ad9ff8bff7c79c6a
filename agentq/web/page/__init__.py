"""The page: runs to look at and to steer, from templates, readable without JavaScript.

It is live with htmx, which is vendored. There is no build step: what stands under static/ is served as it is.
"""

from __future__ import annotations

from starlette.routing import Route

from agentq.web.page import actions, assets, inbox, listing, live, login, operating, run, sessions
from agentq.web.page.rendering import route

_RUN = "/runs/{run_id}"
# An id may have slashes.
_SESSION = "/sessions/{session_id:path}"
_ACTIONS = ("cancel", "pause", "resume", "retry", "steer", "follow_up", "approve", "deny", "answer")

routes: list[Route] = [
    Route("/static/{name:path}", assets.asset, name="page_asset"),
    route("/login", login.show, "page_login"),
    route("/login", login.sign_in, "page_sign_in", "POST"),
    route("/logout", login.sign_out, "page_sign_out", "POST"),
    route("/", listing.runs, "page_runs"),
    route("/new", listing.new, "page_new"),
    route("/new", listing.start, "page_start", "POST"),
    route("/inbox", inbox.show, "page_inbox"),
    route("/sessions", sessions.index, "page_sessions"),
    route(_SESSION, sessions.show, "page_session"),
    route(_SESSION, sessions.say, "page_say", "POST"),
    route("/workers", operating.show, "page_workers"),
    route("/workers/pause", operating.pause, "page_pause_all", "POST"),
    route("/workers/resume", operating.resume, "page_resume_all", "POST"),
    route(_RUN, run.show, "page_run"),
    route(f"{_RUN}/live", live.live, "page_live"),
    route(f"{_RUN}/results/{{call_id}}", run.result, "page_result"),
    route(f"{_RUN}/arguments/{{call_id}}", run.arguments, "page_arguments"),
    *(route(f"{_RUN}/{name}", getattr(actions, name), f"page_{name}", "POST") for name in _ACTIONS),
]
