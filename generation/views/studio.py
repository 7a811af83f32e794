"""The studio: the form on one side, what came of it on the other."""

from __future__ import annotations

import uuid
from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST
from django.views.decorators.vary import vary_on_headers
from django_htmx.http import push_url, replace_url, reswap, retarget

from generation.forms import GenerationForm
from generation.models import Draft, GenerationJob, Preset, Sample
from generation.styles import known_words
from generation.views import drafts, form_state
from generation.views.answers import StudioRequest, is_json, read_fields, states_refusals
from generation.views.form_state import FormState, studio_url
from generation.views.plan import ResumePanel, resume_panel
from generation.views.results import has_worker, job_json, newest_jobs
from generation.views.writing import SEED_CHOICES, pressed
from latents.models import LatentRecord
from resumeapp.answers import see_other, toast
from resumeapp.middleware import wants_json

# What of a sample may be restored by itself, and which fields that is.
PARTS: Final[dict[str, tuple[str, ...]]] = {
    "prompt": ("caption", "lyrics", "instrumental", "vocal_language"),
    "seed": ("seed",),
}


@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def studio(request: StudioRequest) -> HttpResponseBase:
    """Show the studio for the state in the URL; a post moves what was typed there, and queues nothing."""
    if request.method == "POST":
        return _carry_over(request)
    if "before" in request.GET:
        return _show_older(request)
    state, said = _requested_state(request)
    if wants_json(request):
        return _as_json(request.user, state)
    if request.htmx and not request.htmx.history_restore_request:
        response = render(
            request, "generation/studio.html#console", console(request.user, state, is_restored=bool(said))
        )
        response.write(toast(said) if said else "")
        return push_url(response, studio_url(state)) if "part" in request.GET else response
    if said:
        messages.success(request, said)
    context = console(request.user, state) | results(request.user)
    return render(
        request, "generation/studio.html", context | {"draft": None if state else drafts.offered(request.user)}
    )


def _requested_state(request: StudioRequest) -> tuple[FormState, str]:
    """Return what the URL asks the form to contain, and what to say about it."""
    user, query = request.user, request.GET
    if sample_id := query.get("restore"):
        samples = Sample.objects.visible_to(user).select_related("job", "latent")
        sample = get_object_or_404(samples, pk=_uuid(sample_id))
        if part := query.get("part"):
            return _restored_in_part(sample, part, form_state.from_data(query))
        return _restored(sample)
    if job_id := query.get("reuse"):
        job = get_object_or_404(GenerationJob.objects.visible_to(user), pk=_uuid(job_id))
        return form_state.from_params(job.params), "Params restored"
    if preset_id := query.get("preset"):
        preset = get_object_or_404(Preset, owner=user, pk=_whole_number(preset_id))
        return form_state.from_params(preset.params), f"Preset “{preset}” loaded"
    if "draft" in query:
        return get_object_or_404(Draft, owner=user).state, ""
    return form_state.from_data(query), ""


def _restored(sample: Sample) -> tuple[FormState, str]:
    """Return the form that made a sample, its latent set to be resumed from if it still lives."""
    name = f"Sample {sample.index + 1}"
    if not sample.job.params:
        return {}, "No params to restore"
    state = form_state.from_params(sample.job.params) | {"seed": str(sample.seed)}
    if sample.latent is None or sample.latent.state(timezone.now()) != LatentRecord.State.LIVE:
        return state, f"Params restored from {name}"
    resume = {
        "init_latent_id": str(sample.latent_id),
        "resume_sample_index": str(sample.latent_index),
        "t_start": "1.0",
    }
    return state | resume, f"Params restored from {name} (with latent)"


def _restored_in_part(sample: Sample, part: str, typed: FormState) -> tuple[FormState, str]:
    """Return the form with the prompt or the seed of a sample, the rest as typed; or all but its seed."""
    state, said = _restored(sample)
    if part == "without-seed":
        return {name: value for name, value in state.items() if name != "seed"}, f"{said}, without its seed"
    if part not in PARTS:
        raise Http404
    kept = {name: value for name, value in typed.items() if name not in PARTS[part]}
    taken = {name: value for name, value in state.items() if name in PARTS[part]}
    return kept | taken, f"{part.capitalize()} restored from Sample {sample.index + 1}"


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _whole_number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:  # also for thousands of digits
        return None


def _carry_over(request: StudioRequest) -> HttpResponse:
    """Show the form as it was typed, and what the button that was pressed makes of it."""
    state = pressed(form_state.from_data(request.POST), request.POST, request.user)
    if not request.htmx:
        return see_other(request, studio_url(state))
    response = render(request, "generation/studio.html#console", console(request.user, state))
    return replace_url(response, studio_url(state))


def _as_json(user: User, state: FormState, before: GenerationJob | None = None) -> HttpResponse:
    jobs, last = newest_jobs(user, before)
    return JsonResponse({"fields": state, "jobs": [job_json(job) for job in jobs], "has_more": last is not None})


def _show_older(request: StudioRequest) -> HttpResponse:
    before = get_object_or_404(GenerationJob, owner=request.user, pk=_uuid(request.GET["before"]))
    if wants_json(request):
        return _as_json(request.user, {}, before)
    template = "generation/studio.html#results" if request.htmx else "generation/studio.html"
    context = {} if request.htmx else console(request.user, {})
    return render(request, template, context | results(request.user, before))


def console(user: User, state: FormState, *, is_restored: bool = False) -> dict[str, Any]:
    """Return what the form's template needs, for fields that hold this state."""
    return form_context(GenerationForm(initial=state.copy(), user=user)) | {
        "panel": resume_panel(state, user) if form_state.has_resume(state) else None,
        "is_restored": is_restored,
    }


def form_context(form: GenerationForm) -> dict[str, Any]:
    """Return what stands around the fields of a form."""
    return {
        "form": form,
        "presets": Preset.objects.filter(owner=form.user),
        "known_words": known_words(form.variant),
        "seed_choices": SEED_CHOICES,
    }


def results(user: User, before: GenerationJob | None = None) -> dict[str, Any]:
    jobs, last = newest_jobs(user, before)
    return {
        "jobs": jobs,
        "older_than": last,
        "is_first_page": before is None,
        "has_worker": has_worker(),
        "in_studio": True,
    }


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def generate(request: StudioRequest) -> HttpResponseBase:
    """Queue what was asked for, or say beside each field why not."""
    bind = GenerationForm.from_json if is_json(request) else GenerationForm
    form = bind(read_fields(request), user=request.user)
    if not form.is_valid() or form.take_request is None:
        return _refuse_form(request, form)
    request_id = str(form.cleaned_data["request_id"] or uuid.uuid4())
    job = GenerationJob.objects.all().submit(form.take_request, owner=request.user, request_id=request_id)
    Draft.objects.filter(owner=request.user).delete()
    url = reverse("generation:job", args=[job.pk])
    if wants_json(request):
        return JsonResponse({"job_id": job.pk, "url": url})
    if request.htmx:
        context = {"job": job, "in_studio": True, "request_id": uuid.uuid4(), "has_worker": has_worker()}
        return render(request, "generation/studio.html#accepted", context)
    return see_other(request, url)


def _refuse_form(request: StudioRequest, form: GenerationForm) -> HttpResponse:
    if wants_json(request):
        return JsonResponse({"error": " ".join(form.sentences), "errors": form.errors}, status=form.status)
    context = form_context(form) | {"panel": ResumePanel(form)}
    if request.htmx:
        response = render(request, "generation/studio.html#console", context, status=form.status)
        return reswap(retarget(response, "#console"), "outerHTML")
    return render(request, "generation/studio.html", context | results(request.user), status=form.status)
