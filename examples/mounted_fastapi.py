"""agentq's page, API and streams under /agents of a FastAPI app. README.md says how to run it."""

from fastapi import FastAPI

from agentq.web import web_app

app = FastAPI()
# authorize= asks your own login; see docs/guide/web.md.
app.mount("/agents", web_app())


@app.get("/")
async def home() -> dict[str, str]:
    return {"agents": "/agents/"}
