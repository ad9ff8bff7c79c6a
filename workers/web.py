"""The web front of the deployment: the page, the API and the streams, as an ASGI application.

`agentq web` serves the same without this file; here is the place for `authorize=` and whatever else is yours:

    uvicorn workers.web:app
"""

from agentq import Settings
from agentq.web import web_app

# With AGENTQ_WEB_TOKEN, requests bring it as a bearer token, and people give it once. Without, whoever gets here is in.
app = web_app(token=Settings.load().web_token)
