"""How the studio grows: with waiting jobs, workers, people and progress writes, on each stack, beside what could be.

The model is tiny and random, so nearly all that is measured is the studio. Floors are measured in the same minute on
the same machine: the same takes without a queue, the same rows without workers, the same crowd at a page that does
nothing.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tests.benchmarks import web
from tests.scale import servers

ROOT = Path(__file__).resolve().parents[2]
START_WITHIN_S = 120.0
LOOK_S = 0.02


@dataclass(frozen=True)
class Sizes:
    workers: tuple[int, ...] = (1, 2, 4)
    queued: tuple[int, ...] = (1, 10, 100)
    pick_ups: int = 20
    people: tuple[int, ...] = (1, 10, 50, 200)
    seconds: int = 5
    writes: int = 200


def main(sizes: Sizes = Sizes()) -> bool:
    """Measure each stack and then the crowd, every part in processes and a data folder of its own."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        model = _save_model(Path(folder))
        is_sound = measure_stack("SQLite", model, sizes, {})
        if missing := servers.find_missing():
            print(f"  PostgreSQL and Redis: left out, for lack of {missing}")
        else:
            stack = {
                "DATABASE_URL": running.enter_context(servers.postgresql()).url,
                "REPRISE_BROKER": running.enter_context(servers.redis_server(Path(folder))).url,
            }
            is_sound = measure_stack("PostgreSQL and Redis", model, sizes, stack) and is_sound
        return measure_crowds(sizes) and is_sound


def _save_model(folder: Path) -> Path:
    from tests.tiny_pipelines import save_tiny_pipeline

    return save_tiny_pipeline("base", folder / "model")


def _environment(folder: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REPRISE_")}
    kept.pop("DATABASE_URL", None)
    own = {"REPRISE_DATA": folder, "DJANGO_SETTINGS_MODULE": "resumeapp.settings", "OMP_NUM_THREADS": "1"}
    own["PYTHONWARNINGS"] = "ignore::FutureWarning"  # torch's, of its own
    return kept | own | more


def measure_stack(name: str, model: Path, sizes: Sizes, stack: dict[str, str]) -> bool:
    """Run this module with the stack's settings, which Django reads once per process."""
    print(f"  {name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        limits = {"REPRISE_MODELS": f"tiny={model}", "REPRISE_MAX_QUEUED_JOBS": "unlimited"}
        command = [sys.executable, "-c", f"from tests.benchmarks.growth import *; sys.exit(not measure({sizes!r}))"]
        return (
            subprocess.run(command, cwd=ROOT, env=_environment(folder, **limits, **stack), check=False).returncode == 0
        )


def measure(sizes: Sizes) -> bool:
    """Measure jobs and progress writes on the stack that the environment names."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    studio = Studio()
    studio.make_takes(1)  # loads the model
    take_s = studio.seconds_per_take(5)
    print(f"    a take without a queue: {take_s * 1000:.0f} ms", flush=True)
    report_writes(studio, sizes.writes)
    rows_s = studio.seconds_per_submit_and_claim(sizes.pick_ups)
    with ExitStack() as running:
        workers = 0
        for number in sizes.workers:
            while workers < number:
                running.enter_context(run_worker())
                workers += 1
            studio.wait_for_workers(workers)
            report_pick_ups(studio, workers, sizes.pick_ups, rows_s)
            for queued in sizes.queued:
                report_throughput(studio, workers, queued, take_s)
    return studio.all_succeeded()


@contextmanager
def run_worker() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "manage.py", "run_worker"], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


class Studio:
    """The studio's rows, as a web process writes and reads them."""

    def __init__(self) -> None:
        from django.contrib.auth.models import User

        from tests.generation.take_requests import take_request

        self.owner = User.objects.create_user("alice")
        self.request = take_request()
        self._numbers = count()

    def submit(self) -> Any:
        from generation.models import GenerationJob

        request_id = str(next(self._numbers))
        return GenerationJob.objects.all().submit(self.request, owner=self.owner, request_id=request_id)

    def finished(self, jobs: list[Any]) -> list[Any]:
        """Wait for these jobs and return their rows in the order in which they were begun."""
        from generation.models import GenerationJob

        rows = GenerationJob.objects.filter(pk__in=[job.pk for job in jobs])
        _wait_until(lambda: not rows.unfinished().exists())
        return list(rows.order_by("started_at"))

    def wait_for_workers(self, number: int) -> None:
        """Give out jobs until each worker has done one, and so has loaded the model."""
        from generation.models import GenerationJob, Worker

        def have_all_worked() -> bool:
            self.finished([self.submit() for _ in range(2 * number)])
            return GenerationJob.objects.exclude(worker=None).values("worker").distinct().count() >= number

        _wait_until(lambda: Worker.objects.live().count() >= number)
        _wait_until(have_all_worked)

    def make_takes(self, number: int) -> None:
        from generation.takes import make_take

        for _ in range(number):
            make_take(self.request, owner=self.owner)

    def seconds_per_take(self, number: int) -> float:
        return median(_seconds(lambda: self.make_takes(1)) for _ in range(number))

    def seconds_per_submit_and_claim(self, number: int) -> float:
        """Time what a pick-up cannot do without: the row that is written and the row that is claimed."""
        from generation.models import GenerationJob

        def submit_and_claim() -> None:
            self.submit()
            job = GenerationJob.objects.all().claim("", None)
            assert job
            jobs.append(job)

        jobs: list[Any] = []
        seconds = median(_seconds(submit_and_claim) for _ in range(number))
        for job in jobs:
            job.end_cancelled()
        return seconds

    def all_succeeded(self) -> bool:
        from generation.models import GenerationJob

        bad = GenerationJob.objects.exclude(worker=None).exclude(status="succeeded", attempts=1)
        for job in bad:
            print(f"    {job}: attempt {job.attempts}, {job.error}")
        return not bad


def _wait_until(is_so: Callable[[], bool]) -> None:
    gives_up_at = time.monotonic() + START_WITHIN_S
    while not is_so():
        assert time.monotonic() < gives_up_at, "it takes too long"
        time.sleep(LOOK_S)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def report_writes(studio: Studio, number: int) -> None:
    """Time a progress write against the plainest UPDATE of the same row; a job makes at most two a second."""
    from django.db import connection

    from generation.models import GenerationJob

    studio.submit()
    job = GenerationJob.objects.all().claim("", None)
    assert job
    key = job.pk.hex if connection.vendor == "sqlite" else job.pk

    def plain_update() -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE generation_generationjob SET step = step + 1 WHERE id = %s", [key])

    write_s = median(_seconds(lambda: job.report("denoise", 1, 1.0)) for _ in range(number))
    floor_s = median(_seconds(plain_update) for _ in range(number))
    job.end_cancelled()
    print(
        f"    progress write: {write_s * 1000:.2f} ms, floor {floor_s * 1000:.2f} ms; twice a second takes "
        f"{2 * write_s:.2%} of a worker",
        flush=True,
    )


def report_pick_ups(studio: Studio, workers: int, number: int, floor_s: float) -> None:
    """Submit one job at a time, at moments that have nothing to do with any polling, to workers that are idle."""
    waits = []
    for _ in range(number):
        time.sleep(random.uniform(0.05, 0.2))
        [job] = studio.finished([studio.submit()])
        waits.append((job.started_at - job.created_at).total_seconds())
    print(f"    {workers} workers, idle: pick-up {_percentiles(waits)}, floor {floor_s * 1000:.0f} ms", flush=True)


def report_throughput(studio: Studio, workers: int, queued: int, take_s: float) -> None:
    """Submit all jobs at once; the floor shares the bare takes among as many processes as there are cores for."""
    jobs = studio.finished([studio.submit() for _ in range(queued)])
    took_s = (max(job.finished_at for job in jobs) - min(job.created_at for job in jobs)).total_seconds()
    at_once = min(workers, queued, os.cpu_count() or 1)
    floor_s = queued * take_s / at_once
    by_worker = sorted(sum(job.worker_id == worker for job in jobs) for worker in {job.worker_id for job in jobs})
    print(
        f"    {workers} workers, {queued:>3} jobs: {queued / took_s:5.1f} jobs/s, floor {queued / floor_s:5.1f}; "
        f"by worker {by_worker}{_next_job(jobs)}",
        flush=True,
    )


def _next_job(jobs: list[Any]) -> str:
    """Say how long a worker needs from one job to its next while some wait."""
    last_start = jobs[-1].started_at
    pauses = [
        (later.started_at - job.finished_at).total_seconds()
        for worker in {job.worker_id for job in jobs}
        for job, later in pairwise([job for job in jobs if job.worker_id == worker])
        if job.finished_at < last_start
    ]
    return f"; next job after {_percentiles(pauses)}" if len(pauses) > 5 else ""


def _percentiles(seconds: list[float]) -> str:
    cuts = quantiles(seconds, n=100, method="inclusive")
    return ", ".join(f"p{percent} {cuts[percent - 1] * 1000:.0f}" for percent in (50, 95, 99)) + " ms"


def measure_crowds(sizes: Sizes) -> bool:
    """Let ever more people poll once a second and load a page every five; the floor is the same crowd at /healthz."""
    is_kept = True
    with tempfile.TemporaryDirectory() as folder, web.studio(_environment(folder)) as host:
        for people in sizes.people:
            crowd = web.stay_together(host, people, sizes.seconds)
            idle = web.stay_together(host, people, sizes.seconds, path="/healthz")
            failures = [failure for person in crowd for failure in person.failures]
            print(
                f"  {people:>3} people: {_percentiles([t / 1000 for person in crowd for t in person.times])}, floor "
                f"{_percentiles([t / 1000 for person in idle for t in person.times])}, {len(failures)} failures",
                flush=True,
            )
            is_kept = is_kept and not failures
    return is_kept
