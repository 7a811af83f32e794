"""How long latents live, and taking what has had its time."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.core.files.storage import storages
from django.db import transaction

from latents.models import UNDO_WINDOW, LatentHold, LatentRecord, LatentRecordQuerySet

# How long the row of a record without bytes still explains where its children come from.
ROW_LIFETIME = timedelta(days=90)
# Small enough that nobody who writes to the database meanwhile has to wait long.
BATCH_SIZE = 200


def longest_ttl() -> timedelta | None:
    """Return how long latents may live here; None is "for ever"."""
    ttl: timedelta | None = settings.REPRISE_LATENT_TTL
    return ttl


def default_expiry(now: datetime, asked: timedelta | None = None) -> datetime | None:
    """Return when latents stored now expire: after what was asked for, if that is less than the studio's own TTL."""
    ttls = [ttl for ttl in (asked, longest_ttl()) if ttl is not None]
    return now + min(ttls) if ttls else None


@dataclass
class Pruned:
    """What a prune has taken, or would take."""

    records: int = 0
    bytes: int = 0
    rows: int = 0  # of records whose bytes went long ago


def prune(
    now: datetime,
    *,
    age: timedelta = timedelta(0),
    variant: str = "",
    dry_run: bool = False,
    on_record: Callable[[LatentRecord], None] = lambda record: None,
) -> Pruned:
    """Take the bytes of what expired or was deleted at least `age` ago, and rows that have outlived their use.

    Nothing pinned expires, and nothing that a job holds is taken. The work is done in small transactions and can be
    stopped anywhere; the next run goes on from there.
    """
    records = LatentRecord.objects.without_description()
    if variant:
        records = records.filter(model_variant=variant)
    pruned = Pruned()

    def count(batch: Iterable[LatentRecord]) -> None:
        for record in batch:
            pruned.records += 1
            pruned.bytes += record.size_bytes
            on_record(record)

    if dry_run:
        count(records.prunable(now, age).filter(holds=None).iterator())
        pruned.rows = _outlived(records, now).count()
        return pruned
    while half_removed := list(records.half_removed()[:BATCH_SIZE]):
        _remove_files(half_removed)
    # One after the other: PostgreSQL would read more than the two indexes to answer for both at once.
    for prunable in (records.run_out(now - age), records.removed(now - max(age, UNDO_WINDOW))):
        while batch := _give_up(prunable.filter(holds=None), now):
            _remove_files(batch)
            count(batch)
    pruned.rows = _remove_rows(records, now)
    return pruned


def _give_up(prunable: LatentRecordQuerySet, now: datetime) -> list[LatentRecord]:
    """Mark the next records as without bytes, row first: nobody may find what is about to lose its file."""
    with transaction.atomic():
        batch = list(prunable.select_for_update(skip_locked=True, of=("self",))[:BATCH_SIZE])
        # A second statement sees the holds that were committed before the locks were granted.
        held = LatentHold.objects.held_among(record.pk for record in batch)
        batch = [record for record in batch if record.pk not in held]
        LatentRecord.objects.filter(pk__in=_ids(batch)).update(purged_at=now)
    return batch


def _remove_files(batch: list[LatentRecord]) -> None:
    storage = storages["latents"]
    for record in batch:
        storage.delete(record.file)
    LatentRecord.objects.filter(pk__in=_ids(batch)).update(file="")


def _outlived(records: LatentRecordQuerySet, now: datetime) -> LatentRecordQuerySet:
    return records.filter(purged_at__lte=now - ROW_LIFETIME)


def _remove_rows(records: LatentRecordQuerySet, now: datetime) -> int:
    removed = 0
    while batch := list(_outlived(records, now)[:BATCH_SIZE]):
        LatentRecord.objects.filter(pk__in=_ids(batch)).delete()
        removed += len(batch)
    return removed


def _ids(batch: list[LatentRecord]) -> list[uuid.UUID]:
    return [record.pk for record in batch]
