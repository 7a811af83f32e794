"""Make the rows of latents again from the headers of their files, after the database was lost.

A file tells everything about its record but whose it is, whether it was pinned, and until when it was to be kept. The
owner is named by whoever rebuilds. Nothing is pinned, and everything lives as long as if it had been stored now: time
to look through it. What had been deleted and not yet been pruned is there again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import PurePosixPath

from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.db import transaction

from latents import portable, store, tensorfile
from latents.audit import list_files, without_row
from latents.errors import InvalidLatents, StorageFailed
from latents.models import HeatMap, LatentRecord
from latents.provenance import InvalidProvenance, read_identity
from latents.retention import default_expiry
from latents.storage import DRAFT_PREFIX
from latents.store import Draft
from latents.tensorfile import Header, InvalidTensorFile

# Rows that are written at once, each with its pictures.
BATCH_SIZE = 100


class FileRefused(Exception):
    """A file of which no row can be made, and why."""


@dataclass
class Rebuilt:
    """What became of the files: `records` have a row again, `known` had one, `refused` cannot have one."""

    records: int = 0
    known: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)


def rebuild(owner: User, now: datetime, *, on_record: Callable[[LatentRecord], None] = lambda record: None) -> Rebuilt:
    """Give every file without a row one that belongs to `owner`; no worker may be storing latents meanwhile.

    It can be stopped anywhere; the next run goes on from there.
    """
    rebuilt = Rebuilt()
    # The oldest first, as they were stored: a search shows the latest row first.
    for files in _batches(sorted(_survey(rebuilt))):
        drafts = []
        for _, name in files:
            try:
                drafts.append(_recover(name, owner, now))
            except FileRefused as refusal:
                rebuilt.refused.append((name, str(refusal)))
        for draft in _insert(drafts, rebuilt):
            rebuilt.records += 1
            on_record(draft.record)
    return rebuilt


def _survey(rebuilt: Rebuilt) -> Iterator[tuple[datetime, str]]:
    """Give each file without a row and when it was stored."""
    for names in list_files(storages["latents"]):
        orphans = without_row(names)
        rebuilt.known += len(names) - len(orphans)
        for name in orphans:
            try:
                yield _read_time(name), name
            except FileRefused as refusal:
                rebuilt.refused.append((name, str(refusal)))


def _read_time(name: str) -> datetime:
    if PurePosixPath(name).name.startswith(DRAFT_PREFIX):
        raise FileRefused("it was never finished")
    try:
        with storages["latents"].open(name) as file:
            header = tensorfile.read_header(file, file.seek(0, 2))
            return _read_identity(header)[1]
    except OSError as error:
        raise FileRefused(str(StorageFailed(error))) from error
    except (InvalidTensorFile, InvalidProvenance) as error:
        raise FileRefused(str(error)) from error


def _read_identity(header: Header) -> tuple[uuid.UUID, datetime]:
    portable.read_provenance(header)
    return read_identity(header.metadata["provenance"])


def _recover(name: str, owner: User, now: datetime) -> Draft:
    """Read the whole file and return its row, not saved, with new pictures."""
    try:
        with storages["latents"].open(name) as stored:
            content = stored.read()
        file = BytesIO(content)
        header = tensorfile.read_header(file, len(content))
        provenance = portable.read_provenance(header)
        portable.check_plausible(header, provenance)
        tensors = {tensor: place.read(file) for tensor, place in header.tensors.items()}
        store.check_tensors(tensors)
    except OSError as error:
        raise FileRefused(str(StorageFailed(error))) from error
    except (InvalidTensorFile, InvalidProvenance, InvalidLatents) as error:
        raise FileRefused(str(error)) from error
    draft = store.describe(content, tensors, provenance)
    record = draft.record
    record.id, record.created_at = _read_identity(header)
    record.owner, record.expires_at, record.file = owner, default_expiry(now), name
    return draft


def _insert(drafts: list[Draft], rebuilt: Rebuilt) -> list[Draft]:
    """Save the rows of those whose id is still free, and return them."""
    taken = set(LatentRecord.objects.in_bulk([draft.record.pk for draft in drafts]))
    new: list[Draft] = []
    for draft in drafts:
        if draft.record.pk in taken:
            rebuilt.refused.append((draft.record.file, f"another file is record {draft.record.pk} already"))
        else:
            taken.add(draft.record.pk)
            new.append(draft)
    with transaction.atomic():
        LatentRecord.objects.bulk_create(draft.record for draft in new)
        HeatMap.objects.bulk_create(
            HeatMap(record=draft.record, thumbnail=draft.drawing.thumbnail, picture=draft.drawing.picture)
            for draft in new
        )
    return new


def _batches(files: list[tuple[datetime, str]]) -> Iterator[list[tuple[datetime, str]]]:
    for start in range(0, len(files), BATCH_SIZE):
        yield files[start : start + BATCH_SIZE]
