"""Put right what dead workers, lost messages and the passing of time leave behind. Any number of workers may do it."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

from django.db.models.functions import Now
from django.utils import timezone

from generation.downloads import remove_audio
from generation.models import Chore, GenerationJob, Sample, Worker
from generation.tasks import wake
from latents import retention

logger = logging.getLogger(__name__)

PRUNE_EVERY: Final = timedelta(hours=1)
ROWS_KEPT: Final = timedelta(days=90)
STOPPED_WORKERS_KEPT: Final = timedelta(days=1)


def reap() -> int:
    """Give the jobs of workers that have gone quiet to others, or end them; return how many."""
    reaped = 0
    for job in GenerationJob.objects.expired():
        if not job.reap():
            continue
        reaped += 1
        job.refresh_from_db()
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
    retention.prune(timezone.now())
    if sounds := purge_sounds():
        logger.info("Removed the sound of %d samples", sounds)
    forget_rows()
