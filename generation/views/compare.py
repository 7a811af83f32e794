"""Two samples side by side: heard at one playhead, with what differs in what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from generation.forms import GenerationForm
from generation.models import Sample, SampleQuerySet
from generation.views import form_state
from generation.views.answers import StudioRequest

OFFERED = 40


@require_safe
def compare(request: StudioRequest) -> HttpResponse:
    """Compare two of the user's samples; where only `b` is named, with what it was resumed from."""
    samples = Sample.objects.visible_to(request.user).filter(purged_at=None).select_related("job", "latent")
    b = _named(samples, request.GET.get("b", ""))
    a = _named(samples, request.GET["a"]) if request.GET.get("a") else counterpart(samples, b)
    context = {
        "sides": [("A", "a", a), ("B", "b", b)] if a else [],
        "only": b,
        "offered": _offered(samples, a, b),
        "differences": differences(a, b) if a else [],
    }
    return render(request, "generation/compare.html", context)


def _named(samples: SampleQuerySet, sample_id: str) -> Sample:
    try:
        return samples.get(pk=sample_id)
    except (Sample.DoesNotExist, ValidationError):
        raise Http404 from None


def counterpart(samples: SampleQuerySet, sample: Sample) -> Sample | None:
    """Return the sound of what a sample was resumed from; else another of its job; else the latest other one."""
    others = samples.exclude(pk=sample.pk)
    if sample.latent and sample.latent.parent_id:
        item = sample.latent.parent_sample_index or 0
        parent = others.filter(latent=sample.latent.parent_id, latent_index=item).order_by("created_at").first()
        if parent:
            return parent
    return others.filter(job=sample.job_id).order_by("index").first() or others.order_by("-created_at").first()


def _offered(samples: SampleQuerySet, *chosen: Sample | None) -> list[Sample]:
    """Return the latest samples and those that are compared."""
    recent = samples.order_by("-created_at").values_list("pk", flat=True)[:OFFERED]
    wanted = [*recent, *(sample.pk for sample in chosen if sample)]
    return list(samples.filter(Q(pk__in=wanted)).order_by("-created_at", "index"))


def differences(a: Sample, b: Sample) -> list[tuple[str, str, str]]:
    """Return what the two were asked for differently: the form's own label, and the value of each."""
    asked = [(str(field.label), _asked(a, name), _asked(b, name)) for name, field in GenerationForm.base_fields.items()]
    return [(label, of_a, of_b) for label, of_a, of_b in asked if of_a != of_b]


def _asked(sample: Sample, name: str) -> str:
    params: Mapping[str, Any] = sample.job.params | {"seed": sample.seed}
    value = params.get(name)
    if value in (None, "", False):
        return ""
    return "yes" if value is True else form_state.plain(value)
