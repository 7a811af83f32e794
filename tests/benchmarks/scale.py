"""How pages and chores bear very many records, on SQLite and, where it is installed, on PostgreSQL.

SCALE_RECORDS names the sizes, "10000" by default; "10000 1000000" takes half an hour and shows the growth.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

SIZES = [int(size) for size in os.environ.get("SCALE_RECORDS", "10000").split()]
FILES = 1000
USERS = 10
ROUNDS = 40


@dataclass(frozen=True)
class Target:
    """A limit in milliseconds at the 95th percentile, or a least number per second."""

    limit: float
    unit: str

    def is_met(self, figure: float) -> bool:
        return figure <= self.limit if self.unit == "ms" else figure >= self.limit

    def __str__(self) -> str:
        return f"{'at most' if self.unit == 'ms' else 'at least'} {self.limit:g} {self.unit}"


TARGETS = {
    "library": Target(50, "ms"),
    "library, in the middle": Target(50, "ms"),
    "filter: a rare variant": Target(50, "ms"),
    "filter: checkpoints": Target(50, "ms"),
    "filter: pinned": Target(50, "ms"),
    "filter: expiring soon": Target(50, "ms"),
    "search: a common word": Target(150, "ms"),
    "search: two words": Target(150, "ms"),
    "search: a beginning": Target(150, "ms"),
    "search: a rare word": Target(150, "ms"),
    "search: nothing there": Target(150, "ms"),
    "search: common, pinned": Target(150, "ms"),
    "admin list": Target(150, "ms"),
    "admin: deleted": Target(150, "ms"),
    "admin: expired": Target(150, "ms"),
    "admin: a common word": Target(150, "ms"),
    "record, lineage of 200": Target(50, "ms"),
    "library while pruning": Target(100, "ms"),
    "prune, rows only": Target(2000, "records/s"),
    "prune, with files": Target(500, "records/s"),
    "audit": Target(5000, "files/s"),
}


def main() -> bool:
    from tests.scale import servers

    columns: dict[str, dict[str, float]] = {}
    for size in SIZES:
        columns[f"SQLite, {size:,}"] = measure_in_a_process(size, {})
        if "PostgreSQL" in servers.find_missing():
            print("PostgreSQL is not installed", flush=True)
            continue
        with servers.postgresql() as database:
            columns[f"PostgreSQL, {size:,}"] = measure_in_a_process(size, {"DATABASE_URL": database.url})
    return print_table(columns)


def print_table(columns: dict[str, dict[str, float]]) -> bool:
    print(f"{'p95 or rate':<26}" + "".join(f"{name:>22}" for name in columns) + "   target")
    is_kept = True
    for what, target in TARGETS.items():
        figures = [column[what] for column in columns.values()]
        missed = [figure for figure in figures if not target.is_met(figure)]
        is_kept = is_kept and not missed
        row = "".join(f"{figure:>22,.1f}" for figure in figures)
        print(f"{what:<26}{row}   {target}{' MISSED' if missed else ''}")
    return is_kept


def measure_in_a_process(size: int, environment: dict[str, str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="reprise-scale-") as folder:
        own = {"REPRISE_DATA": folder, "DJANGO_SETTINGS_MODULE": "resumeapp.settings"}
        inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        command = [sys.executable, "-m", __name__, str(size)]
        done = subprocess.run(command, env=inherited | own | environment, stdout=subprocess.PIPE, check=True, text=True)
        figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return figures


def measure(size: int) -> dict[str, float]:
    import django
    from django.core.management import call_command
    from django.db import connection

    django.setup()
    call_command("migrate", verbosity=0)
    call_command("collectstatic", verbosity=0)
    figures = measure_files()
    start = time.perf_counter()
    call_command("seed_demo", latents=size, users=USERS, rows_only=True, verbosity=0)
    if connection.vendor == "postgresql":  # which does so by itself, a minute later
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    print(f"{connection.vendor}: {size:,} rows in {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    figures |= {what: p95(ask) for what, ask in pages().items()}
    return figures | measure_prune()


def measure_files() -> dict[str, float]:
    from django.core.management import call_command
    from django.utils import timezone

    from latents.audit import audit
    from latents.demo import AGE, TTL
    from latents.models import LatentRecord
    from latents.retention import prune

    call_command("seed_demo", latents=FILES, users=USERS, verbosity=0)
    LatentRecord.objects.update(pinned=False, deleted_at=None, expires_at=timezone.now() + TTL)
    with per_second() as audited:
        audited.count = audit(timezone.now()).files
    with per_second() as pruned:
        pruned.count = prune(timezone.now() + TTL + AGE).records
    LatentRecord.objects.all().delete()
    return {"audit": audited.rate, "prune, with files": pruned.rate}


def pages() -> dict[str, Callable[[], None]]:
    """Return what is asked for each figure."""
    from django.test import Client
    from django.utils import timezone

    from latents.models import LatentRecord
    from resumeapp.accounts import local_user

    client = Client(headers={"host": "localhost"})
    own = LatentRecord.objects.filter(owner=local_user())
    live = own.live(timezone.now()).newest_first()
    middle = live[live.count() // 2]
    oldest = own.order_by("created_at", "id")[0]

    def ask(path: str, **query: str) -> Callable[[], None]:
        def get() -> None:
            response = client.get(path, query)
            assert response.status_code == 200, (path, response.status_code)

        return get

    admin = "/admin/latents/latentrecord/"
    return {
        "library": ask("/latents/"),
        "library, in the middle": ask("/latents/", before=str(middle.pk)),
        "filter: a rare variant": ask("/latents/", variant="acestep-v15-base"),
        "filter: checkpoints": ask("/latents/", kind="checkpoint"),
        "filter: pinned": ask("/latents/", pinned="on"),
        "filter: expiring soon": ask("/latents/", expiring="on"),
        "search: a common word": ask("/latents/", q="piano"),
        "search: two words": ask("/latents/", q="dusty harp"),
        "search: a beginning": ask("/latents/", q="d"),
        "search: a rare word": ask("/latents/", q=middle.caption.split()[-1]),
        "search: nothing there": ask("/latents/", q="bassoon"),
        "search: common, pinned": ask("/latents/", q="piano", pinned="on"),
        "admin list": ask(admin),
        "admin: deleted": ask(admin, state="deleted"),
        "admin: expired": ask(admin, state="expired"),
        "admin: a common word": ask(admin, q="piano"),
        "record, lineage of 200": ask(f"/latents/{oldest.pk}/"),
    }


def measure_prune() -> dict[str, float]:
    """Prune ten days' worth in another process, as a worker does, and meanwhile look at the library."""
    library = pages()["library"]
    command = [sys.executable, "-c", "from tests.benchmarks.scale import prune_ten_days; prune_ten_days()"]
    times = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while process.poll() is None:
        times.append(milliseconds(library))
        time.sleep(0.02)
    assert process.stdout
    return {"library while pruning": percentile(times), "prune, rows only": float(process.stdout.read())}


def prune_ten_days() -> None:
    import django

    django.setup()
    from django.utils import timezone

    from latents.retention import prune

    with per_second() as pruning:
        pruned = prune(timezone.now() + timedelta(days=10))
        pruning.count = pruned.records + pruned.rows
    print(pruning.rate)


class Rate:
    count = 0
    rate = 0.0


@contextmanager
def per_second() -> Iterator[Rate]:
    rate, start = Rate(), time.perf_counter()
    yield rate
    rate.rate = rate.count / (time.perf_counter() - start)


def p95(ask: Callable[[], None]) -> float:
    for _ in range(3):
        ask()
    return percentile([milliseconds(ask) for _ in range(ROUNDS)])


def milliseconds(ask: Callable[[], Any]) -> float:
    start = time.perf_counter()
    ask()
    return (time.perf_counter() - start) * 1000


def percentile(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)]


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
