"""Put right what dead workers, lost messages and the passing of time leave behind. Any number of workers may do it."""

from __future__ import annotations

import logging
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from django.core.files.storage import Storage, storages
from django.db.models.functions import Now
from django.utils import timezone

from generation.downloads import remove_audio
from generation.models import Chore, GenerationJob, Sample, Worker
from generation.tasks import wake
from latents import retention
from latents.audit import is_too_many, list_files

logger = logging.getLogger(__name__)

PRUNE_EVERY: Final = timedelta(hours=1)
ROWS_KEPT: Final = timedelta(days=90)
STOPPED_WORKERS_KEPT: Final = timedelta(days=1)
# A file may be that old before its sample's row is committed, or its writer has died.
STRAYS_KEPT: Final = timedelta(days=1)
UUID_PATTERN: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def reap() -> int:
    """Give the jobs of workers that have gone quiet to others, or end them; return how many."""
    reaped = 0
    for job in GenerationJob.objects.expired():
        if not job.reap():
            continue
        reaped += 1
        logger.warning("Job %s: its worker has gone quiet in attempt %d; now %s", job.pk, job.attempts, job.status)
        if job.status == GenerationJob.Status.QUEUED:
            wake(job.queue)
    return reaped


def is_work_waiting(variant: str) -> bool:
    """Tell whether a worker of this variant has something to do."""
    return GenerationJob.objects.takeable_by(variant).queued().exists()


def purge_sounds() -> int:
    """Remove the sound of samples that have had their time; return how many."""
    purged = 0
    for sample in Sample.objects.purgeable().iterator():
        # File first: if this stops half-way the next hour does it again.
        remove_audio(sample)
        purged += Sample.objects.filter(pk=sample.pk).update(purged_at=Now())
    return purged


def remove_stray_sounds(now: datetime) -> int:
    """Remove day-old files that no sample has: a worker died between writing and finishing. Return how many.

    Refuses where so many would go that the database or the folder is probably the wrong one.
    """
    storage, files, strays = storages["audio"], 0, []
    # Files before rows: a sample that is committed meanwhile is seen.
    for names in list_files(storage):
        files += len(names)
        strays += [name for name in _without_sample(names) if _is_older(storage, name, now - STRAYS_KEPT)]
    if is_too_many(len(strays), files):
        logger.error("%d of %d sound files have no sample; as that is so many, none is removed", len(strays), files)
        return 0
    for name in strays:
        storage.delete(name)
    return len(strays)


def _is_older(storage: Storage, name: str, time: datetime) -> bool:
    try:
        return storage.get_modified_time(name) < time
    except FileNotFoundError:  # a draft that has got its name meanwhile
        return False


def _without_sample(names: list[str]) -> list[str]:
    """Keep the names that do not begin with the id of a sample that has sound; a sample may have several files."""
    ids = {name: Path(name).stem for name in names}
    possible = [stem for stem in ids.values() if UUID_PATTERN.fullmatch(stem)]
    known = {str(pk) for pk in Sample.objects.filter(pk__in=possible, purged_at=None).values_list("pk", flat=True)}
    return [name for name, stem in ids.items() if stem not in known]


def forget_rows() -> None:
    """Delete rows that nobody can reach any more."""
    long_deleted = GenerationJob.objects.finished().filter(deleted_at__lt=Now() - ROWS_KEPT)
    long_deleted.exclude(samples__purged_at__isnull=True, samples__isnull=False).delete()
    Worker.objects.filter(beat_at__lt=Now() - STOPPED_WORKERS_KEPT).delete()


def is_turn_to_prune() -> bool:
    """Once an hour, tell one worker of all that it is to prune."""
    return Chore.take("prune", every=PRUNE_EVERY)


def prune() -> None:
    """Take the bytes of what has expired or was deleted."""
    now = timezone.now()
    retention.prune(now)
    sounds = purge_sounds()
    strays = remove_stray_sounds(now) if Chore.take("remove stray sounds", every=STRAYS_KEPT) else 0
    forget_rows()
    if sounds or strays:
        logger.info("Removed the sound of %d samples, and %d stray files", sounds, strays)
