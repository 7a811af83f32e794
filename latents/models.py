"""What is known about stored latents, who needs them, and until when."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Count, Q, Sum
from django.utils import timezone

from latents import search
from latents.errors import LatentHeld, LatentNotFound
from latents.lifetimes import LONGEST_TTL

UNDO_WINDOW = timedelta(minutes=10)
# A record that was pinned past its expiry would otherwise be gone at the very click that unpins it.
UNPIN_GRACE = timedelta(days=1)
MAX_DAMAGE_LENGTH = 200

_STORED = Q(purged_at=None)
_THERE = Q(purged_at=None, deleted_at=None)


@dataclass(frozen=True)
class VariantTotal:
    model_variant: str
    records: int
    bytes: int


class LatentRecordQuerySet(models.QuerySet["LatentRecord"]):
    """Rules about many records. A rule that depends on time takes `now`."""

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> Self:
        """Select what this user may know of: their own records, gone or not."""
        return self.filter(owner=user.pk)

    def stored(self) -> Self:
        """Select records whose bytes have not been taken."""
        return self.filter(purged_at=None)

    def live(self, now: datetime) -> Self:
        """Select what can be resumed from."""
        unexpired = Q(pinned=True) | Q(expires_at=None) | Q(expires_at__gt=now)
        return self.stored().filter(unexpired, deleted_at=None)

    def expired(self, now: datetime) -> Self:
        """Select undeleted records whose time is over, whether or not their bytes have been taken yet."""
        return self.filter(deleted_at=None).filter(~Q(purged_at=None) | Q(pinned=False, expires_at__lte=now))

    def expiring(self, now: datetime, within: timedelta) -> Self:
        return self.live(now).filter(pinned=False, expires_at__lte=now + within)

    def deleted(self) -> Self:
        return self.filter(deleted_at__isnull=False)

    def prunable(self, now: datetime, age: timedelta = timedelta(0)) -> Self:
        """Select stored records that expired, or were deleted beyond undo, at least `age` ago; held or not."""
        return (self.run_out(now - age) | self.removed(now - max(age, UNDO_WINDOW))).order_by()

    def run_out(self, by: datetime) -> Self:
        """Select stored records that expired by then and were not deleted, the longest expired first."""
        return self.filter(purged_at=None, deleted_at=None, pinned=False, expires_at__lte=by).order_by("expires_at")

    def removed(self, by: datetime) -> Self:
        """Select stored records that were deleted by then, the longest deleted first."""
        return self.filter(purged_at=None, deleted_at__lte=by).order_by("deleted_at")

    def without_description(self) -> Self:
        """Leave what tells how it was made to be read on demand: most of a row, and no matter to its file."""
        return self.defer("caption", "seeds", "params", "schedule", "runtime", "item_digests")

    def half_removed(self) -> Self:
        """Select records whose bytes were given up but perhaps not removed: a prune was interrupted."""
        return self.filter(purged_at__isnull=False).exclude(file="")

    def search(self, text: str, *, owner_id: int | None = None) -> Self:
        """Select records whose caption contains words that begin with each word of `text`; see latents.search."""
        return search.matching(self, text, owner_id=owner_id)

    def newest_first(self) -> Self:
        if search.is_numbered(self):
            return self.order_by(f"-{search.NUMBER}")
        return self.order_by("-created_at", "-id")

    def older_than(self, record: LatentRecord) -> Self:
        """Select what follows `record` in `newest_first`, whatever was added or removed meanwhile."""
        if search.is_numbered(self):
            return self.filter(**{f"{search.NUMBER}__lt": search.number_of(record)})
        same_time = Q(created_at=record.created_at, id__lt=record.id)
        # The first condition says nothing new, but is one that an index can begin at.
        return self.filter(Q(created_at__lt=record.created_at) | same_time, created_at__lte=record.created_at)

    def soonest_first(self) -> Self:
        """Put what expires next first."""
        return self.order_by("expires_at", "id")

    def expiring_after(self, record: LatentRecord) -> Self:
        """Select what follows `record` in `soonest_first`."""
        same_time = Q(expires_at=record.expires_at, id__gt=record.id)
        return self.filter(Q(expires_at__gt=record.expires_at) | same_time, expires_at__gte=record.expires_at)

    def stored_bytes(self) -> int:
        total: int | None = self.stored().aggregate(total=Sum("size_bytes"))["total"]
        return total or 0

    def totals_by_variant(self) -> list[VariantTotal]:
        """Return what is stored per variant, most bytes first."""
        totals = self.stored().order_by().values("model_variant").annotate(records=Count("*"), bytes=Sum("size_bytes"))
        return [VariantTotal(**total) for total in totals.order_by("-bytes")]

    def find(
        self, latent_id: str | uuid.UUID, user: AbstractBaseUser | AnonymousUser, now: datetime | None = None
    ) -> LatentRecord:
        """Return the live record that this user may resume from, else raise LatentNotFound."""
        try:
            return self.visible_to(user).live(now or timezone.now()).get(pk=latent_id)
        except (LatentRecord.DoesNotExist, ValidationError):
            raise LatentNotFound(latent_id) from None


class LatentRecord(models.Model):
    """One stored file of latents [B, T, C]: a finished take, or a checkpoint of a run that can be continued."""

    class Kind(models.TextChoices):
        TAKE = "take"
        CHECKPOINT = "checkpoint"

    class State(models.TextChoices):
        LIVE = "live"
        EXPIRED = "expired"
        DELETED = "deleted"
        DAMAGED = "damaged"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="latents", db_index=False)

    model_variant = models.CharField(max_length=100)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.TAKE)
    batch_size = models.PositiveSmallIntegerField()
    frames = models.PositiveIntegerField()
    channels = models.PositiveSmallIntegerField()
    frame_rate = models.FloatField(help_text="frames per second")
    dtype = models.CharField(max_length=10)

    caption = models.TextField(blank=True)
    seeds = models.JSONField(default=list, help_text="one per item")
    params = models.JSONField(default=dict, help_text="the request as it ran")
    schedule = models.JSONField(default=dict, help_text="steps, shift, timesteps, requested, effective")
    runtime = models.JSONField(default=dict, help_text="device, dtype, threads, compile")
    checkpoint_step = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="the latents are those before this model call of the schedule"
    )

    # No constraint: the parent's id stays known after its row is gone. Follow it through latents.lineage.
    parent = models.ForeignKey("self", models.DO_NOTHING, "children", null=True, blank=True, db_constraint=False)
    parent_sample_index = models.PositiveSmallIntegerField(null=True, blank=True)
    parent_level = models.FloatField(null=True, blank=True, help_text="the level this take was resumed at")
    parent_digest = models.CharField(max_length=64, blank=True)

    file = models.CharField(max_length=200, blank=True, help_text="name in the storage `latents`, empty once removed")
    size_bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    item_digests = models.JSONField(default=list, help_text="SHA-256 of each item's bytes")

    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="empty: never")
    pinned = models.BooleanField(default=False)
    deleted_at = models.DateTimeField(null=True, blank=True)
    purged_at = models.DateTimeField(null=True, blank=True, help_text="when the bytes were taken")
    damage = models.CharField(
        max_length=MAX_DAMAGE_LENGTH, blank=True, help_text="what the last check found wrong with the file"
    )

    objects = LatentRecordQuerySet.as_manager()

    class Meta:
        indexes = [
            # Of what is there, so that no list has to step over what is not.
            models.Index(fields=["owner", "-created_at", "-id"], name="latents_owner_newest", condition=_THERE),
            models.Index(
                fields=["owner", "model_variant", "-created_at", "-id"], name="latents_owner_variant", condition=_THERE
            ),
            models.Index(
                fields=["owner", "-created_at", "-id"],
                name="latents_owner_checkpoint",
                condition=_THERE & Q(checkpoint_step__isnull=False),
            ),
            models.Index(
                fields=["owner", "-created_at", "-id"], name="latents_owner_pinned", condition=_THERE & Q(pinned=True)
            ),
            models.Index(
                fields=["owner", "expires_at", "id"], name="latents_owner_expiry", condition=_THERE & Q(pinned=False)
            ),
            models.Index(fields=["owner", "model_variant", "size_bytes"], name="latents_bytes", condition=_STORED),
            models.Index(fields=["-created_at", "-id"], name="latents_newest"),
            models.Index(
                fields=["-created_at", "-id"], name="latents_newest_deleted", condition=Q(deleted_at__isnull=False)
            ),
            models.Index(
                fields=["-created_at", "-id"], name="latents_newest_damaged", condition=_THERE & ~Q(damage="")
            ),
            models.Index(fields=["expires_at"], name="latents_expiry", condition=Q(purged_at=None, pinned=False)),
            models.Index(
                fields=["deleted_at"], name="latents_deleted", condition=Q(purged_at=None, deleted_at__isnull=False)
            ),
            models.Index(fields=["purged_at"], name="latents_purged", condition=Q(purged_at__isnull=False)),
            models.Index(
                fields=["purged_at"], name="latents_half_removed", condition=Q(purged_at__isnull=False) & ~Q(file="")
            ),
            models.Index(fields=["file"], name="latents_file"),
        ]
        constraints = [
            models.CheckConstraint(condition=~Q(file="") | Q(purged_at__isnull=False), name="latents_stored_has_file"),
            models.CheckConstraint(
                condition=Q(kind="take", checkpoint_step=None)
                | Q(kind="checkpoint", checkpoint_step__isnull=False, checkpoint_step__gt=0),
                name="latents_checkpoint_has_step",
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

    def state(self, now: datetime | None = None) -> State:
        now = now or timezone.now()
        if self.deleted_at:
            return self.State.DELETED
        if self.purged_at or (not self.pinned and self.expires_at and self.expires_at <= now):
            return self.State.EXPIRED
        return self.State.DAMAGED if self.damage else self.State.LIVE

    @property
    def duration_s(self) -> float:
        """The length of the sound; for people to read, never to compute frames from."""
        return self.frames / self.frame_rate

    @property
    def checkpoint_level(self) -> float:
        """The noise level that a checkpoint was taken at and is continued from."""
        return self.remaining_timesteps[0]

    @property
    def remaining_timesteps(self) -> list[float]:
        """The rest of the schedule that a checkpoint is continued on."""
        timesteps: list[float] = self.schedule["timesteps"]
        return timesteps[self.checkpoint_step :]

    def can_undelete(self, now: datetime | None = None) -> bool:
        now = now or timezone.now()
        return bool(self.deleted_at and not self.purged_at and now < self.deleted_at + UNDO_WINDOW)

    def pin(self, now: datetime | None = None) -> None:
        """Keep the record whatever its expiry; its owner may still delete it."""
        with transaction.atomic():
            self._lock_live(now or timezone.now())
            self._change(pinned=True)

    def unpin(self, now: datetime | None = None) -> None:
        """Let the record expire again, not sooner than a day from now."""
        now = now or timezone.now()
        with transaction.atomic():
            self._lock_live(now)
            self._change(pinned=False, expires_at=self.expires_at and max(self.expires_at, now + UNPIN_GRACE))

    def extend(self, duration: timedelta, now: datetime | None = None) -> None:
        """Move the expiry away by `duration`; a record that never expires stays so."""
        now = now or timezone.now()
        with transaction.atomic():
            self._lock_live(now)
            latest = now + LONGEST_TTL
            self._change(expires_at=self.expires_at and min(max(self.expires_at, now) + duration, latest))

    def delete_softly(self, now: datetime | None = None) -> None:
        """Take the record out of use; undo works for ten minutes, then `prune` takes its bytes.

        Raises LatentHeld while a job needs it. Deleting twice changes nothing.
        """
        now = now or timezone.now()
        with transaction.atomic():
            self._lock()
            if LatentHold.objects.filter(record=self).exists():
                raise LatentHeld(self.pk)
            if self.deleted_at is None:
                self._change(deleted_at=now)

    def undelete(self, now: datetime | None = None) -> None:
        """Bring a deleted record back; after ten minutes it raises LatentNotFound."""
        with transaction.atomic():
            self._lock()
            if self.deleted_at is None:
                return
            if not self.can_undelete(now):
                raise LatentNotFound(self.pk)
            self._change(deleted_at=None)

    def hold(self, job_id: uuid.UUID, now: datetime | None = None) -> LatentHold:
        """Keep the record from expiry and deletion until the job releases it.

        Call it in the transaction that inserts the job. Raises LatentNotFound if the record went since it was found.
        """
        with transaction.atomic():
            self._lock_live(now or timezone.now())
            return LatentHold.objects.get_or_create(record=self, job_id=job_id)[0]

    def note_damage(self, damage: str) -> None:
        """Remember what a check of the file found; empty means that the file is as it was stored."""
        damage = damage[:MAX_DAMAGE_LENGTH]
        if damage != self.damage:
            self._change(damage=damage)

    def _lock(self) -> None:
        """Lock the row until the transaction ends and read it again.

        The lock comes before any look at the holds, in a statement of its own: under READ COMMITTED only a second
        statement sees what was committed while this one waited. On SQLite, BEGIN IMMEDIATE is the lock.
        """
        try:
            self.refresh_from_db(from_queryset=LatentRecord.objects.select_for_update())
        except LatentRecord.DoesNotExist:
            raise LatentNotFound(self.pk) from None

    def _lock_live(self, now: datetime) -> None:
        self._lock()
        if self.state(now) in (self.State.EXPIRED, self.State.DELETED):
            raise LatentNotFound(self.pk)

    def _change(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)
        self.save(update_fields=values)


class LatentHoldQuerySet(models.QuerySet["LatentHold"]):
    def release(self, job_id: uuid.UUID) -> None:
        """Let go of everything that a job held; to be called with its final state."""
        self.filter(job_id=job_id).delete()

    def held_among(self, record_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
        """Return those of the records, locked before, that a job needs."""
        return set(self.filter(record__in=list(record_ids)).values_list("record_id", flat=True))


class LatentHold(models.Model):
    """A job's need of a record. The job lives in another app, so it is known by id alone."""

    record = models.ForeignKey(LatentRecord, models.PROTECT, related_name="holds", db_index=False)
    job_id = models.UUIDField(db_index=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = LatentHoldQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["record", "job_id"], name="latents_one_hold_per_job")]

    def __str__(self) -> str:
        return f"{self.record_id} held by job {self.job_id}"


class HeatMap(models.Model):
    """Pictures of a record's latents, drawn when it was stored; kept apart so that lists of records never read them."""

    record = models.OneToOneField(LatentRecord, models.CASCADE, primary_key=True, related_name="heat_map")
    thumbnail = models.BinaryField()
    picture = models.BinaryField()

    def __str__(self) -> str:
        return f"heat map of {self.record_id}"
