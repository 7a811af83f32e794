"""The settings as they come out of an environment."""

import os
import re
import runpy
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

ROOT = Path(__file__).resolve().parents[2]
SERVER = {
    "REPRISE_MODE": "server",
    "REPRISE_SECRET_KEY": "kept-by-whoever-runs-the-server-and-longer-than-fifty-characters",
    "REPRISE_ALLOWED_HOSTS": "studio.example",
}

Load = Callable[..., dict[str, Any]]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    """Run settings.py anew in an environment, as a starting process would."""

    def load(**variables: str) -> dict[str, Any]:
        with monkeypatch.context() as patch:
            patch.setenv("REPRISE_DATA", str(tmp_path / "data"))
            for name, value in variables.items():
                patch.setenv(name, value)
            return runpy.run_path(str(ROOT / "resumeapp/settings.py"))

    return load


def test_every_variable_stands_in_the_readme_and_no_other() -> None:
    read = set(re.findall(r'"(REPRISE_\w+|DATABASE_URL)"', (ROOT / "resumeapp/settings.py").read_text()))
    documented = re.findall(r"^\| `(REPRISE_\w+|DATABASE_URL)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(read)


def test_local_mode_needs_no_setting(load: Load) -> None:
    settings = load()
    assert settings["REPRISE_MODE"] == "local"
    assert settings["ALLOWED_HOSTS"] == ["127.0.0.1", "localhost", "[::1]"]
    assert settings["REPRISE_LATENT_TTL"] is None
    assert settings["REPRISE_MAX_STORED_BYTES"] is None
    assert next(iter(settings["REPRISE_MODELS"])) == "sketch"


def test_local_secret_key_is_made_once_and_readable_by_its_owner_only(load: Load, tmp_path: Path) -> None:
    key = load()["SECRET_KEY"]
    assert len(key) >= 50
    assert load()["SECRET_KEY"] == key
    assert stat.S_IMODE((tmp_path / "data/secret_key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secret_key"]


def test_processes_that_start_together_agree_on_the_secret_key(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = load()["SECRET_KEY"]
    # The second one looked before the first one had written.
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert load()["SECRET_KEY"] == key
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secret_key"]


@pytest.mark.parametrize("missing", ["REPRISE_SECRET_KEY", "REPRISE_ALLOWED_HOSTS"])
def test_server_mode_does_not_start_without_key_and_hosts(missing: str, load: Load) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"{missing} must be set in server mode"):
        load(**{name: value for name, value in SERVER.items() if name != missing})


def test_server_mode_forgets_latents_after_thirty_days_and_protects_its_cookies(load: Load) -> None:
    settings = load(**SERVER)
    assert settings["REPRISE_LATENT_TTL"] == timedelta(days=30)
    assert settings["REPRISE_MAX_STORED_BYTES"] == 50_000_000_000
    assert settings["SESSION_COOKIE_SECURE"]
    assert settings["CSRF_COOKIE_SECURE"]


def test_djangos_deployment_checks_find_nothing_in_server_mode(tmp_path: Path) -> None:
    environment = {**os.environ, **SERVER, "REPRISE_DATA": str(tmp_path)}
    environment.pop("DJANGO_ALLOW_ASYNC_UNSAFE")  # set for the tests only
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    checked = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.django_db
def test_sqlite_keeps_what_it_confirmed_and_lets_readers_go_on() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("another database is configured")
    with connection.cursor() as cursor:
        pragmas = {name: cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}  # 2 is FULL


def test_database_url_names_another_database(load: Load, tmp_path: Path) -> None:
    postgres = load(DATABASE_URL="postgres://music:secret@db.example:5433/reprise")["DATABASES"]["default"]
    assert postgres["ENGINE"] == "django.db.backends.postgresql"
    assert (postgres["HOST"], postgres["PORT"], postgres["NAME"]) == ("db.example", 5433, "reprise")
    assert postgres["CONN_HEALTH_CHECKS"]
    sqlite = load(DATABASE_URL=f"sqlite:///{tmp_path}/other.sqlite3")["DATABASES"]["default"]
    assert sqlite["NAME"] == f"{tmp_path}/other.sqlite3"
    assert sqlite["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


def test_storages_are_local_folders_unless_s3_is_named(load: Load, tmp_path: Path) -> None:
    storages = load(REPRISE_AUDIO="s3://music/studio/audio?endpoint=http://127.0.0.1:9000&region=eu-west-1")["STORAGES"]
    assert storages["latents"]["OPTIONS"]["location"] == tmp_path / "data/latents"
    s3 = storages["audio"]["OPTIONS"]
    assert (s3["bucket_name"], s3["location"]) == ("music", "studio/audio")
    assert (s3["endpoint_url"], s3["region_name"]) == ("http://127.0.0.1:9000", "eu-west-1")
    assert s3["file_overwrite"] is False


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REPRISE_LATENTS", "/srv/latents"),
        ("REPRISE_LATENTS", "s3://"),
        ("REPRISE_AUDIO", "s3://bucket?endpiont=http://127.0.0.1"),
        ("REPRISE_BROKER", "127.0.0.1:6379"),
        ("DATABASE_URL", "oracle-of-delphi://db"),
        ("REPRISE_MODE", "cloud"),
        ("REPRISE_DEVICE", "gpu"),
        ("REPRISE_MODELS", "sketch"),
    ],
)
def test_bad_value_stops_the_start_with_its_name(name: str, value: str, load: Load) -> None:
    with pytest.raises(ImproperlyConfigured, match=name):
        load(**{name: value})


def test_workers_are_woken_through_the_database_unless_redis_is_named(load: Load) -> None:
    assert load()["Q_CLUSTER"]["orm"] == "default"
    clustered = load(REPRISE_BROKER="redis://127.0.0.1:6379/3", REPRISE_MODELS="a=/models/a,b=hub/b")["Q_CLUSTER"]
    assert clustered["redis"] == "redis://127.0.0.1:6379/3"
    assert "orm" not in clustered
    assert clustered["ALT_CLUSTERS"] == {"a": {}, "b": {}}
