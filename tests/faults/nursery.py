"""A process that has loaded torch and Django once, and forks workers from that: real ones, ready in a moment.

Run as `python -m tests.faults.nursery`; it reads one JSON object per line and answers with one.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any


def main() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "resumeapp.settings")
    django.setup()
    import generation.supervisor  # noqa: F401  what a worker needs is loaded before it is forked
    from generation import takes
    from generation.variants import default_variant

    takes._load_model(default_variant())
    print("{}", flush=True)  # noqa: T201  ready
    for line in sys.stdin:
        order = json.loads(line)
        answer = _fork(order) if "command" in order else _wait(order["wait"], order["patience_s"])
        print(json.dumps(answer), flush=True)  # noqa: T201
    os._exit(0)  # taking torch apart would take seconds


def _fork(order: dict[str, Any]) -> dict[str, int]:
    pid = os.fork()
    if pid:
        return {"pid": pid}
    try:
        _become(order)
    finally:
        os._exit(70)  # never back into the loop above


def _become(order: dict[str, Any]) -> None:
    """Run a management command as if it had been started by itself, but for the changes that the test asks for."""
    from django.conf import settings
    from django.core.management import call_command

    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor, copy in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
        os.dup2(descriptor, copy)
    for alias in ("latents", "audio"):
        settings.STORAGES[alias]["OPTIONS"]["location"] = Path(order["data"]) / alias
    for place, value in order["constants"].items():
        path, _, name = place.rpartition(".")
        module = importlib.import_module(path)
        setattr(module, name, timedelta(seconds=value) if isinstance(getattr(module, name), timedelta) else value)
    for scene, arguments in order["scenes"].items():
        getattr(importlib.import_module("tests.faults.scenes"), scene)(*arguments)
    try:
        call_command(*order["command"])
    except SystemExit as status:
        sys.stderr.flush()
        os._exit(int(status.code or 0))
    os._exit(0)


def _wait(pid: int, patience_s: float) -> dict[str, int | None]:
    gives_up_at = time.monotonic() + patience_s
    while time.monotonic() < gives_up_at:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return {"status": os.waitstatus_to_exitcode(status)}
        time.sleep(0.02)
    return {"status": None}


if __name__ == "__main__":
    main()
