"""How long Sketch takes for two takes of 20 s at its default settings, and how much memory: on two CPU cores."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from importlib import import_module
from statistics import median

from tests.benchmarks.ratios import report, seconds

LOAD_LIMIT_S = 5.0
TAKES_LIMIT_S = 4.0
MEMORY_LIMIT_MB = 900.0
TIMES = 3
REQUEST = {"caption": "warm lofi, piano and drums", "duration": 20, "batch_size": 2, "seed": 7}


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

    from generation.forms import GenerationForm
    from generation.takes import make_take
    from resumeapp.accounts import local_user

    libraries_s = seconds(lambda: import_module("generation.engine.music_model"))
    owner = local_user()
    form = GenerationForm.from_json(REQUEST, user=owner)
    assert form.is_valid(), form.sentences
    assert form.take_request
    timings = [make_take(form.take_request, owner=owner).timing for _ in range(1 + TIMES)]
    takes_s = median(sum(timing.values()) - timing["load"] for timing in timings[1:])
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # Linux counts in KiB
    print(f"  {'load torch, diffusers and transformers, in seconds':<60} {libraries_s:6.3f}", flush=True)
    kept = [
        report("load the model, in seconds", timings[0]["load"], LOAD_LIMIT_S),
        report("two takes of 20 s, from loaded model to FLAC, in seconds", takes_s, TAKES_LIMIT_S),
        report("peak memory in MB", memory_mb, MEMORY_LIMIT_MB),
    ]
    return all(kept)


if __name__ == "__main__":
    sys.exit(0 if measure() else 1)
