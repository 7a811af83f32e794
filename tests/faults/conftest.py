"""Real workers, started in a moment and broken on purpose; nothing of them is left after a test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.db import connection
from pytest_django import Settings

from generation.models import GenerationJob
from latents.models import LatentRecord
from tests.generation.take_requests import take_request

# The supervisor looks more often than in earnest. Its limits stay: a loaded machine must not be taken for a dead one.
HASTE = {"generation.supervisor.ROUND_S": 0.5}


class Nursery:
    """Talks to the process that workers are forked from."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


class RunningWorker:
    """A `run_worker`, seen from outside: its processes and its log."""

    def __init__(self, nursery: Nursery, pid: int, log: Path) -> None:
        self.nursery = nursery
        self.pid = pid
        self.log = log
        self.status: int | None = None

    def processes(self) -> dict[int, int]:
        """Return the pid of everything in the worker's session, with its parent's."""
        found: dict[int, int] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, parent, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            except (OSError, ValueError):
                continue
            if int(session) == self.pid and state not in "ZX":
                found[int(stat.parent.name)] = int(parent)
        return found

    def part(self, name: str) -> int:
        """Return the pid of one of django-q2's processes: the sentinel, or the worker, monitor or pusher below it."""
        processes = self.processes()
        sentinel = next(pid for pid, parent in processes.items() if parent == self.pid)
        if name == "sentinel":
            return sentinel
        below = sorted(pid for pid, parent in processes.items() if parent == sentinel)
        return below[("worker", "monitor", "pusher").index(name)]

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, patience_s: float = 20.0) -> int | None:
        """Return the exit status, or None if it goes on for longer."""
        if self.status is None:
            self.status = self.nursery.ask(wait=self.pid, patience_s=patience_s)["status"]
        return self.status

    def kill(self) -> None:
        for pid in (self.pid, *self.processes()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.wait()


def eventually(is_so: Callable[[], Any], patience_s: float = 20.0) -> Any:
    """Wait until something is so, and return it."""
    gives_up_at = time.monotonic() + patience_s
    while not (result := is_so()):
        assert time.monotonic() < gives_up_at, f"not so within {patience_s} s"
        time.sleep(0.02)
    return result


@pytest.fixture(scope="session")
def nursery(
    django_db_setup: None, tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nursery]:
    nursery = Nursery(
        {
            "DATABASE_URL": _database_url(),
            "REPRISE_DATA": str(tmp_path_factory.mktemp("nursery")),
            "REPRISE_MODELS": f"tiny={tiny_model('base')},tiny-turbo={tiny_model('turbo')}",
            "REPRISE_SECRET_KEY": django_settings.SECRET_KEY,
            "OMP_NUM_THREADS": "1",
        }
    )
    yield nursery
    assert nursery.process.stdin
    nursery.process.stdin.close()
    nursery.process.wait(10)


def _database_url() -> str:
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    return (
        f"postgres://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    )


@pytest.fixture
def start_worker(transactional_db: None, nursery: Nursery, tmp_path: Path) -> Iterator[Callable[..., RunningWorker]]:
    """Return a function that starts a worker and waits until it is ready; options and scenes may be given."""
    workers: list[RunningWorker] = []
    numbers = count()

    def start(
        *options: str, constants: dict[str, Any] | None = None, is_awaited: bool = True, **scenes: Any
    ) -> RunningWorker:
        log = tmp_path / f"worker-{next(numbers)}.log"
        log.touch()
        order = {"command": ["run_worker", *options], "data": str(tmp_path), "log": str(log)}
        answer = nursery.ask(**order, constants=HASTE | (constants or {}), scenes=scenes)
        worker = RunningWorker(nursery, answer["pid"], log)
        workers.append(worker)
        if is_awaited:
            eventually(lambda: len(worker.processes()) == 5)
            time.sleep(0.3)  # the youngest of them has to reach its loop
        return worker

    yield start
    for worker in workers:
        worker.kill()
        print(worker.log.read_text())  # noqa: T201  pytest shows it when the test fails


@pytest.fixture
def submit(
    transactional_db: None, settings: Settings, tiny_model: Callable[[str], Path]
) -> Callable[..., GenerationJob]:
    """Return a function that queues a job, as a web process would."""
    settings.REPRISE_MODELS = {"tiny": str(tiny_model("base")), "tiny-turbo": str(tiny_model("turbo"))}
    owner = User.objects.create_user("alice")
    numbers = count()

    def submit(parent: LatentRecord | None = None, **params: Any) -> GenerationJob:
        return GenerationJob.objects.submit(take_request(parent, **params), owner=owner, request_id=str(next(numbers)))

    return submit


def reload(job: GenerationJob) -> GenerationJob:
    return GenerationJob.objects.get(pk=job.pk)


def ended(*jobs: GenerationJob) -> bool:
    return all(reload(job).is_final for job in jobs)
