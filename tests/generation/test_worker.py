"""How an attempt talks to the database while the work goes on."""

import time
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now

from generation import worker
from generation.models import CancelRequested, ClaimLost, GenerationJob
from generation.worker import Attempt, StopRequested
from tests.generation.take_requests import take_request

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tiny_models")]


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "ROUND_S", 0.05)
    monkeypatch.setattr(worker, "slot", worker.new_slot())


@pytest.fixture
def job(alice: User) -> GenerationJob:
    GenerationJob.objects.submit(take_request(), owner=alice, request_id="one")
    job = GenerationJob.objects.claim("", None)
    assert job
    return job


def row() -> GenerationJob:
    return GenerationJob.objects.get()


def eventually(is_so: Callable[[], bool]) -> None:
    gives_up_at = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < gives_up_at
        time.sleep(0.01)


def test_progress_is_shown_with_an_estimate(job: GenerationJob) -> None:
    with Attempt(job) as attempt:
        attempt.on_phase("denoise")
        attempt.on_step(0, 4)
        time.sleep(0.2)
        attempt.on_step(1, 4)
        eventually(lambda: row().step == 1)
    assert row().phase == "denoise"
    assert row().eta_seconds == pytest.approx(0.6, abs=0.3)


def test_progress_is_written_once_a_round_however_quick_the_steps(job: GenerationJob) -> None:
    before = row().rev
    with Attempt(job) as attempt:
        attempt.on_phase("denoise")
        started = time.monotonic()
        for step in range(200):
            attempt.on_step(step, 200)
            time.sleep(0.002)
        rounds = (time.monotonic() - started) / worker.ROUND_S
    assert 0 < row().rev - before <= rounds + 1


def test_the_lease_is_renewed_without_progress(job: GenerationJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BEAT_S", 0.1)
    with Attempt(job) as attempt:
        attempt.on_phase("load")
        eventually(lambda: row().phase == "load")
        GenerationJob.objects.update(lease_until=Now())
        eventually(lambda: not GenerationJob.objects.expired().exists())


def test_the_lease_is_not_renewed_once_the_work_stalls(job: GenerationJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BEAT_S", 0.1)
    monkeypatch.setitem(worker.STALL_LIMITS_S, "denoise", 0.3)
    with Attempt(job) as attempt:
        attempt.on_phase("denoise")
        time.sleep(0.5)
        GenerationJob.objects.update(lease_until=Now())
        time.sleep(0.3)
        assert GenerationJob.objects.expired().exists()


def test_a_cancelled_job_is_heard_at_the_next_step(job: GenerationJob) -> None:
    with Attempt(job) as attempt:
        attempt.on_phase("denoise")
        row().request_cancel()
        time.sleep(0.3)
        with pytest.raises(CancelRequested):
            attempt.on_step(1, 4)


def test_a_cancelled_job_is_heard_between_tiles(job: GenerationJob) -> None:
    with Attempt(job) as attempt:
        attempt.on_phase("decode")
        row().request_cancel()
        time.sleep(0.3)
        with pytest.raises(CancelRequested):
            attempt.on_tile(1, 4)


def test_a_lost_claim_is_heard_at_the_next_step(job: GenerationJob) -> None:
    with Attempt(job) as attempt:
        GenerationJob.objects.update(fence=9)
        time.sleep(0.3)
        with pytest.raises(ClaimLost):
            attempt.on_step(1, 4)


def test_the_end_of_the_worker_is_heard_at_once(job: GenerationJob) -> None:
    with Attempt(job) as attempt:
        worker.slot.is_stopping = True
        with pytest.raises(StopRequested):
            attempt.on_step(1, 4)


def test_a_database_that_does_not_answer_does_not_stop_the_work(
    job: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    report, failures = GenerationJob.report, iter([OperationalError("locked")] * 3)

    def sometimes(self: GenerationJob, phase: str, step: int, eta_seconds: float | None) -> None:
        if failure := next(failures, None):
            raise failure
        report(self, phase, step, eta_seconds)

    monkeypatch.setattr(GenerationJob, "report", sometimes)
    with Attempt(job) as attempt:
        attempt.on_phase("denoise")
        eventually(lambda: row().phase == "denoise")
        attempt.on_step(1, 4)
