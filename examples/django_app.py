"""The calculator agent behind Django: ask, look, watch. README.md says how to run it.

POST /runs                 the prompt as body → 202 {"run_id": …}; with an Idempotency-Key, repeating it does no harm
GET  /runs/RUN_ID          {"status": …, "answer": …, "error": …}
GET  /runs/RUN_ID/events   the run live, as server-sent events; Last-Event-ID or ?after= goes on after that event
"""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.utils.deprecation import MiddlewareMixin
from django.views.decorators.http import require_POST, require_safe

from agentq import Client, Conflict, InvalidInput, RunNotFound, StoreUnavailable

STATUS_OF = {InvalidInput: 400, RunNotFound: 404, Conflict: 409, StoreUnavailable: 503}

client = Client()  # one for the whole process: threads share it, a forked worker connects anew


@require_POST
def ask(request: HttpRequest) -> HttpResponse:
    prompt = request.body.decode(errors="replace")
    run = client.enqueue("calculator", prompt, idempotency_key=request.headers.get("Idempotency-Key"))
    return JsonResponse({"run_id": run.id}, status=202)


@require_safe
def look(request: HttpRequest, run_id: str) -> HttpResponse:
    state = client.read(run_id)
    result = client.outcome(run_id)  # None until the run has completed
    return JsonResponse({"status": state.status, "answer": result and result.output, "error": state.last_error})


@require_safe
def watch(request: HttpRequest, run_id: str) -> HttpResponseBase:
    after = request.headers.get("Last-Event-ID") or request.GET.get("after", "0")
    frames = client.sse(run_id, after=after)
    if frames is None:  # the run has ended and the browser has seen it all: 204 ends its reconnecting
        return HttpResponse(status=204)
    # No cache keeps the stream, no nginx holds it back.
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(frames, headers=headers)


class Refusals(MiddlewareMixin):
    """Gives each error of agentq its HTTP status."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        status = next((status for kind, status in STATUS_OF.items() if isinstance(error, kind)), None)
        return JsonResponse({"error": str(error)}, status=status) if status else None


# In a project of yours these stand in settings.py, urls.py and wsgi.py.
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["localhost", "127.0.0.1"], MIDDLEWARE=[f"{__name__}.Refusals"])
urlpatterns = [path("runs", ask), path("runs/<run_id>", look), path("runs/<run_id>/events", watch)]
app = get_wsgi_application()
