"""What a job costs: from POST to the worker's first line, and over making the same take without a job."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from datetime import datetime
from pathlib import Path
from statistics import quantiles
from uuid import UUID

from tests.benchmarks.ratios import PAIRS, median_ratio, report

PICK_UP_LIMIT_S = 0.060
OVERHEAD_LIMIT = 1.05
POSTS = 60
ROOT = Path(__file__).resolve().parents[2]
REQUEST = {"caption": "calm piano", "duration": 4, "inference_steps": 4, "seed": 7}


def main() -> bool:
    """Measure in processes and a data folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"REPRISE_DATA": folder, "DJANGO_SETTINGS_MODULE": "resumeapp.settings"}
        environment.pop("DATABASE_URL", None)
        is_quick = measure_pick_up(environment)
        is_cheap = subprocess.run([sys.executable, "-m", __name__], env=environment, check=False).returncode == 0
    return is_quick and is_cheap


def measure_pick_up(environment: dict[str, str]) -> bool:
    """Post to a running studio, one job at a time, at moments that have nothing to do with its polling."""
    studio = subprocess.Popen(
        [sys.executable, "manage.py", "studio", "--port", "0"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert studio.stdout
        url = next(line.split()[3] for line in studio.stdout if "Reprise is at" in line)
        token = subprocess.run(
            [sys.executable, "manage.py", "api_token", "local"],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        client = Client(url, token, Path(environment["REPRISE_DATA"]) / "db.sqlite3")
        client.pick_up_s()  # loads the model
        waits = [client.pick_up_s() for _ in range(POSTS)]
    finally:
        studio.terminate()
        studio.wait()
    return report_pick_up(waits)


def report_pick_up(waits: list[float]) -> bool:
    percentiles = quantiles(waits, n=100)
    p50, p90, p99 = (percentiles[n - 1] for n in (50, 90, 99))
    print(
        f"  pick-up, POST to claim: p50 {p50 * 1000:.0f} ms, p90 {p90 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms",
        flush=True,
    )
    return report("pick-up p50 in ms", p50 * 1000, PICK_UP_LIMIT_S * 1000)


class Client:
    """Speaks the studio's JSON."""

    def __init__(self, url: str, token: str, database: Path) -> None:
        self.url = url.rstrip("/")
        self.database = database
        self.headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Accept": "application/json",
        }

    def send(self, path: str, body: dict[str, object] | None = None) -> dict[str, object]:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, self.headers)) as response:
            answer: dict[str, object] = json.load(response)
            return answer

    def pick_up_s(self) -> float:
        """Post a job and return the seconds until a worker has claimed it, by the row's own clock, which is ours."""
        time.sleep(random.uniform(0.05, 0.35))
        posted_at = time.time()
        path = str(self.send("/generation/generate", REQUEST)["url"])
        while (job := self.send(path))["status"] not in ("succeeded", "failed"):
            time.sleep(0.05)
        assert job["status"] == "succeeded", job["error"]
        return self.claimed_at(UUID(path.split("/")[-2])) - posted_at

    def claimed_at(self, job_id: UUID) -> float:
        with closing(sqlite3.connect(self.database)) as database:
            rows = database.execute("SELECT started_at FROM generation_generationjob WHERE id = ?", [job_id.hex])
            return datetime.fromisoformat(f"{rows.fetchone()[0]}+00:00").timestamp()


def measure_overhead() -> bool:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)

    from django.contrib.auth.models import User

    from generation import takes, tasks
    from generation.models import GenerationJob
    from generation.takes import TakeRequest
    from tests.generation.take_requests import take_request

    owner, _ = User.objects.get_or_create(username="alice")
    params = take_request(model_variant="sketch", duration=20.0, inference_steps=20, guidance_scale=2.0).to_params()
    request = TakeRequest.from_params(params, None)

    def claim() -> GenerationJob:
        GenerationJob.objects.all().submit(request, owner=owner, request_id=str(time.time_ns()))
        job = GenerationJob.objects.all().claim("", None)
        assert job
        return job

    claimed = [claim() for _ in range(PAIRS + 1)]
    ratio = median_ratio(lambda: tasks.do(claimed.pop()), lambda: takes.make_take(request, owner=owner))
    assert not GenerationJob.objects.exclude(status=GenerationJob.Status.SUCCEEDED).exists()
    return report("job over engine + audio + store", ratio, OVERHEAD_LIMIT)


if __name__ == "__main__":
    sys.exit(0 if measure_overhead() else 1)
