"""The rows behind the studio: what was asked for, how far it is, what came of it, and who is working on it.

A GenerationJob moves queued -> running -> succeeded | failed | cancelled. Each move is one conditional UPDATE, so that
web processes, workers and the reaper may all try at once and exactly one of them succeeds. A worker's claim on a job
is the pair (id, fence): the fence rises with every claim and never falls, and each of the worker's writes requires its
own. A worker that was thought dead therefore cannot overwrite what its successor did. It also rises when a waiting job
gets another turn (generation.line), so that a claim which has read the old order fails and reads the new one.

Leases are set and compared with the database's clock, never with the clock of one of several machines.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Self

from django.conf import settings
from django.contrib.auth.models import User
from django.core.files import File
from django.core.files.storage import storages
from django.db import models, transaction
from django.db.models import Exists, F, Q
from django.db.models.functions import Now
from django.utils import timezone

from latents.models import UNDO_WINDOW, LatentHold, LatentRecord

if TYPE_CHECKING:
    from generation.takes import TakeRequest

# How long a claim lasts without a heartbeat, and a worker counts as there after its last one: six beats.
LEASE = timedelta(seconds=30)
MAX_ATTEMPTS = 3
NOT_IN_PRESETS = frozenset({"init_latent_id", "t_start", "checkpoint_step", "resume_sample_index", "request_id"})


class QueueFull(Exception):
    """The owner has as many jobs waiting as one person may have; the message is meant for them."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"You already have {limit} jobs waiting. Wait for one to finish, or cancel one.")


class Conflict(Exception):
    """The row is in a state that does not allow this; the message is meant for the person who asked."""


class ClaimLost(Exception):
    """The job is no longer this worker's: it was given to another, or it has ended."""


class CancelRequested(Exception):
    """The job's owner wants it stopped."""


class WorkerQuerySet(models.QuerySet["Worker"]):
    """Workers, dead and alive."""

    def live(self) -> Self:
        """Keep those that have neither stopped nor gone quiet."""
        return self.filter(beat_at__gt=Now() - LEASE).exclude(state=Worker.State.STOPPED)

    def serving(self, queue: str) -> Self:
        """Keep those that would take a job from this queue."""
        return self.filter(variant__in=["", queue])


class Worker(models.Model):
    """A running `run_worker`: the supervisor and, below it, the one process that makes music."""

    class State(models.TextChoices):
        STARTING = "starting"
        IDLE = "idle"
        BUSY = "busy"
        STOPPING = "stopping"
        STOPPED = "stopped"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    variant = models.CharField(max_length=100, blank=True, help_text="the one variant it serves; empty: every variant")
    device = models.CharField(max_length=100, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.STARTING)
    jobs_done = models.PositiveIntegerField(default=0)
    memory_bytes = models.PositiveBigIntegerField(default=0)
    started_at = models.DateTimeField(db_default=Now())
    beat_at = models.DateTimeField(db_default=Now())

    objects = models.Manager.from_queryset(WorkerQuerySet)()

    class Meta:
        ordering = ["host", "pid", "id"]

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"

    @property
    def current_job(self) -> GenerationJob | None:
        return self.jobs.running().first()

    def beat(self, **changes: Any) -> None:
        """Say that this worker is there, and what has changed about it.

        Its row is forgotten while it cannot reach the database for days, and it could not claim a job without one.
        """
        row = Worker.objects.filter(pk=self.pk)
        if not row.update(beat_at=Now(), **changes):
            self.save(force_insert=True)
            row.update(beat_at=Now(), **changes)

    def give_up_claims(self) -> None:
        """Let its leases end now: the process that held them is known to be dead."""
        self.jobs.running().update(lease_until=Now() - timedelta(seconds=1))


class GenerationJobQuerySet(models.QuerySet["GenerationJob"]):
    """Jobs, and what concerns more than one of them."""

    def visible_to(self, user: User) -> Self:
        """Keep the user's own jobs that are not deleted."""
        return self.filter(owner=user, deleted_at__isnull=True)

    def queued(self) -> Self:
        """Keep those that wait for a worker, the next one first."""
        return self.filter(status=GenerationJob.Status.QUEUED).order_by("turn_at", "id")

    def running(self) -> Self:
        return self.filter(status=GenerationJob.Status.RUNNING)

    def unfinished(self) -> Self:
        return self.filter(status__in=[GenerationJob.Status.QUEUED, GenerationJob.Status.RUNNING])

    def finished(self) -> Self:
        return self.exclude(status__in=[GenerationJob.Status.QUEUED, GenerationJob.Status.RUNNING])

    def takeable_by(self, variant: str) -> Self:
        """Keep what a worker of this variant may take; the empty variant is a worker for all of them."""
        return self.filter(queue=variant) if variant else self

    def beating(self) -> Self:
        """Keep running jobs whose worker has lately sent a heartbeat, or has only just begun."""
        return self.running().filter(lease_until__gt=Now() + LEASE / 2)

    def expired(self) -> Self:
        """Keep running jobs whose worker has gone quiet.

        A lease that ends later than anybody could have set it comes from before the clock was put back.
        """
        impossible = Q(lease_until__gt=Now() + 2 * LEASE)
        return self.running().filter(Q(lease_until__lt=Now()) | impossible)

    def submit(self, request: TakeRequest, *, owner: User, request_id: str) -> GenerationJob:
        """Accept a request: its job, and a hold on the latent it starts from, in one transaction; then wake a worker.

        The same request id gives the same job again, however often it is sent.
        Raises QueueFull, and LatentNotFound if the latent has gone since it was looked at.
        """
        job = GenerationJob(
            owner=owner,
            request_id=request_id,
            params=request.to_params(),
            model_variant=request.model_variant,
            queue=request.model_variant,
            t_start_requested=request.plan.requested,
            t_start_effective=request.plan.effective,
            steps=request.plan.steps,
            model_calls=request.plan.model_calls,
            source_record=request.parent,
            resume_sample_index=request.resume_sample_index or 0,
        )
        return self._accept(job)

    def start(self, request: TakeRequest, *, owner: User, request_id: str) -> GenerationJob:
        """Accept a request that this process works on itself: no worker ever sees it waiting."""
        with transaction.atomic():
            job = self.submit(request, owner=owner, request_id=request_id)
            self._claim(job.pk, job.fence, None)
        return self.select_related("owner", "source_record", "latent").get(pk=job.pk)

    def _accept(self, job: GenerationJob) -> GenerationJob:
        """Insert a job and its holds, unless the same request was accepted before."""
        from generation.tasks import wake  # tasks imports this module

        with transaction.atomic():
            # One person's submissions pass here one at a time, so that the same request twice at once is seen, and
            # the limit is exact. no_key lets other rows that refer to this user be inserted meanwhile.
            User.objects.select_for_update(no_key=True).get(pk=job.owner_id)
            accepted = self.filter(owner=job.owner_id, request_id=job.request_id).first()
            if accepted:
                return accepted
            limit: int | None = settings.REPRISE_MAX_QUEUED_JOBS
            if limit is not None and self.filter(owner=job.owner_id).queued().count() >= limit:
                raise QueueFull(limit)
            for record in job.needed_latents():
                record.hold(job.pk)
            job.save(force_insert=True)
            transaction.on_commit(partial(wake, job.queue))
        return job

    def claim(self, variant: str, worker: Worker | None) -> GenerationJob | None:
        """Take the next job that a worker of this variant may do, or None when nothing waits."""
        while waiting := list(self.takeable_by(variant).queued().values_list("pk", "fence")[:10]):
            for pk, fence in waiting:
                if self._claim(pk, fence, worker):
                    job = self.select_related("owner", "source_record", "latent").get(pk=pk)
                    job.fence = fence + 1
                    return job
        return None

    def _claim(self, pk: uuid.UUID, fence: int, worker: Worker | None) -> bool:
        claimed = GenerationJob.objects.queued().filter(pk=pk, fence=fence)
        return bool(
            claimed.update(
                status=GenerationJob.Status.RUNNING,
                fence=fence + 1,
                attempts=F("attempts") + 1,
                worker=worker,
                lease_until=Now() + LEASE,
                started_at=Now(),
                phase="",
                step=0,
                eta_seconds=None,
                rev=F("rev") + 1,
            )
        )


class GenerationJob(models.Model):
    """One request for music, from its acceptance to its end."""

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    class Phase(models.TextChoices):
        LOAD = "load"
        DENOISE = "denoise"
        STORE = "store"
        DECODE = "decode"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="generation_jobs")
    request_id = models.CharField(max_length=64)
    retry_of = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="retries")

    # What was asked for, complete: the seed is the one that runs.
    params = models.JSONField()
    model_variant = models.CharField(max_length=100)
    t_start_requested = models.FloatField(default=1.0)
    t_start_effective = models.FloatField(default=1.0)
    steps = models.PositiveSmallIntegerField()
    model_calls = models.PositiveSmallIntegerField()
    source_record = models.ForeignKey(LatentRecord, models.SET_NULL, null=True, blank=True, related_name="resumed_by")
    resume_sample_index = models.PositiveSmallIntegerField(default=0)

    # How far it is.
    queue = models.CharField(max_length=100)
    # The database's own default is for processes of the version before, which may still run during an upgrade.
    turn_at = models.DateTimeField(
        default=timezone.now,
        db_default=Now(),
        help_text="waiting jobs are taken in this order; their owner may move them",
    )
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    phase = models.CharField(max_length=10, choices=Phase.choices, blank=True)
    step = models.PositiveSmallIntegerField(default=0, help_text="model calls done, of model_calls")
    eta_seconds = models.FloatField(null=True, blank=True)
    error = models.TextField(blank=True)
    cancel_requested = models.BooleanField(default=False)
    rev = models.PositiveIntegerField(default=0, help_text="rises with every change that a person can see")

    # Who is on it.
    attempts = models.PositiveSmallIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    worker = models.ForeignKey(Worker, models.SET_NULL, null=True, blank=True, related_name="jobs")

    # What came of it, beside its samples.
    latent = models.ForeignKey(LatentRecord, models.SET_NULL, null=True, blank=True, related_name="jobs")
    checkpoint_latent = models.ForeignKey(
        LatentRecord, models.SET_NULL, null=True, blank=True, related_name="checkpoint_jobs"
    )
    timing = models.JSONField(default=dict, blank=True, help_text="seconds by phase")

    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = models.Manager.from_queryset(GenerationJobQuerySet)()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["owner", "request_id"], name="one_job_per_request")]
        indexes = [
            models.Index(fields=["owner", "-created_at", "-id"], name="job_newest_of_owner"),
            models.Index(fields=["turn_at", "id"], name="job_in_line", condition=Q(status="queued")),
            models.Index(fields=["lease_until"], name="job_running", condition=Q(status="running")),
            models.Index(fields=["-finished_at"], name="job_finished"),
        ]

    def __str__(self) -> str:
        return f"{self.status} {self.id}"

    @property
    def is_final(self) -> bool:
        return self.status not in (self.Status.QUEUED, self.Status.RUNNING)

    @property
    def queue_position(self) -> int | None:
        """Its place in the line, from 1; None once it no longer waits."""
        if self.status != self.Status.QUEUED:
            return None
        # A worker for every variant takes all jobs in order; without one, each variant's line moves by itself.
        one_line = Exists(Worker.objects.live().filter(variant=""))
        before = Q(turn_at__lt=self.turn_at) | Q(turn_at=self.turn_at, id__lt=self.id)
        ahead = GenerationJob.objects.queued().filter(before).filter(Q(queue=self.queue) | one_line)
        return ahead.count() + 1

    def next_seed(self) -> int:
        """Return the first seed above those with which its owner has asked for the same since."""
        since = GenerationJob.objects.filter(
            owner=self.owner_id, model_variant=self.model_variant, created_at__gte=self.created_at
        )
        asked = self.params | {"seed": None}
        params = [found for found in since.values_list("params", flat=True) if found | {"seed": None} == asked]
        return max(int(found["seed"]) + int(found["batch_size"]) for found in params)

    def needed_latents(self) -> list[LatentRecord]:
        """Return the records that must stay until this job has ended; what only decodes no longer needs its source."""
        needed = self.latent or self.source_record
        return [needed] if needed else []

    # What its owner may do

    def request_cancel(self) -> None:
        """Cancel a waiting job at once; have the worker stop a running one. From now on it cannot succeed.

        Raises Conflict when it has already ended.
        """
        # It may move between waiting and running between two statements, so both are tried until it stands still.
        while not (self._cancel_waiting() or self._ask_worker_to_cancel()):
            self.refresh_from_db(fields=["status"])
            if self.is_final:
                raise Conflict(f"This job has already {self._ended_how}.")
        self.refresh_from_db()

    def _cancel_waiting(self) -> bool:
        with transaction.atomic():
            cancelled = (
                GenerationJob.objects.queued()
                .filter(pk=self.pk)
                .update(status=self.Status.CANCELLED, cancel_requested=True, finished_at=Now(), rev=F("rev") + 1)
            )
            if cancelled:
                LatentHold.objects.release(self.pk)
        return bool(cancelled)

    def _ask_worker_to_cancel(self) -> bool:
        running = GenerationJob.objects.running().filter(pk=self.pk)
        return bool(running.update(cancel_requested=True, rev=F("rev") + 1))

    @property
    def _ended_how(self) -> str:
        return "been cancelled" if self.status == self.Status.CANCELLED else self.status

    def retry(self) -> GenerationJob:
        """Ask for the same again, as a new job. Raises Conflict, QueueFull, LatentNotFound."""
        if self.status not in (self.Status.FAILED, self.Status.CANCELLED):
            raise Conflict("Only a failed or cancelled job can be retried.")
        return GenerationJob.objects.all()._accept(self._again("retry"))

    def retry_decode(self) -> GenerationJob:
        """Make sound of the latents that this job stored before it ended, as a new job; raises what retry() raises."""
        if self.status not in (self.Status.FAILED, self.Status.CANCELLED) or self.latent is None:
            raise Conflict("Only a failed or cancelled job that has stored its latents can be decoded again.")
        again = self._again("decode")
        again.latent = self.latent
        again.checkpoint_latent = self.checkpoint_latent
        return GenerationJob.objects.all()._accept(again)

    def _again(self, kind: str) -> GenerationJob:
        """Return an unsaved job with the same request. A double click asks for the same job, a later click does not."""
        return GenerationJob(
            owner=self.owner,
            request_id=f"{kind}-{self.pk}-{self.retries.finished().count()}",
            retry_of=self,
            params=self.params,
            model_variant=self.model_variant,
            queue=self.queue,
            t_start_requested=self.t_start_requested,
            t_start_effective=self.t_start_effective,
            steps=self.steps,
            model_calls=self.model_calls,
            source_record=self.source_record,
            resume_sample_index=self.resume_sample_index,
        )

    def delete_softly(self) -> None:
        """Hide a finished job and its samples; undelete() brings them back for ten minutes. Its latents stay."""
        hidden = GenerationJob.objects.finished().filter(pk=self.pk, deleted_at__isnull=True)
        if not hidden.update(deleted_at=Now(), rev=F("rev") + 1):
            raise Conflict("Only a finished job can be deleted. Cancel it first.")
        self.refresh_from_db()

    def undelete(self) -> None:
        recent = GenerationJob.objects.filter(pk=self.pk, deleted_at__gt=Now() - UNDO_WINDOW)
        if not recent.update(deleted_at=None, rev=F("rev") + 1):
            raise Conflict("This was not deleted within the last ten minutes.")
        self.refresh_from_db()

    # What only the worker that has claimed it may do. Each raises ClaimLost once the job is another's.

    def _claimed(self) -> GenerationJobQuerySet:
        return GenerationJob.objects.running().filter(pk=self.pk, fence=self.fence)

    def _write(self, **changes: Any) -> None:
        """Write to a job that is still this worker's and still wanted."""
        if not self._claimed().filter(cancel_requested=False).update(**changes):
            self._refuse()

    def _refuse(self) -> NoReturn:
        # Winding down takes time too, so the lease is renewed all the same.
        if self._claimed().update(lease_until=Now() + LEASE):
            raise CancelRequested
        raise ClaimLost

    def renew_lease(self) -> None:
        """Keep the claim for another lease. Raises CancelRequested too."""
        self._write(lease_until=Now() + LEASE)

    def check_claim(self) -> None:
        """Look whether the job is still this worker's. Raises CancelRequested too."""
        if not self._claimed().filter(cancel_requested=False).exists():
            self._refuse()

    def report(self, phase: str, step: int, eta_seconds: float | None) -> None:
        """Show how far the work is. Raises CancelRequested too."""
        self._write(phase=phase, step=step, eta_seconds=eta_seconds, lease_until=Now() + LEASE, rev=F("rev") + 1)

    def remember_latents(self, latent: LatentRecord, checkpoint: LatentRecord | None) -> None:
        """Note what has been stored, and hold it, so that this attempt or a later one has only to decode it."""
        with transaction.atomic():
            latent.hold(self.pk)
            stored = {"latent": latent, "checkpoint_latent": checkpoint}
            if not self._claimed().update(**stored, rev=F("rev") + 1):
                raise ClaimLost
        self.latent = latent
        self.checkpoint_latent = checkpoint

    def finish(self, samples: Iterable[Sample], timing: Mapping[str, float]) -> None:
        """End it with its samples, which are not saved yet, their files durable. Raises CancelRequested too."""
        with transaction.atomic():
            self._write(**self._ending(self.Status.SUCCEEDED), timing=dict(timing), step=F("model_calls"))
            Sample.objects.bulk_create(samples)
            LatentHold.objects.release(self.pk)

    def fail(self, error: str) -> None:
        """End it with a sentence that says why."""
        self._end(self.Status.FAILED, error=error)

    def end_cancelled(self) -> None:
        """End it because its owner asked for that."""
        self._end(self.Status.CANCELLED)

    def release(self) -> None:
        """Put it back for the next worker; this attempt does not count."""
        waiting = {"status": self.Status.QUEUED, "attempts": F("attempts") - 1, **self._nobodys()}
        try:
            self._write(**waiting)
        except CancelRequested:
            self.end_cancelled()

    def _end(self, status: str, **changes: Any) -> None:
        with transaction.atomic():
            if not self._claimed().update(**self._ending(status), **changes):
                raise ClaimLost
            LatentHold.objects.release(self.pk)

    @staticmethod
    def _ending(status: str) -> dict[str, Any]:
        return {
            "status": status,
            "lease_until": None,
            "eta_seconds": None,
            "finished_at": Now(),
            "rev": F("rev") + 1,
        }

    @staticmethod
    def _nobodys() -> dict[str, Any]:
        return {"worker": None, "lease_until": None, "phase": "", "step": 0, "eta_seconds": None, "rev": F("rev") + 1}

    # What anybody may do to a job whose worker has gone quiet

    def reap(self) -> bool:
        """Take the job from a worker that has let its lease expire: put it back, or end it after the last attempt.

        The row must be as it was read; returns whether it was.
        """
        gone = GenerationJob.objects.expired().filter(
            pk=self.pk, fence=self.fence, cancel_requested=self.cancel_requested
        )
        if not self.cancel_requested and self.attempts < MAX_ATTEMPTS:
            changes = {"status": self.Status.QUEUED, **self._nobodys()}
        elif self.cancel_requested:
            changes = self._ending(self.Status.CANCELLED)
        else:
            changes = self._ending(self.Status.FAILED) | {"error": self._died_error()}
        with transaction.atomic():
            if not gone.update(**changes):
                return False
            if changes["status"] != self.Status.QUEUED:
                LatentHold.objects.release(self.pk)
        self.status = changes["status"]
        return True

    def _died_error(self) -> str:
        doing = {
            self.Phase.LOAD: "loading the model",
            self.Phase.DENOISE: "denoising",
            self.Phase.STORE: "storing the latents",
            self.Phase.DECODE: "decoding",
        }.get(self.Phase(self.phase) if self.phase else self.Phase.LOAD)
        return f"Given up after {self.attempts} attempts: the worker died or stopped responding while {doing}."


class SampleQuerySet(models.QuerySet["Sample"]):
    """Samples."""

    def visible_to(self, user: User) -> Self:
        """Keep the user's own samples that are not deleted, neither by themselves nor with their job."""
        return self.filter(job__owner=user, job__deleted_at__isnull=True, deleted_at__isnull=True)

    def purgeable(self) -> Self:
        """Keep those whose sound may go: deleted beyond undo, or older than sound is kept here."""
        beyond_undo = Now() - UNDO_WINDOW
        gone = Q(deleted_at__lt=beyond_undo) | Q(job__deleted_at__lt=beyond_undo)
        if settings.REPRISE_AUDIO_TTL is not None:
            gone |= Q(created_at__lt=Now() - settings.REPRISE_AUDIO_TTL)
        return self.filter(gone, purged_at__isnull=True)


class Sample(models.Model):
    """One audio result: one item of one job's batch."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey(GenerationJob, models.CASCADE, related_name="samples")
    index = models.PositiveSmallIntegerField()
    seed = models.BigIntegerField()
    latent = models.ForeignKey(LatentRecord, models.SET_NULL, null=True, blank=True, related_name="samples")
    latent_index = models.PositiveSmallIntegerField(default=0)
    audio_file = models.CharField(max_length=200, help_text="name of the FLAC file in the storage `audio`")
    sha256 = models.CharField(max_length=64)
    size_bytes = models.PositiveBigIntegerField()
    sample_rate = models.PositiveIntegerField()
    duration_s = models.FloatField()
    loudness_lufs = models.FloatField(null=True, blank=True, help_text="empty for silence")
    peaks = models.JSONField(default=list, help_text="what the waveform is drawn from")
    created_at = models.DateTimeField(default=timezone.now)
    deleted_at = models.DateTimeField(null=True, blank=True)
    purged_at = models.DateTimeField(null=True, blank=True, help_text="when the sound itself was removed")

    objects = models.Manager.from_queryset(SampleQuerySet)()

    class Meta:
        ordering = ["job", "index"]
        constraints = [models.UniqueConstraint(fields=["job", "index"], name="one_sample_per_index")]

    def __str__(self) -> str:
        return f"Sample {self.index + 1} of {self.job_id}"

    def open_audio(self) -> File[bytes]:
        """Open the FLAC file for reading."""
        return storages["audio"].open(self.audio_file)

    def delete_softly(self) -> None:
        """Hide it; undelete() brings it back for ten minutes."""
        if not Sample.objects.filter(pk=self.pk, deleted_at__isnull=True).update(deleted_at=Now()):
            raise Conflict("This sample is deleted already.")
        self._job_has_changed()

    def undelete(self) -> None:
        recent = Sample.objects.filter(pk=self.pk, purged_at=None, deleted_at__gt=Now() - UNDO_WINDOW)
        if not recent.update(deleted_at=None):
            raise Conflict("This was not deleted within the last ten minutes.")
        self._job_has_changed()

    def _job_has_changed(self) -> None:
        GenerationJob.objects.filter(pk=self.job_id).update(rev=F("rev") + 1)
        self.refresh_from_db()


class Preset(models.Model):
    """A form's parameters under a name; never what a take would be resumed from."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="presets")
    name = models.CharField(max_length=100)
    params = models.JSONField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="one_preset_per_name")]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def keep(cls, owner: User, name: str, params: Mapping[str, Any]) -> Preset:
        """Save the parameters under this name, in place of what had it before."""
        kept = {field: value for field, value in params.items() if field not in NOT_IN_PRESETS}
        preset, _ = cls.objects.update_or_create(owner=owner, name=name, defaults={"params": kept})
        return preset


class Draft(models.Model):
    """What a person has in the form and has not sent: field names and texts, valid or not."""

    owner = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="draft")
    state = models.JSONField()
    saved_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"draft of {self.owner_id}"

    @property
    def opening(self) -> str:
        """What it begins with, to know it by."""
        return str(self.state.get("caption") or self.state.get("lyrics", ""))


class Chore(models.Model):
    """Something that one of all the workers does now and then."""

    name = models.CharField(max_length=50, primary_key=True)
    due_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.name

    @classmethod
    def take(cls, name: str, *, every: timedelta) -> bool:
        """Return whether it is due and this caller is to do it; the next is due one interval from now."""
        due = cls.objects.filter(name=name, due_at__lte=Now())
        if not due.exists():
            _, is_new = cls.objects.get_or_create(name=name)
            if not is_new:
                return False
        return bool(due.update(due_at=Now() + every))
