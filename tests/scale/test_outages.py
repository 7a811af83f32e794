"""A service that goes away for a while: what was accepted is done, once, and the studio goes on taking jobs."""

from __future__ import annotations

import signal
import threading
import time

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


def test_redis_that_drops_every_connection_loses_no_job(machines: Site) -> None:
    client = redis.from_url(machines.broker.url)
    jobs = []
    for _ in range(5):
        jobs.append(machines.generate())
        client.client_kill_filter(_type="normal", skipme=True)
    assert_done(machines, *jobs)


@pytest.mark.parametrize(
    ("service", "number", "answers"),
    [
        ("broker", signal.SIGINT, {200}),
        ("broker", signal.SIGKILL, {200}),
        ("database", signal.SIGINT, {200, 503}),
        ("database", signal.SIGQUIT, {200, 503}),
    ],
)
def test_what_is_submitted_during_a_restart_is_done_or_refused(
    machines: Site, service: str, number: int, answers: set[int]
) -> None:
    """Somebody submits all the while: nobody is promised what is not kept."""
    server = machines.broker if service == "broker" else machines.database
    heard: set[int] = set()
    jobs: list[str] = []
    is_over = threading.Event()

    def submit() -> None:
        while not is_over.wait(0.2):
            asked = {"caption": "x", "model_variant": "tiny", "duration": 1, "inference_steps": 4}
            answer = machines.ask("POST", "/generation/generate", asked)
            heard.add(answer.status)
            if answer.status == 200:
                jobs.append(answer.json["job_id"])

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        eventually(lambda: jobs)
        server.stop(number)
        time.sleep(2)
        server.start()
        eventually(machines.is_ready)
        before = len(jobs)
        eventually(lambda: len(jobs) > before)
    finally:
        is_over.set()
        thread.join()
    assert heard == answers
    assert_done(machines, *jobs)
