"""Sound files in four formats: FLAC is there, the others are made once."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from tinytag import TinyTag

from generation import downloads
from generation.audio import AudioFormat, encode
from generation.downloads import audio_name, open_audio, remove_audio
from generation.models import GenerationJob, Sample

PARAMS = {"caption": "warm lofi\nwith rain", "lyrics": "la", "bpm": 90, "keyscale": "A minor"}


@pytest.fixture
def sample(alice: User) -> Sample:
    job = GenerationJob.objects.create(
        owner=alice, request_id="1", params=PARAMS, model_variant="tiny", queue="tiny", steps=4, model_calls=4
    )
    time = np.arange(48_000) / 48_000
    sound = np.stack([np.sin(440 * 2 * np.pi * time)] * 2, axis=1).astype(np.float32) * 0.5
    sample = Sample(job=job, index=0, seed=7, sample_rate=48_000, duration_s=1.0, sha256="", size_bytes=1)
    content = ContentFile(encode(sound, 48_000, "flac"))
    sample.audio_file = storages["audio"].save(audio_name(sample, "flac"), content)
    sample.save()
    return sample


def read(sample: Sample, audio_format: AudioFormat) -> bytes:
    with open_audio(sample, audio_format) as file:
        return file.read()


@pytest.mark.parametrize("audio_format", ["flac", "wav", "mp3", "opus"])
def test_every_format_plays_as_long(sample: Sample, audio_format: AudioFormat) -> None:
    sound, sample_rate = soundfile.read(io.BytesIO(read(sample, audio_format)))
    assert len(sound) / sample_rate == pytest.approx(1.0, abs=0.06)
    assert np.abs(sound).max() == pytest.approx(0.5, abs=0.05)


def test_an_encoded_file_says_what_made_it(sample: Sample) -> None:
    tags = TinyTag.get(file_obj=io.BytesIO(read(sample, "mp3")))
    assert tags.title == "warm lofi"
    assert json.loads(str(tags.comment))["params"] == PARAMS


def test_a_format_is_encoded_once_and_kept(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []

    def count(sound: object, sample_rate: int, audio_format: AudioFormat, tags: object) -> bytes:
        encoded.append(audio_format)
        return b"sound"

    monkeypatch.setattr(downloads, "encode", count)
    with ThreadPoolExecutor(4) as threads:
        contents = list(threads.map(lambda _: read(sample, "opus"), range(4)))
    assert contents == [b"sound"] * 4
    assert encoded == ["opus"]


def test_a_file_that_another_process_made_meanwhile_is_taken(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode_slowly(*_: object) -> bytes:
        storages["audio"].save(audio_name(sample, "mp3"), ContentFile(b"theirs"))
        return b"ours"

    monkeypatch.setattr(downloads, "encode", encode_slowly)
    assert read(sample, "mp3") == b"theirs"


def test_removed_sound_is_gone_in_every_format(sample: Sample, tmp_path: Path) -> None:
    open_audio(sample, "wav").close()
    remove_audio(sample)
    assert not [path for path in (tmp_path / "audio").rglob("*") if path.is_file()]
    for audio_format in ("flac", "wav", "mp3"):
        with pytest.raises(FileNotFoundError):
            open_audio(sample, audio_format)
