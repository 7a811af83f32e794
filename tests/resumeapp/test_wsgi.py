"""The WSGI application cannot be started without login by anything but the studio command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.resumeapp.test_settings import ROOT, SERVER


def start(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "REPRISE_DATA": str(tmp_path), **variables}
    command = [sys.executable, "-c", "import resumeapp.wsgi"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_local_mode_refuses_a_foreign_wsgi_server(tmp_path: Path) -> None:
    started = start(tmp_path)
    assert started.returncode == 1
    assert "starts only through `python manage.py studio`" in started.stderr


@pytest.mark.parametrize("variables", [{"REPRISE_STARTED_BY_STUDIO": "1"}, SERVER])
def test_studio_and_server_mode_start(variables: dict[str, str], tmp_path: Path) -> None:
    started = start(tmp_path, **variables)
    assert started.returncode == 0, started.stderr
