"""Workers on two hosts that share three services over a network, and nothing else: not even a loopback address."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.scale import hosts, servers
from tests.scale.hosts import Host
from tests.scale.site import Process, Site, eventually

pytestmark = pytest.mark.long

WORK = """
    SELECT job.status, job.attempts, job.started_at, job.finished_at, worker.host, worker.pid,
           (SELECT count(*) FROM generation_sample WHERE job_id = job.id) AS samples
    FROM generation_generationjob job JOIN generation_worker worker ON worker.id = job.worker_id
    WHERE job.id::text = ANY(%s) ORDER BY job.started_at
"""

ON_WEST = """
    SELECT job.id::text, worker.host FROM generation_generationjob job JOIN generation_worker worker
    ON worker.id = job.worker_id WHERE job.status = 'running' AND job.step > 1 AND job.id::text = ANY(%s)
"""


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path], s3_endpoint: str
) -> Iterator[Site]:
    """Give a studio with a web process here, and no worker."""
    redis_server = servers.redis_server(tmp_path_factory.mktemp("redis"))
    with servers.postgresql() as database, redis_server as broker:
        site = Site(tmp_path_factory.mktemp("site"), database, broker, s3_endpoint, {"tiny": tiny_model("base")})
        site.set_up()
        try:
            site.start_web()
            yield site
        finally:
            site.stop()


@pytest.fixture(scope="module")
def two_hosts(site: Site) -> Iterator[tuple[Host, Host]]:
    """Give two workers to `east` and one to `west`, all of which have loaded the model."""
    if missing := hosts.find_missing():
        pytest.skip(f"needs {missing}")
    ports = {int(port) for value in site.environment.values() for port in re.findall(r"127\.0\.0\.1:(\d+)", value)}
    with hosts.network("east", "west", ports=ports) as (east, west):
        for number, host in enumerate((east, west, east)):
            command = host.command(sys.executable, "manage.py", "run_worker", "--variant", "tiny")
            site.processes.append(
                Process(command, host.environment(site.environment), site.folder / f"worker-{number}")
            )
        eventually(site.is_ready)
        eventually(lambda: have_all_worked(site))
        yield east, west
        site.stop()  # before the network goes


def have_all_worked(site: Site) -> bool:
    jobs = [site.generate() for _ in range(3)]
    for job in jobs:
        site.finished(job)
    return len(site.rows("SELECT DISTINCT worker_id FROM generation_generationjob")) == 3


def test_work_is_spread_over_hosts_and_each_job_is_done_once(site: Site, two_hosts: tuple[Host, Host]) -> None:
    jobs = [site.generate(duration=5, inference_steps=20) for _ in range(12)]
    for job in jobs:
        assert site.finished(job)["status"] == "succeeded"
    rows = site.rows(WORK, jobs)
    assert [(row["attempts"], row["samples"]) for row in rows] == [(1, 1)] * len(jobs)
    assert {row["host"] for row in rows} == {"east", "west"}
    last_start = rows[-1]["started_at"]
    workers = {(row["host"], row["pid"]) for row in rows}
    assert len(workers) == 3
    for worker in workers:
        done = [row for row in rows if (row["host"], row["pid"]) == worker]
        starts = [*(row["started_at"] for row in done[1:]), last_start]
        pauses = [(start - row["finished_at"]).total_seconds() for row, start in zip(done, starts, strict=True)]
        assert max(pauses) < 2, "a worker idled while jobs were waiting"


def test_job_of_a_host_that_is_cut_off_is_done_by_another_and_only_once(
    site: Site, two_hosts: tuple[Host, Host]
) -> None:
    _, west = two_hosts
    jobs = [site.generate(duration=30, inference_steps=150) for _ in range(3)]
    [cut] = eventually(lambda: [row for row in site.rows(ON_WEST, jobs) if row["host"] == "west"])
    west.unplug()
    try:
        assert site.finished(cut["id"])["status"] == "succeeded"
        [row] = site.rows(WORK, [cut["id"]])
        assert (row["host"], row["attempts"], row["samples"]) == ("east", 2, 1)
    finally:
        west.plug()
    for job in jobs:
        assert site.finished(job)["status"] == "succeeded"
    # Back on the network, it finds that it was overtaken, and goes on with other jobs.
    eventually(lambda: any(row["host"] == "west" for row in site.rows(WORK, [next_done(site)])))
    assert site.rows(WORK, [cut["id"]]) == [row]


def next_done(site: Site) -> str:
    job = site.generate()
    site.finished(job)
    return job
