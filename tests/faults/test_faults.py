"""What goes wrong on one machine on an ordinary day, with real processes and real signals."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from generation import tasks
from generation.models import Conflict, GenerationJob, Sample, Worker
from latents.audit import audit, fix
from latents.models import LatentHold, LatentRecord
from tests.faults.conftest import (
    RunningWorker,
    assert_done,
    assert_files_are_whole,
    assert_garbage_is_found,
    ended,
    eventually,
    is_running,
    reload,
)

Status = GenerationJob.Status
Start = Callable[..., RunningWorker]
Submit = Callable[..., GenerationJob]


def test_a_job_is_done_and_the_worker_says_so(start_worker: Start, submit: Submit) -> None:
    worker = start_worker()
    job = submit()
    eventually(lambda: ended(job))
    assert_done(job)
    row = Worker.objects.get()
    assert (row.pid, reload(job).worker) == (worker.pid, row)
    eventually(lambda: Worker.objects.get().jobs_done == 1)
    assert Worker.objects.get().memory_bytes > 10**7


def test_jobs_from_before_the_worker_started_are_done(start_worker: Start, submit: Submit) -> None:
    jobs = [submit(), submit()]
    start_worker(is_awaited=False)
    eventually(lambda: ended(*jobs))
    assert_done(*jobs)


def test_lost_wake_ups_are_made_good(start_worker: Start, submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    start_worker()
    monkeypatch.setattr(tasks, "wake", lambda queue: None)
    job = submit()
    eventually(lambda: ended(job))
    assert_done(job)


def test_repeated_wake_ups_do_the_work_once(start_worker: Start, submit: Submit) -> None:
    start_worker()
    jobs = []
    for _ in range(5):
        jobs.append(submit())
        tasks.wake("tiny")
        tasks.wake("tiny")
    eventually(lambda: ended(*jobs))
    assert_done(*jobs)
    assert Sample.objects.count() == 5


class TestKill:
    def test_of_the_busy_worker_costs_one_attempt(self, start_worker: Start, submit: Submit) -> None:
        worker = start_worker(slow=[0.05])
        job, following = submit(inference_steps=50), submit()
        eventually(lambda: is_running(job, step=3))
        os.kill(worker.part("worker"), signal.SIGKILL)
        eventually(lambda: ended(job, following))
        assert_done(job, attempts=2)
        assert_done(following)

    def test_of_the_idle_worker_is_noticed_and_the_group_replaced(self, start_worker: Start, submit: Submit) -> None:
        """The dead worker has taken the queue's lock with it, and django-q2 does not see that anything is wrong."""
        worker = start_worker()
        before = set(worker.processes())
        os.kill(worker.part("worker"), signal.SIGKILL)
        eventually(lambda: set(worker.processes()) & before == {worker.pid})
        job = submit()
        eventually(lambda: ended(job))
        assert_done(job)

    @pytest.mark.parametrize("part", ["sentinel", "pusher", "monitor"])
    def test_of_any_other_part_loses_nothing(self, start_worker: Start, submit: Submit, part: str) -> None:
        worker = start_worker(slow=[0.05])
        jobs = [submit(inference_steps=20), submit()]
        eventually(lambda: is_running(jobs[0]))
        os.kill(worker.part(part), signal.SIGKILL)
        eventually(lambda: ended(*jobs))
        later = submit()
        eventually(lambda: ended(later))
        assert {reload(job).status for job in (*jobs, later)} == {Status.SUCCEEDED}
        assert len(worker.processes()) == 5

    def test_of_the_supervisor_leaves_no_process_behind(self, start_worker: Start, submit: Submit) -> None:
        worker = start_worker(slow=[0.05])
        job = submit(inference_steps=200)
        eventually(lambda: is_running(job))
        worker.signal(signal.SIGKILL)
        eventually(lambda: not worker.processes(), patience_s=5)
        GenerationJob.objects.update(lease_until=Now())  # nobody renews it any more
        start_worker()
        eventually(lambda: ended(job))
        assert_done(job, attempts=2)

    @pytest.mark.parametrize(
        "moment",
        [
            "generation.takes:make_take",
            "latents.storage:DurableFileSystemStorage._write",
            "os:fsync@2",  # the first is of the folder that was made
            "pathlib:Path.rename",
            "latents.storage:_fsync@2",
            "latents.store:Draft.insert",
            "generation.models:GenerationJob.remember_latents",
            "generation.takes:_make_samples",
            "pathlib:Path.rename@2",
            "generation.models:GenerationJob.finish",
            "latents.models:LatentHoldQuerySet.release",
        ],
    )
    def test_at_any_point_leaves_a_job_that_is_done_once(
        self, start_worker: Start, submit: Submit, tmp_path: Path, moment: str
    ) -> None:
        start_worker(killed_at=[moment, str(tmp_path / "was killed")])
        job = submit()
        while not ended(job):
            assert_files_are_whole()
        assert_done(job, attempts=2)
        assert_files_are_whole()
        assert_garbage_is_found()
        assert LatentRecord.objects.count() == 1
        assert not LatentHold.objects.exists()


class TestWedge:
    def test_is_noticed_by_the_jobs_that_wait(self, start_worker: Start, submit: Submit) -> None:
        """The pusher is there, and does nothing."""
        worker = start_worker(constants={"generation.supervisor.WEDGED_S": 2.0})
        before = set(worker.processes())
        os.kill(worker.part("pusher"), signal.SIGSTOP)
        job = submit()
        eventually(lambda: ended(job))
        assert_done(job)
        assert set(worker.processes()) & before == {worker.pid}

    def test_that_comes_back_each_time_ends_the_worker(self, start_worker: Start) -> None:
        worker = start_worker(is_awaited=False, dying=[])
        assert worker.wait() == 1
        assert "failed 6 times in a row" in worker.log.read_text()
        assert not worker.processes()


class TestPoison:
    def test_stops_after_three_attempts_and_harms_no_other(self, start_worker: Start, submit: Submit) -> None:
        start_worker(poison=["poison"])
        job, following = submit(caption="poison"), submit()
        eventually(lambda: ended(job, following))
        assert (reload(job).status, reload(job).attempts) == (Status.FAILED, 3)
        assert "worker died or stopped responding" in reload(job).error
        assert_done(following)


class TestHang:
    @pytest.mark.parametrize("scene", ["stuck", "stalled"])
    def test_is_ended_with_every_stack_in_the_log_and_the_job_tried_again(
        self, start_worker: Start, submit: Submit, tmp_path: Path, scene: str
    ) -> None:
        limits = dict.fromkeys(("", "load", "denoise", "store", "decode"), 3.0)
        constants = {"generation.worker.STALL_LIMITS_S": limits, "generation.worker.HANG_S": 3.0}
        worker = start_worker(constants=constants, **{scene: [str(tmp_path / "has hung")]})
        job = submit()
        eventually(lambda: ended(job))
        assert_done(job, attempts=2)
        assert "most recent call first" in worker.log.read_text()


class TestPause:
    def test_past_the_lease_lets_another_worker_win(self, start_worker: Start, submit: Submit, tmp_path: Path) -> None:
        """A worker is stopped right before it finishes, and goes on when its successor has finished."""
        flag = tmp_path / "paused"
        start_worker(paused_at=["generation.models:GenerationJob.finish", str(flag)])
        job = submit()
        paused = int(eventually(lambda: flag.exists() and flag.read_text()))
        GenerationJob.objects.update(lease_until=Now())
        second = start_worker()
        eventually(lambda: ended(job))
        won = Sample.objects.values().get()
        os.kill(paused, signal.SIGCONT)
        later = [submit() for _ in range(4)]
        eventually(lambda: ended(*later))
        eventually(lambda: "was overtaken" in "".join(log.read_text() for log in tmp_path.glob("*.log")))
        assert Sample.objects.filter(job=job).values().get() == won
        assert_done(job, attempts=2)
        assert reload(job).worker == Worker.objects.get(pid=second.pid)

    def test_between_a_file_and_its_row_leaves_the_file_to_its_writer(
        self, start_worker: Start, submit: Submit, tmp_path: Path
    ) -> None:
        flag = tmp_path / "paused"
        start_worker(paused_at=["latents.store:Draft.insert", str(flag)])
        job = submit()
        paused = int(eventually(lambda: flag.exists() and flag.read_text()))
        found = audit(timezone.now())
        assert (found.young, found.orphans) == (1, [])
        fix(found, timezone.now())
        os.kill(paused, signal.SIGCONT)
        eventually(lambda: ended(job))
        assert_done(job)
        assert_files_are_whole()


class TestStop:
    def test_lets_the_step_end_and_puts_the_job_back(self, start_worker: Start, submit: Submit) -> None:
        worker = start_worker(slow=[0.1])
        jobs = [submit(inference_steps=100), *(submit() for _ in range(3))]
        eventually(lambda: is_running(jobs[0]))
        asked_at = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert time.monotonic() - asked_at < 4
        assert not worker.processes()
        assert [(reload(job).status, reload(job).attempts) for job in jobs] == [(Status.QUEUED, 0)] * 4
        assert Worker.objects.get().state == Worker.State.STOPPED

    @pytest.mark.parametrize("times", [1, 5])
    def test_of_every_process_at_once_is_the_same(self, start_worker: Start, submit: Submit, times: int) -> None:
        worker = start_worker(slow=[0.1])
        job = submit(inference_steps=100)
        eventually(lambda: is_running(job))
        for _ in range(times):
            for pid in worker.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            time.sleep(0.05)
        assert worker.wait() == 0
        assert not worker.processes()
        assert (reload(job).status, reload(job).attempts) == (Status.QUEUED, 0)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_of_an_idle_worker_takes_a_moment_however_often_it_is_asked(self, start_worker: Start, number: int) -> None:
        worker = start_worker()
        for _ in range(5):
            worker.signal(number)
            time.sleep(0.05)
        assert worker.wait(5) == 0
        assert not worker.processes()

    @pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05, 0.1, 0.2])
    def test_during_the_start_leaves_nothing(self, start_worker: Start, delay_s: float) -> None:
        worker = start_worker(is_awaited=False)
        time.sleep(delay_s)
        worker.signal(signal.SIGTERM)
        assert worker.wait(10) in (0, -signal.SIGTERM)
        assert not worker.processes()

    @pytest.mark.long
    @pytest.mark.parametrize("delay_s", [0.1, 0.4, 0.8, 1.2, 1.6, 2.0, 3.0])
    def test_during_a_cold_start_leaves_nothing(self, start_cold: Start, delay_s: float) -> None:
        worker = start_cold()
        time.sleep(delay_s)
        for _ in range(3):
            worker.signal(signal.SIGTERM)
            time.sleep(0.05)
        assert worker.wait() in (0, -signal.SIGTERM)
        assert not worker.processes()

    @pytest.mark.long
    def test_while_a_model_loads_puts_the_job_back(self, start_cold: Start, submit: Submit) -> None:
        """A cold worker, which imports torch for its first job."""
        worker = start_cold()
        job = submit()
        eventually(lambda: reload(job).phase == "load", patience_s=60)
        for _ in range(3):
            for pid in worker.processes():
                os.kill(pid, signal.SIGTERM)
            time.sleep(0.05)
        assert worker.wait(60) in (0, 1), "1 where loading takes longer than a stop may"
        assert not worker.processes()
        assert (reload(job).status, reload(job).attempts) == (Status.QUEUED, 0)

    def test_of_a_step_that_does_not_end_cuts_it_and_puts_the_job_back(
        self, start_worker: Start, submit: Submit
    ) -> None:
        worker = start_worker(constants={"generation.supervisor.STOP_STEP_S": 1.0}, slow=[30.0])
        job = submit()
        eventually(lambda: reload(job).phase == "denoise")
        worker.signal(signal.SIGTERM)
        assert worker.wait(5) == 1
        assert not worker.processes()
        assert (reload(job).status, reload(job).attempts) == (Status.QUEUED, 0)


@pytest.mark.long
class TestPromisedTime:
    """With the limits and intervals as they are."""

    AS_THEY_ARE = {"generation.supervisor.ROUND_S": 5.0}

    def test_for_the_job_of_a_machine_that_died_is_35_s(self, start_worker: Start, submit: Submit) -> None:
        workers = {worker.pid: worker for worker in (self.start(start_worker), self.start(start_worker))}
        job = submit(inference_steps=200)
        eventually(lambda: is_running(job))
        row = reload(job).worker
        assert row
        workers[row.pid].kill()
        eventually(lambda: reload(job).fence == 2, patience_s=35)

    def test_for_the_job_of_a_process_that_died_is_5_s(self, start_worker: Start, submit: Submit) -> None:
        worker = self.start(start_worker)
        job = submit(inference_steps=200)
        eventually(lambda: is_running(job))
        os.kill(worker.part("worker"), signal.SIGKILL)
        eventually(lambda: reload(job).fence == 2, patience_s=5)

    @pytest.mark.parametrize("is_busy", [False, True])
    def test_for_a_cluster_that_stands_still_is_60_s(self, start_worker: Start, submit: Submit, is_busy: bool) -> None:
        """Every process of it is there, and none does anything."""
        worker = self.start(start_worker)
        before = set(worker.processes())
        jobs = [submit(inference_steps=50)] if is_busy else []
        eventually(lambda: all(is_running(job) for job in jobs))
        for pid in before - {worker.pid}:
            os.kill(pid, signal.SIGSTOP)
        jobs.append(submit())
        eventually(lambda: set(worker.processes()) & before == {worker.pid}, patience_s=60)
        eventually(lambda: ended(*jobs))
        assert {reload(job).status for job in jobs} == {Status.SUCCEEDED}

    def start(self, start_worker: Start) -> RunningWorker:
        return start_worker(constants=self.AS_THEY_ARE, slow=[0.05])


@pytest.mark.parametrize("moments", [12, pytest.param(1000, marks=pytest.mark.long)])
def test_cancel_at_any_moment_ends_the_job_one_way_or_the_other(
    start_worker: Start, submit: Submit, ends: Callable[[], Counter[int]], moments: int
) -> None:
    start_worker(slow=[0.01])
    luck = random.Random(1)
    was_accepted = {}
    for _ in range(moments):
        job = submit(inference_steps=8)
        time.sleep(luck.uniform(0, 0.45))
        try:
            reload(job).request_cancel()
            was_accepted[job] = True
        except Conflict:
            was_accepted[job] = False
    eventually(lambda: ended(*was_accepted), patience_s=300)
    for job, accepted in was_accepted.items():
        assert reload(job).status == (Status.CANCELLED if accepted else Status.SUCCEEDED)
        assert job.samples.count() == (0 if accepted else 1)
    assert ends() == {1: moments}


def test_idle_workers_take_what_waits(start_worker: Start, submit: Submit) -> None:
    start_worker("--variant", "tiny", slow=[0.1])
    start_worker("--variant", "tiny", slow=[0.1])
    jobs = [submit(inference_steps=10) for _ in range(4)]
    eventually(lambda: ended(*jobs))
    assert_done(*jobs)
    by_worker = [reload(job).worker for job in jobs]
    assert len(set(by_worker)) == 2
    starts = sorted(reload(job).started_at for job in jobs)  # type: ignore[type-var]
    assert (starts[1] - starts[0]).total_seconds() < 0.5, "the second worker did not wait for the first"  # type: ignore[operator]
