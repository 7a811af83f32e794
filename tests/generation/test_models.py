"""What a job's row allows, to whom, and in which order."""

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Count, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from generation import tasks
from generation.models import (
    LEASE,
    MAX_ATTEMPTS,
    CancelRequested,
    Chore,
    ClaimLost,
    Conflict,
    GenerationJob,
    Preset,
    QueueFull,
    Sample,
    Worker,
)
from latents.errors import LatentHeld, LatentNotFound
from latents.models import LatentHold, LatentRecord
from tests.generation.take_requests import take_request

Status = GenerationJob.Status
Submit = Callable[..., GenerationJob]

pytestmark = pytest.mark.usefixtures("tiny_models")


@pytest.fixture
def submit(alice: User) -> Submit:
    """Return a function that queues a job for alice."""
    numbers = count()

    def submit(
        parent: LatentRecord | None = None, *, owner: User = alice, request_id: str = "", **params: Any
    ) -> GenerationJob:
        request_id = request_id or f"request {next(numbers)}"
        return GenerationJob.objects.submit(take_request(parent, **params), owner=owner, request_id=request_id)

    return submit


@pytest.fixture
def claim(submit: Submit) -> Callable[..., GenerationJob]:
    """Return a function that queues a job and claims it at once."""

    def claim(*args: Any, **params: Any) -> GenerationJob:
        submit(*args, **params)
        job = GenerationJob.objects.claim("", None)
        assert job
        return job

    return claim


def sample_of(job: GenerationJob, index: int = 0) -> Sample:
    return Sample(
        job=job, index=index, seed=7, audio_file=f"{index}.flac", size_bytes=1, sample_rate=48000, duration_s=1.0
    )


def expire(job: GenerationJob) -> None:
    GenerationJob.objects.filter(pk=job.pk).update(lease_until=Now() - timedelta(seconds=1))


def reload(job: GenerationJob) -> GenerationJob:
    return GenerationJob.objects.get(pk=job.pk)


class TestSubmit:
    def test_keeps_the_request_complete(self, submit: Submit, take: LatentRecord) -> None:
        job = submit(take, t_start=0.6)
        assert (job.status, job.queue, job.source_record) == (Status.QUEUED, "tiny", take)
        assert (job.t_start_requested, job.t_start_effective, job.model_calls, job.steps) == (0.6, 0.6, 3, 4)
        assert take_request(take, t_start=0.6) == take_request(take).from_params(job.params, take)

    def test_gives_the_same_job_for_the_same_request(self, submit: Submit) -> None:
        assert submit(request_id="once").pk == submit(request_id="once").pk

    def test_gives_two_people_their_own_jobs_for_the_same_request_id(self, submit: Submit, bob: User) -> None:
        assert submit(request_id="once").pk != submit(request_id="once", owner=bob).pk

    def test_holds_the_latent_it_starts_from(self, submit: Submit, take: LatentRecord) -> None:
        submit(take)
        with pytest.raises(LatentHeld):
            take.delete_softly()

    def test_holds_nothing_at_full_denoise(self, submit: Submit, take: LatentRecord) -> None:
        submit(take, t_start=1.0)
        assert not LatentHold.objects.exists()

    def test_is_refused_when_the_latent_has_gone_since(self, submit: Submit, take: LatentRecord) -> None:
        take.delete_softly()
        with pytest.raises(LatentNotFound):
            submit(take)
        assert not GenerationJob.objects.exists()

    def test_is_refused_when_too_many_jobs_wait(self, submit: Submit, settings: Settings, bob: User) -> None:
        settings.REPRISE_MAX_QUEUED_JOBS = 2
        first = submit(request_id="first")
        submit()
        with pytest.raises(QueueFull, match="2 jobs waiting"):
            submit()
        assert submit(request_id="first").pk == first.pk, "what was accepted stays accepted"
        submit(owner=bob)

    def test_wakes_the_workers_once_the_row_can_be_seen(
        self,
        submit: Submit,
        monkeypatch: pytest.MonkeyPatch,
        django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    ) -> None:
        woken: list[str] = []
        monkeypatch.setattr(tasks, "wake", woken.append)
        with django_capture_on_commit_callbacks(execute=True):
            submit()
            assert not woken
        assert woken == ["tiny"]


class TestClaim:
    def test_takes_the_oldest_first(self, submit: Submit) -> None:
        jobs = [submit() for _ in range(3)]
        claimed = [GenerationJob.objects.claim("", None) for _ in range(4)]
        assert claimed == [*jobs, None]

    def test_takes_only_its_own_variant(self, submit: Submit) -> None:
        submit()
        turbo = submit(model_variant="tiny-turbo")
        assert GenerationJob.objects.claim("tiny-turbo", None) == turbo
        assert GenerationJob.objects.claim("tiny-turbo", None) is None

    def test_raises_fence_and_attempts_and_sets_a_lease(self, submit: Submit) -> None:
        worker = Worker.objects.create(host="here", pid=1)
        submit()
        job = GenerationJob.objects.claim("", worker)
        assert job
        row = reload(job)
        assert (row.status, row.fence, job.fence, row.attempts, row.worker) == (Status.RUNNING, 1, 1, 1, worker)
        assert row.lease_until
        assert abs(row.lease_until - timezone.now() - LEASE) < timedelta(seconds=5)
        assert worker.current_job == job

    def test_loses_to_a_claim_that_came_between(self, submit: Submit) -> None:
        job = submit()
        jobs = GenerationJob.objects.all()
        assert jobs._claim(job.pk, job.fence, None)
        assert not jobs._claim(job.pk, job.fence, None)

    def test_counts_the_fence_up_for_ever(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        for fence in range(2, 5):
            job.release()
            again = GenerationJob.objects.claim("", None)
            assert again
            assert (again.fence, again.attempts) == (fence, 1)
            job = again


WORKER_WRITES: dict[str, Callable[[GenerationJob], object]] = {
    "renew_lease": lambda job: job.renew_lease(),
    "check_claim": lambda job: job.check_claim(),
    "report": lambda job: job.report("denoise", 1, 2.0),
    "finish": lambda job: job.finish([sample_of(job)], {}),
    "fail": lambda job: job.fail("no"),
    "end_cancelled": lambda job: job.end_cancelled(),
    "release": lambda job: job.release(),
}


class TestFence:
    @pytest.mark.parametrize("write", WORKER_WRITES.values(), ids=WORKER_WRITES.keys())
    def test_keeps_out_a_worker_that_was_thought_dead(
        self, claim: Callable[..., GenerationJob], write: Callable[[GenerationJob], object]
    ) -> None:
        late = claim()
        expire(late)
        assert reload(late).reap()
        second = GenerationJob.objects.claim("", None)
        before = GenerationJob.objects.values().get()
        with pytest.raises(ClaimLost):
            write(late)
        assert GenerationJob.objects.values().get() == before
        assert second
        second.finish([sample_of(second)], {})
        with pytest.raises(ClaimLost):
            write(late)
        assert Sample.objects.count() == 1

    def test_drops_the_hold_with_the_refused_latents(
        self, claim: Callable[..., GenerationJob], take: LatentRecord
    ) -> None:
        late = claim()
        expire(late)
        reload(late).reap()
        with pytest.raises(ClaimLost):
            late.remember_latents(take, None)
        assert not LatentHold.objects.exists()


class TestProgress:
    def test_is_seen_with_a_new_rev(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        before = reload(job).rev
        job.report("denoise", 3, 1.5)
        row = reload(job)
        assert (row.phase, row.step, row.eta_seconds, row.rev) == ("denoise", 3, 1.5, before + 1)

    def test_renews_the_lease(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        expire(job)
        job.report("denoise", 3, 1.5)
        assert not GenerationJob.objects.expired().exists()

    def test_a_heartbeat_shows_nothing_new(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        before = reload(job).rev
        job.renew_lease()
        assert reload(job).rev == before


class TestEnd:
    def test_success_brings_samples_and_frees_the_latent(
        self, claim: Callable[..., GenerationJob], take: LatentRecord
    ) -> None:
        job = claim(take)
        job.finish([sample_of(job, 0), sample_of(job, 1)], {"denoise": 1.0})
        row = reload(job)
        assert (row.status, row.samples.count(), row.timing) == (Status.SUCCEEDED, 2, {"denoise": 1.0})
        assert (row.step, row.lease_until, row.eta_seconds) == (row.model_calls, None, None)
        assert row.finished_at
        take.delete_softly()

    def test_failure_says_why_and_frees_the_latent(
        self, claim: Callable[..., GenerationJob], take: LatentRecord
    ) -> None:
        job = claim(take)
        job.fail("Out of luck")
        assert (reload(job).status, reload(job).error) == (Status.FAILED, "Out of luck")
        take.delete_softly()

    def test_release_takes_the_attempt_back(self, claim: Callable[..., GenerationJob], take: LatentRecord) -> None:
        job = claim(take)
        job.release()
        row = reload(job)
        assert (row.status, row.attempts, row.lease_until, row.phase) == (Status.QUEUED, 0, None, "")
        with pytest.raises(LatentHeld):
            take.delete_softly()

    def test_release_of_a_cancelled_job_ends_it(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        reload(job).request_cancel()
        job.release()
        assert reload(job).status == Status.CANCELLED

    def test_stored_latents_are_remembered_and_held(
        self, claim: Callable[..., GenerationJob], take: LatentRecord, checkpoint: LatentRecord
    ) -> None:
        job = claim()
        job.remember_latents(take, checkpoint)
        row = reload(job)
        assert (row.latent, row.checkpoint_latent) == (take, checkpoint)
        with pytest.raises(LatentHeld):
            take.delete_softly()
        job.fail("no memory to decode")
        take.delete_softly()


class TestCancel:
    def test_ends_a_waiting_job_at_once(self, submit: Submit, take: LatentRecord) -> None:
        job = submit(take)
        job.request_cancel()
        assert job.status == Status.CANCELLED
        assert job.finished_at
        assert not LatentHold.objects.exists()
        assert GenerationJob.objects.claim("", None) is None

    def test_asks_the_worker_of_a_running_job(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        reload(job).request_cancel()
        for write in ("renew_lease", "check_claim"):
            with pytest.raises(CancelRequested):
                getattr(job, write)()
        job.end_cancelled()
        assert reload(job).status == Status.CANCELLED

    def test_a_cancelled_job_never_succeeds(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        reload(job).request_cancel()
        with pytest.raises(CancelRequested):
            job.finish([sample_of(job)], {})
        assert not Sample.objects.exists()

    def test_keeps_the_lease_while_the_worker_winds_down(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        reload(job).request_cancel()
        expire(job)
        with pytest.raises(CancelRequested):
            job.renew_lease()
        assert not GenerationJob.objects.expired().exists()

    def test_comes_too_late_for_a_finished_job(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        job.finish([], {})
        with pytest.raises(Conflict, match="already succeeded"):
            reload(job).request_cancel()


class TestHeartbeat:
    def test_counts_for_half_a_lease(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        assert GenerationJob.objects.beating().get() == job
        GenerationJob.objects.update(lease_until=Now() + LEASE / 3)
        assert not GenerationJob.objects.beating().exists()
        job.renew_lease()
        assert GenerationJob.objects.beating().get() == job


class TestReap:
    def test_puts_the_job_back(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        expire(job)
        assert reload(job).reap()
        row = reload(job)
        assert (row.status, row.attempts, row.fence, row.worker) == (Status.QUEUED, 1, 1, None)

    def test_leaves_a_job_alone_whose_worker_came_back(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        expire(job)
        seen = reload(job)
        job.renew_lease()
        assert not seen.reap()

    def test_leaves_a_job_alone_that_was_claimed_again(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        expire(job)
        seen = reload(job)
        assert reload(job).reap()
        again = GenerationJob.objects.claim("", None)
        assert again
        expire(again)
        assert not seen.reap()

    def test_gives_up_after_the_last_attempt_and_says_where(
        self, claim: Callable[..., GenerationJob], take: LatentRecord
    ) -> None:
        job = claim(take)
        job.report("denoise", 1, None)
        GenerationJob.objects.update(attempts=MAX_ATTEMPTS)
        expire(job)
        assert reload(job).reap()
        row = reload(job)
        assert row.status == Status.FAILED
        assert row.error == "Given up after 3 attempts: the worker died or stopped responding while denoising."
        assert not LatentHold.objects.exists()

    def test_ends_what_was_to_be_cancelled(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        reload(job).request_cancel()
        expire(job)
        assert reload(job).reap()
        assert reload(job).status == Status.CANCELLED

    def test_sees_a_lease_that_no_clock_could_have_set(self, claim: Callable[..., GenerationJob]) -> None:
        """The clock was put back by a day after the lease was given."""
        job = claim()
        GenerationJob.objects.update(lease_until=Now() + timedelta(days=1))
        assert GenerationJob.objects.expired().get() == job


class TestRetry:
    def test_makes_a_new_job_that_names_the_old_one(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim(seed=99)
        job.fail("no")
        again = reload(job).retry()
        assert (again.retry_of, again.params, again.status, again.attempts) == (job, job.params, Status.QUEUED, 0)
        assert reload(job).status == Status.FAILED

    def test_twice_at_once_is_one_job_and_later_another(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        job.fail("no")
        first, second = reload(job).retry(), reload(job).retry()
        assert first == second
        first.request_cancel()
        assert reload(job).retry() != first

    def test_is_refused_while_the_job_has_not_failed(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        with pytest.raises(Conflict):
            reload(job).retry()
        job.finish([], {})
        with pytest.raises(Conflict):
            reload(job).retry()

    def test_is_refused_when_its_latent_has_gone(self, claim: Callable[..., GenerationJob], take: LatentRecord) -> None:
        job = claim(take)
        job.fail("no")
        take.delete_softly()
        with pytest.raises(LatentNotFound):
            reload(job).retry()

    def test_of_the_decode_starts_from_the_stored_latents(
        self, claim: Callable[..., GenerationJob], store_take: Callable[..., LatentRecord]
    ) -> None:
        source, made = store_take(), store_take()
        job = claim(source)
        job.remember_latents(made, None)
        job.fail("no memory to decode")
        source.delete_softly()
        again = reload(job).retry_decode()
        assert (again.latent, again.retry_of) == (made, job)
        with pytest.raises(LatentHeld):
            made.delete_softly()

    def test_of_the_decode_is_refused_without_latents(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        job.fail("no")
        with pytest.raises(Conflict):
            reload(job).retry_decode()


class TestDelete:
    def test_hides_the_job_and_its_samples_until_undone(self, claim: Callable[..., GenerationJob], alice: User) -> None:
        job = claim()
        job.finish([sample_of(job)], {})
        job.delete_softly()
        assert not GenerationJob.objects.visible_to(alice).exists()
        assert not Sample.objects.visible_to(alice).exists()
        job.undelete()
        assert Sample.objects.visible_to(alice).get().job == job

    def test_is_refused_while_the_job_is_not_finished(self, submit: Submit) -> None:
        with pytest.raises(Conflict):
            submit().delete_softly()

    def test_cannot_be_undone_after_ten_minutes(self, claim: Callable[..., GenerationJob]) -> None:
        job = claim()
        job.finish([sample_of(job)], {})
        sample = job.samples.get()
        for row in (job, sample):
            row.delete_softly()
            type(row).objects.filter(pk=row.pk).update(deleted_at=Now() - timedelta(minutes=11))
            with pytest.raises(Conflict):
                row.undelete()

    def test_of_a_sample_changes_what_its_job_shows(self, claim: Callable[..., GenerationJob], alice: User) -> None:
        job = claim()
        job.finish([sample_of(job, 0), sample_of(job, 1)], {})
        before = reload(job).rev
        sample = job.samples.get(index=0)
        sample.delete_softly()
        assert reload(job).rev == before + 1
        assert [kept.index for kept in Sample.objects.visible_to(alice)] == [1]
        sample.undelete()
        assert Sample.objects.visible_to(alice).count() == 2

    def test_of_another_persons_job_is_out_of_reach(self, submit: Submit, bob: User) -> None:
        submit()
        assert not GenerationJob.objects.visible_to(bob).exists()


class TestQueuePosition:
    def test_counts_who_comes_before(self, submit: Submit) -> None:
        jobs = [submit() for _ in range(3)]
        assert [job.queue_position for job in jobs] == [1, 2, 3]
        assert GenerationJob.objects.claim("", None)
        assert [reload(job).queue_position for job in jobs] == [None, 1, 2]

    def test_is_by_variant_unless_a_worker_serves_all(self, submit: Submit) -> None:
        submit()
        turbo = submit(model_variant="tiny-turbo")
        assert turbo.queue_position == 1
        Worker.objects.create(host="here", pid=1)
        assert turbo.queue_position == 2


class TestWorker:
    def test_is_live_until_its_beats_stop(self, db: None) -> None:
        worker = Worker.objects.create(host="here", pid=1, variant="tiny")
        assert Worker.objects.live().serving("tiny").get() == worker
        assert not Worker.objects.live().serving("tiny-turbo").exists()
        Worker.objects.update(beat_at=Now() - timedelta(minutes=1))
        assert not Worker.objects.live().exists()
        worker.beat(state=Worker.State.STOPPED)
        assert not Worker.objects.live().exists()

    def test_that_was_forgotten_while_it_was_away_can_claim_again(self, submit: Submit) -> None:
        worker = Worker.objects.create(host="here", pid=1, variant="tiny")
        Worker.objects.all().delete()
        worker.beat(state=Worker.State.IDLE)
        assert Worker.objects.live().get().state == Worker.State.IDLE
        job = submit()
        assert GenerationJob.objects.claim("tiny", worker) == job
        assert worker.current_job == job


class TestPreset:
    def test_never_keeps_what_a_take_would_be_resumed_from(self, alice: User, take: LatentRecord) -> None:
        Preset.keep(alice, "mine", take_request(take).to_params() | {"request_id": "x"})
        kept = Preset.objects.get().params
        assert kept["caption"] == "warm lofi piano"
        assert not {"init_latent_id", "t_start", "checkpoint_step", "resume_sample_index", "request_id"} & set(kept)

    def test_replaces_what_had_the_name_before(self, alice: User, bob: User) -> None:
        Preset.keep(alice, "mine", {"bpm": 80})
        Preset.keep(alice, "mine", {"bpm": 90})
        Preset.keep(bob, "mine", {"bpm": 100})
        assert Preset.objects.get(owner=alice).params == {"bpm": 90}


class TestChore:
    def test_is_done_by_one_and_then_not_for_a_while(self, db: None) -> None:
        turns = [Chore.take("sweep", every=timedelta(hours=1)) for _ in range(3)]
        assert turns == [True, False, False]
        Chore.objects.update(due_at=Now() - timedelta(seconds=1))
        assert Chore.take("sweep", every=timedelta(hours=1))


RECENT = GenerationJob.objects.filter(finished_at__gt=timezone.now())
PLANS = [
    # (index, query, who asks)
    ("job_newest_of_owner", GenerationJob.objects.filter(owner=1).order_by("-created_at", "-id")[:9], "the studio"),
    ("job_in_line", GenerationJob.objects.queued()[:10], "workers"),
    ("job_running", GenerationJob.objects.expired(), "the supervisor"),
    ("job_finished", RECENT.order_by().values("model_variant", "status").annotate(jobs=Count("id")), "metrics"),
    ("job_finished", GenerationJob.objects.filter(status="succeeded").order_by("-finished_at")[:5], "estimates"),
]


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads SQLite's query plans")
@pytest.mark.parametrize(("index", "query", "who"), PLANS)
def test_query_uses_its_index(index: str, query: QuerySet[GenerationJob], who: str) -> None:
    assert index in query.explain()
