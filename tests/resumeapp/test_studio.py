"""`manage.py studio`, started for real: what it says, what it refuses, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Studio:
    """A running studio, seen from outside."""

    def __init__(self, data: Path, *options: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "studio", *options],
            cwd=ROOT,
            env=os.environ | {"REPRISE_DATA": str(data), "PYTHONUNBUFFERED": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""

    def read_until(self, text: str) -> str:
        """Return the line that contains the text."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return line
        raise AssertionError(f"{text!r} was never said: {self.output}")

    def wait(self) -> int:
        output, _ = self.process.communicate(timeout=60)
        self.output += output
        return self.process.returncode

    def processes(self) -> dict[int, int]:
        """Return the pid of everything in the studio's session, with its parent's."""
        found: dict[int, int] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, parent, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(session) == self.process.pid and state not in "ZX":
                found[int(stat.parent.name)] = int(parent)
        return found

    def children(self) -> list[int]:
        """Return the pids of the web server and the worker, in this order."""
        return sorted(pid for pid, parent in self.processes().items() if parent == self.process.pid)

    def kill(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one data folder for all: compressing the static files takes seconds."""
    return tmp_path_factory.mktemp("studio")


@pytest.fixture
def start(data: Path) -> Iterator[Callable[..., Studio]]:
    studios: list[Studio] = []

    def start(*options: str, data: Path = data, **environment: str) -> Studio:
        studios.append(Studio(data, "--port", "0", *options, **environment))
        return studios[-1]

    yield start
    for studio in studios:
        studio.kill()


@pytest.fixture
def studio(start: Callable[..., Studio]) -> Studio:
    studio = start()
    studio.read_until("Reprise is at")
    return studio


def url_of(studio: Studio) -> str:
    return studio.output.split("Reprise is at ")[1].split()[0]


def get(url: str) -> int:
    with urllib.request.urlopen(url, timeout=20) as response:
        status: int = response.status
        return status


def eventually_ready(url: str) -> None:
    """The worker may need a moment longer than the web server."""
    gives_up_at = time.monotonic() + 30
    while True:
        try:
            assert get(f"{url}readyz") == 200
        except OSError:
            assert time.monotonic() < gives_up_at
            time.sleep(0.1)
        else:
            return


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_answers_where_it_says_and_stops_within_seconds(studio: Studio, number: int) -> None:
    eventually_ready(url_of(studio))
    asked_at = time.monotonic()
    os.killpg(studio.process.pid, number)  # as a terminal does
    assert studio.wait() == 0
    assert time.monotonic() - asked_at < 10
    assert not studio.processes()


def test_stops_when_only_its_first_process_is_asked(studio: Studio) -> None:
    studio.process.terminate()
    assert studio.wait() == 0
    assert not studio.processes()


@pytest.mark.parametrize(("index", "name"), [(0, "web server"), (1, "worker")])
def test_stops_and_says_so_when_one_part_ends(studio: Studio, index: int, name: str) -> None:
    os.kill(studio.children()[index], signal.SIGKILL)
    assert studio.wait() == 1
    assert f"The {name} has ended by itself" in studio.output
    assert not studio.processes()


def test_leaves_nothing_when_it_is_killed_and_can_start_again(studio: Studio, start: Callable[..., Studio]) -> None:
    studio.process.kill()
    studio.process.wait()
    gives_up_at = time.monotonic() + 5
    while studio.processes():
        assert time.monotonic() < gives_up_at
        time.sleep(0.02)
    again = start()
    again.read_until("Reprise is at")


def test_refuses_a_second_start_on_the_same_data(studio: Studio, start: Callable[..., Studio], data: Path) -> None:
    second = start()
    assert second.wait() == 1
    assert f"Reprise is already running on {data} (process {studio.process.pid})" in second.output
    assert get(f"{url_of(studio)}healthz") == 200


def test_says_that_a_port_is_in_use(start: Callable[..., Studio], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        studio = start("--port", str(port), data=tmp_path)
        assert studio.wait() == 1
    assert f"Port {port} on 127.0.0.1 is in use. Choose another with --port." in studio.output


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org"])
def test_serves_nobody_but_this_computer_in_local_mode(start: Callable[..., Studio], tmp_path: Path, host: str) -> None:
    studio = start("--host", host, data=tmp_path)
    assert studio.wait() == 1
    assert "serves this computer only" in studio.output


def test_compresses_the_static_files_only_when_they_have_changed(studio: Studio, start: Callable[..., Studio]) -> None:
    studio.process.terminate()
    studio.wait()
    again = start()
    again.read_until("Reprise is at")
    assert "Compressing" not in again.output


def test_the_web_server_stays_small(studio: Studio) -> None:
    web = studio.children()[0]
    for _ in range(5):
        get(url_of(studio))
    status = Path(f"/proc/{web}/status").read_text()
    resident_kb = int(status.split("VmRSS:")[1].split()[0])
    assert resident_kb < 120_000
    assert "torch" not in Path(f"/proc/{web}/maps").read_text()
