"""Real workers, started in a moment and broken on purpose; nothing of them is left after a test."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from generation import recovery, tasks, worker
from generation.models import GenerationJob, Sample
from latents.audit import audit, list_files
from latents.models import LatentRecord
from tests.generation.take_requests import take_request

# The supervisor looks more often than in earnest. Its limits stay: a loaded machine must not be taken for a dead one.
HASTE = {"generation.supervisor.ROUND_S": 0.5}


ROOT = Path(__file__).resolve().parents[2]


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
    """A `run_worker`, seen from outside: its processes and its log. `wait_for` waits for its end."""

    def __init__(self, pid: int, log: Path, wait_for: Callable[[float], int | None]) -> None:
        self.pid = pid
        self.log = log
        self.status: int | None = None
        self._wait_for = wait_for

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
            self.status = self._wait_for(patience_s)
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
    nursery = Nursery(_environment(tmp_path_factory.mktemp("nursery"), tiny_model))
    yield nursery
    assert nursery.process.stdin
    nursery.process.stdin.close()
    nursery.process.wait(10)


def _environment(data: Path, tiny_model: Callable[[str], Path]) -> dict[str, str]:
    return {
        "DATABASE_URL": _database_url(),
        "REPRISE_DATA": str(data),
        "REPRISE_MODELS": f"tiny={tiny_model('base')},tiny-turbo={tiny_model('turbo')}",
        "REPRISE_SECRET_KEY": django_settings.SECRET_KEY,
        "OMP_NUM_THREADS": "1",
    }


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
        pid = answer["pid"]
        worker = RunningWorker(pid, log, lambda patience_s: nursery.ask(wait=pid, patience_s=patience_s)["status"])
        workers.append(worker)
        if is_awaited:
            eventually(lambda: len(worker.processes()) == 5)
            time.sleep(0.3)  # the youngest of them has to reach its loop
        return worker

    yield start
    for started in workers:
        started.kill()
        print(started.log.read_text())  # noqa: T201  pytest shows it when the test fails


@pytest.fixture
def start_cold(
    transactional_db: None, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> Iterator[Callable[[], RunningWorker]]:
    """Return a function that starts a worker as a service manager does, and does not wait for it."""
    started: list[RunningWorker] = []

    def start() -> RunningWorker:
        log = tmp_path / "cold.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "run_worker"],
                cwd=ROOT,
                env=os.environ | _environment(tmp_path, tiny_model),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

        def wait(patience_s: float) -> int | None:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(patience_s)
            return None

        started.append(RunningWorker(process.pid, log, wait))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        print(one.log.read_text())  # noqa: T201


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


@pytest.fixture
def drain(submit: Callable[..., GenerationJob]) -> Iterator[Callable[[], None]]:
    """Return what a worker does with its queue, to be done in this process."""
    yield lambda: tasks.drain("")
    worker.slot.is_stopping = False
    worker.slot.start_over()


TRIGGERS = {
    "sqlite": """
        CREATE TRIGGER note_end AFTER UPDATE OF status ON generation_generationjob
        WHEN NEW.status IN ('succeeded', 'failed', 'cancelled')
        BEGIN INSERT INTO noted_ends (job_id) VALUES (NEW.id); END
    """,
    "postgresql": """
        CREATE FUNCTION note_end() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO noted_ends (job_id) VALUES (NEW.id); RETURN NULL; END $$;
        CREATE TRIGGER note_end AFTER UPDATE OF status ON generation_generationjob FOR EACH ROW
        WHEN (NEW.status IN ('succeeded', 'failed', 'cancelled')) EXECUTE FUNCTION note_end()
    """,
}
UNDO = {
    "sqlite": ["DROP TRIGGER note_end", "DROP TABLE noted_ends"],
    "postgresql": ["DROP FUNCTION note_end() CASCADE", "DROP TABLE noted_ends"],
}


@pytest.fixture
def ends(transactional_db: None) -> Iterator[Callable[[], Counter[int]]]:
    """Have the database itself note each move to a final state; return how many jobs have made how many."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE noted_ends (job_id VARCHAR(36))")
        cursor.execute(TRIGGERS[connection.vendor])

    def count_ends() -> Counter[int]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT job_id FROM noted_ends")
            return Counter(Counter(str(job_id) for (job_id,) in cursor.fetchall()).values())

    yield count_ends
    with connection.cursor() as cursor:
        for statement in UNDO[connection.vendor]:
            cursor.execute(statement)


def reload(job: GenerationJob) -> GenerationJob:
    return GenerationJob.objects.get(pk=job.pk)


def ended(*jobs: GenerationJob) -> bool:
    return all(reload(job).is_final for job in jobs)


def is_running(job: GenerationJob, step: int = 1) -> bool:
    row = reload(job)
    return row.status == GenerationJob.Status.RUNNING and row.step >= step


def assert_files_are_whole() -> None:
    """At any moment: what a row names is there to the last bit."""
    found = audit(timezone.now(), verify=True)
    assert (found.missing, found.damaged) == ([], [])
    for sample in Sample.objects.all():
        with sample.open_audio() as sound:
            assert hashlib.sha256(sound.read()).hexdigest() == sample.sha256


def assert_garbage_is_found() -> None:
    """Once all is quiet: the audit and the pruning know every file that has no row."""
    later = timezone.now() + timedelta(days=2)
    named = set(LatentRecord.objects.values_list("file", flat=True))
    assert set(audit(later).orphans) == files_in("latents") - named
    recovery.remove_stray_sounds(later)
    assert files_in("audio") == set(Sample.objects.values_list("audio_file", flat=True))


def files_in(alias: str) -> set[str]:
    return {name for names in list_files(storages[alias]) for name in names}


def assert_done(*jobs: GenerationJob, attempts: int = 1) -> None:
    for job in map(reload, jobs):
        assert (job.status, job.error, job.attempts) == (GenerationJob.Status.SUCCEEDED, "", attempts)
        assert job.samples.count() == 1
