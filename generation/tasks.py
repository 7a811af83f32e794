"""The worker's entry points, as django-q2 calls them. A message carries nothing but a name: the rows say what to do."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Final

from django.conf import settings
from django.db import Error
from django_q.tasks import async_task

from generation import takes, worker
from generation.downloads import remove_audio
from generation.engine.schedule import PlanError
from generation.models import CancelRequested, ClaimLost, GenerationJob, Sample, Worker
from generation.variants import UnknownVariant
from generation.worker import Attempt, DeadlinePassed, StopRequested, persistently
from latents.errors import LatentError
from resumeapp import logs

logger = logging.getLogger(__name__)

DRAIN_S: Final = 600.0

# What a person can be told in its own words; all else is a fault of ours or of the machine.
EXPLAINED = (
    DeadlinePassed,
    LatentError,
    PlanError,
    UnknownVariant,
    takes.InvalidParams,
    takes.NotEnoughMemory,
    takes.WeightsMissing,
)


def wake(queue: str) -> None:
    """Tell the workers that serve this queue that a job waits in it. Never raises: the supervisors say it again."""
    try:
        variants = set(Worker.objects.live().serving(queue).values_list("variant", flat=True))
    except Error:
        logger.warning("Nobody could be woken for %s", queue, exc_info=True)
        return
    for variant in variants:
        wake_worker(variant)


def wake_worker(variant: str) -> None:
    """Send a message that one of the workers of this variant gets, the empty one being every variant. Never raises."""
    try:
        async_task("generation.tasks.drain", variant, cluster=variant or settings.Q_CLUSTER["name"])
    except Exception:  # each broker has errors of its own
        logger.warning("No message could be sent to the workers of %s", variant or "every variant", exc_info=True)


def drain(variant: str) -> None:
    """Do the jobs that a worker of this variant may do until nothing is left; the empty variant is every one.

    Called often, late or twice it does the same. It never raises, and returns after ten minutes with another wake-up
    sent, so that no message is ever held for long.
    """
    with worker.slot.draining():
        try:
            _drain(variant)
        except Exception:
            logger.exception("The queue could not be drained")


def _drain(variant: str) -> None:
    ends = time.monotonic() + DRAIN_S
    while not worker.slot.is_stopping:
        if time.monotonic() > ends:
            wake_worker(variant)
            return
        job = GenerationJob.objects.claim(variant, worker.row)
        if job is None:
            return
        do(job)
        worker.slot.jobs_done += 1


def do(job: GenerationJob, attempt: Attempt | None = None) -> None:
    """Work on a claimed job, and move it to where it belongs then, whatever happens."""
    with logs.about(job=job.pk, attempt=job.attempts):
        logger.info("The job begins")
        try:
            with attempt or Attempt(job) as attempt:
                _do(job, attempt)
        except ClaimLost:
            logger.warning("The attempt was overtaken; what it made is dropped")
        else:
            logger.info("The attempt is over")


def _do(job: GenerationJob, attempt: Attempt) -> None:
    try:
        take = _make(job, attempt)
        _finish(job, take)
        _note_device(take)
    except ClaimLost:
        raise
    except CancelRequested:
        persistently(job.end_cancelled)
    except StopRequested:
        persistently(job.release)
    except Exception as error:
        persistently(partial(job.fail, _explain(error)))


def _explain(error: Exception) -> str:
    from generation.engine.decoding import DecodeOutOfMemory  # brings torch, which the web process never loads

    if isinstance(error, (*EXPLAINED, DecodeOutOfMemory)):
        return str(error)
    logger.error("A job failed for a reason that it should not have", exc_info=error)
    if isinstance(error, Error):
        return f"The database did not keep the take: {error}."
    return f"The worker ran into a problem: {str(error) or type(error).__name__}"


def _make(job: GenerationJob, attempt: Attempt) -> takes.Take:
    request = takes.TakeRequest.from_params(job.params, job.source_record)
    if job.latent:
        return takes.decode_take(
            request, job.latent, checkpoint=job.checkpoint_latent, on_phase=attempt.on_phase, on_tile=attempt.on_tile
        )
    return takes.make_take(
        request,
        owner=job.owner,
        on_phase=attempt.on_phase,
        on_step=attempt.on_step,
        on_stored=job.remember_latents,
        on_tile=attempt.on_tile,
        insist=persistently,
    )


def _finish(job: GenerationJob, take: takes.Take) -> None:
    for sample in take.samples:
        sample.job = job
    try:
        persistently(partial(job.finish, take.samples, take.timing))
    except (CancelRequested, ClaimLost):
        _drop(take.samples)
        raise


def _note_device(take: takes.Take) -> None:
    """Show on the workers page what this one computes on; nothing else knows it without loading torch."""
    device = take.record.runtime.get("device", "")
    if worker.row and worker.row.device != device:
        worker.row.device = device
        worker.row.beat(device=device)


def _drop(samples: list[Sample]) -> None:
    """Remove the files of samples that got no row. They may have one: a commit whose answer was lost, tried again."""
    for sample in samples:
        if not Sample.objects.filter(audio_file=sample.audio_file).exists():
            remove_audio(sample)
