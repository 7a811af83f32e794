"""Latents in the admin: browse them, and do to many what their pages do to one. Only workers and imports make them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.views.main import ORDER_VAR
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat, pluralize, truncatechars
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from latents import store
from latents.errors import LatentError
from latents.forms import default_extension
from latents.models import HeatMap, LatentRecord, LatentRecordQuerySet
from latents.usage import recent_totals

MAX_CHILDREN = 50
MAX_LISTED = 1000


class StateFilter(admin.SimpleListFilter):
    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        return list(LatentRecord.State.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[LatentRecord]) -> QuerySet[LatentRecord]:
        now = timezone.now()
        records = LatentRecord.objects.all()
        states = {
            LatentRecord.State.LIVE: records.live(now).filter(damage=""),
            LatentRecord.State.EXPIRED: records.expired(now),
            LatentRecord.State.DELETED: records.deleted(),
            LatentRecord.State.DAMAGED: records.live(now).exclude(damage=""),
        }
        chosen = states.get(self.value() or "")  # type: ignore[call-overload]
        return queryset if chosen is None else queryset & chosen


class VariantFilter(admin.SimpleListFilter):
    title = "model variant"
    parameter_name = "variant"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        # Of what is stored: every variant there ever was would be a scan of all rows.
        return [(total.model_variant, total.model_variant) for total in recent_totals()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[LatentRecord]) -> QuerySet[LatentRecord]:
        return queryset.filter(model_variant=self.value()) if self.value() else queryset


class NewestPaginator(Paginator):  # type: ignore[type-arg]
    """Pages of the first so many, however many there are: to count them all would take longer than to show some."""

    @cached_property
    def count(self) -> int:
        return cast("QuerySet[LatentRecord]", self.object_list)[:MAX_LISTED].count()


@admin.register(LatentRecord)
class LatentRecordAdmin(admin.ModelAdmin[LatentRecord]):
    list_display = (
        "thumbnail", "title", "owner", "model_variant", "kind", "batch_size", "frames", "size",
        "expiry", "pinned", "state",
    )  # fmt: skip
    list_display_links = ("thumbnail", "title")
    list_filter = (StateFilter, VariantFilter, "kind", "pinned")
    list_select_related = ("owner",)
    list_per_page = 50
    paginator = NewestPaginator
    ordering = ("-created_at", "-id")
    search_fields = ("caption",)  # shows the field; get_search_results does the work
    search_help_text = f"Words of the caption and the owner's name, or an id; of many, {MAX_LISTED} are listed"
    show_full_result_count = False
    fields = readonly_fields = (
        "picture", "state", "damage", "caption", "owner", "model_variant", "kind", "checkpoint_step",
        "batch_size", "frames", "channels", "frame_rate", "length", "dtype", "seeds", "params", "schedule", "runtime",
        "parent", "parent_sample_index", "parent_level", "parent_digest", "children", "held_by",
        "file", "size", "sha256", "item_digests", "created_at", "expiry", "pinned", "deleted_at", "purged_at",
    )  # fmt: skip
    actions = ("pin", "unpin", "extend", "delete_softly", "undelete", "verify_checksum")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: LatentRecord | None = None) -> bool:
        return False  # that would take the row and leave the file; delete_softly and prune do it in order

    def get_urls(self) -> list[URLPattern]:
        heatmap = self.admin_site.admin_view(self.heatmap)
        return [path("<uuid:latent_id>/<str:size>.png", heatmap, name="latents_heatmap"), *super().get_urls()]

    def heatmap(self, request: HttpRequest, latent_id: UUID, size: str) -> HttpResponse:
        heat_map = HeatMap.objects.filter(record=latent_id).first()
        if heat_map is None or not self.has_view_permission(request):
            raise Http404
        png = heat_map.thumbnail if size == "thumbnail" else heat_map.picture
        return HttpResponse(
            bytes(png), content_type="image/png", headers={"Cache-Control": "private, max-age=31536000, immutable"}
        )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"totals": recent_totals()} | (extra_context or {}))

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        nothing_to_save = {"show_save": False, "show_save_and_continue": False}
        return super().changeform_view(request, object_id, form_url, nothing_to_save | (extra_context or {}))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LatentRecord], search_term: str
    ) -> tuple[QuerySet[LatentRecord], bool]:
        try:
            return queryset.filter(pk=UUID(search_term.strip())), False
        except ValueError:
            return self._search(request, cast(LatentRecordQuerySet, queryset), search_term.split()), False

    def _search(self, request: HttpRequest, records: LatentRecordQuerySet, words: list[str]) -> LatentRecordQuerySet:
        """Take words that are a user's name for that, and all others for words of captions."""
        owners = dict(User.objects.filter(username__in=words).values_list("username", "pk"))
        if owners:
            records = records.filter(owner__in=owners.values())
        records = records.search(
            " ".join(word for word in words if word not in owners),
            owner_id=next(iter(owners.values())) if len(owners) == 1 else None,
        )
        return records if ORDER_VAR in request.GET else records.newest_first()

    @admin.display(description="heat map")
    def thumbnail(self, record: LatentRecord) -> SafeString:
        url = reverse("admin:latents_heatmap", args=[record.pk, "thumbnail"])
        return format_html('<img src="{}" width="96" height="32" alt="" loading="lazy">', url)

    @admin.display(description="heat map")
    def picture(self, record: LatentRecord) -> SafeString:
        url = reverse("admin:latents_heatmap", args=[record.pk, "picture"])
        return format_html('<img src="{}" width="640" height="128" alt="Time to the right, channels upwards">', url)

    @admin.display(description="caption", ordering="caption")
    def title(self, record: LatentRecord) -> str:
        return truncatechars(record.caption, 60) or str(record.pk)

    @admin.display(description="state")
    def state(self, record: LatentRecord) -> str:
        return record.state().label

    @admin.display(description="size", ordering="size_bytes")
    def size(self, record: LatentRecord) -> str:
        return filesizeformat(record.size_bytes)

    @admin.display(description="expiry", ordering="expires_at")
    def expiry(self, record: LatentRecord) -> str:
        return f"{record.expires_at:%Y-%m-%d %H:%M}" if record.expires_at else "never"

    @admin.display(description="length")
    def length(self, record: LatentRecord) -> str:
        return f"{record.duration_s:.1f} s"

    @admin.display(description="parent")
    def parent(self, record: LatentRecord) -> SafeString | str:
        return _link(record.parent_id) if record.parent_id else "none: made from noise, or not known here"

    @admin.display(description="children")
    def children(self, record: LatentRecord) -> SafeString:
        children = record.children.order_by("created_at").values_list("pk")[:MAX_CHILDREN]
        return format_html_join(", ", "{}", ((_link(pk),) for (pk,) in children)) or SafeString("none")

    @admin.display(description="held by")
    def held_by(self, record: LatentRecord) -> str:
        return ", ".join(f"job {hold.job_id}" for hold in record.holds.all()) or "nothing"

    @admin.action(description="Pin", permissions=["change"])
    def pin(self, request: HttpRequest, records: QuerySet[LatentRecord]) -> None:
        self._do(request, records, LatentRecord.pin, "pinned")

    @admin.action(description="Unpin", permissions=["change"])
    def unpin(self, request: HttpRequest, records: QuerySet[LatentRecord]) -> None:
        self._do(request, records, LatentRecord.unpin, "unpinned")

    @admin.action(description="Extend by as long as latents live here", permissions=["change"])
    def extend(self, request: HttpRequest, records: QuerySet[LatentRecord]) -> None:
        self._do(request, records, lambda record: record.extend(default_extension()), "extended")

    @admin.action(description="Delete (can be undone for ten minutes)", permissions=["change"])
    def delete_softly(self, request: HttpRequest, records: QuerySet[LatentRecord]) -> None:
        self._do(request, records, LatentRecord.delete_softly, "deleted")

    @admin.action(description="Undo the deletion", permissions=["change"])
    def undelete(self, request: HttpRequest, records: QuerySet[LatentRecord]) -> None:
        self._do(request, records, LatentRecord.undelete, "brought back")

    @admin.action(description="Verify checksum", permissions=["change"])
    def verify_checksum(self, request: HttpRequest, records: QuerySet[LatentRecord]) -> None:
        self._do(request, records, store.verify, "verified: as it was stored")

    def _do(
        self,
        request: HttpRequest,
        records: QuerySet[LatentRecord],
        act: Callable[[LatentRecord], object],
        done: str,
    ) -> None:
        """Do the same to each record; say to how many it was done, and why not to the others."""
        count = 0
        for record in records:
            try:
                act(record)
            except LatentError as error:
                self.message_user(request, str(error), messages.WARNING)
            else:
                self.log_change(request, record, done)
                count += 1
        self.message_user(request, f"{count} latent{pluralize(count)} {done}")


def _link(latent_id: UUID) -> SafeString:
    return format_html('<a href="{}">{}</a>', reverse("admin:latents_latentrecord_change", args=[latent_id]), latent_id)
