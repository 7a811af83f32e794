"""A PostgreSQL, a Redis and an S3 server for the time of the tests: real processes, each on a port of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import boto3
import psycopg
import redis

STARTS_WITHIN_S = 60.0
S3_CREDENTIALS = {"aws_access_key_id": "studio", "aws_secret_access_key": "of the tests"}
BUCKET = "reprise"
REGION = "us-east-1"


def find_missing() -> str:
    """Return what is not installed here, or nothing."""
    if not _postgresql_folder():
        return "PostgreSQL (apt-get install postgresql)"
    if not shutil.which("redis-server"):
        return "Redis (apt-get install redis-server)"
    return ""


class Server:
    """A server process that a test may stop and start again at the same address."""

    def __init__(
        self, url: str, command: list[str], log: Path, ask: Callable[[], object], *, user: str | None = None
    ) -> None:
        self.url = url
        self._command = command
        self._log = log
        self._ask = ask
        self._user = user

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return once it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self._user
            )
        gives_up_at = time.monotonic() + STARTS_WITHIN_S
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < gives_up_at, f"{self._command[0]} does not answer"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            self._ask()
        except Exception:  # each client has its own for "not yet"
            return False
        return True

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it; to PostgreSQL a SIGTERM would mean: when all clients have left, and SIGQUIT means at once."""
        self._process.send_signal(number)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def postgresql() -> Iterator[Server]:
    """Give an empty database in a cluster of its own."""
    port = free_port()
    # Not below pytest's tmp_path, which only its owner may enter: PostgreSQL refuses to run as root.
    with tempfile.TemporaryDirectory(prefix="reprise-postgresql-") as folder:
        user = "postgres" if os.geteuid() == 0 else None
        if user:
            shutil.chown(folder, user)
        binaries, data = _postgresql_folder(), f"{folder}/data"
        initdb = [f"{binaries}/initdb", "-D", data, "-U", "reprise", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, user=user, cwd=folder, check=True, capture_output=True)
        # The tests stop servers, not the machine: nothing has to reach the disk.
        settings = ["fsync=off", "shared_buffers=32MB", f"unix_socket_directories={folder}"]
        options = [part for setting in settings for part in ("-c", setting)]
        url = f"postgres://reprise:@127.0.0.1:{port}/postgres"
        command = [f"{binaries}/postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), *options]
        with Server(url, command, Path(folder, "log"), lambda: psycopg.connect(url).close(), user=user) as server:
            yield server


def redis_server(folder: Path) -> Server:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    url = f"redis://127.0.0.1:{port}/0"
    return Server(url, command, folder / "redis.log", lambda: redis.from_url(url).ping())


def s3_server(folder: Path) -> Server:
    """Return a server that will have one empty bucket."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    def make_bucket() -> None:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        client = boto3.client("s3", endpoint_url=endpoint, region_name=REGION, **S3_CREDENTIALS)
        client.create_bucket(Bucket=BUCKET)

    return Server(endpoint, command, folder / "s3.log", make_bucket)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _postgresql_folder() -> str:
    """Return where the newest PostgreSQL's own programs are; Debian keeps them out of the PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    binary = str(folders[-1]) if folders else shutil.which("postgres")
    return str(Path(binary).parent) if binary else ""
