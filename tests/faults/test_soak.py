"""Everything at once: workers that are killed, stopped and replaced at random while jobs come in, for minutes.

`make soak` runs it for ten minutes and prints what became of all jobs; SOAK_S and SOAK_SEED change length and luck.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
from django.db import connection

from generation import tasks
from generation.models import Conflict, GenerationJob, Sample
from latents import store
from latents.errors import LatentError
from latents.models import LatentHold, LatentRecord
from tests.faults.conftest import RunningWorker, ended, eventually, reload

pytestmark = pytest.mark.long

SOAK_S = float(os.environ.get("SOAK_S", "600"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
WORKERS = 2
# Shorter than in earnest, so that many more leases run out.
CONSTANTS = {"generation.models.LEASE": 6.0, "generation.supervisor.WEDGED_S": 8.0}
FAULTS = ("worker", "worker", "sentinel", "pusher", "monitor", "supervisor", "pause", "stop", "stop all")


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
            elif fault == "stop all":
                for pid in worker.processes():
                    os.kill(pid, signal.SIGTERM)
            else:
                os.kill(worker.pid if fault == "supervisor" else worker.part(fault), signal.SIGKILL)
        if fault in ("supervisor", "stop", "stop all"):
            self._replace(index)

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
        **Counter(str(row.status) for row in rows),
        "run more than once": sum(row.fence > 1 for row in rows),
        "most counted attempts": max(row.attempts for row in rows),
        "finalised more than once": sum(jobs for times, jobs in ends().items() if times > 1),
        "fenced writes": logs.count("was overtaken"),
        "clusters replaced": logs.count("cluster is replaced"),
        "bad checksums": bad_checksums(),
        "holds left": LatentHold.objects.count(),
        "stray processes": sum(len(worker.processes()) for worker in (*soak.workers, *soak.retired)),
    }
    print(f"\n{SOAK_S:.0f} s on {connection.vendor}, seed {SEED}, faults {dict(soak.faults)}")  # noqa: T201
    print("\n".join(f"| {name} | {value} |" for name, value in table.items()))  # noqa: T201
    assert table["final"] == table["accepted"]
    assert not any(
        table[name] for name in ("finalised more than once", "bad checksums", "holds left", "stray processes")
    )
    assert statuses == [0] * WORKERS


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
