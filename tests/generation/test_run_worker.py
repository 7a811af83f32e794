"""`manage.py run_worker` from a cold start; what it survives is in tests/faults."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as a service manager starts it, on a database of its own."""
    environment = os.environ | {"REPRISE_DATA": str(tmp_path), "DATABASE_URL": ""}
    manage = [sys.executable, "manage.py"]
    subprocess.run([*manage, "migrate", "-v0"], cwd=ROOT, env=environment, check=True)
    worker = subprocess.Popen([*manage, "run_worker", "--variant", "sketch"], cwd=ROOT, env=environment)
    yield worker
    worker.kill()
    worker.wait()


def family(pid: int) -> list[int]:
    """Return a process and everything below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(below for child in children for below in family(int(child)))]


def test_starts_small_and_with_one_thread_each_and_stops_when_asked(worker: subprocess.Popen[bytes]) -> None:
    """No torch and no second thread before the fork, or a CUDA context and locks would be copied half-held."""
    gives_up_at = time.monotonic() + 60
    while len(processes := family(worker.pid)) < 5:
        assert time.monotonic() < gives_up_at
        time.sleep(0.05)
    for pid in processes[:2]:
        status = Path(f"/proc/{pid}/status").read_text()
        assert status.split("Threads:")[1].split()[0] == "1"
    assert not [pid for pid in processes if "libtorch" in Path(f"/proc/{pid}/maps").read_text()]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]


def test_refuses_a_variant_that_is_not_configured(db: None) -> None:
    with pytest.raises(CommandError, match="Unknown variant 'nonsense': REPRISE_MODELS has sketch"):
        call_command("run_worker", "--variant", "nonsense")
