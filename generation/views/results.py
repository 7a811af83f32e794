"""The jobs and samples that a page shows: the owner's own, and for ten minutes those that can be brought back."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db.models import Prefetch, Q, QuerySet
from django.urls import reverse
from django.utils import timezone

from generation.models import GenerationJob, Sample, Worker
from latents.models import UNDO_WINDOW

PAGE_SIZE = 6


def not_gone() -> Q:
    """Select what is there, or was deleted so lately that it can be brought back."""
    return Q(deleted_at=None) | Q(deleted_at__gt=timezone.now() - UNDO_WINDOW)


def with_samples(jobs: QuerySet[GenerationJob]) -> QuerySet[GenerationJob]:
    samples = Sample.objects.filter(not_gone()).order_by("index")
    return jobs.prefetch_related(Prefetch("samples", samples))


def newest_jobs(user: User, before: GenerationJob | None = None) -> tuple[list[GenerationJob], GenerationJob | None]:
    """Return a page of jobs, newest first, and the job after which the next page begins."""
    jobs = GenerationJob.objects.filter(not_gone(), owner=user).order_by("-created_at", "-id")
    if before is not None:
        same_time = Q(created_at=before.created_at, id__lt=before.id)
        jobs = jobs.filter(Q(created_at__lt=before.created_at) | same_time)
    found = list(with_samples(jobs)[: PAGE_SIZE + 1])
    page = found[:PAGE_SIZE]
    return page, page[-1] if len(found) > PAGE_SIZE else None


def has_worker() -> bool:
    return Worker.objects.live().exists()


def job_json(job: GenerationJob) -> dict[str, Any]:
    """Describe a job to a program."""
    return {
        "id": job.id,
        "url": reverse("generation:job", args=[job.pk]),
        "rev": job.rev,
        "status": job.status,
        "phase": job.phase,
        "step": job.step,
        "steps": job.model_calls,
        "eta_seconds": job.eta_seconds,
        "queue_position": job.queue_position,
        "error": job.error,
        "samples": [sample_json(sample) for sample in job.samples.all() if sample.deleted_at is None],
        "latent_id": job.latent_id,
        "checkpoint_latent_id": job.checkpoint_latent_id,
    }


def sample_json(sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.id,
        "index": sample.index,
        "seed": sample.seed,
        "duration": sample.duration_s,
        "audio_url": reverse("generation:audio", args=[sample.pk]),
        "latent_id": sample.latent_id,
    }
