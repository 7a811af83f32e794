"""The queue: what of one's own runs and waits, in which order, and what ended without a take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from django.http import HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from generation import line
from generation.models import GenerationJob
from generation.views.answers import StudioRequest, states_refusals
from generation.views.results import has_worker, not_gone
from resumeapp.answers import see_other, toast
from resumeapp.middleware import wants_json

WAITING_SHOWN: Final = 50
ENDED_SHOWN: Final = 20
ACTIONS: Final[dict[str, Callable[[GenerationJob], object]]] = {
    "front": line.move_to_front,
    "back": line.move_to_back,
    "cancel": GenerationJob.request_cancel,
    "retry": GenerationJob.retry,
}


@require_safe
@vary_on_headers("Accept", "HX-Request")
def queue(request: StudioRequest) -> HttpResponse:
    """Show the queue; a poll that names what it has seen is answered with nothing while that is all there is."""
    context = _context(request)
    if request.htmx and request.GET.get("seen") == context["seen"]:
        return HttpResponse(status=204)
    return _show(request, context)


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def act(request: StudioRequest, job_id: UUID, action: str) -> HttpResponseBase:
    """Do one thing to one job."""
    job = get_object_or_404(GenerationJob.objects.visible_to(request.user), pk=job_id)
    ACTIONS[action](job)
    return _answer(request)


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def cancel_waiting(request: StudioRequest) -> HttpResponseBase:
    count = line.cancel_waiting(request.user)
    return _answer(request, say=f"{_jobs(count)} cancelled")


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def clear(request: StudioRequest) -> HttpResponseBase:
    """Hide what ended without a take."""
    ids = line.clear_ended(request.user)
    undo = reverse("generation:unclear_queue", args=[ids[0]]) if ids else ""
    return _answer(request, say=f"{_jobs(len(ids))} cleared", undo=undo)


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def unclear(request: StudioRequest, job_id: UUID) -> HttpResponseBase:
    """Bring back a job and all that was cleared with it."""
    job = get_object_or_404(GenerationJob.objects.filter(not_gone()), owner=request.user, pk=job_id)
    line.bring_back(job)
    return _answer(request)


def _jobs(count: int) -> str:
    return f"{count} job{'' if count == 1 else 's'}"


def _answer(request: StudioRequest, *, say: str = "", undo: str = "") -> HttpResponse:
    if not (request.htmx or wants_json(request)):
        return see_other(request, reverse("generation:queue"), say=say, undo=undo)
    response = _show(request, _context(request))
    if say and request.htmx:
        response.write(toast(say, undo=undo, target="#queue"))
    return response


def _show(request: StudioRequest, context: dict[str, Any]) -> HttpResponse:
    if wants_json(request):
        parts = ("running", "waiting", "ended")
        return JsonResponse({part: [_job_json(job, context["positions"]) for job in context[part]] for part in parts})
    return render(request, "generation/queue.html" + ("#queue" if request.htmx else ""), context)


def _context(request: StudioRequest) -> dict[str, Any]:
    running = list(GenerationJob.objects.visible_to(request.user).running().order_by("started_at", "id"))
    waiting = list(line.waiting(request.user)[: WAITING_SHOWN + 1])
    more = line.waiting(request.user).count() - WAITING_SHOWN if len(waiting) > WAITING_SHOWN else 0
    waiting = waiting[:WAITING_SHOWN]
    ended = list(line.ended_without_a_take(request.user)[:ENDED_SHOWN])
    positions = line.positions(waiting)
    return {
        "running": running,
        "waiting": waiting,
        "ended": ended,
        "positions": positions,
        "more": more,
        "has_worker": has_worker(),
        "seen": _fingerprint([*running, *waiting, *ended], [*positions.values(), more]),
    }


def _fingerprint(jobs: Sequence[GenerationJob], numbers: Sequence[int]) -> str:
    """Return a short text that differs whenever something else is to be seen."""
    seen = [(str(job.pk), job.rev, job.status) for job in jobs]
    return sha256(repr((seen, numbers)).encode()).hexdigest()[:16]


def _job_json(job: GenerationJob, positions: dict[UUID, int]) -> dict[str, Any]:
    return {
        "id": job.pk,
        "url": reverse("generation:job", args=[job.pk]),
        "status": job.status,
        "caption": job.params["caption"],
        "queue_position": positions.get(job.pk),
        "step": job.step,
        "steps": job.model_calls,
        "eta_seconds": job.eta_seconds,
        "error": job.error,
    }
