"""The sound files of a sample: FLAC from the start, other formats encoded when somebody first asks, then kept."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

import soundfile
from django.core.files.base import ContentFile, File
from django.core.files.storage import storages

from generation.audio import MEDIA_TYPES, AudioFormat, Tags, encode
from generation.models import Sample

# Encoding takes a core for seconds and the whole piece in memory, so a process does one at a time.
_one_at_a_time = threading.Lock()


def audio_name(sample: Sample, audio_format: str) -> str:
    """Return a file's name in the storage; two digits spread a million samples over 256 folders."""
    return f"{sample.pk.hex[:2]}/{sample.pk}.{audio_format}"


def open_audio(sample: Sample, audio_format: AudioFormat) -> File[bytes]:
    """Open a sample's sound in this format for reading. Raises FileNotFoundError if the sound is gone."""
    if audio_format == "flac":
        return sample.open_audio()
    name = audio_name(sample, audio_format)
    storage = storages["audio"]
    with _one_at_a_time:
        if not storage.exists(name):
            _keep(name, _encode(sample, audio_format))
    return storage.open(name)


def _encode(sample: Sample, audio_format: AudioFormat) -> bytes:
    with sample.open_audio() as file:
        sound, sample_rate = soundfile.read(file, dtype="float32", always_2d=True)
    return encode(sound, sample_rate, audio_format, tags_for(sample.job.params, sample.seed, sample.latent_id))


def _keep(name: str, content: bytes) -> None:
    with suppress(FileExistsError):  # another process was faster; its file is the same
        storages["audio"].save(name, ContentFile(content))


def remove_audio(sample: Sample) -> None:
    """Delete every file of a sample."""
    for audio_format in MEDIA_TYPES:
        storages["audio"].delete(audio_name(sample, audio_format))


def tags_for(params: Mapping[str, Any], seed: int, latent_id: UUID | None) -> Tags:
    """Return what a sample's file says of it, enough to make it again; `params` are those of the request."""
    return Tags(
        title=params["caption"].partition("\n")[0],
        prompt=params["caption"],
        lyrics=params["lyrics"],
        bpm=params["bpm"],
        keyscale=params["keyscale"],
        seed=seed,
        latent_id=str(latent_id or ""),
        params=params,
    )
