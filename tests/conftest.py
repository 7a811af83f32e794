"""What every test gets: storages and data under its own tmp_path, a database in a file, quick passwords."""

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.cache import caches
from pytest_django import Settings


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> None:
    """Keep the test database in a file: threads and processes of one test must see the same rows."""
    database = django_settings.DATABASES["default"]
    if database["ENGINE"] == "django.db.backends.sqlite3":
        database.setdefault("TEST", {})["NAME"] = str(django_settings.REPRISE_DATA / "test.sqlite3")


@pytest.fixture(autouse=True)
def own_files(tmp_path: Path, settings: Settings) -> None:
    """Nothing is written outside tmp_path, and nothing remembered."""
    caches["default"].clear()
    storages = copy.deepcopy(settings.STORAGES)
    for alias in ("latents", "audio"):
        storages[alias]["OPTIONS"]["location"] = tmp_path / alias
    # No manifest, as nothing was collected.
    storages["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = storages
    settings.REPRISE_DATA = tmp_path
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def server_mode(settings: Settings) -> None:
    """Everybody logs in, and the client is nobody until it does."""
    settings.REPRISE_MODE = "server"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the folder of a tiny random pipeline: "base", "turbo" or "xl"."""

    @cache
    def folder(kind: str) -> Path:
        # Here, because it loads torch, which most tests do without.
        from tests.tiny_pipelines import save_tiny_pipeline

        return save_tiny_pipeline(kind, tmp_path_factory.mktemp("models") / kind)

    return folder
