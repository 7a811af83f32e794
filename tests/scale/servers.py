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


@contextmanager
def postgresql() -> Iterator[str]:
    """Give the URL of an empty database in a cluster of its own."""
    port = free_port()
    # Not below pytest's tmp_path, which only its owner may enter: PostgreSQL refuses to run as root.
    with tempfile.TemporaryDirectory(prefix="reprise-postgresql-") as folder:
        user = "postgres" if os.geteuid() == 0 else None
        if user:
            shutil.chown(folder, user)
        binaries, data = _postgresql_folder(), f"{folder}/data"
        initdb = [f"{binaries}/initdb", "-D", data, "-U", "reprise", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, user=user, cwd=folder, check=True, capture_output=True)
        # The tests kill clients, not the machine: nothing has to reach the disk.
        settings = ["fsync=off", "shared_buffers=32MB", f"unix_socket_directories={folder}"]
        options = [part for setting in settings for part in ("-c", setting)]
        url = f"postgres://reprise:@127.0.0.1:{port}/postgres"
        command = [f"{binaries}/postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), *options]
        with _running(command, Path(folder, "log"), lambda: psycopg.connect(url).close(), user=user):
            yield url


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    url = f"redis://127.0.0.1:{port}/0"
    with _running(command, folder / "redis.log", lambda: redis.from_url(url).ping()):
        yield url


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Give the endpoint of a server that has one empty bucket."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    def make_bucket() -> None:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        client = boto3.client("s3", endpoint_url=endpoint, region_name=REGION, **S3_CREDENTIALS)
        client.create_bucket(Bucket=BUCKET)

    with _running(command, folder / "s3.log", make_bucket):
        yield endpoint


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


@contextmanager
def _running(command: list[str], log: Path, ask: Callable[[], object], user: str | None = None) -> Iterator[None]:
    """Run a server that answers `ask` before the tests go on."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, user=user)
    try:
        gives_up_at = time.monotonic() + STARTS_WITHIN_S
        while True:
            try:
                ask()
                break
            except Exception:  # each client has its own for "not yet"
                assert process.poll() is None, log.read_text()
                if time.monotonic() > gives_up_at:
                    raise
                time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGINT)  # to PostgreSQL a SIGTERM means: when all clients have left
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
