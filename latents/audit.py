"""Compare rows with files: a live record has its file as it was stored, and every file belongs to a record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.core.files.storage import Storage, storages
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from latents import store
from latents.errors import LatentDamaged, LatentFileMissing, StorageFailed
from latents.models import LatentHold, LatentRecord

# A file may be that old before its row is committed, or its writer has died.
GRACE_AGE = timedelta(days=1)
_CHUNK = 500


class FixRefused(Exception):
    """So much would go that the database or the folder is probably the wrong one."""


@dataclass
class Audit:
    """What was found. `orphans` are names of files without a row that are older than the grace age."""

    files: int = 0
    records: int = 0
    young: int = 0
    orphans: list[str] = field(default_factory=list)
    missing: list[LatentRecord] = field(default_factory=list)
    damaged: list[tuple[LatentRecord, str]] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.orphans or self.missing or self.damaged)


def audit(now: datetime, *, verify: bool = False) -> Audit:
    """Look at every file, then at every record; with `verify`, at every byte."""
    found = Audit()
    # Files before rows, and within them each list of files before its rows: a row that is committed meanwhile is seen.
    for names in list_files(storages["latents"]):
        found.files += len(names)
        for orphan in without_row(names):
            if _is_young(orphan, now):
                found.young += 1
            else:
                found.orphans.append(orphan)
    look = store.verify if verify else store.check
    for record in LatentRecord.objects.stored().without_description().order_by("pk").iterator(_CHUNK):
        found.records += 1
        try:
            look(record)
        except LatentFileMissing:
            if LatentRecord.objects.stored().filter(pk=record.pk).exists():  # not pruned meanwhile
                found.missing.append(record)
        except LatentDamaged as error:
            found.damaged.append((record, error.damage))
        except StorageFailed as error:
            found.damaged.append((record, str(error)))
    return found


def fix(found: Audit, now: datetime) -> None:
    """Remove the orphans, and mark records that have lost their file as deleted. Damage stays: it takes a backup.

    Raises FixRefused, having done nothing.
    """
    if found.orphans and not found.records:
        raise FixRefused("the database has no records, but there are files")
    for things, some, total in [
        ("files", len(found.orphans), found.files),
        ("records", len(found.missing), found.records),
    ]:
        if is_too_many(some, total):
            raise FixRefused(f"{some} of {total} {things} would go")
    storage = storages["latents"]
    for name in found.orphans:
        if not LatentRecord.objects.filter(file=name).exists():
            storage.delete(name)
    for record in found.missing:
        _give_up(record, now)


def is_too_many(some: int, total: int) -> bool:
    """More than a tenth, where that is more than ten, or more than half."""
    return some > max(total // 10, 10) or some * 2 > total


def list_files(storage: Storage, folder: str = "") -> Iterator[list[str]]:
    """Yield the names of each folder's files, in lists short enough for one query."""
    try:
        folders, names = storage.listdir(folder)
    except FileNotFoundError:  # nothing was ever stored, or the folder has just gone
        return
    prefix = f"{folder}/" if folder else ""
    for start in range(0, len(names), _CHUNK):
        yield [prefix + name for name in names[start : start + _CHUNK]]
    for name in folders:
        yield from list_files(storage, prefix + name)


def without_row(names: list[str]) -> list[str]:
    """Return those of the files that no record names."""
    known = set(LatentRecord.objects.filter(file__in=names).values_list("file", flat=True))
    return [name for name in names if name not in known]


def _is_young(name: str, now: datetime) -> bool:
    try:
        return storages["latents"].get_modified_time(name) > now - GRACE_AGE
    except FileNotFoundError:  # a draft that has got its name meanwhile
        return True


def _give_up(record: LatentRecord, now: datetime) -> None:
    """Mark a record without a file as deleted, unless a job holds it, which will say so itself."""
    with transaction.atomic():
        stored = LatentRecord.objects.stored().filter(pk=record.pk)
        stored.select_for_update().first()
        if not LatentHold.objects.filter(record=record).exists():
            stored.update(deleted_at=Coalesce(F("deleted_at"), now), purged_at=now, file="")
