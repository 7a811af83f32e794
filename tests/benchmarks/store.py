"""What the store costs over doing the same bytes, hashes, fsyncs, rename and commit with nothing around them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import torch

from tests.benchmarks.ratios import median_ratio, report

LIMIT = 1.3
DURATIONS_S = (30, 120, 600)
BATCH_SIZES = (1, 8)
FRAME_RATE, CHANNELS = 25, 64  # ACE-Step's, which are larger than Sketch's


def main() -> bool:
    """Measure in a process and a data folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"REPRISE_DATA": folder, "DJANGO_SETTINGS_MODULE": "resumeapp.settings"}
        environment.pop("DATABASE_URL", None)
        return subprocess.run([sys.executable, "-m", __name__], env=environment, check=False).returncode == 0


def measure() -> bool:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    kept = [compare(duration_s, batch_size) for duration_s in DURATIONS_S for batch_size in BATCH_SIZES]
    return all(kept)


def compare(duration_s: int, batch_size: int) -> bool:
    from django.contrib.auth.models import User

    from latents import store
    from tests.latents.conftest import make_provenance

    latents = torch.randn(batch_size, duration_s * FRAME_RATE, CHANNELS)
    provenance = make_provenance(seeds=list(range(batch_size)), frame_rate=FRAME_RATE)
    owner, _ = User.objects.get_or_create(username="alice")
    record = store.save(latents, provenance, owner=owner)
    floor = Floor(latents, record.pk)

    saving = median_ratio(lambda: store.save(latents, provenance, owner=owner), floor.save)
    # One load of a small file takes a fifth of a millisecond, too little to be timed alone.
    times = max(1, 10_000_000 // record.size_bytes)
    loading = median_ratio(lambda: repeat(lambda: store.load(record), times), lambda: repeat(floor.load, times))
    size = f"{duration_s} s x {batch_size}, {record.size_bytes / 1e6:.1f} MB"
    return all([report(f"save {size}", saving, LIMIT), report(f"load {size}", loading, LIMIT)])


def repeat(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()


class Floor:
    """The least that must be done to keep a tensor with its row and picture, and to get it back."""

    def __init__(self, latents: torch.Tensor, record_id: uuid.UUID) -> None:
        from django.conf import settings

        self.latents = latents
        self.folder = Path(settings.REPRISE_DATA) / "floor"
        self.folder.mkdir(exist_ok=True)
        self.database = sqlite3.connect(settings.DATABASES["default"]["NAME"], isolation_level=None)
        self.database.execute("PRAGMA synchronous=FULL")
        read = self.database.execute
        self.row = read("SELECT * FROM latents_latentrecord WHERE id = ?", [record_id.hex]).fetchone()
        self.pictures = read("SELECT * FROM latents_heatmap WHERE record_id = ?", [record_id.hex]).fetchone()
        self.path, self.digests = self.save()

    def save(self) -> tuple[Path, list[str]]:
        data = self.latents.numpy().view("u1").reshape(len(self.latents), -1)
        sha256(data).hexdigest()
        digests = [sha256(item).hexdigest() for item in data]
        path = self.folder / uuid.uuid4().hex
        draft = path.with_suffix(".draft")
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        descriptor = os.open(self.folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        self._insert_rows()
        return path, digests

    def _insert_rows(self) -> None:
        row_id = uuid.uuid4().hex
        self.database.execute("BEGIN IMMEDIATE")
        for table, row in [("latents_latentrecord", self.row), ("latents_heatmap", self.pictures)]:
            values = ", ".join("?" * len(row))
            self.database.execute(f"INSERT INTO {table} VALUES ({values})", [row_id, *row[1:]])
        self.database.execute("COMMIT")

    def load(self) -> torch.Tensor:
        data = bytearray(self.path.read_bytes())  # a tensor's memory must be writable
        latents = torch.frombuffer(data, dtype=torch.float32).reshape(self.latents.shape)
        assert [sha256(item.numpy()).hexdigest() for item in latents] == self.digests
        return latents


if __name__ == "__main__":
    sys.exit(0 if measure() else 1)
