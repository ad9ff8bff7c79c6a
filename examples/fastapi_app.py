"""The calculator agent behind FastAPI: ask, look, watch. README.md says how to run it.

POST /runs                 the prompt as body → 202 {"run_id": …}; with an Idempotency-Key, repeating it does no harm
GET  /runs/RUN_ID          {"status": …, "answer": …, "error": …}
GET  /runs/RUN_ID/events   the run live, as server-sent events; Last-Event-ID or ?after= goes on after that event
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from agentq import AsyncClient, Conflict, InvalidInput, RunNotFound, StoreUnavailable

STATUS_OF = {InvalidInput: 400, RunNotFound: 404, Conflict: 409, StoreUnavailable: 503}

client = AsyncClient()  # one for the whole process; it connects at the first use


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with client:
        yield


async def refuse(request: Request, error: Exception) -> Response:
    status = next(status for kind, status in STATUS_OF.items() if isinstance(error, kind))
    return JSONResponse({"error": str(error)}, status)


app = FastAPI(lifespan=lifespan, exception_handlers=dict.fromkeys(STATUS_OF, refuse))


@app.post("/runs", status_code=202)
async def ask(request: Request, idempotency_key: Annotated[str | None, Header()] = None) -> dict[str, Any]:
    prompt = (await request.body()).decode(errors="replace")
    run = await client.enqueue("calculator", prompt, idempotency_key=idempotency_key)
    return {"run_id": run.id}


@app.get("/runs/{run_id}")
async def look(run_id: str) -> dict[str, Any]:
    state = await client.read(run_id)
    result = await client.outcome(run_id)  # None until the run has completed
    return {"status": state.status, "answer": result and result.output, "error": state.last_error}


@app.get("/runs/{run_id}/events")
async def watch(run_id: str, after: str = "0", last_event_id: Annotated[str | None, Header()] = None) -> Response:
    frames = await client.sse(run_id, after=last_event_id or after)
    if frames is None:  # the run has ended and the browser has seen it all: 204 ends its reconnecting
        return Response(status_code=204)
    # No cache keeps the stream, no nginx holds it back.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(frames, media_type="text/event-stream", headers=headers)
