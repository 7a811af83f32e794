"""One sample: its sound in four formats, and its way out and back."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.text import slugify
from django.views.decorators.http import require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from generation.audio import MEDIA_TYPES
from generation.downloads import open_audio
from generation.models import Sample
from generation.views.answers import StudioRequest, states_refusals
from generation.views.results import not_gone, sample_json
from resumeapp.answers import see_other, toast
from resumeapp.middleware import wants_json
from resumeapp.ranges import serve

SAMPLE = "generation/_sample.html"
_LONGEST_NAME = 40


@require_safe
def audio(request: StudioRequest, sample_id: UUID) -> HttpResponseBase:
    """Play or download; what is not FLAC is encoded when somebody first asks."""
    samples = Sample.objects.visible_to(request.user).filter(purged_at=None)
    sample = get_object_or_404(samples.select_related("job"), pk=sample_id)
    return sound(request, sample)


def sound(request: StudioRequest, sample: Sample) -> HttpResponseBase:
    """Answer with the sound of a sample that the caller may hear."""
    named = request.GET.get("format", "flac")
    audio_format = next((known for known in MEDIA_TYPES if known == named), None)
    if audio_format is None:
        raise Http404
    try:
        file = open_audio(sample, audio_format)
    except FileNotFoundError:
        raise Http404 from None
    name = f"{file_name(sample)}.{audio_format}" if "download" in request.GET else ""
    etag = f'"{sample.sha256}-{audio_format}"'
    return serve(request, file, content_type=MEDIA_TYPES[audio_format], etag=etag, download_as=name)


def file_name(sample: Sample) -> str:
    """Return a name that says what it is among a hundred others: caption, seed, latent."""
    caption = slugify(sample.job.params.get("caption", ""))[:_LONGEST_NAME].rstrip("-")
    latent = str(sample.latent_id or sample.pk)[:8]
    return "-".join(filter(None, [caption, str(sample.seed), latent]))


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def delete(request: StudioRequest, sample_id: UUID) -> HttpResponseBase:
    sample = get_object_or_404(Sample.objects.visible_to(request.user).select_related("job"), pk=sample_id)
    sample.delete_softly()
    undo = reverse("generation:undelete_sample", args=[sample.pk])
    said = f"Sample {sample.index + 1} deleted"
    if wants_json(request):
        return JsonResponse({"id": sample.pk, "undo_url": undo})
    if request.htmx:
        response = _fragment(request, sample)
        response.write(toast(said, undo=undo, target=f"#sample-{sample.pk}"))
        return response
    return see_other(request, _job_url(sample), say=said, undo=undo)


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def undelete(request: StudioRequest, sample_id: UUID) -> HttpResponseBase:
    samples = Sample.objects.filter(not_gone(), job__owner=request.user, job__deleted_at=None)
    sample = get_object_or_404(samples.select_related("job"), pk=sample_id)
    sample.undelete()
    if wants_json(request):
        return JsonResponse(sample_json(sample))
    if request.htmx:
        return _fragment(request, sample)
    return see_other(request, _job_url(sample), say=f"Sample {sample.index + 1} is back")


def _fragment(request: StudioRequest, sample: Sample) -> HttpResponse:
    path = (request.htmx.current_url_abs_path or "").partition("?")[0]
    in_studio = path == reverse("generation:studio")
    return render(request, SAMPLE, {"sample": sample, "job": sample.job, "in_studio": in_studio})


def _job_url(sample: Sample) -> str:
    return reverse("generation:job", args=[sample.job_id])
