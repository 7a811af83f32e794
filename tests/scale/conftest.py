"""The three services that machines share, started once for all of these tests, and a studio on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from pytest_django import Settings

from latents.s3 import RangedS3Storage
from tests.scale import servers
from tests.scale.site import Site, eventually


@pytest.fixture(scope="session", autouse=True)
def servers_are_installed() -> None:
    missing = servers.find_missing()
    if missing and os.environ.get("CI"):
        pytest.fail(f"{missing} is not installed")
    if missing:
        pytest.skip(f"needs {missing}")


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server.url


@pytest.fixture
def s3_storages(
    s3_endpoint: str, own_files: None, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep this test's latents and sound in S3, under a prefix of its own."""
    session = boto3.Session(**servers.S3_CREDENTIALS)
    # Each storage would make its own, a tenth of a second each time.
    monkeypatch.setattr(RangedS3Storage, "_create_session", lambda storage: session)
    place = {"bucket_name": servers.BUCKET, "endpoint_url": s3_endpoint, "region_name": servers.REGION}
    settings.STORAGES = settings.STORAGES | {
        alias: {
            "BACKEND": "latents.s3.RangedS3Storage",
            "OPTIONS": place | {"location": f"{tmp_path.name}/{alias}", "file_overwrite": False},
        }
        for alias in ("latents", "audio")
    }


@pytest.fixture(scope="session")
def site(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path], s3_endpoint: str
) -> Iterator[Site]:
    """Give a studio with a web process and one worker for the model `tiny`."""
    models = {"tiny": tiny_model("base"), "tiny-turbo": tiny_model("turbo")}
    redis_server = servers.redis_server(tmp_path_factory.mktemp("redis"))
    with servers.postgresql() as database, redis_server as broker:
        site = Site(tmp_path_factory.mktemp("site"), database, broker, s3_endpoint, models)
        site.set_up()
        try:
            site.start_web()
            site.start_worker("east", "--variant", "tiny")
            eventually(site.is_ready)
            yield site
        finally:
            site.stop()


@pytest.fixture(scope="session")
def machines(site: Site) -> Site:
    """Give the studio a second worker for `tiny`, and one for `tiny-turbo`."""
    site.start_worker("west", "--variant", "tiny")
    site.start_worker("north", "--variant", "tiny-turbo")
    eventually(lambda: len(site.rows("SELECT id FROM generation_worker")) == 3)
    return site
