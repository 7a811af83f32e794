"""What the studio says while its files or its database are away: a plain 503, for people and for programs."""

import copy
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, connection
from django.test import Client
from pytest_django import Settings

from generation.models import GenerationJob, Sample
from latents.models import LatentRecord
from tests.generation.views.conftest import HTMX, JSON, text


@pytest.fixture
def client(alice: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(alice)
    return client


@pytest.fixture(params=["a folder that is not there", "an S3 that is not there"])
def outage(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Callable[[], None]:
    """Return a function that takes the files away."""

    def take_away() -> None:
        gone = copy.deepcopy(settings.STORAGES)
        for alias in ("latents", "audio"):
            if "S3" in request.param:
                gone[alias] = {"BACKEND": "latents.s3.RangedS3Storage", "OPTIONS": nobodys_s3()}
            else:
                (tmp_path / "file").touch()
                gone[alias]["OPTIONS"]["location"] = tmp_path / "file" / alias  # below a file: NotADirectoryError
        settings.STORAGES = gone

    return take_away


def nobodys_s3() -> dict[str, Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    return {
        "bucket_name": "music",
        "endpoint_url": endpoint,
        "region_name": "nowhere",
        "access_key": "x",
        "secret_key": "y",
        "file_overwrite": False,
    }


def test_files_that_are_away_are_503_everywhere(client: Client, sample: Sample, outage: Callable[[], None]) -> None:
    latent = sample.latent
    assert latent
    file = storages["latents"].open(latent.file).read()
    outage()
    resume = {"caption": "x", "init_latent_id": str(latent.pk), "t_start": "0.5"}
    answers = [
        client.get(f"/generation/samples/{sample.pk}/audio"),
        client.get(f"/generation/samples/{sample.pk}/audio?format=mp3"),
        client.get(f"/latents/{latent.pk}/download"),
        client.post("/latents/import", {"file": SimpleUploadedFile("x.safetensors", file)}),
        client.post("/generation/generate", resume),
        client.get("/generation/plan", resume),
    ]
    assert [answer.status_code for answer in answers] == [503] * len(answers)
    for answer in answers:
        assert "Traceback" not in text(answer)
        assert "503 Service Unavailable" in text(answer)
    assert not GenerationJob.objects.filter(params__caption="x").exists()


def test_pages_need_no_files(client: Client, sample: Sample, outage: Callable[[], None]) -> None:
    outage()
    for path in ("/", f"/generation/jobs/{sample.job_id}/", "/latents/", f"/latents/{sample.latent_id}/"):
        assert client.get(path).status_code == 200


def test_outage_is_told_in_the_manner_of_the_request(
    client: Client, take: LatentRecord, outage: Callable[[], None]
) -> None:
    outage()
    path = f"/latents/{take.pk}/download"
    as_json = client.get(path, headers=JSON)
    assert as_json.status_code == 503
    assert as_json.json().keys() == {"error"}
    fragment = client.get(path, headers=HTMX)
    assert (fragment.status_code, fragment["HX-Reswap"]) == (503, "none")
    assert 'class="toast error"' in text(fragment)


@contextmanager
def no_database() -> Iterator[None]:
    def refuse(*args: Any) -> None:
        raise OperationalError("database is locked")

    with connection.execute_wrapper(refuse):
        yield


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/latents/"), ("POST", "/generation/generate")])
def test_database_that_is_away_is_503_everywhere(client: Client, method: str, path: str) -> None:
    with no_database():
        page = client.generic(method, path, headers={"accept": "text/html"})
        as_json = client.generic(method, path, headers=JSON)
    assert (page.status_code, as_json.status_code) == (503, 503)
    assert "The studio&#x27;s database is busy or cannot be reached." in text(page)
    assert as_json.json()["error"].startswith("The studio's database is busy or cannot be reached.")


def test_fault_of_ours_is_500_without_a_traceback(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("generation.views.studio.results", fail)
    response = client.get("/")
    assert response.status_code == 500
    assert "Something broke in the studio." in text(response)
    assert "secret" not in text(response)
