"""The calculator agent behind Flask: ask, look, watch. README.md says how to run it.

POST /runs                 the prompt as body → 202 {"run_id": …}; with an Idempotency-Key, repeating it does no harm
GET  /runs/RUN_ID          {"status": …, "answer": …, "error": …}
GET  /runs/RUN_ID/events   the run live, as server-sent events; Last-Event-ID or ?after= goes on after that event
"""

from typing import Any

from flask import Flask, Response, request

from agentq import Client, Conflict, InvalidInput, RunNotFound, StoreUnavailable

STATUS_OF = {InvalidInput: 400, RunNotFound: 404, Conflict: 409, StoreUnavailable: 503}

app = Flask(__name__)
client = Client()  # one for the whole process: threads share it, a forked worker connects anew


@app.post("/runs")
def ask() -> tuple[dict[str, Any], int]:
    prompt = request.get_data(as_text=True)
    run = client.enqueue("calculator", prompt, idempotency_key=request.headers.get("Idempotency-Key"))
    return {"run_id": run.id}, 202


@app.get("/runs/<run_id>")
def look(run_id: str) -> dict[str, Any]:
    state = client.read(run_id)
    result = client.outcome(run_id)  # None until the run has completed
    return {"status": state.status, "answer": result and result.output, "error": state.last_error}


@app.get("/runs/<run_id>/events")
def watch(run_id: str) -> Response:
    after = request.headers.get("Last-Event-ID") or request.args.get("after", "0")
    frames = client.sse(run_id, after=after)
    if frames is None:  # the run has ended and the browser has seen it all: 204 ends its reconnecting
        return Response(status=204)
    # No cache keeps the stream, no nginx holds it back.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Response(frames, mimetype="text/event-stream", headers=headers)


for kind, status in STATUS_OF.items():
    app.register_error_handler(kind, lambda error, status=status: ({"error": str(error)}, status))
