"""Stored latents with the sound they were decoded to: the library, and one page per record."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Prefetch, QuerySet
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from generation.models import Sample
from generation.views import form_state
from generation.views.answers import StudioRequest
from generation.views.results import not_gone
from latents.lineage import ancestors, descendants
from latents.models import LatentRecord, LatentRecordQuerySet
from latents.usage import variants_of
from resumeapp.middleware import wants_json

PAGE_SIZE = 24
EXPIRING_WITHIN = timedelta(days=3)
SHOWN_DESCENDANTS = 50


class LibraryFilter(forms.Form):
    """What to show of the library; whatever cannot be read is left aside."""

    q = forms.CharField(label="Search captions", required=False, max_length=200)
    variant = forms.CharField(label="Model", required=False, max_length=100)
    kind = forms.ChoiceField(
        label="Kind", required=False, choices=[("", "All"), ("take", "Takes"), ("checkpoint", "Checkpoints")]
    )
    pinned = forms.BooleanField(label="Pinned", required=False)
    expiring = forms.BooleanField(label="Expiring soon", required=False)

    def list_for(self, owner_id: int, before: str | None) -> LatentRecordQuerySet:
        """Return what was chosen of an owner's, in order, from after the record whose id is `before`.

        What expires soon comes in that order, everything else the newest first.
        """
        self.full_clean()
        chosen: dict[str, Any] = self.cleaned_data
        own = LatentRecord.objects.filter(owner=owner_id)
        last = _record_named(own, before)
        now = timezone.now()
        records = own.expiring(now, EXPIRING_WITHIN) if chosen.get("expiring") else own.live(now)
        exact = {"model_variant": chosen.get("variant"), "pinned": chosen.get("pinned")}
        records = records.filter(**{name: value for name, value in exact.items() if value})
        if chosen.get("kind"):
            # By the step, which only checkpoints have: there is an index of those.
            records = records.filter(checkpoint_step__isnull=chosen["kind"] == LatentRecord.Kind.TAKE)
        if chosen.get("q"):
            records = records.search(chosen["q"], owner_id=owner_id)
        elif chosen.get("expiring"):
            return (records.expiring_after(last) if last and last.expires_at else records).soonest_first()
        return (records.older_than(last) if last else records).newest_first()


@require_safe
@vary_on_headers("Accept", "HX-Request")
def library(request: StudioRequest) -> HttpResponse:
    """List the user's latents; a page continues after the record that `before` names."""
    chosen = LibraryFilter(request.GET)
    records = chosen.list_for(request.user.pk, request.GET.get("before"))
    if not wants_json(request):
        records = records.defer("seeds", "params", "schedule", "runtime", "item_digests")
    found = list(_with_sound(records, Sample.objects.all())[: PAGE_SIZE + 1])
    page = found[:PAGE_SIZE]
    has_more = len(found) > PAGE_SIZE
    if wants_json(request):
        return JsonResponse({"latents": [record_json(record) for record in page], "has_more": has_more})
    context = {
        "filter": chosen,
        "records": page,
        "next_page": _next_page(request, page) if has_more else "",
        "variants": variants_of(request.user.pk),
    }
    return render(request, "generation/library.html" + ("#records" if request.htmx else ""), context)


def _with_sound(records: QuerySet[LatentRecord], samples: QuerySet[Sample]) -> QuerySet[LatentRecord]:
    there = samples.filter(not_gone(), job__deleted_at=None, purged_at=None).order_by("latent_index", "created_at")
    return records.prefetch_related(Prefetch("samples", there, to_attr="sounds"))


def _record_named(records: QuerySet[LatentRecord], latent_id: str | None) -> LatentRecord | None:
    try:
        return records.filter(pk=latent_id).only("created_at", "expires_at").first() if latent_id else None
    except ValidationError:
        return None


def _next_page(request: StudioRequest, page: list[LatentRecord]) -> str:
    query = request.GET.copy()
    query["before"] = str(page[-1].pk)
    return f"?{query.urlencode()}"


@require_safe
@vary_on_headers("Accept", "HX-Request")
def record(request: StudioRequest, latent_id: UUID) -> HttpResponse:
    """Show one record, also when its bytes are gone: the lineage leads through it."""
    records = _with_sound(LatentRecord.objects.visible_to(request.user), Sample.objects.select_related("job"))
    found = get_object_or_404(records, pk=latent_id)
    if wants_json(request):
        return JsonResponse(record_json(found))
    return render(request, "generation/record.html", record_context(found))


def record_context(record: LatentRecord) -> dict[str, Any]:
    """Return what a page about a record shows, for its owner and for the admin."""
    now = timezone.now()
    return {
        "record": record,
        "state": record.state(now),
        "is_live": record.state(now) == LatentRecord.State.LIVE,
        "can_undelete": record.can_undelete(now),
        "ancestors": ancestors(record),
        "descendants": descendants(record, limit=SHOWN_DESCENDANTS),
        "resume_urls": [resume_url(record, index) for index in range(record.batch_size)],
    }


def resume_url(record: LatentRecord, index: int = 0) -> str:
    """Return the studio with the record's parameters, set to resume one of its items."""
    state = form_state.from_params(record.params) | {
        "model_variant": "" if record.model_variant == "unknown" else record.model_variant,
        "init_latent_id": str(record.pk),
        "resume_sample_index": str(index),
    }
    if index < len(record.seeds):
        state["seed"] = str(record.seeds[index])
    return form_state.studio_url(state)


def record_json(record: LatentRecord) -> dict[str, Any]:
    return {
        "id": record.pk,
        "state": record.state(),
        "model_variant": record.model_variant,
        "kind": record.kind,
        "batch_size": record.batch_size,
        "frames": record.frames,
        "channels": record.channels,
        "frame_rate": record.frame_rate,
        "caption": record.caption,
        "seeds": record.seeds,
        "params": record.params,
        "schedule": record.schedule,
        "parent_id": record.parent_id,
        "parent_sample_index": record.parent_sample_index,
        "parent_level": record.parent_level,
        "checkpoint_step": record.checkpoint_step,
        "size_bytes": record.size_bytes,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "pinned": record.pinned,
    }
