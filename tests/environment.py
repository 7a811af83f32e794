"""A pytest plugin, loaded before Django's settings: the tests' own data folder and no settings from outside."""

import os
import shutil
import tempfile
from pathlib import Path

_data = tempfile.mkdtemp(prefix="reprise-tests-")
Path(_data, "static").mkdir()  # where WhiteNoise looks for collected files

for _name in [name for name in os.environ if name.startswith("REPRISE_") or name == "DATABASE_URL"]:
    del os.environ[_name]
os.environ["REPRISE_DATA"] = _data
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")  # Playwright's loop runs in the thread that uses the ORM


def pytest_unconfigure() -> None:
    shutil.rmtree(_data, ignore_errors=True)
