"""A web front for the agents, with nothing but the standard library: a template for the views of your own framework.

POST /runs                 the prompt as body → {"run_id": …}; Idempotency-Key makes a repeated request harmless
GET  /runs/RUN_ID          {"status": …, "answer": …, "error": …}
GET  /runs/RUN_ID/events   the events as server-sent events; Last-Event-ID goes on after that event
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from socketserver import ThreadingMixIn
from typing import Any
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

client = Client()  # one for the whole process; threads share it


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


def cursor(environ: dict[str, Any]) -> int:
    text = environ.get("HTTP_LAST_EVENT_ID") or "0"
    if not re.fullmatch("[0-9]{1,15}", text):
        raise InvalidInput(f"Last-Event-ID is the number of an event, not {text[:40]!r}", field="after")
    return int(text)


def events(run_id: str, after: int) -> Iterator[bytes]:
    for event in client.events(run_id, after=after):
        yield f"id: {event.seq}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n".encode()


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    try:
        match environ["REQUEST_METHOD"], environ["PATH_INFO"].strip("/").split("/"):
            case "POST", ["runs"]:
                status, body = "202 Accepted", start(environ)
            case "GET", ["runs", run_id]:
                status, body = "200 OK", look(run_id)
            case "GET", ["runs", run_id, "events"]:
                after = cursor(environ)
                client.get(run_id)  # a run that is not there is an answer, not a broken stream
                start_response("200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")])
                return events(run_id, after)
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
