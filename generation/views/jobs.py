"""One job: its page, its card that polls itself, and what its owner may do to it."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from django.http import HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from generation.forms import GenerationForm
from generation.models import GenerationJob
from generation.views.answers import StudioRequest, states_refusals
from generation.views.results import has_worker, job_json, not_gone, with_samples
from resumeapp.answers import refuse, see_other, toast
from resumeapp.middleware import wants_json

CARD = "generation/_job_card.html"


@require_safe
@vary_on_headers("Accept", "HX-Request")
def job(request: StudioRequest, job_id: UUID) -> HttpResponse:
    """Show a job; a poll that names what it has seen is answered with nothing while that is all there is."""
    found = GenerationJob.objects.visible_to(request.user).filter(pk=job_id).first()
    if found is None and request.htmx:  # its card would otherwise go on asking
        return render(request, f"{CARD}#lost", {"job_id": job_id}, status=HTTPStatus.NOT_FOUND)
    found = found or get_object_or_404(GenerationJob.objects.visible_to(request.user), pk=job_id)
    if _is_unchanged(request, found):
        return HttpResponse(status=HTTPStatus.NO_CONTENT)
    return _show(request, found)


def _is_unchanged(request: StudioRequest, job: GenerationJob) -> bool:
    if not (request.htmx or wants_json(request)) or request.GET.get("rev") != str(job.rev):
        return False
    # Others leave the line without a change to this job's row.
    seen = request.GET.get("position")
    return seen is None or seen == str(job.queue_position or "")


def _show(request: StudioRequest, job: GenerationJob) -> HttpResponse:
    if wants_json(request):
        return JsonResponse(job_json(job))
    template = CARD if request.htmx else "generation/job.html"
    return render(request, template, _context(request, job))


def _context(request: StudioRequest, job: GenerationJob) -> dict[str, object]:
    # The foreign keys are shown as ids only; the samples are read once, for the card.
    with_shown = with_samples(GenerationJob.objects.filter(pk=job.pk)).get()
    is_waiting = job.status == GenerationJob.Status.QUEUED
    return {
        "job": with_shown,
        "in_studio": _is_in_studio(request),
        "has_worker": not is_waiting or has_worker(),
        "is_polled": bool(request.htmx),
    }


def _is_in_studio(request: StudioRequest) -> bool:
    path = (request.htmx.current_url_abs_path or "").partition("?")[0]
    return path == reverse("generation:studio")


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def cancel(request: StudioRequest, job_id: UUID) -> HttpResponseBase:
    job = get_object_or_404(GenerationJob.objects.visible_to(request.user), pk=job_id)
    job.request_cancel()
    if wants_json(request) or request.htmx:
        return _show(request, job)
    return see_other(request, _url(job))


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def retry(request: StudioRequest, job_id: UUID) -> HttpResponseBase:
    job = get_object_or_404(GenerationJob.objects.visible_to(request.user), pk=job_id)
    return _show_new(request, job.retry())


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def another(request: StudioRequest, job_id: UUID) -> HttpResponseBase:
    """Queue the same with the next seed."""
    job = get_object_or_404(GenerationJob.objects.visible_to(request.user), pk=job_id)
    seed = job.next_seed()
    form = GenerationForm.from_json({**job.params, "seed": seed}, user=request.user)
    if not form.is_valid() or form.take_request is None:
        return refuse(request, form.status, " ".join(form.sentences))
    # Two clicks that find the same seed free are one take.
    request_id = f"another-{job.pk.hex}-{seed}"
    return _show_new(request, GenerationJob.objects.submit(form.take_request, owner=job.owner, request_id=request_id))


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def retry_decode(request: StudioRequest, job_id: UUID) -> HttpResponseBase:
    job = get_object_or_404(GenerationJob.objects.visible_to(request.user), pk=job_id)
    return _show_new(request, job.retry_decode())


def _show_new(request: StudioRequest, job: GenerationJob) -> HttpResponse:
    if wants_json(request):
        return JsonResponse({"job_id": job.pk, "url": _url(job)})
    if request.htmx:
        return render(request, CARD, _context(request, job))
    return see_other(request, _url(job))


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def delete(request: StudioRequest, job_id: UUID) -> HttpResponseBase:
    job = get_object_or_404(GenerationJob.objects.visible_to(request.user), pk=job_id)
    job.delete_softly()
    undo = reverse("generation:undelete_job", args=[job.pk])
    if wants_json(request):
        return JsonResponse({"id": job.pk, "undo_url": undo})
    if request.htmx:
        response = render(request, CARD, _context(request, job))
        response.write(toast("Job deleted", undo=undo, target=f"#job-{job.pk}"))
        return response
    return see_other(request, reverse("generation:studio"), say="Job deleted", undo=undo)


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def undelete(request: StudioRequest, job_id: UUID) -> HttpResponseBase:
    job = get_object_or_404(GenerationJob.objects.filter(not_gone()), owner=request.user, pk=job_id)
    job.undelete()
    if wants_json(request) or request.htmx:
        return _show(request, job)
    return see_other(request, _url(job), say="The job is back")


def _url(job: GenerationJob) -> str:
    return reverse("generation:job", args=[job.pk])
