"""The calculator agent behind nothing but the standard library: ask, look, watch. README.md says how to run it.

POST /runs                 the prompt as body → 202 {"run_id": …}; with an Idempotency-Key, repeating it does no harm
GET  /runs/RUN_ID          {"status": …, "answer": …, "error": …}
GET  /runs/RUN_ID/events   the run live, as server-sent events; Last-Event-ID or ?after= goes on after that event
"""

import json
import os
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qsl
from wsgiref.simple_server import WSGIServer, make_server

from agentq import Client, Conflict, InvalidInput, RunNotFound, StoreUnavailable

AGENT = "calculator"
MAX_PROMPT_BYTES = 100_000
STATUS_OF = {
    InvalidInput: "400 Bad Request",
    RunNotFound: "404 Not Found",
    Conflict: "409 Conflict",
    StoreUnavailable: "503 Service Unavailable",
}

# No cache keeps the stream, no nginx holds it back.
STREAM = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")]

client = Client()  # one for the whole process: threads share it, a forked worker connects anew


def start(environ: dict[str, Any]) -> dict[str, Any]:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > MAX_PROMPT_BYTES:
        raise InvalidInput(f"the prompt has {length} bytes; at most {MAX_PROMPT_BYTES} are taken", field="prompt")
    prompt = environ["wsgi.input"].read(length).decode(errors="replace")
    return {"run_id": client.enqueue(AGENT, prompt, idempotency_key=environ.get("HTTP_IDEMPOTENCY_KEY")).id}


def look(run_id: str) -> dict[str, Any]:
    state = client.read(run_id)
    result = client.outcome(run_id)  # None until the run has completed
    return {"status": state.status, "answer": result and result.output, "error": state.last_error}


def after(environ: dict[str, Any]) -> str:
    """The last event that the browser has seen: what it sends when it comes back, else what the page asked for."""
    query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
    return str(environ.get("HTTP_LAST_EVENT_ID") or query.get("after", "0"))


def encoded(frames: Generator[str, None, None]) -> Iterator[bytes]:
    with closing(frames):  # a browser that goes away ends the subscription
        for frame in frames:
            yield frame.encode()


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    try:
        match environ["REQUEST_METHOD"], environ["PATH_INFO"].strip("/").split("/"):
            case "POST", ["runs"]:
                status, body = "202 Accepted", start(environ)
            case "GET", ["runs", run_id]:
                status, body = "200 OK", look(run_id)
            case "GET", ["runs", run_id, "events"]:
                frames = client.sse(run_id, after=after(environ))
                if frames is None:  # the run has ended and the browser has seen it all: 204 ends its reconnecting
                    start_response("204 No Content", [])
                    return []
                start_response("200 OK", STREAM)
                return encoded(frames)
            case _:
                status, body = "404 Not Found", {"error": "POST /runs, GET /runs/RUN_ID or GET /runs/RUN_ID/events"}
    except (InvalidInput, RunNotFound, Conflict, StoreUnavailable) as error:
        status = next(text for kind, text in STATUS_OF.items() if isinstance(error, kind))
        body = {"error": str(error)}
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    sys.stderr.write(f"http://127.0.0.1:{port}/runs\n")
    make_server("127.0.0.1", port, app, server_class=_Server).serve_forever()
