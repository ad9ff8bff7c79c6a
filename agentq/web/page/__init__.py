"""The page: runs to look at and to steer, from templates, readable without JavaScript.

It is live with htmx, which is vendored. There is no build step: what stands under static/ is served as it is.
"""

from __future__ import annotations

from starlette.routing import Route

from agentq.web.page import actions, assets, inbox, listing, live, login, operating, run, sessions

_POST = ["POST"]
_RUN = "/runs/{run_id}"
# An id may have slashes.
_SESSION = "/sessions/{session_id:path}"
_ACTIONS = ("cancel", "pause", "resume", "retry", "steer", "follow_up", "approve", "deny", "answer")

routes: list[Route] = [
    Route("/static/{name:path}", assets.asset, name="page_asset"),
    Route("/login", login.show, name="page_login"),
    Route("/login", login.sign_in, name="page_sign_in", methods=_POST),
    Route("/logout", login.sign_out, name="page_sign_out", methods=_POST),
    Route("/", listing.runs, name="page_runs"),
    Route("/new", listing.new, name="page_new"),
    Route("/new", listing.start, name="page_start", methods=_POST),
    Route("/inbox", inbox.show, name="page_inbox"),
    Route("/sessions", sessions.index, name="page_sessions"),
    Route(_SESSION, sessions.show, name="page_session"),
    Route(_SESSION, sessions.say, name="page_say", methods=_POST),
    Route("/workers", operating.show, name="page_workers"),
    Route("/workers/pause", operating.pause, name="page_pause_all", methods=_POST),
    Route("/workers/resume", operating.resume, name="page_resume_all", methods=_POST),
    Route(_RUN, run.show, name="page_run"),
    Route(f"{_RUN}/live", live.live, name="page_live"),
    Route(f"{_RUN}/results/{{call_id}}", run.result, name="page_result"),
    Route(f"{_RUN}/arguments/{{call_id}}", run.arguments, name="page_arguments"),
    *(Route(f"{_RUN}/{name}", getattr(actions, name), name=f"page_{name}", methods=_POST) for name in _ACTIONS),
]
