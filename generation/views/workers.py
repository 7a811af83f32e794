"""Who is making music right now: for staff, since it names the machines."""

from __future__ import annotations

from typing import cast

from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch
from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from generation.models import GenerationJob, Worker
from generation.variants import all_variants
from generation.views.answers import StudioRequest
from resumeapp.middleware import wants_json


@require_safe
@vary_on_headers("Accept", "HX-Request")
def workers(request: StudioRequest) -> HttpResponse:
    if not request.user.is_staff:
        raise PermissionDenied("Only staff may see the workers.")
    running = Prefetch("jobs", GenerationJob.objects.running(), to_attr="running_jobs")
    live = list(Worker.objects.live().prefetch_related(running))
    if wants_json(request):
        return JsonResponse({"workers": [_worker_json(worker) for worker in live]})
    waiting = GenerationJob.objects.queued().count()
    return render(request, "generation/workers.html", {"workers": live, "waiting": waiting, "variants": all_variants()})


def _worker_json(worker: Worker) -> dict[str, object]:
    return {
        "id": worker.pk,
        "host": worker.host,
        "pid": worker.pid,
        "variant": worker.variant,
        "device": worker.device,
        "state": worker.state,
        "jobs": [job.pk for job in cast(list[GenerationJob], getattr(worker, "running_jobs"))],  # noqa: B009
        "jobs_done": worker.jobs_done,
        "memory_bytes": worker.memory_bytes,
        "started_at": worker.started_at,
        "beat_at": worker.beat_at,
    }
