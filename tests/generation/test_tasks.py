"""What a worker does with the jobs it finds, whatever happens on the way."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.db import OperationalError

from generation import takes, tasks, worker
from generation.models import GenerationJob, Sample, Worker
from generation.takes import Take
from generation.worker import Attempt
from latents.models import LatentHold, LatentRecord
from tests.generation.take_requests import take_request

Status = GenerationJob.Status

# A worker's heartbeat is a second thread, which sees only what has been committed.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tiny_models", "own_slot")]


@pytest.fixture
def own_slot() -> Any:
    yield
    worker.slot.is_stopping = False
    worker.slot.start_over()


@pytest.fixture
def submit(alice: User) -> Callable[..., GenerationJob]:
    def submit(parent: LatentRecord | None = None, **params: Any) -> GenerationJob:
        request = take_request(parent, **params)
        return GenerationJob.objects.submit(request, owner=alice, request_id=str(GenerationJob.objects.count()))

    return submit


def reload(job: GenerationJob) -> GenerationJob:
    return GenerationJob.objects.get(pk=job.pk)


def interrupt(monkeypatch: pytest.MonkeyPatch, method: str, at: Callable[..., bool], act: Callable[[], None]) -> None:
    """Do something inside the work, once: when the attempt's callback `method` is called with what `at` accepts."""
    original = getattr(Attempt, method)
    is_done: list[bool] = []

    def callback(attempt: Attempt, *args: Any) -> None:
        if not is_done and at(*args):
            is_done.append(True)
            act()
        original(attempt, *args)

    monkeypatch.setattr(Attempt, method, callback)


def stored_files(alias: str) -> int:
    storage = storages[alias]
    if not storage.exists(""):
        return 0
    return sum(len(storage.listdir(folder)[1]) for folder in storage.listdir("")[0])


class TestDrain:
    def test_does_all_jobs_and_stores_what_they_make(self, submit: Callable[..., GenerationJob]) -> None:
        jobs = [submit(batch_size=2), submit(seed=8)]
        tasks.drain("")
        for job in map(reload, jobs):
            assert (job.status, job.error, job.attempts) == (Status.SUCCEEDED, "", 1)
            assert job.latent
            assert [sample.seed for sample in job.samples.all()] == job.latent.seeds
            assert set(job.timing) == {"load", "denoise", "store", "decode"}
        assert not LatentHold.objects.exists()
        assert worker.slot.jobs_done >= 2

    def test_a_repeated_message_finds_nothing_to_do(self, submit: Callable[..., GenerationJob]) -> None:
        submit()
        for _ in range(3):
            tasks.drain("")
        assert reload(GenerationJob.objects.get()).attempts == 1
        assert Sample.objects.count() == 1

    def test_serves_one_variant_only(self, submit: Callable[..., GenerationJob]) -> None:
        base, turbo = submit(), submit(model_variant="tiny-turbo")
        tasks.drain("tiny-turbo")
        assert (reload(base).status, reload(turbo).status) == (Status.QUEUED, Status.SUCCEEDED)

    def test_never_raises(self, submit: Callable[..., GenerationJob], monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*args: object) -> None:
            raise OperationalError("the database is locked")

        monkeypatch.setattr("generation.models.GenerationJobQuerySet.claim", broken)
        tasks.drain("")

    def test_starts_nothing_once_the_worker_is_to_stop(self, submit: Callable[..., GenerationJob]) -> None:
        job = submit()
        worker.slot.is_stopping = True
        tasks.drain("")
        assert reload(job).status == Status.QUEUED

    def test_sends_another_message_when_its_time_is_over(
        self, submit: Callable[..., GenerationJob], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        woken: list[str] = []
        job = submit()
        monkeypatch.setattr(tasks, "DRAIN_S", -1.0)
        monkeypatch.setattr(tasks, "wake_worker", woken.append)
        tasks.drain("")
        assert (reload(job).status, woken) == (Status.QUEUED, [""])

    def test_resumes_from_the_held_latent(self, submit: Callable[..., GenerationJob], take: LatentRecord) -> None:
        job = submit(take, t_start=0.0, resume_sample_index=1, duration=2.0)
        tasks.drain("")
        job = reload(job)
        assert (job.status, job.error, job.model_calls) == (Status.SUCCEEDED, "", 0)
        assert job.latent
        assert (job.latent.parent_id, job.latent.parent_sample_index) == (take.pk, 1)


class TestFailure:
    def test_is_told_in_the_words_of_whoever_knows(
        self, submit: Callable[..., GenerationJob], take: LatentRecord
    ) -> None:
        job = submit(take, duration=2.0)
        storages["latents"].delete(take.file)
        tasks.drain("")
        assert (reload(job).status, reload(job).error) == (Status.FAILED, f"Failed to load latent tensor '{take.pk}'")
        assert not LatentHold.objects.exists()

    def test_that_nobody_expected_is_told_too(
        self, submit: Callable[..., GenerationJob], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*args: object, **kwargs: object) -> Take:
            raise RuntimeError("the model is a teapot")

        monkeypatch.setattr(takes, "make_take", broken)
        job = submit()
        tasks.drain("")
        assert reload(job).error == "The worker ran into a problem: the model is a teapot"

    def test_to_decode_keeps_the_latents_and_only_decodes_again(
        self, submit: Callable[..., GenerationJob], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from generation.engine.decoding import DecodeOutOfMemory
        from generation.engine.music_model import MusicModel

        def no_memory(*args: object, **kwargs: object) -> None:
            raise DecodeOutOfMemory("Not enough memory to decode. The latents are kept.")

        job = submit()
        with monkeypatch.context() as patch:
            patch.setattr(MusicModel, "decode", no_memory)
            tasks.drain("")
        failed = reload(job)
        assert (failed.status, failed.error) == (Status.FAILED, "Not enough memory to decode. The latents are kept.")
        monkeypatch.setattr(MusicModel, "denoise", no_memory)
        again = failed.retry_decode()
        tasks.drain("")
        assert (reload(again).status, reload(again).latent) == (Status.SUCCEEDED, failed.latent)

    def test_for_lack_of_weights_says_how_to_get_them(self, submit: Callable[..., GenerationJob]) -> None:
        job = submit(model_variant="absent")
        tasks.drain("")
        assert "fetch_model absent" in reload(job).error


class TestInterruption:
    def test_by_cancel_stops_at_the_next_step(
        self, submit: Callable[..., GenerationJob], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = submit(inference_steps=200)

        def cancel() -> None:
            reload(job).request_cancel()
            time.sleep(0.7)

        interrupt(monkeypatch, "on_step", lambda step, steps: step == 2, cancel)
        tasks.drain("")
        assert (reload(job).status, reload(job).latent) == (Status.CANCELLED, None)

    def test_by_cancel_right_before_the_end_leaves_no_sound(
        self, submit: Callable[..., GenerationJob], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = submit(batch_size=2)
        finish = GenerationJob.finish

        def cancel_first(self: GenerationJob, *args: Any) -> None:
            reload(self).request_cancel()
            finish(self, *args)

        monkeypatch.setattr(GenerationJob, "finish", cancel_first)
        tasks.drain("")
        assert reload(job).status == Status.CANCELLED
        assert (Sample.objects.count(), stored_files("audio")) == (0, 0)

    def test_by_the_end_of_the_worker_puts_the_job_back(
        self, submit: Callable[..., GenerationJob], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = submit(inference_steps=200)

        def stop() -> None:
            worker.slot.is_stopping = True

        interrupt(monkeypatch, "on_step", lambda step, steps: step == 2, stop)
        tasks.drain("")
        job = reload(job)
        assert (job.status, job.attempts, job.worker, job.lease_until) == (Status.QUEUED, 0, None, None)

    def test_after_the_latents_are_stored_leaves_only_the_decoding(
        self, submit: Callable[..., GenerationJob], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = submit()

        def stop() -> None:
            worker.slot.is_stopping = True

        interrupt(monkeypatch, "on_phase", lambda phase: phase == "decode", stop)
        tasks.drain("")
        stored = reload(job).latent
        assert (reload(job).status, stored is None) == (Status.QUEUED, False)
        worker.slot.is_stopping = False
        tasks.drain("")
        assert (reload(job).status, reload(job).latent) == (Status.SUCCEEDED, stored)
        assert LatentRecord.objects.count() == 1

    def test_by_a_successor_drops_what_the_first_has_made(
        self, submit: Callable[..., GenerationJob], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The worker was paused for longer than its lease, and its job was given to another."""
        job = submit()

        def take_over() -> None:
            GenerationJob.objects.update(fence=5, attempts=2)

        interrupt(monkeypatch, "on_phase", lambda phase: phase == "store", take_over)
        tasks.drain("")
        row = reload(job)
        assert (row.status, row.fence, row.latent) == (Status.RUNNING, 5, None)
        assert not LatentRecord.objects.exists()
        assert (stored_files("latents"), stored_files("audio")) == (0, 0)

    def test_by_its_deadline_fails_the_job(
        self, submit: Callable[..., GenerationJob], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(worker, "DEADLINE_S", -1.0)
        job = submit()
        tasks.drain("")
        assert reload(job).status == Status.FAILED
        assert "the longest that a job may take" in reload(job).error

    def test_of_the_database_does_not_lose_a_finished_take(
        self, submit: Callable[..., GenerationJob], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        finish, failures = GenerationJob.finish, iter([OperationalError("database is locked")] * 2)

        def finish_in_the_end(self: GenerationJob, *args: Any) -> None:
            if failure := next(failures, None):
                raise failure
            finish(self, *args)

        monkeypatch.setattr(GenerationJob, "finish", finish_in_the_end)
        job = submit()
        tasks.drain("")
        assert reload(job).status == Status.SUCCEEDED

    def test_of_the_answer_to_a_commit_keeps_the_sound(
        self, submit: Callable[..., GenerationJob], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The connection broke after the commit, so the worker believes that it failed."""
        finish, failures = GenerationJob.finish, iter([OperationalError("connection lost")])

        def finish_unheard(self: GenerationJob, *args: Any) -> None:
            finish(self, *args)
            if failure := next(failures, None):
                raise failure

        monkeypatch.setattr(GenerationJob, "finish", finish_unheard)
        job = submit()
        tasks.drain("")
        assert reload(job).status == Status.SUCCEEDED
        with Sample.objects.get().open_audio() as sound:
            assert sound.read(4) == b"fLaC"

    def test_of_the_answer_to_a_commit_keeps_the_latents_for_a_successor(
        self, submit: Callable[..., GenerationJob], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The connection broke after the commit, and came back when the job had been given to another."""
        persistently, failures = tasks.persistently, iter([OperationalError("connection lost")])

        def insist_unheard(write: Callable[[], Any]) -> None:
            def write_unheard() -> None:
                write()
                if failure := next(failures, None):
                    GenerationJob.objects.update(fence=5, attempts=2)
                    raise failure

            persistently(write_unheard)

        job = submit()
        with monkeypatch.context() as patched:
            patched.setattr(tasks, "persistently", insist_unheard)
            tasks.drain("")
        assert (reload(job).status, stored_files("latents")) == (Status.RUNNING, 1)
        GenerationJob.objects.update(status=Status.QUEUED)
        tasks.drain("")
        assert (reload(job).status, reload(job).error) == (Status.SUCCEEDED, "")


class TestWake:
    @pytest.fixture
    def sent(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The queue of each message, whatever broker carries it."""
        queues: list[str] = []
        monkeypatch.setattr(tasks, "async_task", lambda *arguments, cluster: queues.append(cluster))
        return queues

    def test_sends_one_message_to_each_queue_that_somebody_listens_to(self, sent: list[str]) -> None:
        for variant in ("", "tiny", "tiny", "tiny-turbo"):
            Worker.objects.create(host="here", pid=1, variant=variant)
        tasks.wake("tiny")
        assert sorted(sent) == ["reprise", "tiny"]

    def test_sends_nothing_where_nobody_listens(self, sent: list[str]) -> None:
        tasks.wake("tiny")
        assert not sent

    def test_never_raises(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*args: object, **kwargs: object) -> None:
            raise ConnectionError("Redis is away")

        Worker.objects.create(host="here", pid=1)
        monkeypatch.setattr(tasks, "async_task", broken)
        tasks.wake("tiny")
        tasks.wake_worker("tiny")


def test_twenty_threads_claim_each_job_once(submit: Callable[..., GenerationJob]) -> None:
    from django.db import connection

    for seed in range(40):
        submit(seed=seed)
    claimed: list[GenerationJob] = []

    def claim_all() -> None:
        try:
            while job := GenerationJob.objects.claim("", None):
                claimed.append(job)
        finally:
            connection.close()

    threads = [threading.Thread(target=claim_all) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 40
    assert {(job.pk, job.fence) for job in claimed} == {
        (pk, 1) for pk in GenerationJob.objects.values_list("pk", flat=True)
    }
