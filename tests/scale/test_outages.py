"""A service that goes away for a while: what was accepted is done, once, and the studio goes on taking jobs."""

from __future__ import annotations

import pytest
import redis

from tests.scale.site import Site, eventually

pytestmark = pytest.mark.long

FACTS = """
    SELECT status, error, (SELECT count(*) FROM generation_sample WHERE job_id = job.id) AS samples
    FROM generation_generationjob job WHERE id::text = ANY(%s)
"""


def assert_done(site: Site, *jobs: str) -> None:
    for job in jobs:
        site.finished(job)
    assert {tuple(row.values()) for row in site.rows(FACTS, list(jobs))} == {("succeeded", "", 1)}


def test_redis_that_forgets_everything_loses_no_job(machines: Site) -> None:
    jobs = [machines.generate(inference_steps=30) for _ in range(4)]
    redis.from_url(machines.broker.url).flushall()
    assert_done(machines, *jobs)


def test_jobs_are_taken_and_done_after_redis_was_away(machines: Site) -> None:
    running = machines.generate(inference_steps=100)
    machines.broker.stop()
    submitted = machines.generate()
    machines.broker.start()
    assert_done(machines, running, submitted)


def test_job_survives_a_restart_of_the_database(machines: Site) -> None:
    job = machines.generate(inference_steps=150, duration=30)
    eventually(lambda: machines.ask("GET", f"/generation/jobs/{job}/").json["step"] > 5)
    machines.database.stop()
    machines.database.start()
    eventually(machines.is_ready)
    assert_done(machines, job)
