"""The URLs that change, hand out or take in one latent: for browsers, for htmx and for programs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from latents import store
from latents.models import LatentRecord
from tests.latents.conftest import random_latents

JSON = {"Accept": "application/json"}
MakeRecord = Callable[..., LatentRecord]


@pytest.fixture
def client(alice: User, settings: Settings) -> Client:
    settings.REPRISE_MODE = "server"
    client = Client()
    client.force_login(alice)
    return client


def url(name: str, record: LatentRecord) -> str:
    return reverse(f"latents:{name}", args=[record.pk])


def test_urls_are_those_of_the_contract() -> None:
    pk = "1a2b3c4d-0000-4000-8000-000000000000"
    for name in ("pin", "unpin", "extend", "delete", "undelete", "download"):
        assert reverse(f"latents:{name}", args=[pk]) == f"/latents/{pk}/{name}"
    assert reverse("latents:import") == "/latents/import"


@pytest.mark.parametrize("name", ["pin", "unpin", "extend", "delete", "undelete"])
def test_browser_is_led_to_the_record(client: Client, record: LatentRecord, name: str) -> None:
    response = client.post(url(name, record))
    assert (response.status_code, response["Location"]) == (303, f"/latents/{record.pk}/")


@pytest.mark.parametrize("name", ["pin", "unpin", "extend", "delete", "undelete"])
def test_htmx_is_led_to_the_record(client: Client, record: LatentRecord, name: str) -> None:
    response = client.post(url(name, record), headers={"HX-Request": "true"})
    assert (response.status_code, response["HX-Redirect"]) == (200, f"/latents/{record.pk}/")


def test_program_gets_the_record_as_it_is_now(client: Client, make_record: MakeRecord) -> None:
    expires_at = timezone.now() + timedelta(hours=1)
    record = make_record(expires_at=expires_at)
    answer = client.post(url("pin", record), headers=JSON).json()
    assert answer == {
        "id": str(record.pk),
        "url": f"/latents/{record.pk}/",
        "state": "live",
        "pinned": True,
        "expires_at": answer["expires_at"],
    }
    assert client.post(url("unpin", record), headers=JSON).json()["pinned"] is False
    assert client.post(url("delete", record), headers=JSON).json()["state"] == "deleted"
    assert client.post(url("undelete", record), headers=JSON).json()["state"] == "live"


@pytest.mark.parametrize("ttl", ["", "2h"])
@pytest.mark.parametrize("is_json", [True, False])
def test_extend_takes_a_lifetime_or_the_studios(
    client: Client, make_record: MakeRecord, settings: Settings, ttl: str, is_json: bool
) -> None:
    settings.REPRISE_LATENT_TTL = timedelta(days=7)
    record = make_record(expires_at=timezone.now() + timedelta(hours=1))
    body: Any = {"ttl": ttl} if ttl else {}
    if is_json:
        response = client.post(url("extend", record), json.dumps(body), content_type="application/json")
    else:
        response = client.post(url("extend", record), body)
    assert response.status_code == (200 if is_json else 303)
    before = record.expires_at
    record.refresh_from_db()
    assert record.expires_at is not None
    assert before is not None
    assert record.expires_at - before == (timedelta(hours=2) if ttl else timedelta(days=7))


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ('{"ttl": "soon"}', "application/json", 422),
        ('{"ttl": "never"}', "application/json", 422),
        ('{"ttl": 5}', "application/json", 422),
        ('{"ttl": ["2h"]}', "application/json", 422),
        ('{"ttl": []}', "application/json", 422),
        ('{"ttl": {}}', "application/json", 422),
        ('{"ttl": false}', "application/json", 422),
        ('{"other": "2h"}', "application/json", 422),
        ("[]", "application/json", 422),
        ("{", "application/json", 422),
        ("\xff", "application/json", 422),
        ("ttl: 2h", "text/yaml", 415),
    ],
)
def test_extend_refuses_what_it_does_not_understand(
    client: Client, record: LatentRecord, body: str, content_type: str, status: int
) -> None:
    response = client.post(url("extend", record), body.encode("latin-1"), content_type=content_type, headers=JSON)
    assert response.status_code == status
    assert response.json()["error"]


NAMES = ["pin", "unpin", "extend", "delete", "undelete", "download", "heatmap"]


@pytest.mark.parametrize("name", NAMES)
def test_latents_of_others_do_not_exist(client: Client, make_record: MakeRecord, bob: User, name: str) -> None:
    record = make_record(owner=bob)
    method = client.get if name in ("download", "heatmap") else client.post
    for latent_id in (record.pk, uuid.uuid4()):
        response = method(reverse(f"latents:{name}", args=[latent_id]), headers=JSON)
        assert response.status_code == 404
        assert response.json() == {"error": f"Latent '{latent_id}' not found or expired"}


@pytest.mark.parametrize("name", NAMES)
def test_strangers_are_asked_to_log_in(record: LatentRecord, settings: Settings, name: str) -> None:
    settings.REPRISE_MODE = "server"
    client = Client()
    method = client.get if name in ("download", "heatmap") else client.post
    assert method(url(name, record)).status_code == 302
    assert method(url(name, record), headers=JSON).status_code == 401


def test_held_latent_is_not_deleted(client: Client, record: LatentRecord) -> None:
    record.hold(uuid.uuid4())
    for headers in ({}, JSON, {"HX-Request": "true"}):
        response = client.post(url("delete", record), headers=headers)
        assert response.status_code == 409
        assert "needed by a job" in response.content.decode()


def test_deleted_latent_comes_back_only_within_ten_minutes(client: Client, make_record: MakeRecord) -> None:
    record = make_record(deleted_at=timezone.now() - timedelta(minutes=11))
    assert client.post(url("undelete", record)).status_code == 404


def test_download_is_the_portable_file(client: Client, record: LatentRecord) -> None:
    response = client.get(url("download", record))
    content = b"".join(response)  # type: ignore[arg-type]
    assert content == Path(storages["latents"].path(record.file)).read_bytes()
    assert response["Content-Disposition"] == f'attachment; filename="latent-{record.pk}.safetensors"'
    assert int(response["Content-Length"]) == record.size_bytes


def test_download_that_broke_off_can_be_taken_up_again(client: Client, record: LatentRecord) -> None:
    whole = client.get(url("download", record)).getvalue()
    rest = {"range": "bytes=100-", "if-range": f'"{record.sha256}"'}
    part = client.get(url("download", record), headers=rest)
    assert (part.status_code, part.getvalue()) == (206, whole[100:])
    assert part["Content-Range"] == f"bytes 100-{len(whole) - 1}/{len(whole)}"
    assert client.get(url("download", record), headers={"range": f"bytes={len(whole)}-"}).status_code == 416


@pytest.mark.parametrize(("damage", "status"), [("missing", 404), ("truncated", 422)])
def test_download_says_what_is_wrong(client: Client, record: LatentRecord, damage: str, status: int) -> None:
    path = Path(storages["latents"].path(record.file))
    path.unlink() if damage == "missing" else path.write_bytes(b"")
    assert client.get(url("download", record)).status_code == status


@pytest.mark.parametrize("fields", [{"deleted_at": timezone.now()}, {"expires_at": timezone.now()}])
def test_what_has_gone_is_not_downloaded(client: Client, make_record: MakeRecord, fields: dict[str, Any]) -> None:
    assert client.get(url("download", make_record(**fields))).status_code == 404


def test_heat_map_is_served_and_kept_by_the_browser(client: Client, record: LatentRecord) -> None:
    picture, thumbnail = client.get(url("heatmap", record)), client.get(url("heatmap", record), {"size": "thumbnail"})
    assert picture.content == bytes(record.heat_map.picture)
    assert thumbnail.content == bytes(record.heat_map.thumbnail)
    assert picture["Content-Type"] == "image/png"
    assert "immutable" in picture["Cache-Control"]
    assert "private" in picture["Cache-Control"]


def test_heat_map_outlives_the_latents(client: Client, make_record: MakeRecord) -> None:
    record = make_record(purged_at=timezone.now(), file="")
    assert client.get(url("heatmap", record)).status_code == 200


def test_missing_heat_map_is_not_kept_by_the_browser(client: Client) -> None:
    response = client.get(reverse("latents:heatmap", args=[uuid.uuid4()]))
    assert response.status_code == 404
    assert "immutable" not in response.get("Cache-Control", "")


def upload(content: bytes) -> dict[str, SimpleUploadedFile]:
    return {"file": SimpleUploadedFile("take.safetensors", content)}


def test_download_can_be_imported_again(client: Client, record: LatentRecord, alice: User) -> None:
    content = b"".join(client.get(url("download", record)))  # type: ignore[arg-type]
    response = client.post(reverse("latents:import"), upload(content), headers=JSON)
    assert response.status_code == 200
    copy = LatentRecord.objects.find(response.json()["id"], alice)
    assert copy != record
    assert torch.equal(store.load(copy), random_latents())
    response = client.post(reverse("latents:import"), upload(content))
    assert response.status_code == 303


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "Choose a file to import."),
        (upload(b""), "The submitted file is empty."),
        (upload(b"x" * 100), "This file cannot be imported: it is not a safetensors file"),
    ],
)
def test_import_refuses_with_a_reason(client: Client, files: dict[str, SimpleUploadedFile], said: str) -> None:
    response = client.post(reverse("latents:import"), files, headers=JSON)
    assert response.status_code == 422
    assert response.json()["error"].startswith(said)


def test_refused_import_leads_back_to_where_it_was_tried(client: Client) -> None:
    files = {"file": SimpleUploadedFile("x", b"x")}
    came_from = {"referer": "http://testserver/latents/?q=lofi"}
    assert (
        b'href="http://testserver/latents/?q=lofi">Back'
        in client.post(reverse("latents:import"), files, headers=came_from).content
    )
    foreign = {"referer": "http://elsewhere.example/latents/"}
    assert b"elsewhere" not in client.post(reverse("latents:import"), files, headers=foreign).content


def test_import_refuses_large_files_before_it_receives_them(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.REPRISE_MAX_UPLOAD_BYTES = 1000
    monkeypatch.setattr("django.http.request.HttpRequest.parse_file_upload", None)
    response = client.post(reverse("latents:import"), upload(b"x" * 100_000), headers=JSON)
    assert response.status_code == 413
    assert "at most 1000 bytes" in response.json()["error"]


def test_import_refuses_what_is_a_little_too_large(client: Client, record: LatentRecord, settings: Settings) -> None:
    content = b"".join(client.get(url("download", record)))  # type: ignore[arg-type]
    settings.REPRISE_MAX_UPLOAD_BYTES = len(content) - 1
    assert client.post(reverse("latents:import"), upload(content), headers=JSON).status_code == 413
    settings.REPRISE_MAX_UPLOAD_BYTES = None
    settings.REPRISE_MAX_STORED_BYTES = len(content)
    assert client.post(reverse("latents:import"), upload(content), headers=JSON).status_code == 413


@pytest.mark.parametrize("name", ["pin", "unpin", "extend", "delete", "undelete"])
def test_links_change_nothing(client: Client, record: LatentRecord, name: str) -> None:
    assert client.get(url(name, record)).status_code == 405


def test_forms_without_a_token_are_refused(record: LatentRecord, alice: User, settings: Settings) -> None:
    settings.REPRISE_MODE = "server"
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert client.post(url("delete", record)).status_code == 403
