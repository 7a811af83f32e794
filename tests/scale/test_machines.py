"""A web server and three workers that share a database, a broker and a bucket, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.scale.site import Site

pytestmark = pytest.mark.long

WORKERS_OF_JOBS = """
    SELECT job.id::text, job.status, job.attempts, job.fence, job.started_at, job.finished_at, worker.pid,
           worker.variant, (SELECT count(*) FROM generation_sample WHERE job_id = job.id) AS samples
    FROM generation_generationjob job LEFT JOIN generation_worker worker ON worker.id = job.worker_id
    WHERE job.id::text = ANY(%s) ORDER BY job.started_at
"""


def test_jobs_are_done_once_each_and_no_worker_idles_while_they_wait(machines: Site) -> None:
    jobs = [machines.generate(duration=10, inference_steps=30) for _ in range(8)]
    for job in jobs:
        assert machines.finished(job)["status"] == "succeeded"
    rows = machines.rows(WORKERS_OF_JOBS, jobs)
    assert [(row["attempts"], row["fence"], row["samples"]) for row in rows] == [(1, 1, 1)] * len(jobs)
    by_worker = {row["pid"]: [other for other in rows if other["pid"] == row["pid"]] for row in rows}
    assert len(by_worker) == 2
    last_start = rows[-1]["started_at"]
    for done in by_worker.values():
        ends = [row["finished_at"] for row in done if row["finished_at"] < last_start]
        starts = [row["started_at"] for row in done[1:]] + [last_start]
        pauses = [start - end for start, end in zip(starts, ends, strict=False)]
        assert max(pauses, default=timedelta()) < timedelta(seconds=2), "a worker idled while jobs were waiting"


def test_a_model_is_worked_on_by_its_own_workers_only(machines: Site) -> None:
    jobs = [machines.generate(model_variant=variant) for variant in ("tiny", "tiny-turbo") for _ in range(2)]
    for job in jobs:
        machines.finished(job)
    rows = {row["id"]: row["variant"] for row in machines.rows(WORKERS_OF_JOBS, jobs)}
    assert [rows[job] for job in jobs] == ["tiny", "tiny", "tiny-turbo", "tiny-turbo"]


def test_nothing_is_kept_on_any_machine(machines: Site) -> None:
    machines.finished(machines.generate())
    assert [path for name in ("web", "east", "west", "north") for path in (machines.folder / name).rglob("*")] == []
