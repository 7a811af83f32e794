"""Everything at once: workers, database and broker are broken and repaired at random while jobs come in, for minutes.

`make soak` runs it for ten minutes and prints what became of all jobs; SOAK_S and SOAK_SEED change length and luck, and
TEST_STACK=scale runs it on PostgreSQL and Redis.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
import redis
from django.db import connection, connections

from generation import tasks
from generation.models import MAX_ATTEMPTS, Conflict, GenerationJob, Sample
from latents import store
from latents.errors import LatentError
from latents.models import LatentHold, LatentRecord
from tests import environment
from tests.faults.conftest import RunningWorker, ended, eventually, reload

pytestmark = pytest.mark.long

SOAK_S = float(os.environ.get("SOAK_S", "600"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
WORKERS = 2
# Shorter than in earnest, so that many more leases run out.
CONSTANTS = {"generation.models.LEASE": 6.0, "generation.supervisor.WEDGED_S": 8.0}
FAULTS = ["worker", "worker", "sentinel", "pusher", "monitor", "supervisor", "pause", "stop", "stop all"]
# Of what the workers share: on SQLite somebody else writes for seconds.
FAULTS += ["flush broker", "restart broker", "restart database"] if environment.database else ["lock database"]


class Soak:
    """Submits, breaks and repairs, each when luck says so."""

    def __init__(self, start: Callable[..., RunningWorker], submit: Callable[..., GenerationJob]) -> None:
        self.luck = random.Random(SEED)
        self.start = start
        self.submit = submit
        self.workers = [self._start_one() for _ in range(WORKERS)]
        self.retired: list[RunningWorker] = []
        self.jobs: list[GenerationJob] = []
        self.faults: Counter[str] = Counter()

    def run(self) -> None:
        ends_at = time.monotonic() + SOAK_S
        next_fault = time.monotonic() + 4
        while time.monotonic() < ends_at:
            self._submit_one()
            if time.monotonic() > next_fault:
                self._break_something()
                next_fault = time.monotonic() + self.luck.uniform(4, 7)
            time.sleep(self.luck.uniform(0.5, 2.0))

    def _start_one(self) -> RunningWorker:
        return self.start(constants=CONSTANTS, slow=[0.05])

    def _submit_one(self) -> None:
        job = self.submit(inference_steps=self.luck.randint(2, 30), batch_size=self.luck.randint(1, 2))
        self.jobs.append(job)
        if self.luck.random() < 0.1:
            with suppress(Conflict):
                reload(self.luck.choice(self.jobs)).request_cancel()

    def _break_something(self) -> None:
        fault = self.luck.choice(FAULTS)
        self.faults[fault] += 1
        index = self.luck.randrange(WORKERS)
        worker = self.workers[index]
        with suppress(StopIteration, IndexError, ProcessLookupError):  # that part has just been replaced
            if fault == "pause":
                self._pause(worker)
            elif fault == "stop":
                worker.signal(signal.SIGTERM)
            elif fault.endswith(("broker", "database")):
                self._break_what_is_shared(fault)
            elif fault == "stop all":
                for pid in worker.processes():
                    os.kill(pid, signal.SIGTERM)
            else:
                os.kill(worker.pid if fault == "supervisor" else worker.part(fault), signal.SIGKILL)
        if fault in ("supervisor", "stop", "stop all"):
            self._replace(index)

    def _break_what_is_shared(self, fault: str) -> None:
        if fault == "lock database":
            other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
            other.execute("PRAGMA busy_timeout = 20000")
            other.execute("BEGIN IMMEDIATE")
            time.sleep(3)
            other.close()
        elif fault == "flush broker":
            assert environment.broker
            redis.from_url(environment.broker.url).flushall()
        else:
            server = environment.broker if fault == "restart broker" else environment.database
            assert server
            server.stop()
            time.sleep(1)
            server.start()
            connections.close_all()

    def _pause(self, worker: RunningWorker) -> None:
        """Stop the working process for longer than its lease, then let it go on."""
        pid = worker.part("worker")
        os.kill(pid, signal.SIGSTOP)
        time.sleep(CONSTANTS["generation.models.LEASE"] + 2)
        os.kill(pid, signal.SIGCONT)

    def _replace(self, index: int) -> None:
        """Start another worker where one has ended, as a service manager does."""
        assert self.workers[index].wait(60) is not None
        self.retired.append(self.workers[index])
        self.workers[index] = self._start_one()


def test_every_accepted_job_ends_once(
    start_worker: Callable[..., RunningWorker],
    submit: Callable[..., GenerationJob],
    ends: Callable[[], Counter[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    soak = Soak(start_worker, submit)
    wake = tasks.wake
    monkeypatch.setattr(tasks, "wake", lambda queue: None if soak.luck.random() < 0.2 else wake(queue))
    soak.run()
    eventually(lambda: ended(*soak.jobs), patience_s=120)
    for worker in soak.workers:
        worker.signal(signal.SIGTERM)
    statuses = [worker.wait(60) for worker in soak.workers]
    rows = [reload(job) for job in soak.jobs]
    logs = "".join(worker.log.read_text() for worker in (*soak.workers, *soak.retired))
    table = {
        "accepted": len(rows),
        "final": sum(row.is_final for row in rows),
        "run more than once": sum(row.fence > 1 for row in rows),
        "finalised more than once": sum(jobs for times, jobs in ends().items() if times > 1),
        "fenced writes": logs.count("was overtaken"),
        "bad checksums": bad_checksums(),
        "stray processes": sum(len(worker.processes()) for worker in (*soak.workers, *soak.retired)),
    }
    report(table, soak.faults, Counter(str(row.status) for row in rows), logs.count("cluster is replaced"))
    assert table["final"] == table["accepted"]
    assert not any(table[name] for name in ("finalised more than once", "bad checksums", "stray processes"))
    assert max(row.attempts for row in rows) <= MAX_ATTEMPTS
    assert not LatentHold.objects.exists()
    assert statuses == [0] * WORKERS


def report(table: dict[str, int], faults: Counter[str], statuses: Counter[str], replaced: int) -> None:
    """Print the table as it stands in the README, and below it what led to it."""
    stack = "PostgreSQL and Redis" if environment.database else "SQLite"
    lines = [
        f"| {SOAK_S:.0f} s on | {' | '.join(table)} |",
        f"|---|{'---|' * len(table)}",
        f"| {stack} | {' | '.join(map(str, table.values()))} |",
        "",
        f"Seed {SEED}. Faults: {', '.join(f'{name} {times}' for name, times in sorted(faults.items()))}.",
        f"Jobs: {', '.join(f'{name} {number}' for name, number in sorted(statuses.items()))}.",
        f"Clusters replaced: {replaced}.",
    ]
    print("\n" + "\n".join(lines))  # noqa: T201


def bad_checksums() -> int:
    """Read every file that a row names and compare it with what the row says."""
    bad = 0
    for sample in Sample.objects.all():
        with sample.open_audio() as sound:
            bad += hashlib.sha256(sound.read()).hexdigest() != sample.sha256
    for record in LatentRecord.objects.stored():
        try:
            store.verify(record)
        except LatentError:
            bad += 1
    return bad
