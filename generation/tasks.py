"""The worker's entry points as django-q2 calls them. A message carries no work, only a queue's name: look at the rows."""

from __future__ import annotations

import logging

from django.conf import settings
from django_q.tasks import async_task

from generation.models import Worker

logger = logging.getLogger(__name__)


def wake(queue: str) -> None:
    """Tell the workers that serve this queue that a job waits in it. Never raises: the reaper says it again."""
    try:
        for variant in set(Worker.objects.live().serving(queue).values_list("variant", flat=True)):
            async_task("generation.tasks.drain", variant, cluster=variant or settings.Q_CLUSTER["name"])
    except Exception:
        logger.exception("Could not wake a worker for %s", queue)


def drain(variant: str) -> None:
    """Do the jobs that a worker of this variant may do until nothing is left."""
