"""Jobs, samples, presets and workers in the admin: to look at, to listen to, and to stop what runs wild.

Everything shown is as the worker wrote it; what may be changed goes through the methods that the pages call too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django_q import admin as queue_admin  # noqa: F401  registers what is unregistered below
from django_q.models import Failure, OrmQ, Schedule, Success

from generation.models import Conflict, GenerationJob, Preset, QueueFull, Sample, Worker
from generation.templatetags.studio import clock, level, short
from generation.views.library import SHOWN_DESCENDANTS
from generation.views.samples import sound
from latents.admin import LatentRecordAdmin
from latents.errors import LatentError
from latents.lineage import ancestors, descendants
from latents.models import LatentRecord

Row = TypeVar("Row", bound=Model)


class ReadOnlyAdmin(admin.ModelAdmin[Row], Generic[Row]):
    """Rows that only the studio itself writes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        return False


def _for_each(
    request: HttpRequest, jobs: QuerySet[GenerationJob], act: Callable[[GenerationJob], object], done: str
) -> None:
    """Do the same to each job, and say how many it was done to and why not to the others."""
    count = 0
    for job in jobs:
        try:
            act(job)
        except (Conflict, QueueFull, LatentError) as error:
            messages.warning(request, f"{job}: {error}")
        else:
            count += 1
    messages.success(request, f"{count} {done}")


@admin.register(GenerationJob)
class GenerationJobAdmin(ReadOnlyAdmin[GenerationJob]):
    list_display = ("caption", "owner", "status", "model_variant", "runs", "created_at", "finished_at", "attempts")
    list_filter = ("status", "model_variant", ("deleted_at", admin.EmptyFieldListFilter))
    list_select_related = ("owner",)
    search_fields = ("id", "owner__username", "params__caption")
    date_hierarchy = "created_at"
    actions = ("cancel", "retry", "delete_softly")

    @admin.display(description="caption")
    def caption(self, job: GenerationJob) -> str:
        text: str = job.params["caption"]
        return text if len(text) <= 60 else f"{text[:60]}…"

    @admin.display(description="steps")
    def runs(self, job: GenerationJob) -> str:
        return f"{job.model_calls} of {job.steps}"

    def has_steer_permission(self, request: HttpRequest) -> bool:
        """Say who may use the actions: the rows themselves are nobody's to edit."""
        return bool(request.user.has_perm("generation.change_generationjob"))

    @admin.action(description="Cancel", permissions=["steer"])
    def cancel(self, request: HttpRequest, jobs: QuerySet[GenerationJob]) -> None:
        _for_each(request, jobs, GenerationJob.request_cancel, "cancelled")

    @admin.action(description="Retry, for their owners", permissions=["steer"])
    def retry(self, request: HttpRequest, jobs: QuerySet[GenerationJob]) -> None:
        _for_each(request, jobs, GenerationJob.retry, "queued again")

    @admin.action(description="Delete (can be undone for ten minutes)", permissions=["steer"])
    def delete_softly(self, request: HttpRequest, jobs: QuerySet[GenerationJob]) -> None:
        _for_each(request, jobs, GenerationJob.delete_softly, "deleted")


@admin.register(Sample)
class SampleAdmin(ReadOnlyAdmin[Sample]):
    list_display = ("__str__", "owner", "length", "seed", "loudness_lufs", "latent_page", "created_at")
    list_filter = ("job__model_variant", ("deleted_at", admin.EmptyFieldListFilter))
    list_select_related = ("job__owner",)
    search_fields = ("id", "job__id", "job__owner__username", "job__params__caption")
    fields = (
        "player", "job", "index", "seed", "length", "latent_page", "latent_index", "audio_file", "sha256", "size_bytes",
        "sample_rate", "loudness_lufs", "created_at", "deleted_at", "purged_at",
    )  # fmt: skip

    def get_urls(self) -> list[URLPattern]:
        sound = self.admin_site.admin_view(self.sound)
        return [path("<uuid:sample_id>/sound/", sound, name="generation_sample_sound"), *super().get_urls()]

    def sound(self, request: Any, sample_id: UUID) -> HttpResponseBase:
        """Play any owner's sample to whoever may see samples here."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return sound(request, get_object_or_404(Sample.objects.select_related("job"), pk=sample_id))

    @admin.display(ordering="job__owner")
    def owner(self, sample: Sample) -> str:
        return sample.job.owner.get_username()

    @admin.display(ordering="duration_s")
    def length(self, sample: Sample) -> str:
        return clock(sample.duration_s)

    @admin.display(description="latent")
    def latent_page(self, sample: Sample) -> SafeString | str:
        return _link(sample.latent_id) if sample.latent_id else "–"

    @admin.display(description="")
    def player(self, sample: Sample) -> SafeString:
        return _player(sample)


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin[Worker]):
    list_display = ("__str__", "variant", "device", "state", "jobs_done", "started_at", "beat_at")
    list_filter = ("state", "variant")


@admin.register(Preset)
class PresetAdmin(admin.ModelAdmin[Preset]):
    list_display = ("name", "owner", "created_at")
    list_select_related = ("owner",)
    search_fields = ("name", "owner__username")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Preset | None = None) -> bool:
        return False


class PlayableRecordAdmin(LatentRecordAdmin):
    """Latents with what only this app knows of them: the sound that was made of them, and whom it came through."""

    def get_fields(self, request: HttpRequest, obj: LatentRecord | None = None) -> tuple[str, ...]:
        picture, *others = LatentRecordAdmin.fields
        return (picture, "sounds", "lineage", *others)

    get_readonly_fields = get_fields

    @admin.display(description="sound")
    def sounds(self, record: LatentRecord) -> SafeString | str:
        samples = Sample.objects.filter(latent=record, purged_at=None).order_by("latent_index", "created_at")
        rows = ((sample.index + 1, sample.seed, _player(sample)) for sample in samples)
        return format_html_join("", "<p>Sample {}, seed {}</p>{}", rows) or "none"

    @admin.display(description="lineage")
    def lineage(self, record: LatentRecord) -> SafeString:
        line = [relative.record for relative in reversed(ancestors(record))]
        line += [record, *(relative.record for relative in descendants(record, limit=SHOWN_DESCENDANTS))]
        rows = ((_link(one.pk), _level(one), one.caption[:60]) for one in line)
        return format_html("<ol>{}</ol>", format_html_join("", "<li>{} {} {}</li>", rows))


admin.site.unregister(LatentRecord)
admin.site.register(LatentRecord, PlayableRecordAdmin)

# django-q2's own pages would be empty or misleading: its scheduler is off, it keeps no results, and its messages only
# wake workers. What is going on stands in the jobs and workers above.
for queue_model in (Failure, OrmQ, Schedule, Success):
    if admin.site.is_registered(queue_model):
        admin.site.unregister(queue_model)


def _level(record: LatentRecord) -> str:
    return "from noise" if record.parent_level is None else f"resumed at {level(record.parent_level)}"


def _link(latent_id: UUID) -> SafeString:
    url = reverse("admin:latents_latentrecord_change", args=[latent_id])
    return format_html('<a href="{}">{}</a>', url, short(latent_id))


def _player(sample: Sample) -> SafeString:
    url = reverse("admin:generation_sample_sound", args=[sample.pk])
    return format_html('<audio controls preload="none" src="{}"></audio>', url)
