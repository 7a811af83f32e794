"""The sound of a sample, and its way out and back."""

import io
import json

import pytest
import soundfile
from django.core.files.storage import storages
from django.test import Client
from django.utils import timezone

from generation.models import Sample
from tests.generation.views.conftest import HTMX, JSON, text


def url(sample: Sample, action: str = "audio") -> str:
    return f"/generation/samples/{sample.pk}/{action}"


def test_sound_is_the_stored_flac(client: Client, sample: Sample) -> None:
    response = client.get(url(sample))
    assert (response.status_code, response["Content-Type"]) == (200, "audio/flac")
    with sample.open_audio() as file:
        assert response.getvalue() == file.read()
    assert response["ETag"] == f'"{sample.sha256}-flac"'
    assert response["X-Content-Type-Options"] == "nosniff"


def test_player_can_seek(client: Client, sample: Sample) -> None:
    whole = client.get(url(sample)).getvalue()
    part = client.get(url(sample), headers={"range": "bytes=1000-1999"})
    assert (part.status_code, part.getvalue()) == (206, whole[1000:2000])
    assert client.get(url(sample), headers={"range": f"bytes={len(whole)}-"}).status_code == 416


def test_sound_that_the_browser_has_is_not_sent_again(client: Client, sample: Sample) -> None:
    etag = client.get(url(sample))["ETag"]
    assert client.get(url(sample), headers={"if-none-match": etag}).status_code == 304


@pytest.mark.parametrize("audio_format", ["flac", "wav", "mp3", "opus"])
def test_download_has_a_name_that_people_can_read(client: Client, sample: Sample, audio_format: str) -> None:
    response = client.get(url(sample), {"format": audio_format, "download": "1"})
    name = f"warm-lofi-piano-8-{str(sample.latent_id)[:8]}.{audio_format}"
    assert response["Content-Disposition"] == f'attachment; filename="{name}"'
    sound, rate = soundfile.read(io.BytesIO(response.getvalue()))
    assert len(sound) / rate == pytest.approx(1.0, abs=0.1)


def test_download_carries_what_it_was_made_with(client: Client, sample: Sample) -> None:
    response = client.get(url(sample), {"format": "opus", "download": "1"})
    with soundfile.SoundFile(io.BytesIO(response.getvalue())) as file:
        comment = json.loads(file.copy_metadata()["comment"])
    assert (comment["seed"], comment["latent_id"]) == (8, str(sample.latent_id))


def test_unknown_format_is_not_found(client: Client, sample: Sample) -> None:
    assert client.get(url(sample), {"format": "aiff"}).status_code == 404


def test_sound_that_is_gone_is_not_found(client: Client, sample: Sample) -> None:
    storages["audio"].delete(sample.audio_file)
    assert client.get(url(sample)).status_code == 404
    assert client.get(url(sample), {"format": "mp3"}).status_code == 404


def test_expired_sound_leaves_the_sample(client: Client, sample: Sample) -> None:
    Sample.objects.filter(pk=sample.pk).update(purged_at=timezone.now())
    assert client.get(url(sample)).status_code == 404
    page = text(client.get("/"))
    assert "Sample 2: the sound has expired." in page
    assert f"/?restore={sample.pk}" in page


def test_deleted_sample_is_silent_at_once_and_can_be_brought_back(client: Client, sample: Sample) -> None:
    answer = client.post(url(sample, "delete"), headers=HTMX)
    assert "Sample 2 deleted" in text(answer)
    assert f'hx-post="{url(sample, "undelete")}"' in text(answer)
    assert client.get(url(sample)).status_code == 404
    assert client.get("/", {"restore": sample.pk}).status_code == 404
    assert "Sample 2 deleted" in text(client.get(f"/generation/jobs/{sample.job_id}/"))
    assert "<audio" in text(client.post(url(sample, "undelete"), headers=HTMX))
    assert client.get(url(sample)).status_code == 200


def test_deletion_answers_programs_and_pages(client: Client, sample: Sample) -> None:
    assert client.post(url(sample, "delete"), headers=JSON).json()["undo_url"] == url(sample, "undelete")
    assert client.post(url(sample, "undelete"), headers=JSON).json()["id"] == str(sample.pk)
    assert client.post(url(sample, "undelete"), headers=JSON).status_code == 409
    assert client.post(url(sample, "delete"))["Location"] == f"/generation/jobs/{sample.job_id}/"


def test_latents_stay_when_a_sample_is_deleted(client: Client, sample: Sample) -> None:
    client.post(url(sample, "delete"))
    assert client.get(f"/latents/{sample.latent_id}/").status_code == 200
