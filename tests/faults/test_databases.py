"""A SQLite database that somebody else keeps locked, and clocks that jump: work waits, and is done once."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client

from generation.models import GenerationJob
from tests.faults.conftest import RunningWorker, ended, eventually, is_running, reload

Status = GenerationJob.Status
Start = Callable[..., RunningWorker]
Submit = Callable[..., GenerationJob]
Ends = Callable[[], Counter[int]]


@pytest.fixture
def sqlite(transactional_db: None) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite has one lock for everything")


@pytest.mark.usefixtures("sqlite")
class TestLock:
    @pytest.mark.parametrize(
        ("lock_s", "busy_ms"), [(1.0, 200), pytest.param(30.0, 20_000, marks=pytest.mark.long)], ids=["short", "long"]
    )
    @pytest.mark.parametrize(
        "moment",
        [
            "generation.models:GenerationJob.report",
            "generation.takes:_store_latents",
            "generation.models:GenerationJob.finish",
            "generation.models:GenerationJob.release",
        ],
    )
    def test_of_the_database_delays_a_job_at_any_of_its_writes(
        self, start_worker: Start, submit: Submit, ends: Ends, tmp_path: Path, moment: str, lock_s: float, busy_ms: int
    ) -> None:
        flag = tmp_path / "locked"
        worker = start_worker(locked_at=[moment, str(flag), lock_s], impatient=[busy_ms], slow=[0.05])
        job = submit(inference_steps=20)
        if moment.endswith("release"):
            eventually(lambda: is_running(job))
            worker.signal(15)
            eventually(flag.exists)
            assert worker.wait(60) == (0 if lock_s < 5 else 1), "a stop waits for its own limit only"
            start_worker()
        eventually(lambda: ended(job), patience_s=120)
        assert flag.exists()
        assert reload(job).status == Status.SUCCEEDED
        assert job.samples.count() == 1
        assert ends() == {1: 1}
        if lock_s < 5:
            assert reload(job).attempts == 1

    @pytest.mark.parametrize(
        "busy_ms", [200, pytest.param(20_000, marks=pytest.mark.long)], ids=["impatient", "as it is"]
    )
    def test_of_the_database_is_told_to_whoever_submits(
        self, submit: Submit, client: Client, tmp_path: Path, busy_ms: int
    ) -> None:
        other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
        connection.cursor().execute(f"PRAGMA busy_timeout = {busy_ms}")
        other.execute("BEGIN IMMEDIATE")
        client.raise_request_exception = False
        asked_at = time.monotonic()
        answer = client.post(
            "/generation/generate",
            {"caption": "x", "request_id": "1"},
            content_type="application/json",
        )
        other.close()
        connection.close()
        assert answer.status_code == 503
        assert time.monotonic() - asked_at < 1.5 * busy_ms / 1000 + 1
        assert "busy" in answer.json()["error"]
        assert not GenerationJob.objects.exists()


@pytest.mark.parametrize("jump_s", [3600, -3600, *(pytest.param(jump, marks=pytest.mark.long) for jump in (20, -20))])
def test_a_clock_that_jumps_loses_nothing_and_does_nothing_twice(
    start_worker: Start, submit: Submit, ends: Ends, tmp_path: Path, jump_s: int
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    for _ in range(2):
        start_worker(wrong_clock=[str(clock)], slow=[0.1])
    jobs = [submit(inference_steps=12) for _ in range(2)]
    eventually(lambda: is_running(jobs[0], step=3))
    clock.with_suffix(".new").write_text(str(jump_s))
    clock.with_suffix(".new").rename(clock)
    eventually(lambda: ended(*jobs))
    for job in jobs:
        assert (reload(job).status, reload(job).error) == (Status.SUCCEEDED, "")
        assert job.samples.count() == 1
    assert ends() == {1: 2}
