"""What is refused, with its status and its sentence, by every way into the studio: JSON, htmx and plain pages."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from generation.models import GenerationJob
from latents.models import LatentRecord
from tests.generation.views.conftest import HTMX, JSON, text

GENERATE = "/generation/generate"
Spoil = Callable[[LatentRecord], object]


def replace_file(record: LatentRecord, content: bytes) -> None:
    storages["latents"].delete(record.file)
    storages["latents"].save(record.file, ContentFile(content))


def expire(record: LatentRecord) -> None:
    LatentRecord.objects.filter(pk=record.pk).update(expires_at=timezone.now() - timedelta(seconds=1))


LATENTS = [
    # (what happened to the latent, status, what is said)
    (expire, 404, "Latent '{id}' not found or expired"),
    (lambda record: record.delete_softly(), 404, "Latent '{id}' not found or expired"),
    (lambda record: LatentRecord.objects.all().delete(), 404, "Latent '{id}' not found or expired"),
    (lambda record: storages["latents"].delete(record.file), 404, "Failed to load latent tensor '{id}'"),
    (lambda record: replace_file(record, b"x" * 10), 422, "Latent '{id}' is damaged: it has 10 bytes, expected"),
    (lambda record: replace_file(record, b"x" * record.size_bytes), 422, "Latent '{id}' is damaged: "),
    (lambda record: record.note_damage("NaN"), 422, "Latent '{id}' is damaged: NaN"),
]


@pytest.mark.parametrize("level", [1.0, 0.5, 0.0])
@pytest.mark.parametrize(("spoil", "status", "said"), LATENTS)
def test_latent_that_cannot_be_resumed_is_refused_at_every_level(
    client: Client, take: LatentRecord, spoil: Spoil, status: int, said: str, level: float
) -> None:
    spoil(take)
    said = said.format(id=take.pk)
    asked = {"caption": "x", "init_latent_id": str(take.pk), "t_start": level}
    as_json = client.post(GENERATE, json.dumps(asked), content_type="application/json")
    assert (as_json.status_code, as_json.json()["error"][: len(said)]) == (status, said)
    fragment = client.post(GENERATE, asked, headers=HTMX)
    assert (fragment.status_code, said.replace("'", "&#x27;") in text(fragment)) == (status, True)
    plan = client.get("/generation/plan", asked, headers=JSON)
    assert (plan.status_code, plan.json()["error"][: len(said)]) == (status, said)
    assert not GenerationJob.objects.exists()


def test_latent_that_went_after_it_was_restored_is_refused_when_the_job_is_accepted(
    client: Client, take: LatentRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The form has seen it alive; the row is locked and looked at again with the job's own insert."""
    monkeypatch.setattr("generation.forms.GenerationForm._refuse_full_storage", lambda form: take.delete_softly())
    asked = {"caption": "x", "init_latent_id": str(take.pk), "t_start": 0.5}
    response = client.post(GENERATE, json.dumps(asked), content_type="application/json")
    assert (response.status_code, response.json()["error"]) == (404, f"Latent '{take.pk}' not found or expired")
    assert not GenerationJob.objects.exists()


NOBODYS = UUID(int=4)  # the same in every process, for the names of the tests


@pytest.mark.parametrize("path", [GENERATE, "/presets/save", f"/latents/{NOBODYS}/extend"])
def test_other_bodies_than_forms_and_json_are_not_read(client: Client, path: str, take: LatentRecord) -> None:
    if "extend" in path:
        path = f"/latents/{take.pk}/extend"
    for content_type in ("text/plain", "application/xml"):
        response = client.post(path, "caption=x&preset_name=y", content_type=content_type, headers=JSON)
        assert response.status_code == 415
        assert response.json()["error"] == f"Send a form or application/json, not {content_type}"


@pytest.mark.parametrize(
    ("content_type", "checks_csrf"),
    [
        ("application/json", False),
        ("application/x-www-form-urlencoded", False),
        ("application/x-www-form-urlencoded", True),  # the token is looked for in the form, before any view
    ],
)
def test_body_beyond_reason_is_413(client: Client, settings: Settings, content_type: str, checks_csrf: bool) -> None:
    client.get("/")  # brings the token's cookie
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    client.handler.enforce_csrf_checks = checks_csrf
    response = client.post(GENERATE, "caption=" + "x" * 2000, content_type=content_type, headers=JSON)
    assert (response.status_code, response.json()["error"]) == (413, "The request is larger than the studio accepts.")


PATHS = ["/?restore=nonsense", f"/?restore={NOBODYS}", "/?reuse=nonsense", "/?preset=nonsense", "/?before=nonsense",
         f"/generation/jobs/{NOBODYS}/", f"/generation/samples/{NOBODYS}/audio", f"/latents/{NOBODYS}/",
         f"/latents/{NOBODYS}/download", "/nowhere"]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_what_is_not_there_is_404_in_the_manner_of_the_request(client: Client, path: str) -> None:
    page, as_json, fragment = (client.get(path, headers=headers) for headers in ({}, JSON, HTMX))
    assert (page.status_code, as_json.status_code, fragment.status_code) == (404, 404, 404)
    assert "To the studio" in text(page)
    assert as_json.json()["error"]
    for response in (page, as_json, fragment):
        assert {"Accept", "HX-Request"} <= {name.strip() for name in response["Vary"].split(",")}


def test_methods_are_those_of_the_contract(client: Client, finished: GenerationJob) -> None:
    reading = ["/generation/plan", f"/generation/jobs/{finished.pk}/", "/latents/", "/workers/", "/presets/"]
    writing = [GENERATE, f"/generation/jobs/{finished.pk}/cancel", f"/latents/{finished.latent_id}/pin"]
    asked: list[Any] = [client.post(path) for path in reading] + [client.get(path) for path in writing]
    assert [response.status_code for response in asked] == [405] * 8
