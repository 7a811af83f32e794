"""The line of waiting jobs, as far as it is one person's: in which order their own jobs are taken, and a way out of it.

Jobs are claimed in the order of their turns. Whoever moves a job only deals the turns that their own waiting jobs have
anew among them. So however often somebody moves jobs, no more of theirs come before anybody else's job than did
before: nobody is overtaken.

Each model has a queue, and a worker serves one of them or all. A turn is worth its place in its own queue: exchanged
for one of another queue, it could pass jobs of others there. Turns are therefore dealt within a queue, and across
queues only while nobody else has anything to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from generation.models import Conflict, GenerationJob, GenerationJobQuerySet, Worker
from latents.models import UNDO_WINDOW, LatentHold

ENDED_WITHOUT_A_TAKE = (GenerationJob.Status.FAILED, GenerationJob.Status.CANCELLED)
_TICK = timedelta(microseconds=1)


def waiting(owner: User) -> GenerationJobQuerySet:
    """Return a person's waiting jobs, the next one first."""
    return GenerationJob.objects.visible_to(owner).queued()


def ended_without_a_take(owner: User) -> GenerationJobQuerySet:
    """Return what has failed or was cancelled and is still shown, the latest first."""
    ended = GenerationJob.objects.visible_to(owner).filter(status__in=ENDED_WITHOUT_A_TAKE)
    return ended.order_by("-finished_at", "-id")


def positions(jobs: Sequence[GenerationJob]) -> dict[UUID, int]:
    """Return the place of each in the whole line, from 1; `jobs` wait, and stand in their order."""
    if not jobs:
        return {}
    everyone_s = Worker.objects.live().filter(variant="").exists()  # as in GenerationJob.queue_position
    upto = GenerationJob.objects.queued().filter(turn_at__lte=jobs[-1].turn_at).values_list("pk", "queue")
    wanted = {job.pk for job in jobs}
    ahead: dict[str, int] = {}
    places = {}
    for pk, queue in upto.iterator():
        line = "" if everyone_s else queue
        ahead[line] = ahead.get(line, 0) + 1
        if pk in wanted:
            places[pk] = ahead[line]
    return places


def move_to_front(job: GenerationJob) -> None:
    """Let a waiting job be the next of its owner's. Raises Conflict once it no longer waits."""
    with transaction.atomic():
        line = _locked_line(job)
        _deal([job, *(other for other in line if other != job)], [other.turn_at for other in line])
    job.refresh_from_db()


def move_to_back(job: GenerationJob) -> None:
    """Let a waiting job be the last of its owner's. Raises Conflict once it no longer waits."""
    with transaction.atomic():
        line = _locked_line(job)
        _deal([*(other for other in line if other != job), job], [other.turn_at for other in line])
    job.refresh_from_db()


def cancel_waiting(owner: User) -> int:
    """Cancel all that a person has waiting, and nothing that runs; return how many."""
    with transaction.atomic():
        _lock_owner(owner.pk)
        ids = list(waiting(owner).select_for_update().values_list("pk", flat=True))
        GenerationJob.objects.queued().filter(pk__in=ids).update(
            status=GenerationJob.Status.CANCELLED, cancel_requested=True, finished_at=Now(), rev=F("rev") + 1
        )
        LatentHold.objects.filter(job_id__in=ids).delete()
    return len(ids)


def clear_ended(owner: User) -> list[UUID]:
    """Hide at once all that ended without a take; return which. bring_back() with any of them undoes it."""
    with transaction.atomic():
        ids = list(ended_without_a_take(owner).select_for_update().values_list("pk", flat=True))
        GenerationJob.objects.filter(pk__in=ids).update(deleted_at=timezone.now(), rev=F("rev") + 1)
    return ids


def bring_back(job: GenerationJob) -> int:
    """Undo a deletion of the last ten minutes, of this job and of all that was hidden with it; return of how many."""
    recent = GenerationJob.objects.filter(owner=job.owner_id, deleted_at__gt=Now() - UNDO_WINDOW)
    count = recent.filter(deleted_at=job.deleted_at).update(deleted_at=None, rev=F("rev") + 1)
    if not count:
        raise Conflict("This was not deleted within the last ten minutes.")
    return count


def _locked_line(job: GenerationJob) -> list[GenerationJob]:
    """Return the owner's waiting jobs that may exchange turns with this one, locked so that none is claimed."""
    _lock_owner(job.owner_id)
    line = GenerationJob.objects.queued().filter(owner=job.owner_id)
    # Running jobs count too: they may come back to the turn they had.
    if GenerationJob.objects.unfinished().exclude(owner=job.owner_id).exists():
        line = line.filter(queue=job.queue)
    locked = list(line.select_for_update())
    if job not in locked:
        raise Conflict("Only a waiting job can be moved.")
    return locked


def _lock_owner(owner_id: int) -> None:
    """Let one person's changes to their line happen one at a time, as their submissions do."""
    User.objects.select_for_update(no_key=True).get(pk=owner_id)


def _deal(order: Iterable[GenerationJob], turns: Sequence[datetime]) -> None:
    """Give the jobs these turns, earliest first."""
    moved = []
    last = None
    for job, turn in zip(order, turns, strict=True):
        # Equal turns would be taken in the order of ids. One made later passes nobody.
        due = turn if last is None else max(turn, last + _TICK)
        last = due
        if job.turn_at != due:
            job.turn_at = due
            job.fence += 1
            job.rev += 1
            moved.append(job)
    GenerationJob.objects.bulk_update(moved, ["turn_at", "fence", "rev"], batch_size=100)
