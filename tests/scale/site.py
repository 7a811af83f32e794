"""A studio on several "hosts": processes that share three services, and no folder."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.scale import servers
from tests.scale.servers import Server

ROOT = Path(__file__).resolve().parents[2]
HOST = "studio.example"
PATIENCE_S = 600.0  # a machine that does ten other things must not be taken for a broken one
# As it stands in docs/operating.md, with a port.
WEB = """
waitress-serve --listen=127.0.0.1:{port} --threads=8 --asyncore-use-poll
    --connection-limit=500 --trusted-proxy=127.0.0.1 --trusted-proxy-headers=x-forwarded-proto
    resumeapp.wsgi:application
"""
FIRST_STEPS = """
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
User.objects.create_superuser("alice", password="long enough for nobody")
User.objects.create_user("bob", password="long enough for nobody")
call_command("api_token", "alice")
call_command("api_token", "bob")
"""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Process:
    """One process of the site, with a data folder of its own as on a machine of its own."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.log = folder.with_suffix(".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | environment | {"REPRISE_DATA": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)


class Site:
    """Web and workers on the three services, seen over HTTP and in the database."""

    def __init__(self, folder: Path, database: Server, broker: Server, s3: str, models: Mapping[str, Path]) -> None:
        self.folder = folder
        self.database = database
        self.broker = broker
        place = f"?endpoint={s3}&region={servers.REGION}"
        self.environment = {
            "REPRISE_MODE": "server",
            "REPRISE_SECRET_KEY": "the same on every machine, and longer than fifty characters",
            "REPRISE_ALLOWED_HOSTS": HOST,
            "REPRISE_MODELS": ",".join(f"{name}={source}" for name, source in models.items()),
            "DATABASE_URL": database.url,
            "REPRISE_BROKER": broker.url,
            "REPRISE_LATENTS": f"s3://{servers.BUCKET}/latents{place}",
            "REPRISE_AUDIO": f"s3://{servers.BUCKET}/audio{place}",
            "OMP_NUM_THREADS": "1",
            **{name.upper(): value for name, value in servers.S3_CREDENTIALS.items()},
        }
        self.port = servers.free_port()
        self.processes: list[Process] = []
        self.tokens: dict[str, str] = {}

    def set_up(self) -> None:
        """Bring the database up to date and make two users."""
        made = subprocess.run(
            [sys.executable, "-c", FIRST_STEPS],
            cwd=ROOT,
            env=os.environ | self.environment | {"REPRISE_DATA": str(self.folder / "set-up")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        self.tokens = dict(zip(("alice", "bob"), made.stdout.split(), strict=True))

    def start_web(self) -> Process:
        command = WEB.format(port=self.port).split()
        return self._start("web", [str(Path(sys.executable).with_name(command[0])), *command[1:]])

    def start_worker(self, name: str, *options: str) -> Process:
        return self._start(name, [sys.executable, "manage.py", "run_worker", *options])

    def _start(self, name: str, command: list[str]) -> Process:
        process = Process(command, self.environment, self.folder / name)
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """Ask every process to stop, then wait for all of them."""
        for process in self.processes:
            process.signal(signal.SIGTERM)
        for process in self.processes:
            process.process.wait(PATIENCE_S)

    def is_ready(self) -> bool:
        try:
            return self.ask("GET", "/readyz", user="").status == 200
        except OSError:
            return False

    def ask(
        self, method: str, path: str, data: object = None, *, user: str = "alice", headers: Mapping[str, str] = {}
    ) -> Answer:
        """Send a request as the proxy in front would pass it on."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"Host": HOST, "X-Forwarded-Proto": "https", "Accept": "application/json", **headers}
        if user:
            sent["Authorization"] = f"Bearer {self.tokens[user]}"
        body = None if data is None else json.dumps(data)
        connection.request(method, path, body, sent | ({"Content-Type": "application/json"} if body else {}))
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        connection.close()
        return answer

    def generate(self, **params: Any) -> str:
        """Ask for a short take of the tiny model and return the job's id."""
        asked = {"caption": "warm lofi piano", "model_variant": "tiny", "duration": 1, "inference_steps": 4} | params
        answer = self.ask("POST", "/generation/generate", asked)
        assert answer.status == 200, answer.body
        job_id: str = answer.json["job_id"]
        return job_id

    def finished(self, job_id: str, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        """Poll as a script would, and return what the job became."""

        def ask() -> Any:
            job = self.ask("GET", f"/generation/jobs/{job_id}/").json
            return job if job["status"] not in ("queued", "running") else None

        job: dict[str, Any] = eventually(ask, patience_s)
        return job

    def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        with psycopg.connect(self.database.url, row_factory=dict_row) as connection:
            return connection.execute(query, arguments).fetchall()


def eventually(is_so: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Wait until something is so, and return it."""
    gives_up_at = time.monotonic() + patience_s
    while not (result := is_so()):
        assert time.monotonic() < gives_up_at, f"not so within {patience_s} s"
        time.sleep(0.05)
    return result


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
